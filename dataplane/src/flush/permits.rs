//! How many calls into one foreign library, or one instance with `workers`, may run at once.
//!
//! Shared by all shards: a permit is taken by the queue, never by a thread that waits with a chunk in
//! hand. Who gives one back is told which shard to wake, round robin, so none starves.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A counted right to call, with a note of which shards would like one.
#[derive(Debug)]
pub struct Permits {
    free: AtomicUsize,
    waiting: Vec<AtomicBool>,
}

impl Permits {
    /// `count` calls at once, for `shard_count` shards.
    pub fn new(count: usize, shard_count: usize) -> Permits {
        let waiting = (0..shard_count).map(|_| AtomicBool::new(false)).collect();
        Permits { free: AtomicUsize::new(count), waiting }
    }

    /// Takes a permit, or notes that this shard waits for one.
    pub fn try_take(&self, shard: usize) -> bool {
        if self.take_free() {
            return true;
        }
        self.waiting[shard].store(true, Ordering::SeqCst);
        // One may have come back between the look and the note: look again, or nobody would wake us.
        if self.take_free() {
            self.waiting[shard].store(false, Ordering::SeqCst);
            return true;
        }
        false
    }

    /// Gives a permit back. Returns a shard that waits for one and must be woken, looking first behind
    /// the caller so that the permit goes round.
    pub fn give_back(&self, shard: usize) -> Option<usize> {
        self.free.fetch_add(1, Ordering::SeqCst);
        let count = self.waiting.len();
        (1..=count)
            .map(|step| (shard + step) % count)
            .find(|index| self.waiting[*index].swap(false, Ordering::SeqCst))
    }

    fn take_free(&self) -> bool {
        self.free
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(1))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_goes_round_the_shards_that_wait() {
        let permits = Permits::new(1, 3);
        assert!(permits.try_take(0));
        assert!(!permits.try_take(0));
        assert!(!permits.try_take(1));
        assert!(!permits.try_take(2));
        assert_eq!(permits.give_back(0), Some(1));
        assert!(permits.try_take(1));
        assert_eq!(permits.give_back(1), Some(2));
        assert!(permits.try_take(2));
        assert_eq!(permits.give_back(2), Some(0));
        assert!(permits.try_take(0));
        assert_eq!(permits.give_back(0), None);
    }
}
