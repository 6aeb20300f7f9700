//! Memory limits: `mem_buf_limit` of an input, `mem_limit` of the process.
//!
//! One meter is shared by all shards of an instance, so a limit means what it says however many shards
//! there are. It costs one relaxed atomic per batch.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes held against a limit.
#[derive(Debug)]
pub struct Meter {
    limit_bytes: u64,
    held_bytes: AtomicU64,
    paused: AtomicBool,
    /// Whether it is still to be said who holds the bytes of this pause.
    unexplained: AtomicBool,
}

/// What a change did to the meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing to do.
    Same,
    /// The limit has just been reached: inputs pause. Said to exactly one caller.
    Paused,
    /// The level has just fallen below the limit: inputs resume. Said to exactly one caller.
    Resumed,
}

impl Meter {
    /// A meter with a limit in bytes of events.
    pub fn new(limit_bytes: u64) -> Meter {
        Meter {
            limit_bytes,
            held_bytes: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            unexplained: AtomicBool::new(false),
        }
    }

    /// A meter that never pauses anyone.
    pub fn unlimited() -> Meter {
        Meter::new(u64::MAX)
    }

    /// Charges bytes that were appended.
    pub fn add(&self, bytes: u64) -> Change {
        let before = self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes >= self.limit_bytes && !self.paused.swap(true, Ordering::AcqRel) {
            self.unexplained.store(true, Ordering::Release);
            return Change::Paused;
        }
        Change::Same
    }

    /// Gives back bytes that were delivered or dropped.
    pub fn sub(&self, bytes: u64) -> Change {
        let before = self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "more bytes given back than were charged");
        if before - bytes < self.limit_bytes
            && self.paused.load(Ordering::Acquire)
            && self.paused.swap(false, Ordering::AcqRel)
        {
            return Change::Resumed;
        }
        Change::Same
    }

    /// Whether inputs charged to it should wait.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Whether a pause has yet to be explained. Said once a pause, to whoever can name the holder first: the
    /// shard that reached the limit may hold nothing itself.
    pub fn take_unexplained(&self) -> bool {
        self.is_paused()
            && self.unexplained.load(Ordering::Acquire)
            && self.unexplained.swap(false, Ordering::AcqRel)
    }

    /// Bytes charged now.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// The limit in bytes; `u64::MAX` for none.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_and_resume_are_each_said_once() {
        let meter = Meter::new(100);
        assert_eq!(meter.add(60), Change::Same);
        assert_eq!(meter.add(40), Change::Paused);
        assert_eq!(meter.add(10), Change::Same);
        assert!(meter.is_paused());
        assert!(meter.take_unexplained());
        assert!(!meter.take_unexplained());
        assert_eq!(meter.sub(5), Change::Same);
        assert_eq!(meter.sub(10), Change::Resumed);
        assert_eq!(meter.sub(10), Change::Same);
        assert!(!meter.is_paused());
        assert_eq!(meter.held_bytes(), 85);
    }
}
