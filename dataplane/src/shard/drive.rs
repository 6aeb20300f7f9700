//! Runs a [`Shard`] on the reactor: takes messages, hands tasks to lanes, ticks, and stops.
//!
//! Tasks of one shard share an [`Engine`] behind `Rc`; no borrow of the shard lives across an await.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::chunk::{InputId, Lost};
use crate::flush::task::{FlushStatus, FlushTask};
use crate::flush::watermark::Change;
use crate::lane::sink::SinkOwners;
use crate::lane::thread::{ForeignFlush, ThreadGroup};
use crate::lane::{Message, ShardSender};
use crate::limits::{HELD_LOOK_INTERVAL, OWNER_JOBS_MAX};
use crate::log::{Level, Log};
use crate::plugin::filter::FilterCounters;
use crate::plugin::output::{Flush, SinkOutput, SinkOwner};
use crate::reactor::event::{Bell, Latch};
use crate::reactor::mailbox::Receiver;
use crate::reactor::{clock, monotonic_ns, sleep, spawn};
use crate::route::mask::OutputId;
use crate::shard::ledger::InputLedger;
use crate::shard::sources::{self, Sources};
use crate::shard::{Finished, Shard};

/// Where the tasks of an output go on this shard.
pub enum Lane {
    /// Awaited here.
    Local(Rc<dyn Flush>),
    /// Formatted here, written by its owner.
    Sink(Arc<dyn SinkOutput>),
    /// Called by the threads of a group.
    Thread {
        /// Index into the engine's groups.
        group: usize,
        /// The plugin.
        flush: Arc<ForeignFlush>,
    },
}

/// Names of an instance for logs.
#[derive(Clone, Debug)]
pub struct InstanceName {
    /// `tail.0`, or its alias.
    pub name: String,
}

/// What a shard is driven with.
pub struct EnginePlan {
    /// Index of this shard.
    pub index: usize,
    /// The state machine.
    pub shard: Shard,
    /// A lane for each output.
    pub lanes: Vec<Lane>,
    /// The groups of lane threads.
    pub groups: Vec<ThreadGroup>,
    /// The owners of sinks.
    pub owners: SinkOwners,
    /// Names of the inputs.
    pub inputs: Vec<InstanceName>,
    /// Names of the outputs.
    pub outputs: Vec<InstanceName>,
    /// Messages from other threads.
    pub inbox: Receiver<Message>,
    /// The way to every shard, this one included.
    pub shards: Vec<ShardSender>,
    /// Time between flush ticks.
    pub flush_interval: Duration,
    /// Told when an input ends the process.
    pub stop_process: Box<dyn Fn()>,
    /// `[engine]`.
    pub log: Log,
}

/// Everything the tasks of a shard share.
pub struct Engine {
    pub(super) shard: RefCell<Shard>,
    pub(super) index: usize,
    lanes: Vec<Lane>,
    groups: RefCell<Vec<ThreadGroup>>,
    owners: SinkOwners,
    inputs: Vec<InstanceName>,
    outputs: Vec<InstanceName>,
    inbox: RefCell<Receiver<Message>>,
    messages: RefCell<Vec<Message>>,
    /// Outputs in whose groups a permit was handed to this shard since the last look.
    handed_permits: RefCell<Vec<OutputId>>,
    pub(super) shards: Vec<ShardSender>,
    flush_interval: Duration,
    pub(super) stop_process: Box<dyn Fn()>,
    pub(super) log: Log,
    pub(super) stop: Latch,
    pub(super) resume: Bell,
    /// Rings when a task of a source ends or a flush completes, while the shard stops.
    pub(super) progress: Bell,
    deadline: Latch,
    pub(super) running_sources: Cell<usize>,
    buffers: RefCell<Vec<Vec<u8>>>,
    sink_jobs: RefCell<BTreeMap<SinkOwner, SinkJobs>>,
    pub(super) connections: RefCell<Vec<Message>>,
    pub(super) connection_bell: Bell,
    is_pumping: Cell<bool>,
}

/// The formatted chunks of this shard that one owner of sinks has not written yet.
#[derive(Default)]
struct SinkJobs {
    count: usize,
    /// Outputs that wait until one of them is written.
    waiting: Vec<OutputId>,
}

/// What a shard leaves when it has ended.
pub struct ShardReport {
    /// The account of each input.
    pub inputs: Vec<InputLedger>,
    /// Totals of each filter.
    pub filters: Vec<FilterCounters>,
    /// Totals of each output.
    pub outputs: Vec<crate::flush::scheduler::LaneCounters>,
    /// Flushes that were under way at the deadline.
    pub abandoned_flushes: usize,
    /// Those of them that are calls into plugins.
    pub abandoned_calls: usize,
}

