//! Runs a pipeline: opens listeners, initialises plugins, starts a pinned thread for each shard, and stops.
//!
//! The supervisor has a thread of its own, because the main thread does nothing but wait for signals.
//! [`foreign`] holds what it does for loaded plugins.

mod foreign;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use config::service::{Grace, LogLevel};
use ffi::FlushHandle;
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::chunk::InputId;
use crate::flush::retry::Backoff;
use crate::flush::scheduler::LanePolicy;
use crate::lane::host::PluginHost;
use crate::lane::sink::{self, SinkOwners, SinkPlan};
use crate::lane::thread::{ForeignFlush, GroupPlan, ThreadGroup};
use crate::lane::{Message, ShardSender};
use crate::limits::{RETAGS_MAX, SINK_JOBS_MAX};
use crate::log::{Level, Log};
use crate::pipeline::keys::Workers;
use crate::pipeline::{FilterInstance, OutputInstance, OutputKind, Pipeline};
use crate::plugin::filter::{Filter, FilterPlace};
use crate::plugin::input::InputPlace;
use crate::plugin::output::{OutputDefinition, OutputPlace};
use crate::reactor::mailbox::{self, Receiver as Inbox};
use crate::reactor::net::Listener;
use crate::reactor::readiness::Readiness;
use crate::reactor::{executor, monotonic_ns, probe};
use crate::route::mask::OutputId;
use crate::shard::chain::FilterCounters;
use crate::shard::drive::{self, EnginePlan, InstanceName, Lane, ShardReport};
use crate::shard::ledger::InputLedger;
use crate::shard::sources::{Sources, StartedInput};
use crate::shard::{Shard, ShardPlan};

/// Why the supervisor is told something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// A signal, by name.
    Signal(&'static str),
    /// An input has ended and the process with it.
    InputEnded,
    /// A filter found what it must not find.
    CheckFailed,
    /// SIGHUP.
    Reload,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Status for the shell.
    pub exit_status: i32,
}

/// The level of our log for a configured one.
pub fn level_of(level: LogLevel) -> Level {
    match level {
        LogLevel::Off => Level::Off,
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warn,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    }
}

/// Runs a pipeline to its end.
///
/// # Errors
/// What kept it from starting; Fluent Bit's exit status for that is 255.
pub fn run(
    pipeline: Pipeline,
    host: &PluginHost,
    log: &Log,
    orders: &Receiver<Order>,
    order_sender: &Sender<Order>,
    started: impl FnOnce(),
) -> Result<Ending, String> {
    let pipeline = Arc::new(pipeline);
    let listeners = open_listeners(&pipeline)?;
    let prepared = prepare(&pipeline, host, log);
    // What was initialised is ended, whatever keeps us from starting.
    let prepared = prepared.inspect_err(|_| foreign::exit(host, log))?;
    let Prepared { foreign, owners, owner_threads, readiness } = prepared;
    let last_flush_ns = Arc::new(AtomicU64::new(0));
    let (senders, inboxes): (Vec<ShardSender>, Vec<Inbox<Message>>) =
        (0..pipeline.shard_count).map(|_| mailbox::pair()).unzip();
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let plan = Arc::new(Plan {
        groups: foreign::plan_groups(&pipeline),
        foreign,
        owners: owners.clone(),
        readiness,
        last_flush_ns: Arc::clone(&last_flush_ns),
        senders: senders.clone(),
        // This thread is not pinned.
        allowed: sched_getaffinity(None)
            .map_err(|error| format!("cannot ask for cores: {error}"))?,
        loads: Arc::new((0..pipeline.shard_count).map(|_| AtomicUsize::new(0)).collect()),
        log: log.clone(),
        orders: order_sender.clone(),
        pipeline: Arc::clone(&pipeline),
    });
    let (report, reports) = std::sync::mpsc::channel();
    let mut listeners = Some(listeners);
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let cpu = match cores.is_empty() {
            true => None,
            false => Some(cores[index % cores.len()].id),
        };
        let place =
            ShardStart { index, cpu, inbox, listeners: listeners.take().unwrap_or_default() };
        let (plan, report) = (Arc::clone(&plan), report.clone());
        let thread = std::thread::Builder::new().name(format!("shard-{index}"));
        let thread = thread.spawn(move || {
            let result = run_shard(&plan, place);
            // The supervisor may have given up on us at the deadline.
            let _ = report.send((index, result));
        });
        threads.push(thread.map_err(|error| format!("cannot start a shard: {error}"))?);
    }
    drop(report);
    drop(plan);
    log.info(format_args!("{} shards started", pipeline.shard_count));
    started();
    let stopped = wait_and_stop(&pipeline, &senders, orders, &reports, log)?;
    drop(senders);
    if stopped.abandoned == 0 {
        owners.end();
        for thread in threads.into_iter().chain(owner_threads) {
            // A panic aborts the process, so joining cannot fail.
            let _ = thread.join();
        }
    }
    foreign::end(host, stopped.abandoned, last_flush_ns.load(Ordering::Relaxed), log);
    Ok(say_the_law(&pipeline, &stopped, log))
}

