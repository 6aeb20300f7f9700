//! How many calls into one foreign library, or one instance with `workers`, may run at once.
//!
//! Shared by all shards: a permit is taken by the queue, never by a thread that waits with a chunk in
//! hand. Who gives one back while another shard waits hands it to that shard, round robin: left free, it
//! would be taken again by the shard that is awake, and the others would starve.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// A counted right to call, with a note for each shard.
#[derive(Debug)]
pub struct Permits {
    free: AtomicUsize,
    notes: Vec<AtomicU8>,
}

/// The shard wants nothing.
const QUIET: u8 = 0;
/// It would like a permit.
const WAITING: u8 = 1;
/// One was handed to it.
const GRANTED: u8 = 2;

impl Permits {
    /// `count` calls at once, for `shard_count` shards.
    pub fn new(count: usize, shard_count: usize) -> Permits {
        let notes = (0..shard_count).map(|_| AtomicU8::new(QUIET)).collect();
        Permits { free: AtomicUsize::new(count), notes }
    }

    /// Takes a permit, or notes that this shard waits for one.
    pub fn try_take(&self, shard: usize) -> bool {
        if self.change(shard, GRANTED, QUIET) {
            return true;
        }
        if self.take_free() {
            self.change(shard, WAITING, QUIET);
            return true;
        }
        self.change(shard, QUIET, WAITING);
        // One may have come back between the look and the note: look again, or nobody would wake us.
        if self.take_free() {
            self.change(shard, WAITING, QUIET);
            return true;
        }
        self.change(shard, GRANTED, QUIET)
    }

    /// Gives a permit back. Returns the shard it was handed to, which must be woken; looks first behind the
    /// caller, so that the permit goes round.
    pub fn give_back(&self, shard: usize) -> Option<usize> {
        let count = self.notes.len();
        loop {
            let mut others = (1..=count).map(|step| (shard + step) % count);
            if let Some(next) = others.find(|next| self.change(*next, WAITING, GRANTED)) {
                return Some(next);
            }
            self.free.fetch_add(1, Ordering::SeqCst);
            // A shard may have made its note, and looked in vain, before the permit was free.
            let is_wanted = self.notes.iter().any(|note| note.load(Ordering::SeqCst) == WAITING);
            if !is_wanted || !self.take_free() {
                return None;
            }
        }
    }

    /// Gives back a permit that was handed to this shard and found nothing to do. Returns as
    /// [`give_back`](Self::give_back).
    pub fn return_unused(&self, shard: usize) -> Option<usize> {
        match self.change(shard, GRANTED, QUIET) {
            true => self.give_back(shard),
            false => None,
        }
    }

    fn change(&self, shard: usize, from: u8, to: u8) -> bool {
        let note = &self.notes[shard];
        note.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
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
    use std::sync::mpsc::channel;

    #[test]
    fn a_permit_goes_round_the_shards_that_wait() {
        let permits = Permits::new(1, 3);
        assert!(permits.try_take(0));
        for shard in 0..3 {
            assert!(!permits.try_take(shard));
        }
        assert_eq!(permits.give_back(0), Some(1));
        assert!(!permits.try_take(0), "it was handed on, not left free");
        assert!(permits.try_take(1));
        assert_eq!(permits.give_back(1), Some(2));
        assert!(permits.try_take(2));
        assert_eq!(permits.give_back(2), Some(0));
        assert!(permits.try_take(0));
        assert_eq!(permits.give_back(0), None);
        assert!(permits.try_take(2));
    }

    #[test]
    fn a_permit_nobody_needs_any_more_is_handed_on() {
        let permits = Permits::new(1, 2);
        assert!(permits.try_take(0));
        assert!(!permits.try_take(1));
        assert!(!permits.try_take(0));
        assert_eq!(permits.give_back(0), Some(1));
        assert_eq!(permits.return_unused(1), Some(0));
        assert_eq!(permits.return_unused(1), None);
        assert_eq!(permits.return_unused(0), None);
        assert!(permits.try_take(1));
    }

    /// Shards that sleep until they are woken, as the drive loop does: a lost wake-up would hang here.
    #[test]
    fn no_wake_up_is_lost_and_no_permit_is_made_or_lost() {
        const SHARDS: usize = 4;
        let permits = Permits::new(2, SHARDS);
        let under_way = AtomicUsize::new(0);
        let (wakes, sleepers): (Vec<_>, Vec<_>) = (0..SHARDS).map(|_| channel::<()>()).unzip();
        std::thread::scope(|scope| {
            for (shard, sleeper) in sleepers.into_iter().enumerate() {
                let (permits, under_way, wakes) = (&permits, &under_way, wakes.clone());
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        while !permits.try_take(shard) {
                            sleeper.recv().expect("the others hold the sender");
                        }
                        assert!(under_way.fetch_add(1, Ordering::SeqCst) < 2);
                        under_way.fetch_sub(1, Ordering::SeqCst);
                        let woken = permits.give_back(shard);
                        for next in woken.into_iter().filter(|next| *next != shard) {
                            // It may be done; then its permit goes on below.
                            let _ = wakes[next].send(());
                        }
                    }
                    if let Some(next) = permits.return_unused(shard) {
                        let _ = wakes[next].send(());
                    }
                });
            }
            drop(wakes);
        });
        assert_eq!(permits.free.load(Ordering::SeqCst), 2);
    }
}