/// Runs a shard until it is told to stop and has drained, or its deadline has come.
pub async fn run(plan: EnginePlan, sources: Sources) -> ShardReport {
    let engine = Rc::new(Engine {
        shard: RefCell::new(plan.shard),
        index: plan.index,
        lanes: plan.lanes,
        groups: RefCell::new(plan.groups),
        owners: plan.owners,
        inputs: plan.inputs,
        outputs: plan.outputs,
        inbox: RefCell::new(plan.inbox),
        messages: RefCell::default(),
        handed_permits: RefCell::default(),
        shards: plan.shards,
        flush_interval: plan.flush_interval,
        stop_process: plan.stop_process,
        log: plan.log,
        stop: Latch::default(),
        resume: Bell::default(),
        progress: Bell::default(),
        deadline: Latch::default(),
        running_sources: Cell::new(0),
        buffers: RefCell::default(),
        sink_jobs: RefCell::default(),
        connections: RefCell::default(),
        connection_bell: Bell::default(),
        is_pumping: Cell::new(false),
    });
    sources::start(&engine, sources);
    spawn(tick(Rc::clone(&engine)));
    if engine.shard.borrow().may_hold() {
        spawn(release_held(Rc::clone(&engine)));
    }
    spawn(take_messages(Rc::clone(&engine)));
    engine.stop.wait().await;
    drain(&engine).await;
    engine.report()
}

/// The flush tick.
async fn tick(engine: Rc<Engine>) {
    loop {
        sleep(engine.flush_interval).await;
        // Before more is queued: what is still held since the last tick is held by a slow output.
        engine.explain_pauses();
        engine.shard.borrow_mut().seal_all();
        engine.shard.borrow_mut().scheduler().queue_due(monotonic_ns());
        engine.pump();
    }
}

/// Lets records go on that filters hold, when they are due.
async fn release_held(engine: Rc<Engine>) {
    loop {
        sleep(HELD_LOOK_INTERVAL).await;
        let clock = clock();
        let mut shard = engine.shard.borrow_mut();
        if shard.held_due_ns().is_none_or(|due| due > clock.monotonic_ns) {
            continue;
        }
        shard.tell_time(clock);
        shard.release_due();
        drop(shard);
        engine.pump();
    }
}

/// Takes messages of other threads as they come. Busy sources take them in `pump` as well.
async fn take_messages(engine: Rc<Engine>) {
    loop {
        std::future::poll_fn(|context| engine.inbox.borrow_mut().poll_ready(context)).await;
        engine.pump();
    }
}

/// Lets the sources end, seals what they left, and waits until all of it has gone or time is over.
async fn drain(engine: &Rc<Engine>) {
    let drained = async {
        engine.progress.wait_until(|| engine.running_sources.get() == 0).await;
        engine.end_records();
        engine.shard.borrow_mut().scheduler().begin_stopping(monotonic_ns());
        engine.pump();
        loop {
            let wait = async {
                engine.progress.wait_until(|| engine.is_idle()).await;
                true
            };
            // A retry that comes due is queued here at once rather than at the next tick.
            let next_due = engine.shard.borrow_mut().scheduler().next_due_ns();
            let now = monotonic_ns();
            let due = next_due.map_or(Duration::from_secs(1), |due| {
                Duration::from_nanos(due.saturating_sub(now)).min(Duration::from_secs(1))
            });
            let timer = async {
                sleep(due.max(Duration::from_millis(1))).await;
                false
            };
            if futures_lite::future::or(wait, timer).await {
                return;
            }
            engine.shard.borrow_mut().scheduler().queue_due(monotonic_ns());
            engine.pump();
        }
    };
    futures_lite::future::or(drained, engine.deadline.wait()).await;
}

impl Engine {
    /// No more records will come: what is held goes on, and what is open is sealed.
    fn end_records(&self) {
        let mut shard = self.shard.borrow_mut();
        shard.tell_time(clock());
        shard.release_all();
        shard.seal_all();
    }

    /// Takes messages and hands out tasks until there is nothing to do now. Called after every unit
    /// of work; costs one atomic load when there is nothing.
    pub fn pump(self: &Rc<Self>) {
        // A local flush that is ready at once completes inside `dispatch` and calls back here.
        if self.is_pumping.replace(true) {
            return;
        }
        loop {
            self.handle_messages();
            self.tell_changes();
            let Some(output) = self.shard.borrow_mut().scheduler().next_ready() else { break };
            self.dispatch(output);
        }
        self.return_unused_permits();
        self.is_pumping.set(false);
        if self.stop.is_set() {
            self.progress.ring();
        }
    }

    fn handle_messages(self: &Rc<Self>) {
        let mut messages = self.messages.take();
        self.inbox.borrow_mut().drain(&mut messages);
        for message in messages.drain(..) {
            self.handle(message);
        }
        self.messages.replace(messages);
    }

