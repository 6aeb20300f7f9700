//! Records on their way back to the start under other tags.

use std::ops::Range;

use crate::chunk::InputId;
use crate::event::record::Record;

/// Records that were re-tagged, in order; neighbours of one tag, input and round are one batch.
#[derive(Default)]
pub(super) struct Retagged {
    pub(super) tags: Vec<u8>,
    pub(super) bytes: Vec<u8>,
    pub(super) batches: Vec<RetaggedBatch>,
}

pub(super) struct RetaggedBatch {
    pub(super) tag: Range<usize>,
    pub(super) bytes: Range<usize>,
    pub(super) origin: Origin,
}

/// Whose records they are, and how often they have been re-tagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) input: InputId,
    pub(super) round: u32,
}

/// What the buffer keeps between batches: one flood must not hold its memory for ever.
const RETAGGED_BYTES_KEPT: usize = 1 << 20;

impl Retagged {
    pub(super) fn push(&mut self, record: &mut Record<'_>, origin: Origin) {
        let start = self.bytes.len();
        record.write(&mut self.bytes);
        let end = self.bytes.len();
        let tag = record.tag_buffer();
        match self.batches.last_mut() {
            Some(last) if last.origin == origin && self.tags[last.tag.clone()] == **tag => {
                last.bytes.end = end;
            }
            _ => {
                let tag_start = self.tags.len();
                self.tags.extend_from_slice(tag);
                let tag = tag_start..self.tags.len();
                self.batches.push(RetaggedBatch { tag, bytes: start..end, origin });
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.tags.clear();
        self.bytes.clear();
        self.bytes.shrink_to(RETAGGED_BYTES_KEPT);
        self.batches.clear();
    }
}
