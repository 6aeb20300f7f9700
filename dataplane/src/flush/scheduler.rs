//! All flush queues of a shard: what may go now, what waits for its retry, what was given up.
//!
//! Each output has its own queue, so a dead one stops no other. Time and randomness are arguments.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::chunk::Chunk;
use crate::flush::retry::{Backoff, RetryLimit};
use crate::flush::task::{FlushStatus, FlushTask};
use crate::route::mask::OutputId;

/// What the scheduler must know of an output.
#[derive(Clone, Copy, Debug)]
pub struct LanePolicy {
    /// Flushes this shard may have under way at once.
    pub in_flight_max: usize,
    /// How often a flush is tried again.
    pub retry_limit: RetryLimit,
}

/// Totals of one output on one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounters {
    /// Records delivered.
    pub delivered_records: u64,
    /// Bytes of msgpack delivered.
    pub delivered_bytes: u64,
    /// Retries scheduled.
    pub retries: u64,
    /// Flushes given up because the retry limit was reached.
    pub retries_failed: u64,
    /// Flushes the output refused for good.
    pub errors: u64,
    /// Records lost to either, and those the output could not put into its format.
    pub dropped_records: u64,
}

impl LaneCounters {
    /// Adds another shard's totals of the same output.
    pub fn add(&mut self, other: &LaneCounters) {
        self.delivered_records += other.delivered_records;
        self.delivered_bytes += other.delivered_bytes;
        self.retries += other.retries;
        self.retries_failed += other.retries_failed;
        self.errors += other.errors;
        self.dropped_records += other.dropped_records;
    }
}

/// The queue of one output.
#[derive(Debug)]
struct FlushLane {
    queue: VecDeque<FlushTask>,
    policy: LanePolicy,
    in_flight: usize,
    held_bytes: u64,
    is_listed: bool,
    counters: LaneCounters,
}

/// What a finished flush led to.
#[derive(Debug)]
pub enum Outcome {
    /// Delivered, after so many failed attempts.
    Delivered(FlushTask),
    /// Will be tried again.
    Retrying {
        /// Number of the task.
        number: u64,
        /// Attempts that have failed.
        attempts: u32,
        /// Time until the next.
        wait: Duration,
    },
    /// The output refused it for good.
    Refused(FlushTask),
    /// The retry limit is reached.
    Exhausted(FlushTask),
}

#[derive(Debug)]
struct Waiting {
    due_ns: u64,
    task: FlushTask,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due_ns, self.task.number).cmp(&(other.due_ns, other.task.number))
    }
}

/// All queues of one shard.
#[derive(Debug)]
pub struct Scheduler {
    lanes: Vec<FlushLane>,
    /// Outputs that may have something to go; each at most once.
    ready: VecDeque<OutputId>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    backoff: Backoff,
    next_number: u64,
    random: u64,
    is_stopping: bool,
}

/// While the process stops every retry comes after this time, as in Fluent Bit.
const STOPPING_WAIT: Duration = Duration::from_secs(1);

impl Scheduler {
    /// One queue per policy; `seed` is any number.
    pub fn new(policies: &[LanePolicy], backoff: Backoff, seed: u64) -> Scheduler {
        let lane = |policy: &LanePolicy| FlushLane {
            queue: VecDeque::new(),
            policy: *policy,
            in_flight: 0,
            held_bytes: 0,
            is_listed: false,
            counters: LaneCounters::default(),
        };
        Scheduler {
            lanes: policies.iter().map(lane).collect(),
            ready: VecDeque::new(),
            waiting: BinaryHeap::new(),
            backoff,
            next_number: 0,
            random: seed | 1,
            is_stopping: false,
        }
    }

    /// Queues a chunk for an output.
    pub fn enqueue(&mut self, output: OutputId, chunk: Arc<Chunk>) {
        let number = self.next_number;
        self.next_number += 1;
        let lane = &mut self.lanes[usize::from(output.0)];
        lane.held_bytes += chunk.bytes().len() as u64;
        lane.queue.push_back(FlushTask { output, chunk, attempts: 0, number, unformatted: 0 });
        self.list(output);
    }

    /// Says that an output may have something to go: a permit or a thread came free.
    pub fn list(&mut self, output: OutputId) {
        let lane = &mut self.lanes[usize::from(output.0)];
        if !lane.is_listed {
            lane.is_listed = true;
            self.ready.push_back(output);
        }
    }

    /// The next output to look at; call [`take`](Self::take) for it until it has no more.
    pub fn next_ready(&mut self) -> Option<OutputId> {
        let output = self.ready.pop_front()?;
        self.lanes[usize::from(output.0)].is_listed = false;
        Some(output)
    }

