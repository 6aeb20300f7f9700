//! What every built-in plugin says of itself, for help texts, for placement and for building it.

use std::path::Path;
use std::sync::Arc;

use config::{KeySpec, Problems, Section};

use crate::multiline::MultilineParsers;
use crate::plugin::filter::FilterDefinition;
use crate::plugin::input::InputDefinition;
use crate::plugin::output::OutputDefinition;
use crate::plugin::parser::Parsers;

/// Where the instances of a plugin live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Each shard runs one: listeners, tailed files, network outputs.
    EveryShard,
    /// An input that exists once, on one shard: standard input, a sampler, a generator.
    OneShard,
    /// An output that is one thing: every shard formats, one owner writes whole buffers.
    OneSink,
}

/// An input plugin: one `static` per plugin, listed in `inputs/mod.rs`.
pub struct InputPlugin {
    /// Name in the configuration, lower case.
    pub name: &'static str,
    /// One line for `-h`.
    pub summary: &'static str,
    /// Every key the plugin reads, for help and for checking.
    pub keys: &'static [KeySpec],
    /// Where its instances live.
    pub placement: Placement,
    /// Reads the section; pushes every problem and returns `None` when there was an error.
    /// The third argument is the tables of keys that the engine itself reads in this section.
    pub build: fn(&Section, &BuildContext<'_>, &mut Problems) -> Option<Arc<dyn InputDefinition>>,
}

/// A filter plugin: one `static` per plugin, listed in `filters/mod.rs`.
pub struct FilterPlugin {
    /// Name in the configuration, lower case.
    pub name: &'static str,
    /// One line for `-h`.
    pub summary: &'static str,
    /// Every key the plugin reads.
    pub keys: &'static [KeySpec],
    /// Reads the section; pushes every problem and returns `None` when there was an error.
    pub build: fn(&Section, &BuildContext<'_>, &mut Problems) -> Option<Arc<dyn FilterDefinition>>,
}

/// An output plugin: one `static` per plugin, listed in `outputs/mod.rs`.
pub struct OutputPlugin {
    /// Name in the configuration, lower case.
    pub name: &'static str,
    /// One line for `-h`.
    pub summary: &'static str,
    /// Every key the plugin reads.
    pub keys: &'static [KeySpec],
    /// Where its instances live.
    pub placement: Placement,
    /// Reads the section; pushes every problem and returns `None` when there was an error.
    pub build: fn(&Section, &BuildContext<'_>, &mut Problems) -> Option<OutputDefinition>,
}

/// What a plugin may know while it is built.
pub struct BuildContext<'a> {
    /// Name of the instance in logs, such as `tail.0`, or its `alias`.
    pub instance: &'a str,
    /// Tables of the keys that the engine reads in this section (`tag`, `match`, `mem_buf_limit`...).
    /// Hand them to [`config::Settings::read`] so that they are not called unknown.
    pub engine_keys: &'a [&'a [KeySpec]],
    /// Number of shards that will run.
    pub shard_count: usize,
    /// Time between flush ticks.
    pub flush_interval: std::time::Duration,
    /// How text writers treat NaN and non-ASCII text (service keys `json.*`).
    pub json: crate::codec::json_text::JsonOptions,
    /// The parsers of the configuration.
    pub parsers: &'a Parsers,
    /// The multiline parsers of the configuration.
    pub multiline: &'a MultilineParsers,
    /// Variables that the configuration defines, by name.
    pub variables: &'a [(String, String)],
    /// Directory of the main file; for [`config::beside`].
    pub directory: &'a Path,
}
