//! The keys that the engine itself reads in the sections of inputs and outputs.

use config::service::LogLevel;
use config::{Size, Value};
use ffi::EventFormat;

use crate::flush::retry::RetryLimit;

/// `workers` of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One for each shard.
    Auto,
    /// So many in the whole process.
    Fixed(usize),
}

impl Value for Workers {
    const TYPE: &'static str = "number or auto";
    fn parse(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Workers::Auto);
        }
        match text.parse() {
            Ok(count) if count <= 1024 => Ok(Workers::Fixed(count)),
            _ => Err(format!("`{text}` is no number of workers: write 0 to 1024, or `auto`")),
        }
    }
}

impl Value for RetryLimit {
    const TYPE: &'static str = "number or no_limits";
    fn parse(text: &str) -> Result<Self, String> {
        RetryLimit::parse(text)
    }
}

/// `storage.total_limit_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskLimit {
    /// `off`, `false`, `no` or `0`.
    Unlimited,
    /// So many bytes.
    Bytes(u64),
}

impl Value for DiskLimit {
    const TYPE: &'static str = "size or off";
    fn parse(text: &str) -> Result<Self, String> {
        match (bool::parse(text), Size::parse(text)) {
            (Ok(false), _) | (_, Ok(Size(0))) => Ok(DiskLimit::Unlimited),
            (_, Ok(Size(bytes))) => Ok(DiskLimit::Bytes(bytes)),
            (_, Err(message)) => Err(message),
        }
    }
}

/// `active` of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Active(pub bool);

impl Value for Active {
    const TYPE: &'static str = "boolean";
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "0" => Ok(Active(false)),
            "1" => Ok(Active(true)),
            _ => bool::parse(text).map(Active),
        }
    }
}

/// `go.event_format` of a loaded plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatChoice {
    /// What the SDK of the plugin understands.
    Auto,
    /// This form.
    Fixed(EventFormat),
}

impl Value for FormatChoice {
    const TYPE: &'static str = "auto, v1 or v2";
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(FormatChoice::Auto),
            "v1" => Ok(FormatChoice::Fixed(EventFormat::V1)),
            "v2" => Ok(FormatChoice::Fixed(EventFormat::V2)),
            _ => Err(config::value::no_choice(text, &["auto", "v1", "v2"])),
        }
    }
}

config::config_map! {
    /// What every input may say.
    pub struct InputKeys {
        /// Name of the plugin.
        "name" => name: String, required;
        /// Name of the instance in logs.
        "alias" => alias: String, optional;
        /// Tag of its events.
        "tag" => tag: String, optional;
        /// Log level of this instance.
        "log_level" => log_level: LogLevel, optional;
        /// Suppresses repeated log lines.
        "log_suppress_interval" => later "0";
        /// Memory its events may take before it pauses; 0 takes part in the service's mem_limit.
        "mem_buf_limit" => mem_buf_limit: Size, default "0";
        /// Whether its events are delivered.
        "routable" => later "true";
        /// Where its events are buffered.
        "storage.type" => later "memory";
        /// Inputs always run beside the outputs, on their shard: nothing to switch.
        "threaded" => threaded: bool, default "off";
        /// Rate limiting.
        "rate_gate" => later "off";
    }
}

config::config_map! {
    /// What every filter may say.
    pub struct FilterKeys {
        /// Name of the plugin.
        "name" => name: String, required;
        /// Name of the instance in logs.
        "alias" => alias: String, optional;
        /// Tags it takes, `*` for any run of characters.
        "match" => match_glob: String, optional;
        /// Tags it takes, as a regular expression from the start of the tag.
        "match_regex" => match_regex: String, optional;
        /// Whether it takes part at all.
        "active" => active: Active, default "true";
        /// Log level of this instance.
        "log_level" => log_level: LogLevel, optional;
        /// Suppresses repeated log lines.
        "log_suppress_interval" => later "0";
    }
}

config::config_map! {
    /// What every output may say.
    pub struct OutputKeys {
        /// Name of the plugin.
        "name" => name: String, required;
        /// Name of the instance in logs.
        "alias" => alias: String, optional;
        /// Tags it takes, `*` for any run of characters.
        "match" => match_glob: String, optional;
        /// Tags it takes, as a regular expression from the start of the tag.
        "match_regex" => match_regex: String, optional;
        /// Log level of this instance.
        "log_level" => log_level: LogLevel, optional;
        /// Suppresses repeated log lines.
        "log_suppress_interval" => later "0";
        /// Retries after the first attempt: a number, `no_limits` or `no_retries`.
        "retry_limit" => retry_limit: RetryLimit, default "1";
        /// Flushes that may run at once: a number, or `auto` for one a shard.
        "workers" => workers: Workers, optional;
        /// Size of its backlog on disk; has no effect without storage on disk.
        "storage.total_limit_size" => storage_total_limit: DiskLimit, default "off";
    }
}

config::config_map! {
    /// What an output that is a loaded plugin may say besides.
    pub struct ForeignKeys {
        /// Form of events it is handed: `auto` follows its SDK, `v1` is `[time, record]`, `v2` has metadata.
        "go.event_format" => event_format: FormatChoice, default "auto";
        /// TLS is the plugin's own business.
        "tls" => later "off";
    }
}
