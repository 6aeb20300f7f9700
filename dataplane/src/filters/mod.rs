//! The built-in filters, one file or folder each. To add one: write its file, add its `mod` and its line.

use crate::plugin::descriptor::FilterPlugin;

mod expect;
mod grep;
mod key_pattern;
mod lua;
mod modify;
mod multiline;
mod nest;
mod parser;
mod record_modifier;
mod rewrite_tag;
mod stdout;
#[cfg(test)]
pub(crate) mod testing;
mod throttle;
mod type_converter;
mod words;

/// Every built-in filter, sorted by name.
pub static FILTERS: &[&FilterPlugin] = &[
    &expect::PLUGIN,
    &grep::PLUGIN,
    &lua::PLUGIN,
    &modify::PLUGIN,
    &multiline::PLUGIN,
    &nest::PLUGIN,
    &parser::PLUGIN,
    &record_modifier::PLUGIN,
    &rewrite_tag::PLUGIN,
    &stdout::PLUGIN,
    &throttle::PLUGIN,
    &type_converter::PLUGIN,
];