/// What is there before the first shard starts.
struct Prepared {
    foreign: Vec<Option<FlushHandle>>,
    owners: SinkOwners,
    owner_threads: Vec<JoinHandle<()>>,
    readiness: Readiness,
}

fn prepare(pipeline: &Pipeline, host: &PluginHost, log: &Log) -> Result<Prepared, String> {
    let foreign = foreign::init(pipeline, host, log)?;
    let (owners, owner_threads) = start_sinks(pipeline, log)?;
    let readiness =
        Readiness::start().map_err(|error| format!("cannot watch descriptors: {error}"))?;
    Ok(Prepared { foreign, owners, owner_threads, readiness })
}

/// What all shards are started from.
struct Plan {
    pipeline: Arc<Pipeline>,
    groups: foreign::Groups,
    foreign: Vec<Option<FlushHandle>>,
    owners: SinkOwners,
    readiness: Readiness,
    last_flush_ns: Arc<AtomicU64>,
    senders: Vec<ShardSender>,
    /// The cores this process may use.
    allowed: CpuSet,
    loads: Arc<Vec<AtomicUsize>>,
    log: Log,
    orders: Sender<Order>,
}

/// What one shard is started with.
struct ShardStart {
    index: usize,
    cpu: Option<usize>,
    inbox: Inbox<Message>,
    listeners: Vec<(InputId, Listener)>,
}

fn open_listeners(pipeline: &Pipeline) -> Result<Vec<(InputId, Listener)>, String> {
    let mut listeners = Vec::new();
    for (index, input) in pipeline.inputs.iter().enumerate() {
        for address in input.definition.listeners() {
            let listener = Listener::open(&address)
                .map_err(|reason| format!("input `{}`: {reason}", input.name))?;
            listeners.push((InputId(index as u16), listener));
        }
    }
    Ok(listeners)
}

fn output_log(log: &Log, output: &OutputInstance) -> Log {
    let component = format!("output:{}:{}", output.plugin_name, output.name);
    let log = log.component(&component);
    match output.log_level {
        Some(level) => log.at_level(level_of(level)),
        None => log,
    }
}

fn start_sinks(
    pipeline: &Pipeline,
    log: &Log,
) -> Result<(SinkOwners, Vec<JoinHandle<()>>), String> {
    let mut plans = Vec::new();
    for (index, output) in pipeline.outputs.iter().enumerate() {
        if let OutputKind::BuiltIn(OutputDefinition::Sink(sink)) = &output.kind {
            let (output_id, log) = (OutputId(index as u16), output_log(log, output));
            plans.push(SinkPlan { output: output_id, sink: Arc::clone(sink), log });
        }
    }
    sink::start(plans).map_err(|error| format!("cannot start the writer of a sink: {error}"))
}

