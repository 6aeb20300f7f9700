//! The keys of `[SERVICE]`: typed once, each with its default.

use crate::document::Section;
use crate::error::{Problem, Problems, nearest};
use crate::map::Settings;
use crate::value::{Seconds, Size, Value};

crate::value_enum! {
    /// `log_level`.
    pub enum LogLevel {
        /// Nothing.
        Off = "off",
        /// Errors.
        Error = "error",
        /// And warnings.
        Warn = "warn" | "warning",
        /// And normal events.
        Info = "info",
        /// And details.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

/// How long the drain at the stop may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// So many seconds.
    Seconds(u64),
    /// `-1`: until everything is delivered.
    Unlimited,
}

impl Value for Grace {
    const TYPE: &'static str = "seconds";
    fn parse(text: &str) -> Result<Self, String> {
        match text.parse::<i64>() {
            Ok(-1) => Ok(Grace::Unlimited),
            Ok(seconds) if seconds >= 0 => Ok(Grace::Seconds(seconds as u64)),
            _ => Err(format!("`{text}` is no grace time: write whole seconds, or -1 for no limit")),
        }
    }
}

/// Number of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardCount {
    /// As many as the process may use cores.
    Auto,
    /// So many.
    Fixed(usize),
}

impl Value for ShardCount {
    const TYPE: &'static str = "number or auto";
    fn parse(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("auto") {
            return Ok(ShardCount::Auto);
        }
        match text.parse() {
            Ok(count) if (1..=1024).contains(&count) => Ok(ShardCount::Fixed(count)),
            _ => Err(format!("`{text}` is no number of shards: write 1 to 1024, or `auto`")),
        }
    }
}

/// `flush`: a time that must be more than nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushInterval(pub std::time::Duration);

impl Value for FlushInterval {
    const TYPE: &'static str = "time";
    fn parse(text: &str) -> Result<Self, String> {
        match Seconds::parse(text) {
            Ok(Seconds(time)) if time >= std::time::Duration::from_millis(1) => {
                Ok(FlushInterval(time))
            }
            _ => Err(format!("`{text}` is no flush interval: write seconds, such as 1 or 0.2")),
        }
    }
}