    /// Whether [`take`](Self::take) would return a task.
    pub fn can_take(&self, output: OutputId) -> bool {
        let lane = &self.lanes[usize::from(output.0)];
        lane.in_flight < lane.policy.in_flight_max && !lane.queue.is_empty()
    }

    /// The next task of an output, now under way.
    pub fn take(&mut self, output: OutputId) -> Option<FlushTask> {
        if !self.can_take(output) {
            return None;
        }
        let lane = &mut self.lanes[usize::from(output.0)];
        lane.in_flight += 1;
        lane.queue.pop_front()
    }

    /// Takes a finished flush.
    pub fn complete(&mut self, mut task: FlushTask, status: FlushStatus, now_ns: u64) -> Outcome {
        let output = task.output;
        self.list(output);
        let random = self.next_random();
        let lane = &mut self.lanes[usize::from(output.0)];
        lane.in_flight -= 1;
        let records = u64::from(task.chunk.record_count());
        let bytes = task.chunk.bytes().len() as u64;
        match status {
            FlushStatus::Ok => {
                let unformatted = u64::from(task.unformatted).min(records);
                lane.held_bytes -= bytes;
                lane.counters.delivered_records += records - unformatted;
                lane.counters.dropped_records += unformatted;
                lane.counters.delivered_bytes += bytes;
                Outcome::Delivered(task)
            }
            FlushStatus::Error => {
                lane.held_bytes -= bytes;
                lane.counters.errors += 1;
                lane.counters.dropped_records += records;
                Outcome::Refused(task)
            }
            FlushStatus::Retry => {
                task.attempts += 1;
                if !lane.policy.retry_limit.allows(task.attempts) {
                    lane.held_bytes -= bytes;
                    lane.counters.retries_failed += 1;
                    lane.counters.dropped_records += records;
                    return Outcome::Exhausted(task);
                }
                lane.counters.retries += 1;
                let (number, attempts) = (task.number, task.attempts);
                let wait = match self.is_stopping {
                    true => STOPPING_WAIT,
                    false => self.backoff.wait(attempts, random),
                };
                let due_ns = now_ns + wait.as_nanos() as u64;
                self.waiting.push(Reverse(Waiting { due_ns, task }));
                Outcome::Retrying { number, attempts, wait }
            }
        }
    }

    /// Queues the retries whose time has come, before newer chunks.
    pub fn queue_due(&mut self, now_ns: u64) {
        while let Some(Reverse(next)) = self.waiting.peek() {
            if next.due_ns > now_ns {
                return;
            }
            let Some(Reverse(Waiting { task, .. })) = self.waiting.pop() else { return };
            let output = task.output;
            self.lanes[usize::from(output.0)].queue.push_front(task);
            self.list(output);
        }
    }

    /// From now on retries come quickly; those that wait are brought forward.
    pub fn begin_stopping(&mut self, now_ns: u64) {
        self.is_stopping = true;
        let soon_ns = now_ns + STOPPING_WAIT.as_nanos() as u64;
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting = waiting
            .into_iter()
            .map(|Reverse(Waiting { due_ns, task })| {
                Reverse(Waiting { due_ns: due_ns.min(soon_ns), task })
            })
            .collect();
    }