/// The body of a shard's thread.
fn run_shard(plan: &Plan, start: ShardStart) -> Result<ShardReport, String> {
    let ShardStart { index, cpu, inbox, listeners } = start;
    let name = format!("shard-{index}");
    let future = async {
        let (engine, sources) = assemble(plan, index, inbox, listeners)?;
        Ok(drive::run(engine, sources).await)
    };
    executor::run(&name, cpu, future).map_err(|error| probe::explain(&error, plan.senders.len()))?
}

fn assemble(
    plan: &Plan,
    index: usize,
    inbox: Inbox<Message>,
    listeners: Vec<(InputId, Listener)>,
) -> Result<(EnginePlan, Sources), String> {
    let pipeline = &plan.pipeline;
    let groups: Vec<ThreadGroup> = plan
        .groups
        .all
        .iter()
        .enumerate()
        .map(|(group, (permits, thread_count))| {
            ThreadGroup::start(&GroupPlan {
                group,
                shard: index,
                allowed: plan.allowed,
                thread_count: *thread_count,
                permits: Arc::clone(permits),
                last_flush_ns: Arc::clone(&plan.last_flush_ns),
                sender: plan.senders[index].clone(),
            })
            .map_err(|error| format!("cannot start lane threads: {error}"))
        })
        .collect::<Result<_, _>>()?;
    let (lanes, policies) = open_lanes(plan, index);
    let shard = Shard::new(ShardPlan {
        routes: Arc::clone(&pipeline.routes),
        meters: pipeline.inputs.iter().map(|input| Arc::clone(&input.meter)).collect(),
        policies,
        filters: open_filters(plan, index),
        backoff: Backoff {
            base_s: pipeline.service.scheduler_base,
            cap_s: pipeline.service.scheduler_cap,
        },
        seed: monotonic_ns() ^ (index as u64) << 48,
    });
    let orders = plan.orders.clone();
    let engine = EnginePlan {
        index,
        shard,
        lanes,
        groups,
        owners: plan.owners.clone(),
        inputs: pipeline
            .inputs
            .iter()
            .map(|input| InstanceName { name: input.name.clone() })
            .collect(),
        outputs: pipeline
            .outputs
            .iter()
            .map(|output| InstanceName { name: output.name.clone() })
            .collect(),
        inbox,
        shards: plan.senders.clone(),
        flush_interval: pipeline.service.flush.0,
        // The supervisor listens as long as shards run.
        stop_process: Box::new(move || drop(orders.send(Order::InputEnded))),
        log: plan.log.clone(),
    };
    let sources = Sources {
        inputs: start_inputs(plan, index)?,
        listeners,
        loads: Arc::clone(&plan.loads),
        readiness: plan.readiness.clone(),
    };
    Ok((engine, sources))
}

fn open_filters(plan: &Plan, index: usize) -> Vec<Box<dyn Filter>> {
    let pipeline = &plan.pipeline;
    let open = |filter: &FilterInstance| {
        let mut log = plan.log.component(&format!("filter:{}:{}", filter.plugin_name, filter.name));
        if let Some(level) = filter.log_level {
            log = log.at_level(level_of(level));
        }
        let orders = plan.orders.clone();
        // The supervisor listens as long as shards run.
        let fail = Arc::new(move || drop(orders.send(Order::CheckFailed)));
        let place = FilterPlace { shard: index, shard_count: pipeline.shard_count, log, fail };
        filter.definition.open(&place)
    };
    pipeline.filters.iter().map(open).collect()
}

fn start_inputs(plan: &Plan, index: usize) -> Result<Vec<StartedInput>, String> {
    let pipeline = &plan.pipeline;
    let mut started = Vec::new();
    for (input_index, input) in pipeline.inputs.iter().enumerate() {
        if !input.runs_on(input_index, index, pipeline.shard_count) {
            continue;
        }
        let mut log = plan.log.component(&format!("input:{}:{}", input.plugin.name, input.name));
        if let Some(level) = input.log_level {
            log = log.at_level(level_of(level));
        }
        let place =
            InputPlace { shard: index, shard_count: pipeline.shard_count, log: log.clone() };
        let source = input
            .definition
            .start(&place, &input.tag)
            .map_err(|reason| format!("input `{}`: {reason}", input.name))?;
        started.push(StartedInput { id: InputId(input_index as u16), source, log });
    }
    Ok(started)
}