    fn handle(self: &Rc<Self>, message: Message) {
        match message {
            Message::Flushed { task, status, worker } => {
                let output = task.output;
                let next = self.groups.borrow_mut()[worker.group].release(worker.thread);
                // Before `finish` lists this output: the thread goes round the outputs of the group.
                self.list_group_of(output);
                self.finish(task, status);
                self.wake_for_permit(next, output);
            }
            Message::Written { task, status, buffer } => {
                let mut buffers = self.buffers.borrow_mut();
                if buffers.len() < OWNER_JOBS_MAX {
                    buffers.push(buffer);
                }
                drop(buffers);
                self.take_back_sink_job(task.output);
                self.finish(task, status);
            }
            Message::Connection { .. } => {
                self.connections.borrow_mut().push(message);
                self.connection_bell.ring();
            }
            Message::Resume => self.resume.ring(),
            Message::PermitFree(output) => {
                self.list_group_of(output);
                self.handed_permits.borrow_mut().push(output);
            }
            Message::Stop => {
                self.stop.set();
                self.resume.ring();
                self.progress.ring();
            }
            Message::Deadline => self.deadline.set(),
        }
    }

    /// Lists every output that shares threads with this one, those behind it first, itself last.
    fn list_group_of(&self, output: OutputId) {
        let at = usize::from(output.0);
        let Lane::Thread { group: wanted, .. } = &self.lanes[at] else { return };
        let count = self.lanes.len();
        for index in (1..=count).map(|step| (at + step) % count) {
            if matches!(&self.lanes[index], Lane::Thread { group, .. } if group == wanted) {
                self.shard.borrow_mut().scheduler().list(OutputId(index as u16));
            }
        }
    }

    /// Tells the shard that was handed a permit of an output's group.
    fn wake_for_permit(&self, shard: Option<usize>, output: OutputId) {
        match shard {
            None => {}
            Some(shard) if shard == self.index => self.handed_permits.borrow_mut().push(output),
            Some(shard) => self.shards[shard].send(Message::PermitFree(output)),
        }
    }

    /// Hands on permits that came when there was nothing left to call for.
    fn return_unused_permits(&self) {
        if self.handed_permits.borrow().is_empty() {
            return;
        }
        for output in self.handed_permits.take() {
            let Lane::Thread { group, .. } = &self.lanes[usize::from(output.0)] else { continue };
            let next = self.groups.borrow()[*group].return_unused();
            self.wake_for_permit(next, output);
        }
    }

    /// Hands the tasks of an output to its lane, as many as may go now.
    fn dispatch(self: &Rc<Self>, output: OutputId) {
        while self.shard.borrow_mut().scheduler().can_take(output) {
            match &self.lanes[usize::from(output.0)] {
                Lane::Local(flush) => {
                    let Some(task) = self.shard.borrow_mut().next_task(output) else { return };
                    let (engine, flush) = (Rc::clone(self), Rc::clone(flush));
                    spawn(async move {
                        let status = flush.flush(&task.chunk).await;
                        engine.finish(task, status);
                        engine.pump();
                    });
                }
                Lane::Sink(sink) => {
                    if !self.may_format(sink.owner(), output) {
                        return;
                    }
                    let Some(mut task) = self.shard.borrow_mut().next_task(output) else { return };
                    let mut buffer = self.buffers.borrow_mut().pop().unwrap_or_default();
                    buffer.clear();
                    task.unformatted = sink.format(&task.chunk, &mut buffer);
                    self.owners.write(sink.owner(), task, buffer, &self.shards[self.index]);
                }
                Lane::Thread { group, flush } => {
                    let thread = self.groups.borrow_mut()[*group].reserve();
                    let Some(thread) = thread else { return };
                    let Some(task) = self.shard.borrow_mut().next_task(output) else { return };
                    self.groups.borrow_mut()[*group].start_flush(thread, task, flush);
                }
            }
        }
    }

    /// Counts a chunk to be formatted for an owner, or notes that the output waits.
    fn may_format(&self, owner: SinkOwner, output: OutputId) -> bool {
        let mut jobs = self.sink_jobs.borrow_mut();
        let jobs = jobs.entry(owner).or_default();
        let is_room = jobs.count < OWNER_JOBS_MAX;
        match is_room {
            true => jobs.count += 1,
            false if jobs.waiting.contains(&output) => {}
            false => jobs.waiting.push(output),
        }
        is_room
    }

    /// One is written: the outputs that wait may try again, in their order.
    fn take_back_sink_job(&self, output: OutputId) {
        let Lane::Sink(sink) = &self.lanes[usize::from(output.0)] else { return };
        let mut jobs = self.sink_jobs.borrow_mut();
        let Some(jobs) = jobs.get_mut(&sink.owner()) else { return };
        jobs.count -= 1;
        for output in jobs.waiting.drain(..) {
            self.shard.borrow_mut().scheduler().list(output);
        }
    }

