//! What the fuzz targets check. Each is a function over any bytes that panics where the engine and a plain reference
//! differ; the program of its name in `fuzz_targets/` hands it to libFuzzer, `tests/fuzz_corpora.rs` runs it over the
//! kept corpus of its name.

pub mod choices;
pub mod config_text;
pub mod events;
pub mod forward;
pub mod json;
pub mod logfmt_ltsv;
pub mod msgpack;
pub mod parsers;
pub mod plain_json;
pub mod regex_time;

/// A target's name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, sorted by name.
pub const TARGETS: [Target; 6] = [
    ("config_text", config_text::check),
    ("forward", forward::check),
    ("json", json::check),
    ("logfmt_ltsv", logfmt_ltsv::check),
    ("msgpack", msgpack::check),
    ("regex_time", regex_time::check),
];
