//! The built-in inputs, one file or folder each. To add one: write its file, add its `mod` and its line.

use crate::plugin::descriptor::InputPlugin;

mod cpu;
mod dummy;
mod forward;
mod mem;
mod sampling;
mod stdin;
mod tail;
mod tcp;
mod text;

/// Every built-in input, sorted by name.
pub static INPUTS: &[&InputPlugin] = &[
    &cpu::PLUGIN,
    &dummy::PLUGIN,
    &forward::PLUGIN,
    &mem::PLUGIN,
    &stdin::PLUGIN,
    &tail::PLUGIN,
    &tcp::PLUGIN,
];
