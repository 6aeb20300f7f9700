//! The filter seam: a filter sees one record at a time and says what becomes of it.
//!
//! All filters of a chain see a record while it is in L1 (`shard/chain.rs` runs them); the record is
//! written once, after the last of them.

use crate::event::reader::Event;

/// One configured filter, immutable, shared by all shards.
pub trait FilterDefinition: Send + Sync {
    /// The part of one shard.
    fn open(&self) -> Box<dyn Filter>;
}

/// The part of a filter that one shard owns.
pub trait Filter {
    /// Looks at one event. What the filter changes it appends to `scratch` as a whole event.
    fn apply(&mut self, tag: &[u8], event: &Event<'_>, scratch: &mut Vec<u8>) -> Verdict;
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on as it is.
    Keep,
    /// Goes on as the event appended to `scratch`.
    Replace,
    /// Is gone, counted by the filter.
    Drop,
    /// Enters the pipeline again under another tag, and goes on here too if `keep` says so.
    Retag {
        /// The new tag.
        tag: Vec<u8>,
        /// Fluent Bit's `KEEP` of rewrite_tag.
        original: Original,
    },
}

/// What becomes of the record that was re-tagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Original {
    /// It goes on under its old tag too.
    Kept,
    /// It is replaced by the re-tagged one.
    Dropped,
}
