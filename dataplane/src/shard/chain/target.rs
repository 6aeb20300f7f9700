//! Where the records go that have passed the last filter: into the open chunk of their tag, untouched ones in runs.

use std::ops::Range;

use crate::chunk::InputId;
use crate::chunk::buffer::SlotId;
use crate::event::record::Record;
use crate::shard::Shard;
use crate::shard::ledger::InputLedger;

/// Bytes of a batch that go on as they are and have not been copied yet.
#[derive(Default)]
pub(super) struct Run {
    start: usize,
    end: usize,
    record_count: u32,
}

/// A longer run is copied in parts, so that chunks fill well.
const RUN_BYTES_MAX: usize = 64 * 1024;

/// Where the records of a batch go.
pub(super) struct Target<'s> {
    pub(super) shard: &'s mut Shard,
    pub(super) input: InputId,
    pub(super) tag_index: u32,
    pub(super) is_routed: bool,
    pub(super) batch: &'s [u8],
    pub(super) run: Run,
    pub(super) tail: Option<Tail>,
}

/// Records at the end of an open chunk that are not committed yet: to find the chunk and to charge the meter costs as
/// much for one record as for a batch.
pub(super) struct Tail {
    slot: SlotId,
    record_count: u32,
    /// The chunk may grow so long without being asked.
    limit: usize,
}

impl Target<'_> {
    pub(super) fn ledger(&mut self) -> &mut InputLedger {
        &mut self.shard.ledgers[usize::from(self.input.0)]
    }

    pub(super) fn extend_run(&mut self, record: Range<usize>) {
        let is_full = record.end - self.run.start > RUN_BYTES_MAX;
        if self.run.record_count > 0 && (is_full || self.run.end != record.start) {
            self.copy_run();
        }
        if self.run.record_count == 0 {
            self.run.start = record.start;
        }
        self.run.end = record.end;
        self.run.record_count += 1;
    }

    pub(super) fn copy_run(&mut self) {
        let Run { start, end, record_count } = std::mem::take(&mut self.run);
        let bytes = &self.batch[start..end];
        self.place(record_count, bytes.len(), |out| out.extend_from_slice(bytes));
    }

    pub(super) fn write(&mut self, record: &Record<'_>) {
        self.copy_run();
        self.place(1, record.room_bytes(), |out| record.write(out));
    }

    /// Copies events that are no part of the batch.
    pub(super) fn place_apart(&mut self, events: &[u8], record_count: u32) {
        self.copy_run();
        self.place(record_count, events.len(), |out| out.extend_from_slice(events));
    }

    fn place(&mut self, record_count: u32, room_bytes: usize, put: impl FnOnce(&mut Vec<u8>)) {
        if record_count == 0 {
            return;
        }
        if !self.is_routed {
            self.ledger().unrouted_records += u64::from(record_count);
            return;
        }
        if let Some(tail) = &mut self.tail {
            let bytes = &mut self.shard.buffer.slot_mut(tail.slot).chunk.bytes;
            if bytes.len() + room_bytes <= tail.limit {
                put(bytes);
                tail.record_count += record_count;
                return;
            }
        }
        self.commit();
        let (slot, room) = self.shard.slot_with_room(self.input, self.tag_index, room_bytes);
        let bytes = &mut self.shard.buffer.slot_mut(slot).chunk.bytes;
        let limit = bytes.len() + room;
        put(bytes);
        self.tail = Some(Tail { slot, record_count, limit });
    }

    /// Commits what was written since the last time.
    fn commit(&mut self) {
        if let Some(Tail { slot, record_count, .. }) = self.tail.take() {
            self.shard.commit_slot(self.input, slot, record_count);
        }
    }

    /// Puts everything where it belongs.
    pub(super) fn finish(mut self) {
        self.copy_run();
        self.commit();
    }
}
