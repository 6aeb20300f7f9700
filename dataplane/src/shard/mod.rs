//! One shard: all state of one core, as a state machine without I/O or clock.
//!
//! Bytes that inputs encoded come in through [`ShardSink`]; flush tasks go out through
//! [`Shard::next_task`]; finished ones come back through [`Shard::complete`]. `drive` runs it on the
//! reactor, tests run it with a time of their own.
//!
//! Reading order: this file, [`tags`] (tag to routes, memoised), [`sink`] (what an input sees),
//! [`chain`] (filters), [`ledger`] (the law: in = delivered + dropped + left), [`drive`].

pub mod chain;
pub mod drive;
pub mod ledger;
pub mod sink;
pub mod sources;
pub mod tags;

use std::sync::Arc;

use crate::chunk::buffer::{ChunkBuffer, SlotId};
use crate::chunk::pool::ChunkPool;
use crate::chunk::{Chunk, InputId, Lost};
use crate::event::time::Clock;
use crate::flush::retry::Backoff;
use crate::flush::scheduler::{LaneCounters, LanePolicy, Outcome, Scheduler};
use crate::flush::task::{FlushStatus, FlushTask};
use crate::flush::watermark::{Change, Meter};
use crate::plugin::filter::{Filter, FilterCounters};
use crate::route::mask::OutputId;
use crate::route::table::RouteTable;
use crate::shard::chain::{Chain, Release};
use crate::shard::ledger::InputLedger;
use crate::shard::sink::Target;
use crate::shard::tags::TagTable;

pub use crate::shard::sink::ShardSink;

/// What a shard is made of.
pub struct ShardPlan {
    /// Patterns of filters and outputs.
    pub routes: Arc<RouteTable>,
    /// The meter each input is charged to, by `InputId`.
    pub meters: Vec<Arc<Meter>>,
    /// What the scheduler must know of each output, by `OutputId`.
    pub policies: Vec<LanePolicy>,
    /// This shard's part of each filter, by `FilterId`.
    pub filters: Vec<Box<dyn Filter>>,
    /// Retry times.
    pub backoff: Backoff,
    /// Any number; spreads retries.
    pub seed: u64,
}

/// All state of one core.
pub struct Shard {
    tags: TagTable,
    buffer: ChunkBuffer,
    pool: ChunkPool,
    scheduler: Scheduler,
    chain: Chain,
    meters: Vec<Arc<Meter>>,
    ledgers: Vec<InputLedger>,
    target: Target,
    /// Bytes of a batch that passes filters or has no output.
    scratch: Vec<u8>,
    /// What the clocks said last.
    clock: Clock,
    changes: Vec<LimitChange>,
}

/// A memory limit was reached or left; the driver tells the inputs and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitChange {
    /// The input whose append or delivery made the change.
    pub input: InputId,
    /// What changed.
    pub change: Change,
}

impl Shard {
    /// A shard without events.
    pub fn new(plan: ShardPlan) -> Shard {
        Shard {
            tags: TagTable::new(plan.routes),
            buffer: ChunkBuffer::default(),
            pool: ChunkPool::default(),
            scheduler: Scheduler::new(&plan.policies, plan.backoff, plan.seed),
            chain: Chain::new(plan.filters),
            ledgers: plan.meters.iter().map(|_| InputLedger::default()).collect(),
            meters: plan.meters,
            target: Target::None,
            scratch: Vec::new(),
            clock: Clock::default(),
            changes: Vec::new(),
        }
    }

    /// Says what time it is. What filters do by time, they do by this.
    pub fn tell_time(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// Whether any filter holds records.
    pub fn may_hold(&self) -> bool {
        self.chain.may_hold()
    }

    /// When the first record that a filter holds is due, on the monotonic clock.
    pub fn held_due_ns(&self) -> Option<u64> {
        self.chain.due_ns()
    }

    /// Lets the records go on that filters hold and that are due.
    pub fn release_due(&mut self) {
        self.abandon();
        chain::release(self, Release::Due);
    }

    /// Lets all records go on that filters hold: no more will come.
    pub fn release_all(&mut self) {
        self.abandon();
        chain::release(self, Release::All);
    }

    /// What an input appends to.
    pub fn sink(&mut self, input: InputId) -> ShardSink<'_> {
        ShardSink::new(self, input)
    }

    /// The flush tick: seals every open chunk.
    pub fn seal_all(&mut self) {
        self.abandon();
        let mut slots = self.buffer.drain();
        for slot in &mut slots {
            let bytes = slot.chunk.take_bytes(&mut self.pool);
            let record_count = std::mem::take(&mut slot.chunk.record_count);
            self.dispatch(slot.input, slot.tag_index, bytes, record_count);
        }
        self.buffer.restore(slots);
        self.tags.forget_open();
    }

