//! The filter seam: a filter sees one record at a time, may change it, and says what becomes of it.
//!
//! All filters of a chain see a record while it is in L1 (`shard/chain/` runs them); the record is written once,
//! after the last of them, and not at all when none of them changed it.
//!
//! A filter that holds records keeps a [`FilterStream`] for each input and tag. What a stream gives back goes on at
//! the next filter of the chain, in the order in which it was given.

use std::fmt;
use std::sync::Arc;

use crate::event::encoder::event_header_with_metadata;
use crate::event::record::Record;
use crate::event::time::{Clock, EventTime};
use crate::log::Log;
use crate::plugin::input::Unparsed;

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

/// The part of a filter that one shard owns. One that holds records opens streams, and these are asked in its place:
/// none of its other methods is called.
pub trait Filter {
    /// A batch of records of one tag begins.
    fn begin_batch(&mut self, _clock: Clock) {}

    /// Looks at one record. What it changes, the filters behind it see changed.
    fn apply(&mut self, _record: &mut Record<'_>) -> Verdict {
        Verdict::Keep
    }

    /// The batch has ended: adds to the counters what only the filter can count.
    fn end_batch(&mut self, _counters: &mut FilterCounters) {}

    /// The state of one more stream, for a filter that holds records; `None` for all others.
    fn open_stream(&self) -> Option<Box<dyn FilterStream>> {
        None
    }
}

/// What a filter that holds records keeps of one stream: the records of an input under a tag, in their order.
pub trait FilterStream {
    /// Looks at the next record. What is given back goes on before this record does.
    fn apply(&mut self, record: &mut Record<'_>, clock: Clock, given: &mut Given) -> Verdict;

    /// The batch has ended; more may come at any time.
    fn end_batch(&mut self, _clock: Clock, _given: &mut Given) {}

    /// Gives back what is due.
    fn give_due(&mut self, clock: Clock, given: &mut Given);

    /// Gives back everything: the shard ends, or the stream makes room for others. Nothing may be held after it.
    fn give_all(&mut self, given: &mut Given);

    /// What is held now.
    fn held(&self) -> Held;
}

/// What a stream holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Memory that counts for the limit of the input.
    pub bytes: u64,
    /// When the first of it is due, on the monotonic clock; `None` exactly when nothing is held.
    pub due_ns: Option<u64>,
}

/// Events on their way out of a stream.
#[derive(Debug, Default)]
pub struct Given {
    bytes: Vec<u8>,
    record_count: u64,
    truncated_count: u64,
}

impl Given {
    /// Gives back an event; `body` appends a msgpack map.
    pub fn push(&mut self, time: EventTime, metadata: &[u8], body: impl FnOnce(&mut Vec<u8>)) {
        body(self.begin(time, metadata));
        self.end();
    }

    /// Begins an event, whose body is appended to what is returned; [`end`](Given::end) follows.
    pub fn begin(&mut self, time: EventTime, metadata: &[u8]) -> &mut Vec<u8> {
        event_header_with_metadata(&mut self.bytes, time, metadata);
        &mut self.bytes
    }

    /// Ends the event.
    pub fn end(&mut self) {
        self.record_count += 1;
    }

    /// Counts a given event that met a bound before it was whole.
    pub fn count_truncated(&mut self) {
        self.truncated_count += 1;
    }

    /// Events given back that are not whole.
    pub fn truncated_count(&self) -> u64 {
        self.truncated_count
    }

    /// The events given, and others between them that the stream let pass.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where events that were not held are put, in order.
    pub fn passing(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Events given back.
    pub fn record_count(&self) -> u64 {
        self.record_count
    }

    /// Begins anew; a flood's memory is not kept.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(GIVEN_BYTES_KEPT);
        self.record_count = 0;
        self.truncated_count = 0;
    }
}

/// What the buffer of given events keeps between batches.
const GIVEN_BYTES_KEPT: usize = 1 << 20;

/// What a filter did, for the account at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterCounters {
    /// Records it dropped.
    pub dropped_records: u64,
    /// Records it re-tagged; the original went on too where it was kept.
    pub retagged_records: u64,
    /// Records it added: re-tagged ones whose original was kept, and what one was split into, but for the first.
    pub added_records: u64,
    /// Records it failed on; they went on as they came.
    pub failed_records: u64,
    /// Records it would have re-tagged once too often, or when too many waited; they went on as they were.
    pub refused_retags: u64,
    /// Records it took to hold.
    pub held_records: u64,
    /// Records it gave back for those.
    pub given_records: u64,
    /// Records given back before they were whole, because of a bound.
    pub truncated_records: u64,
    /// Records that passed as they were because no parser could take them, by [`Unparsed`].
    pub unparsed: [u64; Unparsed::ALL.len()],
}

impl FilterCounters {
    /// Adds another shard's.
    pub fn add(&mut self, other: &FilterCounters) {
        self.dropped_records += other.dropped_records;
        self.retagged_records += other.retagged_records;
        self.added_records += other.added_records;
        self.failed_records += other.failed_records;
        self.refused_retags += other.refused_retags;
        self.held_records += other.held_records;
        self.given_records += other.given_records;
        self.truncated_records += other.truncated_records;
        for (mine, theirs) in self.unparsed.iter_mut().zip(other.unparsed) {
            *mine += theirs;
        }
    }
}

/// `dropped 3 records, re-tagged 2, added 1, failed on 4, held 9, gave back 4; unparsed 2`
impl fmt::Display for FilterCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "dropped {} records, re-tagged {}, added {}",
            self.dropped_records, self.retagged_records, self.added_records
        )?;
        if self.failed_records > 0 {
            write!(f, ", failed on {}", self.failed_records)?;
        }
        if self.held_records > 0 {
            write!(f, ", held {}, gave back {}", self.held_records, self.given_records)?;
        }
        Unparsed::fmt_counts(&self.unparsed, f)?;
        match self.truncated_records {
            0 => Ok(()),
            count => write!(f, "; truncated {count}"),
        }
    }
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
    /// Is held by the stream, which gives something back for it later.
    Held,
    /// Is replaced by so many events, which [`Record::replacement`] was given: whole, and in the stored form. The
    /// filters behind see each of them. Streams give back instead.
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
