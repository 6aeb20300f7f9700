//! The built-in inputs, one file or folder each. To add one: write its file, add its `mod` and its line.

use crate::plugin::descriptor::InputPlugin;

mod dummy;
mod forward;
mod tail;
mod tcp;

/// Every built-in input, sorted by name.
pub static INPUTS: &[&InputPlugin] =
    &[&dummy::PLUGIN, &forward::PLUGIN, &tail::PLUGIN, &tcp::PLUGIN];