    /// Whether the tick would seal anything.
    pub fn has_open(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The queues.
    pub fn scheduler(&mut self) -> &mut Scheduler {
        &mut self.scheduler
    }

    /// The next task of an output, if one may go now.
    pub fn next_task(&mut self, output: OutputId) -> Option<FlushTask> {
        self.scheduler.take(output)
    }

    /// Takes a finished flush; its chunk goes home when it was the last.
    pub fn complete(&mut self, task: FlushTask, status: FlushStatus, now_ns: u64) -> Finished {
        match self.scheduler.complete(task, status, now_ns) {
            Outcome::Delivered(task) => {
                let (number, attempts) = (task.number, task.attempts);
                let unformatted = task.unformatted;
                task.chunk.mark_unformatted(unformatted);
                self.release(task.chunk);
                Finished::Delivered { number, attempts, unformatted }
            }
            Outcome::Retrying { number, attempts, wait } => {
                Finished::Retrying { number, attempts, wait }
            }
            Outcome::Refused(task) => self.lose(task, Lost::Refused),
            Outcome::Exhausted(task) => self.lose(task, Lost::RetriesExhausted),
        }
    }

    /// Limits reached or left since the last call.
    pub fn take_changes(&mut self) -> Vec<LimitChange> {
        std::mem::take(&mut self.changes)
    }

    /// The next input whose pause this shard can explain and nobody has yet: the output that holds most, and
    /// how many bytes.
    pub fn take_explanation(&mut self) -> Option<(InputId, OutputId, u64)> {
        let (output, bytes) = self.scheduler.holder()?;
        let input = self.meters.iter().position(|meter| meter.take_unexplained())?;
        Some((InputId(input as u16), output, bytes))
    }

    /// Whether there are limit changes to take.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Gives up everything that is still held and returns the account of each input.
    pub fn close(&mut self) -> Vec<InputLedger> {
        self.release_all();
        self.seal_all();
        for task in self.scheduler.drain() {
            let input = usize::from(task.chunk.input().0);
            if let Ok(chunk) = Arc::try_unwrap(task.chunk) {
                self.ledgers[input].left_records += u64::from(chunk.record_count());
            }
        }
        self.ledgers.clone()
    }

    /// Totals of an output so far.
    pub fn counters(&self, output: OutputId) -> LaneCounters {
        self.scheduler.counters(output)
    }

    /// What each filter did so far, by `FilterId`.
    pub fn filter_counters(&self) -> &[FilterCounters] {
        self.chain.counters()
    }

    /// Counts a connection that was closed because too many were open.
    pub fn refuse_connection(&mut self, input: InputId) {
        self.ledgers[usize::from(input.0)].refused_connections += 1;
    }

    /// The account of an input so far.
    pub fn ledger(&self, input: InputId) -> &InputLedger {
        &self.ledgers[usize::from(input.0)]
    }

    fn lose(&mut self, task: FlushTask, cause: Lost) -> Finished {
        let attempts = task.attempts;
        let number = task.number;
        let record_count = task.chunk.record_count();
        task.chunk.mark_lost(cause);
        self.release(task.chunk);
        Finished::Lost { number, attempts, cause, record_count }
    }

    fn release(&mut self, chunk: Arc<Chunk>) {
        let Ok(chunk) = Arc::try_unwrap(chunk) else { return };
        let ledger = &mut self.ledgers[usize::from(chunk.input().0)];
        let records = u64::from(chunk.record_count());
        match chunk.lost() {
            None => {
                let unformatted = u64::from(chunk.unformatted());
                ledger.delivered_records += records - unformatted;
                ledger.lost[Lost::Unformatted as usize] += unformatted;
            }
            Some(cause) => ledger.lost[cause as usize] += records,
        }
        let change = chunk.meter().sub(chunk.bytes().len() as u64);
        if change != Change::Same {
            self.changes.push(LimitChange { input: chunk.input(), change });
        }
        self.pool.give(chunk.into_buffer());
    }

    fn seal_slot(&mut self, slot: SlotId) {
        let slot = self.buffer.slot_mut(slot);
        let (input, tag_index) = (slot.input, slot.tag_index);
        let record_count = std::mem::take(&mut slot.chunk.record_count);
        let is_busy = slot.chunk.is_full();
        let bytes = slot.chunk.take_bytes(&mut self.pool);
        slot.chunk.restart(is_busy);
        self.dispatch(input, tag_index, bytes, record_count);
    }

    fn dispatch(&mut self, input: InputId, tag_index: u32, bytes: Vec<u8>, record_count: u32) {
        if record_count == 0 {
            self.pool.give(bytes);
            return;
        }
        let entry = self.tags.entry(tag_index);
        let meter = Arc::clone(&self.meters[usize::from(input.0)]);
        let tag = entry.tag.clone();
        let chunk = Arc::new(Chunk::new(bytes, tag, input, record_count, meter));
        for output in entry.routes.outputs.iter() {
            self.scheduler.enqueue(output, Arc::clone(&chunk));
        }
    }
}

/// What came of a finished flush, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// Delivered, after so many failed attempts.
    Delivered {
        /// Number of the task.
        number: u64,
        /// Attempts that had failed.
        attempts: u32,
        /// Records that could not be put into the output's format.
        unformatted: u32,
    },
    /// Will be tried again.
    Retrying {
        /// Number of the task.
        number: u64,
        /// Attempts that have failed.
        attempts: u32,
        /// Time until the next.
        wait: std::time::Duration,
    },
    /// Dropped and counted.
    Lost {
        /// Number of the task.
        number: u64,
        /// Attempts that have failed with a retry.
        attempts: u32,
        /// Why.
        cause: Lost,
        /// Records in the chunk.
        record_count: u32,
    },
}