fn open_lanes(plan: &Plan, index: usize) -> (Vec<Lane>, Vec<LanePolicy>) {
    let pipeline = &plan.pipeline;
    let shard_count = pipeline.shard_count;
    let mut lanes = Vec::new();
    let mut policies = Vec::new();
    for (output_index, output) in pipeline.outputs.iter().enumerate() {
        let log = output_log(&plan.log, output);
        let (lane, in_flight_max) = match &output.kind {
            OutputKind::BuiltIn(OutputDefinition::Local(local)) => {
                let workers = match output.workers {
                    None => local.default_workers(),
                    Some(Workers::Fixed(count)) => count,
                    Some(Workers::Auto) => shard_count,
                };
                let place = OutputPlace { shard: index, shard_count, log };
                (Lane::Local(local.open(&place).into()), workers.div_ceil(shard_count).max(1))
            }
            OutputKind::BuiltIn(OutputDefinition::Sink(sink)) => {
                (Lane::Sink(Arc::clone(sink)), SINK_JOBS_MAX)
            }
            OutputKind::Foreign(foreign) => {
                let group = plan.groups.of_output[output_index];
                let group = group.expect("every loaded plugin has a group of lane threads");
                let handle = plan.foreign[output_index];
                let handle = handle.expect("every loaded plugin was initialised");
                let flush = Arc::new(ForeignFlush { handle, format: foreign.format, log });
                (Lane::Thread { group, flush }, plan.groups.all[group].1)
            }
        };
        lanes.push(lane);
        policies.push(LanePolicy { in_flight_max, retry_limit: output.retry_limit });
    }
    (lanes, policies)
}

/// What is left when all shards have ended or time is over.
struct Stopped {
    inputs: Vec<InputLedger>,
    filters: Vec<FilterCounters>,
    outputs: Vec<crate::flush::scheduler::LaneCounters>,
    /// Flushes that were under way at the deadline.
    abandoned: usize,
    /// What the shell is told.
    exit_status: i32,
}

type ShardResult = (usize, Result<ShardReport, String>);

/// How long after the deadline a shard may take to write its account.
const REPORT_WAIT: Duration = Duration::from_secs(2);

