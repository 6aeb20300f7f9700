//! The built-in outputs, one file or folder each. To add one: write its file, add its `mod` and its line.

use crate::plugin::descriptor::OutputPlugin;

pub mod json_keys;
mod null;
mod stdout;

/// Every built-in output, sorted by name.
pub static OUTPUTS: &[&OutputPlugin] = &[&null::PLUGIN, &stdout::PLUGIN];
