//! What an input sees of its shard: batches in, flow control out.
//!
//! Without a filter, `open` hands out the open chunk itself, so an event is encoded where it will be
//! delivered from. With filters, or without an output, the batch goes to a scratch buffer first.

use crate::chunk::InputId;
use crate::chunk::buffer::SlotId;
use crate::chunk::open::Room;
use crate::flush::watermark::Change;
use crate::limits::EVENT_BYTES_MAX;
use crate::plugin::input::{DropCause, EventSink, Flow, OpenBatch, Unparsed};
use crate::shard::{LimitChange, Shard, chain};

/// Where the bytes of the open batch lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// No batch is open.
    None,
    /// At the end of an open chunk.
    Chunk(SlotId),
    /// In the scratch buffer, to be filtered.
    Chain(u32),
    /// In the scratch buffer, to be counted and forgotten.
    Nowhere,
}

/// The sink of one input.
pub struct ShardSink<'a> {
    shard: &'a mut Shard,
    input: InputId,
}

impl<'a> ShardSink<'a> {
    pub(super) fn new(shard: &'a mut Shard, input: InputId) -> ShardSink<'a> {
        shard.abandon();
        ShardSink { shard, input }
    }
}

impl EventSink for ShardSink<'_> {
    fn open(&mut self, tag: &[u8], room_bytes: usize) -> OpenBatch<'_> {
        debug_assert!(room_bytes <= EVENT_BYTES_MAX);
        self.shard.abandon();
        let tag_index = self.shard.tags.index(tag);
        let routes = &self.shard.tags.entry(tag_index).routes;
        if routes.outputs.is_empty() || !routes.filters.is_empty() {
            self.shard.target = match routes.filters.is_empty() {
                true => Target::Nowhere,
                false => Target::Chain(tag_index),
            };
            let scratch = &mut self.shard.scratch;
            scratch.clear();
            scratch.reserve(room_bytes.max(crate::limits::READ_BYTES));
            let room_bytes = scratch.capacity();
            return OpenBatch { bytes: scratch, room_bytes };
        }
        let (slot, room_bytes) = self.shard.slot_with_room(self.input, tag_index, room_bytes);
        self.shard.target = Target::Chunk(slot);
        OpenBatch { bytes: &mut self.shard.buffer.slot_mut(slot).chunk.bytes, room_bytes }
    }

    fn commit(&mut self, record_count: u32) -> Flow {
        let shard = &mut *self.shard;
        match std::mem::replace(&mut shard.target, Target::None) {
            Target::None => {}
            Target::Chunk(slot) => {
                let added = shard.commit_slot(self.input, slot, record_count);
                let ledger = &mut shard.ledgers[usize::from(self.input.0)];
                ledger.in_records += u64::from(record_count);
                ledger.in_bytes += added as u64;
            }
            Target::Chain(tag_index) => chain::run(shard, self.input, tag_index, record_count),
            Target::Nowhere => {
                let ledger = &mut shard.ledgers[usize::from(self.input.0)];
                ledger.in_records += u64::from(record_count);
                ledger.in_bytes += shard.scratch.len() as u64;
                ledger.unrouted_records += u64::from(record_count);
                shard.scratch.clear();
            }
        }
        self.flow()
    }

    fn drop_records(&mut self, cause: DropCause, record_count: u64) {
        let ledger = &mut self.shard.ledgers[usize::from(self.input.0)];
        ledger.in_records += record_count;
        ledger.dropped[cause as usize] += record_count;
    }

    fn count_truncated(&mut self, record_count: u64) {
        self.shard.ledgers[usize::from(self.input.0)].truncated_records += record_count;
    }

    fn count_unparsed(&mut self, why: Unparsed, record_count: u64) {
        self.shard.ledgers[usize::from(self.input.0)].unparsed[why as usize] += record_count;
    }

    fn flow(&self) -> Flow {
        match self.shard.meters[usize::from(self.input.0)].is_paused() {
            true => Flow::Paused,
            false => Flow::Open,
        }
    }
}

impl Shard {
    /// Forgets what was appended to a batch that was never committed.
    pub(super) fn abandon(&mut self) {
        if let Target::Chunk(slot) = std::mem::replace(&mut self.target, Target::None) {
            let chunk = &mut self.buffer.slot_mut(slot).chunk;
            chunk.bytes.truncate(chunk.committed_bytes);
        }
    }

    /// The open chunk of an input and tag, with room in it; a chunk without is sealed first.
    pub(super) fn slot_with_room(
        &mut self,
        input: InputId,
        tag_index: u32,
        room_bytes: usize,
    ) -> (SlotId, usize) {
        let entry = self.tags.entry_mut(tag_index);
        let known = entry.open.iter().find(|(owner, _)| *owner == input);
        let slot = match known {
            Some((_, slot)) => *slot,
            None => {
                let slot = self.buffer.open(input, tag_index);
                entry.open.push((input, slot));
                slot
            }
        };
        loop {
            let chunk = &mut self.buffer.slot_mut(slot).chunk;
            match chunk.make_room(room_bytes, &mut self.pool) {
                Room::Bytes(room) => return (slot, room),
                Room::Full => self.seal_slot(slot),
            }
        }
    }

    /// Commits what stands at the end of a slot's chunk. Returns the bytes that were added.
    pub(super) fn commit_slot(&mut self, input: InputId, slot: SlotId, record_count: u32) -> usize {
        let chunk = &mut self.buffer.slot_mut(slot).chunk;
        if record_count == 0 {
            chunk.bytes.truncate(chunk.committed_bytes);
            return 0;
        }
        let added = chunk.bytes.len() - chunk.committed_bytes;
        chunk.committed_bytes = chunk.bytes.len();
        chunk.record_count += record_count;
        let is_full = chunk.is_full();
        let change = self.meters[usize::from(input.0)].add(added as u64);
        if change != Change::Same {
            self.changes.push(LimitChange { input, change });
        }
        if is_full {
            self.seal_slot(slot);
        }
        added
    }
}
