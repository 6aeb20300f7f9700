//! The filter seam: a filter sees one record at a time, may change it, and says what becomes of it.
//!
//! All filters of a chain see a record while it is in L1 (`shard/chain.rs` runs them); the record is written once,
//! after the last of them, and not at all when none of them changed it.

use std::sync::Arc;

use crate::event::record::Record;
use crate::log::Log;

/// One configured filter, immutable, shared by all shards.
pub trait FilterDefinition: Send + Sync {
    /// The part of one shard.
    fn open(&self, place: &FilterPlace) -> Box<dyn Filter>;
}

/// Where a filter instance runs.
#[derive(Clone)]
pub struct FilterPlace {
    /// Index of the shard, from 0.
    pub shard: usize,
    /// Number of shards.
    pub shard_count: usize,
    /// Writes lines as `[filter:grep:grep.0]`.
    pub log: Log,
    /// Ends the process with status 255, after what is held is delivered.
    pub fail: Arc<dyn Fn() + Send + Sync>,
}

/// The part of a filter that one shard owns.
pub trait Filter {
    /// A batch of records of one tag begins.
    fn begin_batch(&mut self) {}

    /// Looks at one record. What it changes, the filters behind it see changed.
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict;

    /// The batch has ended.
    fn end_batch(&mut self) {}
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on, as it is now.
    Keep,
    /// Is gone, counted by the filter.
    Drop,
    /// Goes on as it came, because the filter could not do its work on it: counted.
    Fail,
    /// Is replaced by so many events, which [`Record::replacement`] was given: whole, and in the stored form. The
    /// filters behind see each of them.
    Replace(u32),
    /// Enters the pipeline again under the tag that [`Record::new_tag`] was given.
    Retag(Original),
}

/// What becomes of the record that was re-tagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Original {
    /// It goes on under its old tag too.
    Kept,
    /// It is replaced by the re-tagged one.
    Dropped,
}
