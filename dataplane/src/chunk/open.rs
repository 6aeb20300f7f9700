//! A chunk that still grows, through size classes.

use crate::chunk::pool::ChunkPool;
use crate::limits::{CHUNK_BYTES_FULL, CHUNK_CLASSES, CHUNK_ROOM_MIN, CHUNK_SLACK};

/// Bytes and record count of a chunk that is not sealed.
#[derive(Debug, Default)]
pub struct OpenChunk {
    /// Whole events, and behind them what the open batch has appended.
    pub bytes: Vec<u8>,
    /// Length up to which `bytes` is committed.
    pub committed_bytes: usize,
    /// Records in the committed part.
    pub record_count: u32,
    /// The chunk before it was filled: begin in the largest class and copy nothing.
    is_busy: bool,
}

/// Whether a chunk can take what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// This many bytes may be appended.
    Bytes(usize),
    /// Seal it first.
    Full,
}

impl OpenChunk {
    /// Makes room for `wanted` bytes, growing to a larger class when the present one is too small.
    /// An empty chunk always finds room.
    pub fn make_room(&mut self, wanted: usize, pool: &mut ChunkPool) -> Room {
        debug_assert_eq!(self.bytes.len(), self.committed_bytes);
        let used = self.bytes.len();
        if used > 0 && used + wanted.max(CHUNK_ROOM_MIN) > CHUNK_BYTES_FULL {
            return Room::Full;
        }
        let needed = used + wanted + CHUNK_SLACK.min(used + wanted);
        if self.bytes.capacity() < needed {
            // A chunk that outgrows a class is likely to go on growing: one class up at least.
            let next = CHUNK_CLASSES.iter().find(|class| **class > self.bytes.capacity());
            let next = if self.is_busy { CHUNK_CLASSES.last() } else { next };
            let mut larger = pool.take(needed.max(next.copied().unwrap_or(0)));
            larger.extend_from_slice(&self.bytes);
            pool.give(std::mem::replace(&mut self.bytes, larger));
        }
        let capacity = self.bytes.capacity();
        let slack = CHUNK_SLACK.min(capacity - used - wanted);
        Room::Bytes(capacity - slack - used)
    }

    /// Begins anew after its bytes were taken.
    pub fn restart(&mut self, is_busy: bool) {
        *self = OpenChunk { is_busy, ..OpenChunk::default() };
    }

    /// Whether it should be sealed at once rather than at the tick.
    pub fn is_full(&self) -> bool {
        self.committed_bytes + CHUNK_ROOM_MIN > CHUNK_BYTES_FULL
    }

    /// Takes the committed bytes out. A buffer much larger than its content is exchanged for one that
    /// fits, so that a chunk which waits for a dead output holds its data and no more.
    pub fn take_bytes(&mut self, pool: &mut ChunkPool) -> Vec<u8> {
        self.bytes.truncate(self.committed_bytes);
        self.committed_bytes = 0;
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.len() * 2 >= bytes.capacity() {
            return bytes;
        }
        let fitting = bytes.as_slice().to_vec();
        pool.give(bytes);
        fitting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(chunk: &mut OpenChunk, byte_count: usize) {
        let len = chunk.bytes.len() + byte_count;
        chunk.bytes.resize(len, 7);
        chunk.committed_bytes = len;
        chunk.record_count += 1;
    }

    #[test]
    fn a_quiet_chunk_stays_small_and_a_busy_one_fills_the_largest_class() {
        let mut pool = ChunkPool::default();
        let mut chunk = OpenChunk::default();
        assert!(matches!(chunk.make_room(100, &mut pool), Room::Bytes(room) if room >= 100));
        assert_eq!(chunk.bytes.capacity(), CHUNK_CLASSES[0]);
        let mut appended = 0;
        while let Room::Bytes(room) = chunk.make_room(10_000, &mut pool) {
            assert!(room >= 10_000);
            let capacity = chunk.bytes.capacity();
            commit(&mut chunk, 10_000);
            assert_eq!(chunk.bytes.capacity(), capacity, "room was there");
            appended += 10_000;
        }
        assert_eq!(chunk.committed_bytes, appended);
        assert!(appended > CHUNK_BYTES_FULL - CHUNK_ROOM_MIN - 10_000);
        assert_eq!(chunk.bytes.capacity(), CHUNK_CLASSES[4]);
    }

    #[test]
    fn one_event_larger_than_a_chunk_finds_room_in_an_empty_one() {
        let mut pool = ChunkPool::default();
        let mut chunk = OpenChunk::default();
        let wanted = CHUNK_BYTES_FULL * 3;
        assert!(matches!(chunk.make_room(wanted, &mut pool), Room::Bytes(room) if room >= wanted));
        commit(&mut chunk, wanted);
        assert!(chunk.is_full());
        assert_eq!(chunk.make_room(1, &mut pool), Room::Full);
    }

    #[test]
    fn a_sealed_chunk_holds_little_more_than_its_data() {
        let mut pool = ChunkPool::default();
        let mut chunk = OpenChunk::default();
        chunk.make_room(CHUNK_CLASSES[3] + 1, &mut pool);
        commit(&mut chunk, 100_000);
        chunk.bytes.extend_from_slice(b"not committed");
        let bytes = chunk.take_bytes(&mut pool);
        assert_eq!((bytes.len(), bytes.capacity()), (100_000, 100_000));
    }
}
