//! Runs a pipeline: opens listeners, initialises plugins, starts a pinned thread for each shard, and stops.
//!
//! The supervisor has a thread of its own, because the main thread does nothing but wait for signals.
//! [`foreign`] holds what it does for loaded plugins, [`stop`] how a run ends.

mod foreign;
mod stop;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use config::service::LogLevel;
use ffi::FlushHandle;
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::chunk::InputId;
use crate::flush::retry::Backoff;
use crate::flush::scheduler::LanePolicy;
use crate::lane::host::PluginHost;
use crate::lane::sink::{self, SinkOwners, SinkPlan};
use crate::lane::thread::{ForeignFlush, GroupPlan, ThreadGroup};
use crate::lane::{Message, ShardSender};
use crate::limits::SINK_JOBS_MAX;
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
use crate::shard::drive::{self, EnginePlan, InstanceName, Lane, ShardReport};
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
    let (report, reports) = mpsc::channel();
    let mut listeners = Some(listeners);
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let mut gates = Vec::new();
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let cpu = match cores.is_empty() {
            true => None,
            false => Some(cores[index % cores.len()].id),
        };
        let (gate, opened) = mpsc::channel();
        gates.push(gate);
        let listeners = listeners.take().unwrap_or_default();
        let place = ShardStart { index, cpu, inbox, listeners, opened };
        let (plan, report) = (Arc::clone(&plan), report.clone());
        let thread = std::thread::Builder::new().name(format!("shard-{index}"));
        let thread = thread.spawn(move || {
            // The supervisor may have given up on us: it wants no word then.
            let result = run_shard(&plan, place, || drop(report.send((index, Word::Runs))));
            let _ = report.send((index, Word::Ended(result)));
        });
        threads.push(thread.map_err(|error| format!("cannot start a shard: {error}"))?);
    }
    drop(report);
    drop(plan);
    if let Err(reason) = stop::wait_for_shards(pipeline.shard_count, &reports) {
        drop(gates);
        for thread in threads {
            let _ = thread.join();
        }
        // No shard has run, so no flush is under way.
        foreign::exit(host, log);
        return Err(reason);
    }
    for gate in gates {
        // A shard that has ended since says so in its report.
        let _ = gate.send(());
    }
    log.info(format_args!("{} shards started", pipeline.shard_count));
    started();
    let stopped = stop::wait_and_stop(&pipeline, &senders, orders, &reports, log)?;
    drop(senders);
    let others = stopped.abandoned - stopped.abandoned_calls;
    if others > 0 {
        log.error(format_args!(
            "the time is over and {others} flushes are still under way: what they hold is left"
        ));
    }
    if stopped.abandoned == 0 {
        owners.end();
        for thread in threads.into_iter().chain(owner_threads) {
            // A panic aborts the process, so joining cannot fail.
            let _ = thread.join();
        }
    }
    foreign::end(host, stopped.abandoned_calls, last_flush_ns.load(Ordering::Relaxed), log);
    Ok(stop::say_the_law(&pipeline, &stopped, log))
}

/// What a shard tells the supervisor.
enum Word {
    /// It has all it needs, and waits at its gate until all the others have it too.
    Runs,
    /// It has ended, or could not start.
    Ended(Result<ShardReport, String>),
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
    /// Brings one word when every shard has what it needs, and closes without one when the start has failed.
    opened: Receiver<()>,
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
fn run_shard(plan: &Plan, start: ShardStart, runs: impl FnOnce()) -> Result<ShardReport, String> {
    let ShardStart { index, cpu, inbox, listeners, opened } = start;
    let name = format!("shard-{index}");
    let future = async {
        let (engine, sources) = assemble(plan, index, inbox, listeners)?;
        runs();
        opened.recv().map_err(|_| "another shard could not start")?;
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
