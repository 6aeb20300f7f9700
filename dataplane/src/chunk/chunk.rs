//! A sealed chunk: what a flush is handed, by pointer.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::flush::watermark::Meter;
use crate::tag::Tag;

/// Index of an input instance in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InputId(pub u16);

/// Immutable events of one input and one tag, contiguous. Shared between outputs as `Arc<Chunk>`; the
/// last one to finish hands it back to the pool of its shard.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
    tag: Tag,
    input: InputId,
    record_count: u32,
    meter: Arc<Meter>,
    /// 0, or one more than the [`Lost`] of an output that gave it up. Only its own shard touches it; it
    /// is atomic because the chunk itself visits lane threads.
    lost: AtomicU8,
    /// The most records that one of its outputs could not put into its format.
    unformatted: AtomicU32,
}

/// Why an output did not deliver a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The output refused it for good.
    Refused,
    /// The retry limit was reached.
    RetriesExhausted,
    /// Some of its records cannot be said in the format of the output.
    Unformatted,
}

impl Lost {
    /// Every cause, in the order of its index.
    pub const ALL: [Lost; 3] = [Lost::Refused, Lost::RetriesExhausted, Lost::Unformatted];

    /// The words used in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Lost::Refused => "refused",
            Lost::RetriesExhausted => "retries exhausted",
            Lost::Unformatted => "not formattable",
        }
    }
}

impl Chunk {
    /// Seals bytes whose length is already charged to `meter`.
    pub fn new(
        bytes: Vec<u8>,
        tag: Tag,
        input: InputId,
        record_count: u32,
        meter: Arc<Meter>,
    ) -> Chunk {
        let (lost, unformatted) = (AtomicU8::new(0), AtomicU32::new(0));
        Chunk { bytes, tag, input, record_count, meter, lost, unformatted }
    }

    /// The events, each `92 92 d7 00 ts8 metadata body`.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The tag, without NUL.
    pub fn tag(&self) -> &[u8] {
        self.tag.as_bytes()
    }

    /// The tag as a C plugin sees it.
    pub fn tag_c_str(&self) -> &CStr {
        self.tag.as_c_str()
    }

    /// Which input it came from.
    pub fn input(&self) -> InputId {
        self.input
    }

    /// Records in it.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// What its bytes are charged to.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Notes that one of its outputs gave it up.
    pub fn mark_lost(&self, cause: Lost) {
        self.lost.store(cause as u8 + 1, Ordering::Relaxed);
    }

    /// Why one of its outputs gave it up, if one did.
    pub fn lost(&self) -> Option<Lost> {
        match self.lost.load(Ordering::Relaxed) {
            0 => None,
            noted => Some(Lost::ALL[usize::from(noted) - 1]),
        }
    }

    /// Notes that one of its outputs wrote all but so many of its records.
    pub fn mark_unformatted(&self, record_count: u32) {
        self.unformatted.fetch_max(record_count.min(self.record_count), Ordering::Relaxed);
    }

    /// Records that at least one of its outputs could not write.
    pub fn unformatted(&self) -> u32 {
        self.unformatted.load(Ordering::Relaxed)
    }

    /// The buffer, for its pool.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}
