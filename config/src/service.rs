//! The keys of `[SERVICE]`: typed once, each with its default.

use crate::document::Section;
use crate::error::{Problem, Problems, nearest};
use crate::map::Settings;
use crate::value::{BinarySize, Seconds, Size, Value};

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

    fn remark(text: &str) -> Option<String> {
        // Fluent Bit takes the number at the front as seconds, whatever follows.
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let theirs: f64 = text[..end].parse().ok()?;
        let FlushInterval(time) = FlushInterval::parse(text).ok()?;
        (time.as_secs_f64() != theirs).then(|| {
            format!("`{text}` is read as {time:?}; Fluent Bit reads it as {theirs} seconds")
        })
    }
}

/// `coro_stack_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackBytes(pub u64);

impl Value for StackBytes {
    const TYPE: &'static str = "bytes";
    fn parse(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(bytes) if bytes >= 4096 => Ok(StackBytes(bytes)),
            _ => Err(format!("`{text}` is no size of a stack: write bytes, 4096 at least")),
        }
    }
}

crate::value_enum! {
    /// `storage.sync`.
    pub enum StorageSync {
        /// As the system likes.
        Normal = "normal",
        /// After each write.
        Full = "full",
    }
}

crate::value_enum! {
    /// `storage.type`.
    pub enum StorageType {
        /// In memory.
        Memory = "memory",
        /// In files.
        Filesystem = "filesystem",
        /// In a ring in memory.
        Ring = "memrb",
    }
}

crate::value_enum! {
    /// `dns.resolver`.
    pub enum Resolver {
        /// Fluent Bit's own.
        Async = "async",
        /// The system's.
        Legacy = "legacy",
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
        /// Stack of a coroutine: there are none here, so any size that Fluent Bit takes will do.
        "coro_stack_size" => coro_stack_size: StackBytes, optional;
        /// Stream processor tasks.
        "streams_file" => later;
        /// Stream processor conversions; has no effect while there is no streams_file.
        "sp.convert_from_str_to_num" => sp_convert: bool, default "on";
        /// Varies the flush interval.
        "flush.adaptive" => later "off";
        /// Shortest adaptive interval; has no effect while flush.adaptive is off.
        "flush.adaptive.min_interval" => flush_adaptive_min_interval: f64, default "0.5";
        /// Longest adaptive interval; has no effect while flush.adaptive is off.
        "flush.adaptive.max_interval" => flush_adaptive_max_interval: f64, default "2.0";
        /// Adaptive threshold; has no effect while flush.adaptive is off.
        "flush.adaptive.low_pressure" => flush_adaptive_low_pressure: f64, default "25";
        /// Adaptive threshold; has no effect while flush.adaptive is off.
        "flush.adaptive.medium_pressure" => flush_adaptive_medium_pressure: f64, default "50";
        /// Adaptive threshold; has no effect while flush.adaptive is off.
        "flush.adaptive.high_pressure" => flush_adaptive_high_pressure: f64, default "75";
        /// Adaptive hysteresis; has no effect while flush.adaptive is off.
        "flush.adaptive.up_steps" => flush_adaptive_up_steps: u64, default "2";
        /// Adaptive hysteresis; has no effect while flush.adaptive is off.
        "flush.adaptive.down_steps" => flush_adaptive_down_steps: u64, default "3";
        /// Requires FIPS cryptography.
        "security.fips_mode" => later "off";
        /// Monitoring over HTTP.
        "http_server" => later "off";
        /// Its address; has no effect while it is off.
        "http_listen" => http_listen: String, default "0.0.0.0";
        /// Its port; has no effect while it is off.
        "http_port" => http_port: u16, default "2020";
        /// Health check of the monitoring server; has no effect while it is off.
        "health_check" => health_check: bool, default "off";
        /// Health threshold; has no effect while health_check is off.
        "hc_errors_count" => hc_errors_count: u64, default "5";
        /// Health threshold; has no effect while health_check is off.
        "hc_retry_failure_count" => hc_retry_failure_count: u64, default "5";
        /// Health period; has no effect while health_check is off.
        "hc_period" => hc_period: u64, default "60";
        /// Name lookups use the system's resolver.
        "dns.mode" => later "udp";
        /// Names are looked up by the system's resolver, off the shards, whichever is asked for.
        "dns.resolver" => dns_resolver: Resolver, default "async";
        /// Name lookups use the system's order.
        "dns.prefer_ipv4" => later "off";
        /// Name lookups use the system's order.
        "dns.prefer_ipv6" => later "off";
        /// Buffers on disk.
        "storage.path" => later;
        /// Syncing of buffers; has no effect while there is no storage.path.
        "storage.sync" => storage_sync: StorageSync, default "normal";
        /// Checksums of buffers on disk; has no effect while there is no storage.path.
        "storage.checksum" => storage_checksum: bool, default "off";
        /// Storage metrics of the monitoring server; has no effect while it is off.
        "storage.metrics" => storage_metrics: bool, default "on";
        /// Memory for the backlog; has no effect while there is no storage.path.
        "storage.backlog.mem_limit" => storage_backlog_mem_limit: Size, default "100M";
        /// Delivers the backlog at the stop; has no effect while there is no storage.path.
        "storage.backlog.flush_on_shutdown" => storage_backlog_flush: bool, default "off";
        /// Chunks in memory; here bytes are limited instead (mem_limit).
        "storage.max_chunks_up" => storage_max_chunks_up: u64, default "128";
        /// Deletes broken buffers; has no effect while there is no storage.path.
        "storage.delete_irrecoverable_chunks" => storage_delete_broken: bool, default "off";
        /// Trims buffer files; has no effect while there is no storage.path.
        "storage.trim_files" => storage_trim_files: bool, default "off";
        /// Default storage of inputs; has no effect while storage.inherit is off.
        "storage.type" => storage_type: StorageType, default "memory";
        /// Applies storage.type to inputs.
        "storage.inherit" => later "off";
        /// Keeps rejected chunks.
        "storage.keep.rejected" => later "off";
        /// Where rejected chunks are kept; has no effect while storage.keep.rejected is off.
        "storage.rejected.path" => storage_rejected_path: String, default "rejected";
        /// How much of them is kept; has no effect while storage.keep.rejected is off.
        "storage.rejected.limit" => storage_rejected_limit: Size, optional;
        /// Most bytes of a record that multiline parsers put together; 0 is the default. K is 1024 here.
        "multiline_buffer_limit" => multiline_buffer_limit: BinarySize, default "2MB";
        /// Reads the configuration again on SIGHUP.
        "hot_reload" => later "off";
        /// Reload safety; has no effect while hot_reload is off.
        "hot_reload.ensure_thread_safety" => hot_reload_safety: bool, default "on";
        /// Reload watchdog; has no effect while hot_reload is off.
        "hot_reload.timeout" => hot_reload_timeout: u64, default "0";
        /// Chunk tap.
        "enable_chunk_trace" => later "off";
        /// Only for Windows.
        "windows.maxstdio" => windows_maxstdio: u64, default "512";
    }
}

impl ServiceSettings {
    /// Reads the merged service section. An unknown key is a warning, as Fluent Bit ignores it; a repeated
    /// one counts as its last.
    pub fn of(section: &Section, problems: &mut Problems) -> Option<ServiceSettings> {
        let mut known = Section::new("SERVICE", section.span);
        for (index, property) in section.properties.iter().enumerate() {
            let Some(spec) = Self::KEYS.iter().find(|spec| property.is(spec.name)) else {
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
            if spec.repeat || !later.any(|other| other.is(spec.name)) {
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
