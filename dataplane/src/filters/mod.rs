//! The built-in filters, one file or folder each. To add one: write its file, add its `mod` and its line.

use crate::plugin::descriptor::FilterPlugin;

mod key_pattern;
mod record_modifier;
#[cfg(test)]
mod testing;
mod words;

/// Every built-in filter, sorted by name.
pub static FILTERS: &[&FilterPlugin] = &[&record_modifier::PLUGIN];
