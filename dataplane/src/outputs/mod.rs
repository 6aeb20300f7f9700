//! The built-in outputs, one file or folder each. To add one: write its file, add its `mod` and its line.

use crate::plugin::descriptor::OutputPlugin;

mod counter;
mod file;
mod flowcounter;
mod forward;
pub mod json_keys;
pub mod net_keys;
mod null;
mod stdout;
pub(crate) mod whole;

/// Every built-in output, sorted by name.
pub static OUTPUTS: &[&OutputPlugin] = &[
    &counter::PLUGIN,
    &file::PLUGIN,
    &flowcounter::PLUGIN,
    &forward::PLUGIN,
    &null::PLUGIN,
    &stdout::PLUGIN,
];
