//! `null`: takes everything and does nothing with it, for measuring what stands before it.

use std::sync::Arc;

use config::{Problems, Section, Settings};

use crate::chunk::Chunk;
use crate::plugin::descriptor::{BuildContext, OutputPlugin, Placement};
use crate::plugin::output::{
    Flush, FlushFuture, FlushStatus, LocalOutput, OutputDefinition, OutputPlace,
};

/// The `null` output.
pub static PLUGIN: OutputPlugin = OutputPlugin {
    name: "null",
    summary: "takes everything and throws it away",
    keys: NullSettings::KEYS,
    placement: Placement::EveryShard,
    build,
};

config::config_map! {
    /// What `null` is told; nothing is formatted, as nobody would see it.
    pub struct NullSettings {
        /// Accepted for configurations that switch from another output.
        "format" => format: String, optional;
        /// Accepted likewise.
        "json_date_key" => json_date_key: String, optional;
        /// Accepted likewise.
        "json_date_format" => json_date_format: String, optional;
    }
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<OutputDefinition> {
    NullSettings::read(section, context.engine_keys, problems)?;
    Some(OutputDefinition::Local(Arc::new(Null)))
}

struct Null;

impl LocalOutput for Null {
    fn open(&self, _place: &OutputPlace) -> Box<dyn Flush> {
        Box::new(Null)
    }
}

impl Flush for Null {
    fn flush<'a>(&'a self, _chunk: &'a Chunk) -> FlushFuture<'a> {
        Box::pin(std::future::ready(FlushStatus::Ok))
    }
}