    /// When the next retry is due.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.waiting.peek().map(|Reverse(next)| next.due_ns)
    }

    /// Whether nothing is queued, under way or waiting.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.lanes.iter().all(|lane| lane.in_flight == 0 && lane.queue.is_empty())
    }

    /// Flushes under way to an output.
    pub fn in_flight(&self, output: OutputId) -> usize {
        self.lanes[usize::from(output.0)].in_flight
    }

    /// The output that holds most bytes, and how many; `None` when none holds any.
    pub fn holder(&self) -> Option<(OutputId, u64)> {
        let held = self.lanes.iter().enumerate().map(|(index, lane)| (index, lane.held_bytes));
        let held = held.filter(|(_, bytes)| *bytes > 0);
        // Of equals the first, as it stands in the configuration.
        let (index, bytes) = held.rev().max_by_key(|(_, bytes)| *bytes)?;
        Some((OutputId(index as u16), bytes))
    }

    /// Totals of an output.
    pub fn counters(&self, output: OutputId) -> LaneCounters {
        self.lanes[usize::from(output.0)].counters
    }

    /// Takes every task that is queued or waits, for the report at the end.
    pub fn drain(&mut self) -> Vec<FlushTask> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let waiting = waiting.map(|Reverse(Waiting { task, .. })| task);
        let queued = self.lanes.iter_mut().flat_map(|lane| lane.queue.drain(..));
        queued.chain(waiting).collect()
    }

    /// xorshift: the spread of retries needs no better.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::InputId;
    use crate::flush::watermark::Meter;
    use crate::tag::Tag;

    const OUT: OutputId = OutputId(0);
    const SECOND: u64 = 1_000_000_000;

    fn scheduler(retry_limit: RetryLimit) -> Scheduler {
        let policy = LanePolicy { in_flight_max: 1, retry_limit };
        Scheduler::new(&[policy, policy], Backoff { base_s: 5, cap_s: 2000 }, 42)
    }

    fn chunk(records: u32) -> Arc<Chunk> {
        let meter = Arc::new(Meter::unlimited());
        Arc::new(Chunk::new(vec![0; 10], Tag::new(b"t"), InputId(0), records, meter))
    }

    #[test]
    fn one_flush_at_a_time_and_in_order() {
        let mut scheduler = scheduler(RetryLimit::Times(1));
        scheduler.enqueue(OUT, chunk(1));
        scheduler.enqueue(OUT, chunk(2));
        assert_eq!(scheduler.next_ready(), Some(OUT));
        assert_eq!(scheduler.next_ready(), None, "listed once");
        let first = scheduler.take(OUT).unwrap();
        assert!(scheduler.take(OUT).is_none());
        assert!(matches!(scheduler.complete(first, FlushStatus::Ok, 0), Outcome::Delivered(_)));
        assert_eq!(scheduler.next_ready(), Some(OUT));
        let second = scheduler.take(OUT).unwrap();
        assert_eq!(second.chunk.record_count(), 2);
        assert!(!scheduler.is_idle());
        scheduler.complete(second, FlushStatus::Error, 0);
        assert!(scheduler.is_idle());
        let counters = scheduler.counters(OUT);
        assert_eq!((counters.delivered_records, counters.dropped_records), (1, 2));
    }

    #[test]
    fn a_retry_waits_its_time_goes_first_and_ends_at_the_limit() {
        let mut scheduler = scheduler(RetryLimit::Times(1));
        scheduler.enqueue(OUT, chunk(1));
        scheduler.enqueue(OUT, chunk(2));
        let task = scheduler.take(OUT).unwrap();
        let outcome = scheduler.complete(task, FlushStatus::Retry, 0);
        let Outcome::Retrying { attempts: 1, wait, .. } = outcome else { panic!("{outcome:?}") };
        assert!((6..=11).contains(&wait.as_secs()));
        assert_eq!(scheduler.next_due_ns(), Some(wait.as_nanos() as u64));
        scheduler.queue_due(SECOND);
        assert_eq!(scheduler.holder(), Some((OUT, 20)));
        scheduler.queue_due(12 * SECOND);
        let task = scheduler.take(OUT).unwrap();
        assert_eq!((task.chunk.record_count(), task.attempts), (1, 1));
        let outcome = scheduler.complete(task, FlushStatus::Retry, 12 * SECOND);
        assert!(matches!(outcome, Outcome::Exhausted(_)), "{outcome:?}");
        let counters = scheduler.counters(OUT);
        assert_eq!(
            (counters.retries, counters.retries_failed, counters.dropped_records),
            (1, 1, 1)
        );
    }

    #[test]
    fn stopping_brings_retries_forward() {
        let mut scheduler = scheduler(RetryLimit::Unlimited);
        scheduler.enqueue(OUT, chunk(1));
        let task = scheduler.take(OUT).unwrap();
        scheduler.complete(task, FlushStatus::Retry, 0);
        scheduler.begin_stopping(SECOND);
        scheduler.queue_due(2 * SECOND);
        let task = scheduler.take(OUT).unwrap();
        scheduler.complete(task, FlushStatus::Retry, 2 * SECOND);
        assert_eq!(scheduler.next_due_ns(), Some(3 * SECOND));
        assert_eq!(scheduler.drain().len(), 1);
        assert!(scheduler.is_idle());
    }

    #[test]
    fn the_totals_of_two_shards_add_up() {
        let shard = LaneCounters {
            delivered_records: 1,
            delivered_bytes: 2,
            retries: 3,
            retries_failed: 4,
            errors: 5,
            dropped_records: 6,
        };
        let mut sum = shard;
        sum.add(&shard);
        let expected = LaneCounters {
            delivered_records: 2,
            delivered_bytes: 4,
            retries: 6,
            retries_failed: 8,
            errors: 10,
            dropped_records: 12,
        };
        assert_eq!(sum, expected);
    }
}
