//! The compiled configuration: everything that can fail has been checked, with its place in the text.
//!
//! Reading order: this file (what a pipeline is), [`address`] (addresses in names of plugins), [`keys`] (what the engine reads in instance sections), [`shared_keys`] (what any section may say besides),
//! [`build`] (from a `Document`).

pub mod address;
pub mod build;
pub mod keys;
pub mod later_plugins;
pub mod shared_keys;

use std::sync::Arc;

use config::service::LogLevel;
use config::{Section, ServiceSettings};
use ffi::EventFormat;

use crate::flush::retry::RetryLimit;
use crate::flush::watermark::Meter;
use crate::lane::host::LibraryId;
use crate::pipeline::keys::Workers;
use crate::plugin::descriptor::{InputPlugin, Placement};
use crate::plugin::filter::FilterDefinition;
use crate::plugin::input::{InputDefinition, InputTag};
use crate::plugin::output::OutputDefinition;
use crate::route::table::RouteTable;

/// Everything a process runs.
pub struct Pipeline {
    /// What `[SERVICE]` says.
    pub service: ServiceSettings,
    /// Inputs, by `InputId`.
    pub inputs: Vec<InputInstance>,
    /// Filters, by `FilterId`.
    pub filters: Vec<FilterInstance>,
    /// Outputs, by `OutputId`.
    pub outputs: Vec<OutputInstance>,
    /// Patterns of all filters and outputs.
    pub routes: Arc<RouteTable>,
    /// Shards that will run.
    pub shard_count: usize,
}

/// A configured input.
pub struct InputInstance {
    /// `tail.0`, or its alias: for logs.
    pub name: String,
    /// Its plugin.
    pub plugin: &'static InputPlugin,
    /// What it is.
    pub definition: Arc<dyn InputDefinition>,
    /// Its tag.
    pub tag: InputTag,
    /// What its events are charged to.
    pub meter: Arc<Meter>,
    /// Its own log level.
    pub log_level: Option<LogLevel>,
}

/// A configured filter.
pub struct FilterInstance {
    /// `grep.0`, or its alias: for logs.
    pub name: String,
    /// Name of the plugin.
    pub plugin_name: &'static str,
    /// What it is.
    pub definition: Arc<dyn FilterDefinition>,
    /// Its own log level.
    pub log_level: Option<LogLevel>,
}

/// A configured output.
pub struct OutputInstance {
    /// `stdout.0`, or its alias: for logs.
    pub name: String,
    /// Name of the plugin.
    pub plugin_name: String,
    /// What it is.
    pub kind: OutputKind,
    /// How often a flush is tried again.
    pub retry_limit: RetryLimit,
    /// How many flushes may run at once.
    pub workers: Option<Workers>,
    /// Its own log level.
    pub log_level: Option<LogLevel>,
}

/// The two kinds of outputs.
pub enum OutputKind {
    /// One of ours.
    BuiltIn(OutputDefinition),
    /// A loaded plugin.
    Foreign(ForeignOutput),
}

/// An instance of a loaded plugin, before its Init.
pub struct ForeignOutput {
    /// The library.
    pub library: LibraryId,
    /// Form of events.
    pub format: EventFormat,
    /// Its section as it is written.
    pub section: Section,
}

impl InputInstance {
    /// Whether this input runs on this shard.
    pub fn runs_on(&self, index: usize, shard: usize, shard_count: usize) -> bool {
        match self.plugin.placement {
            Placement::EveryShard => true,
            // Inputs that exist once are spread over the shards.
            Placement::OneShard | Placement::OneSink => index % shard_count == shard,
        }
    }
}