    fn finish(&self, task: FlushTask, status: FlushStatus) {
        let (output, input) = (task.output, task.chunk.input());
        let finished = self.shard.borrow_mut().complete(task, status, monotonic_ns());
        self.log_finished(&finished, input, output);
    }

    /// Fluent Bit's lines about retries and losses, which operators grep for.
    fn log_finished(&self, finished: &Finished, input: InputId, output: OutputId) {
        let input_name = &self.inputs[usize::from(input.0)].name;
        let name = &self.outputs[usize::from(output.0)].name;
        let shard = self.index;
        if let Finished::Delivered { number, unformatted: count @ 1.., .. } = finished {
            self.log.warn(format_args!(
                "chunk '{shard}-{number}': {count} records dropped, which the format of the output cannot say: \
                 input={input_name} > output={name}"
            ));
        }
        match finished {
            Finished::Delivered { attempts: 0, .. } => {}
            Finished::Delivered { number, attempts, .. } => self.log.info(format_args!(
                "flush chunk '{shard}-{number}' succeeded at retry {attempts}: task_id={number}, \
                 input={input_name} > output={name} (out_id={})",
                output.0
            )),
            Finished::Retrying { number, wait, .. } => self.log.warn(format_args!(
                "failed to flush chunk '{shard}-{number}', retry in {} seconds: task_id={number}, \
                 input={input_name} > output={name} (out_id={})",
                wait.as_secs(),
                output.0
            )),
            Finished::Lost { number, cause, record_count, attempts } => {
                // Where one retry is allowed, two attempts fail before the chunk is given up.
                let why = match (cause, attempts) {
                    (Lost::RetriesExhausted, 1) => "is not retried (no retry config)",
                    _ => "cannot be retried",
                };
                self.log.error(format_args!(
                    "chunk '{shard}-{number}' {why}: task_id={number}, \
                     input={input_name} > output={name}: {}, {record_count} records dropped",
                    cause.label()
                ));
            }
        }
    }

    fn tell_changes(&self) {
        if !self.shard.borrow().has_changes() {
            return;
        }
        let changes = self.shard.borrow_mut().take_changes();
        for change in changes {
            let input = &self.inputs[usize::from(change.input.0)].name;
            // Fluent Bit writes these two as `[input]`, and operators grep for them.
            let log = self.log.component("input");
            match change.change {
                Change::Same => {}
                Change::Paused => {
                    log.warn(format_args!("{input} paused (mem buf overlimit)"));
                }
                Change::Resumed => {
                    log.info(format_args!("{input} resume (mem buf overlimit)"));
                    for shard in &self.shards {
                        shard.send(Message::Resume);
                    }
                }
            }
        }
    }

    /// Says which output holds what an input waits for. What still lies in open chunks is explained later.
    fn explain_pauses(&self) {
        while let Some((input, output, bytes)) = self.shard.borrow_mut().take_explanation() {
            self.log.warn(format_args!(
                "{} is paused because output {} holds {bytes} bytes on shard {}",
                self.inputs[usize::from(input.0)].name,
                self.outputs[usize::from(output.0)].name,
                self.index
            ));
        }
    }

    fn is_idle(&self) -> bool {
        self.shard.borrow_mut().scheduler().is_idle()
    }

    fn report(&self) -> ShardReport {
        let mut shard = self.shard.borrow_mut();
        let outputs: Vec<_> =
            (0..self.lanes.len()).map(|index| shard.counters(OutputId(index as u16))).collect();
        let (mut abandoned_flushes, mut abandoned_calls) = (0, 0);
        for (index, lane) in self.lanes.iter().enumerate() {
            let under_way = shard.scheduler().in_flight(OutputId(index as u16));
            abandoned_flushes += under_way;
            if matches!(lane, Lane::Thread { .. }) {
                abandoned_calls += under_way;
            }
        }
        let mut inputs = shard.close();
        for ledger in inputs.iter_mut().filter(|_| abandoned_flushes > 0) {
            // What was handed to a call that has not returned is neither delivered nor lost for sure:
            // it counts as left.
            ledger.left_records += ledger.missing_records();
        }
        // A permit may have been handed over after the last task went: it is another shard's now.
        for (index, lane) in self.lanes.iter().enumerate() {
            let Lane::Thread { group, .. } = lane else { continue };
            let next = self.groups.borrow()[*group].return_unused();
            self.wake_for_permit(next, OutputId(index as u16));
        }
        for group in self.groups.take() {
            if abandoned_calls == 0 {
                group.join();
            }
        }
        if self.log.writes(Level::Debug) {
            self.log.debug(format_args!("shard {} has ended", self.index));
        }
        let filters = shard.filter_counters().to_vec();
        ShardReport { inputs, filters, outputs, abandoned_flushes, abandoned_calls }
    }
}
