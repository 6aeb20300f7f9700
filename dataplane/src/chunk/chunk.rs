//! A sealed chunk: what a flush is handed, by pointer.

use std::ffi::CStr;
use std::sync::Arc;

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
        Chunk { bytes, tag, input, record_count, meter }
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

    /// The buffer, for its pool.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}