crate::config_map! {
    /// What `[SERVICE]` says.
    pub struct ServiceSettings {
        /// Time between flushes, in seconds; fractions are fine.
        "flush" => flush: FlushInterval, default "1";
        /// Seconds a stop may take to deliver what is held; -1 waits until everything is.
        "grace" => grace: Grace, default "5";
        /// Runs in the background.
        "daemon" => daemon: bool, default "off";
        /// Appends the log to this file instead of standard error.
        "log_file" => log_file: String, optional;
        /// How much is logged: off, error, warn, info, debug or trace.
        "log_level" => log_level: LogLevel, optional;
        /// Files of parsers.
        "parsers_file" => parsers_files: String, repeat;
        /// Files that name shared objects to load.
        "plugins_file" => plugins_files: String, repeat;
        /// Number of shards, one pinned thread each; `auto` takes one a core.
        "shards" => shards: ShardCount, default "auto";
        /// Memory for events of all inputs without a limit of their own; default half of what there is.
        "mem_limit" => mem_limit: Size, optional;
        /// Shortest wait before a retry, in seconds.
        "scheduler.base" => scheduler_base: u64, default "5";
        /// Longest wait before a retry, in seconds.
        "scheduler.cap" => scheduler_cap: u64, default "2000";
        /// Writes NaN as null in JSON.
        "json.convert_nan_to_null" => json_convert_nan_to_null: bool, default "off";
        /// Writes non-ASCII characters as \u escapes in JSON.
        "json.escape_unicode" => json_escape_unicode: bool, default "on";
        /// Stack of a coroutine: there are none here, so any size will do.
        "coro_stack_size" => coro_stack_size: u64, optional;
        /// Stream processor tasks.
        "streams_file" => later;
        /// Stream processor conversions.
        "sp.convert_from_str_to_num" => later "on";
        /// Varies the flush interval.
        "flush.adaptive" => later "off";
        /// Shortest adaptive interval.
        "flush.adaptive.min_interval" => later "0.5";
        /// Longest adaptive interval.
        "flush.adaptive.max_interval" => later "2.0";
        /// Adaptive threshold.
        "flush.adaptive.low_pressure" => later "25";
        /// Adaptive threshold.
        "flush.adaptive.medium_pressure" => later "50";
        /// Adaptive threshold.
        "flush.adaptive.high_pressure" => later "75";
        /// Adaptive hysteresis.
        "flush.adaptive.up_steps" => later "2";
        /// Adaptive hysteresis.
        "flush.adaptive.down_steps" => later "3";
        /// Requires FIPS cryptography.
        "security.fips_mode" => later "off";
        /// Monitoring over HTTP.
        "http_server" => later "off";
        /// Its address; has no effect while it is off.
        "http_listen" => http_listen: String, optional;
        /// Its port; has no effect while it is off.
        "http_port" => http_port: u16, optional;
        /// Health check of the monitoring server.
        "health_check" => later "off";
        /// Health threshold; has no effect while health_check is off.
        "hc_errors_count" => hc_errors_count: u64, optional;
        /// Health threshold; has no effect while health_check is off.
        "hc_retry_failure_count" => hc_retry_failure_count: u64, optional;
        /// Health period; has no effect while health_check is off.
        "hc_period" => hc_period: u64, optional;
        /// Name lookups use the system's resolver.
        "dns.mode" => later "udp";
        /// Name lookups use the system's resolver.
        "dns.resolver" => later "async";
        /// Name lookups use the system's order.
        "dns.prefer_ipv4" => later "off";
        /// Name lookups use the system's order.
        "dns.prefer_ipv6" => later "off";
        /// Buffers on disk.
        "storage.path" => later;
        /// Syncing of buffers; has no effect while there is no storage.path.
        "storage.sync" => storage_sync: String, optional;
        /// Checksums of buffers on disk.
        "storage.checksum" => later "off";
        /// Storage metrics of the monitoring server; has no effect while it is off.
        "storage.metrics" => storage_metrics: bool, optional;
        /// Memory for the backlog; has no effect while there is no storage.path.
        "storage.backlog.mem_limit" => storage_backlog_mem_limit: Size, optional;
        /// Delivers the backlog at the stop.
        "storage.backlog.flush_on_shutdown" => later "off";
        /// Chunks in memory; here bytes are limited instead (mem_limit).
        "storage.max_chunks_up" => storage_max_chunks_up: u64, optional;
        /// Deletes broken buffers.
        "storage.delete_irrecoverable_chunks" => later "off";
        /// Trims buffer files.
        "storage.trim_files" => later "off";
        /// Default storage of inputs.
        "storage.type" => later "memory";
        /// Applies storage.type to inputs.
        "storage.inherit" => later "off";
        /// Keeps rejected chunks.
        "storage.keep.rejected" => later "off";
        /// Where rejected chunks are kept.
        "storage.rejected.path" => later "rejected";
        /// How much of them is kept.
        "storage.rejected.limit" => later;
        /// Limit of multiline buffers; has no effect while there are no multiline parsers.
        "multiline_buffer_limit" => multiline_buffer_limit: String, optional;
        /// Reads the configuration again on SIGHUP.
        "hot_reload" => later "off";
        /// Reload safety.
        "hot_reload.ensure_thread_safety" => later "on";
        /// Reload watchdog.
        "hot_reload.timeout" => later "0";
        /// Chunk tap.
        "enable_chunk_trace" => later "off";
        /// Windows only.
        "windows.maxstdio" => later "512";
    }
}

impl ServiceSettings {
    /// Reads the merged service section. An unknown key is a warning, as Fluent Bit ignores it; a repeated
    /// one counts as its last.
    pub fn of(section: &Section, problems: &mut Problems) -> Option<ServiceSettings> {
        let mut known = Section::new("SERVICE", section.span);
        for (index, property) in section.properties.iter().enumerate() {
            let Some(spec) =
                Self::KEYS.iter().find(|spec| spec.name.eq_ignore_ascii_case(&property.key))
            else {
                let message = format!("unknown service key `{}` is ignored", property.key);
                let problem = Problem::warning(property.key_span, message);
                let near = nearest(&property.key, Self::KEYS.iter().map(|spec| spec.name));
                problems.push(match near {
                    Some(near) => problem.with_help(format!("did you mean `{near}`?")),
                    None => problem,
                });
                continue;
            };
            let mut later = section.properties[index + 1..].iter();
            if spec.repeat || !later.any(|other| other.key.eq_ignore_ascii_case(&property.key)) {
                known.properties.push(property.clone());
            }
        }
        let settings = Self::read(&known, &[], problems);
        if let Some(property) = known.get("coro_stack_size") {
            let message = "`coro_stack_size` has no effect: plugins run on threads here";
            problems.push(Problem::warning(property.key_span, message));
        }
        settings
    }
}