fn wait_and_stop(
    pipeline: &Pipeline,
    senders: &[ShardSender],
    orders: &Receiver<Order>,
    reports: &Receiver<ShardResult>,
    log: &Log,
) -> Result<Stopped, String> {
    let mut stopped = Stopped {
        inputs: vec![InputLedger::default(); pipeline.inputs.len()],
        filters: vec![FilterCounters::default(); pipeline.filters.len()],
        outputs: vec![Default::default(); pipeline.outputs.len()],
        abandoned: 0,
        exit_status: 0,
    };
    stopped.exit_status = wait_for_order(reports, orders, log)?;
    log_grace(pipeline.service.grace, log);
    for sender in senders {
        sender.send(Message::Stop);
    }
    let begin = Instant::now();
    let deadline = match pipeline.service.grace {
        Grace::Seconds(seconds) => Some(Duration::from_secs(seconds)),
        Grace::Unlimited => None,
    };
    let mut left = senders.len();
    let mut is_over = false;
    while left > 0 {
        match reports.recv_timeout(Duration::from_millis(20)) {
            Ok((_, Ok(report))) => {
                left -= 1;
                stopped.add(&report);
            }
            Ok((index, Err(reason))) => return Err(format!("shard {index}: {reason}")),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        while let Ok(order) = orders.try_recv() {
            if let Order::Signal(name) = order {
                log.error(format_args!(
                    "caught {name} again: ending at once, what is held is lost"
                ));
                log.flush(Duration::from_millis(200));
                crate::reactor::signals::exit_now(1);
            }
        }
        match deadline {
            Some(deadline) if !is_over && begin.elapsed() >= deadline => {
                is_over = true;
                for sender in senders {
                    sender.send(Message::Deadline);
                }
            }
            Some(deadline) if begin.elapsed() >= deadline + REPORT_WAIT => {
                stopped.abandoned += left;
                break;
            }
            _ => {}
        }
    }
    Ok(stopped)
}

/// Waits for the first order to stop, and returns the status with which the process ends. A shard that ends before it could not start.
fn wait_for_order(
    reports: &Receiver<ShardResult>,
    orders: &Receiver<Order>,
    log: &Log,
) -> Result<i32, String> {
    loop {
        match orders.recv_timeout(Duration::from_millis(200)) {
            Ok(Order::Signal(name)) => {
                log.info(format_args!("caught signal ({name})"));
                return Ok(0);
            }
            Ok(Order::InputEnded) => return Ok(0),
            Ok(Order::CheckFailed) => return Ok(255),
            Ok(Order::Reload) => {
                log.warn(
                    "SIGHUP: reading the configuration again is not supported yet; restart instead",
                );
            }
            Err(_) => {
                if let Ok((index, Err(reason))) = reports.try_recv() {
                    return Err(format!("shard {index}: {reason}"));
                }
            }
        }
    }
}

fn log_grace(grace: Grace, log: &Log) {
    match grace {
        Grace::Seconds(seconds) => {
            log.warn(format_args!("service will shutdown in max {seconds} seconds"));
        }
        Grace::Unlimited => log.warn("service will shutdown when all remaining tasks are flushed"),
    }
}

impl Stopped {
    fn add(&mut self, report: &ShardReport) {
        for (mine, theirs) in self.inputs.iter_mut().zip(&report.inputs) {
            mine.add(theirs);
        }
        for (mine, theirs) in self.filters.iter_mut().zip(&report.filters) {
            mine.add(theirs);
        }
        for (mine, theirs) in self.outputs.iter_mut().zip(&report.outputs) {
            mine.delivered_records += theirs.delivered_records;
            mine.delivered_bytes += theirs.delivered_bytes;
            mine.retries += theirs.retries;
            mine.retries_failed += theirs.retries_failed;
            mine.errors += theirs.errors;
            mine.dropped_records += theirs.dropped_records;
        }
        self.abandoned += report.abandoned_flushes;
    }
}

/// One line for each instance at debug level, and one for the process.
fn say_the_law(pipeline: &Pipeline, stopped: &Stopped, log: &Log) -> Ending {
    let mut total = InputLedger::default();
    for (input, ledger) in pipeline.inputs.iter().zip(&stopped.inputs) {
        log.debug(format_args!("input {}: {ledger}", input.name));
        total.add(ledger);
    }
    for (filter, counters) in pipeline.filters.iter().zip(&stopped.filters) {
        log.debug(format_args!("filter {}: {counters}", filter.name));
        if counters.refused_retags > 0 {
            log.warn(format_args!(
                "filter {}: {} records would have been re-tagged more than {RETAGS_MAX} times, or were too many at once, \
                 and went on as they were: its rules loop",
                filter.name, counters.refused_retags
            ));
        }
    }
    for (output, counters) in pipeline.outputs.iter().zip(&stopped.outputs) {
        log.debug(format_args!(
            "output {}: delivered {} records, {} bytes; retries {}, retries failed {}, errors {}, dropped {} \
             records",
            output.name,
            counters.delivered_records,
            counters.delivered_bytes,
            counters.retries,
            counters.retries_failed,
            counters.errors,
            counters.dropped_records
        ));
    }
    if total.holds() {
        log.info(format_args!("records: {total}"));
    } else {
        log.error(format_args!("records: {total}, which does not add up: please report this"));
    }
    log.info("service has stopped");
    Ending { exit_status: stopped.exit_status }
}
