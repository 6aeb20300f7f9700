//! Which outputs a tag goes to.
//!
//! Reading order: [`pattern`] (one `match` or `match_regex`), [`mask`] (a set of outputs), [`table`]
//! (patterns in, the answer for a tag out). Shards memoise the answer per tag.

pub mod mask;
pub mod pattern;
pub mod table;
