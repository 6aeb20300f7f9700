//! How a run ends: the order to stop, the deadline, and the account of what came of every record.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use config::service::Grace;

use crate::flush::scheduler::LaneCounters;
use crate::lane::{Message, ShardSender};
use crate::limits::RETAGS_MAX;
use crate::log::Log;
use crate::pipeline::Pipeline;
use crate::plugin::filter::FilterCounters;
use crate::reactor::signals;
use crate::shard::drive::ShardReport;
use crate::shard::ledger::InputLedger;
use crate::supervisor::{Ending, Order, Word};

/// What is left when all shards have ended or time is over.
pub(super) struct Stopped {
    inputs: Vec<InputLedger>,
    filters: Vec<FilterCounters>,
    outputs: Vec<LaneCounters>,
    /// Flushes that were under way at the deadline.
    pub(super) abandoned: usize,
    /// Those of them that are calls into plugins, or may be.
    pub(super) abandoned_calls: usize,
    /// What the shell is told.
    exit_status: i32,
}

/// Which shard, and what it says.
type Told = (usize, Word);

/// How long after the deadline a shard may take to write its account.
const REPORT_WAIT: Duration = Duration::from_secs(2);

/// Waits for the order to stop, stops the shards, and collects their accounts until the deadline.
///
/// # Errors
/// Why a shard could not start.
pub(super) fn wait_and_stop(
    pipeline: &Pipeline,
    senders: &[ShardSender],
    orders: &Receiver<Order>,
    reports: &Receiver<Told>,
    log: &Log,
) -> Result<Stopped, String> {
    let mut stopped = Stopped {
        inputs: vec![InputLedger::default(); pipeline.inputs.len()],
        filters: vec![FilterCounters::default(); pipeline.filters.len()],
        outputs: vec![Default::default(); pipeline.outputs.len()],
        abandoned: 0,
        abandoned_calls: 0,
        exit_status: wait_for_order(orders, log),
    };
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
            Ok((_, Word::Runs)) => {}
            Ok((_, Word::Ended(Ok(report)))) => {
                left -= 1;
                stopped.add(&report);
            }
            Ok((index, Word::Ended(Err(reason)))) => {
                return Err(format!("shard {index}: {reason}"));
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        while let Ok(order) = orders.try_recv() {
            if let Order::Signal(name) = order {
                log.error(format_args!(
                    "caught {name} again: ending at once, what is held is lost"
                ));
                log.flush(Duration::from_millis(200));
                signals::exit_now(1);
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
                stopped.abandoned_calls += left;
                break;
            }
            _ => {}
        }
    }
    Ok(stopped)
}

/// Waits until every shard has what it needs, so that a start that failed is not called one.
///
/// # Errors
/// Why a shard could not start.
pub(super) fn wait_for_shards(count: usize, told: &Receiver<Told>) -> Result<(), String> {
    for _ in 0..count {
        match told.recv() {
            Ok((index, Word::Ended(Err(reason)))) => {
                return Err(format!("shard {index}: {reason}"));
            }
            Ok(_) => {}
            Err(_) => return Err("the shards ended before they began".into()),
        }
    }
    Ok(())
}

/// Waits for the first order to stop, and returns the status with which the process ends.
fn wait_for_order(orders: &Receiver<Order>, log: &Log) -> i32 {
    // The main thread holds a sender for as long as the process lives.
    while let Ok(order) = orders.recv() {
        match order {
            Order::Signal(name) => {
                log.info(format_args!("caught signal ({name})"));
                return 0;
            }
            Order::InputEnded => return 0,
            Order::CheckFailed => return 255,
            Order::Reload => log.warn(
                "SIGHUP: reading the configuration again is not supported yet; restart instead",
            ),
        }
    }
    0
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
            mine.add(theirs);
        }
        self.abandoned += report.abandoned_flushes;
        self.abandoned_calls += report.abandoned_calls;
    }
}

/// One line for each instance at debug level, and one for the process.
pub(super) fn say_the_law(pipeline: &Pipeline, stopped: &Stopped, log: &Log) -> Ending {
    let mut total = InputLedger::default();
    for (input, ledger) in pipeline.inputs.iter().zip(&stopped.inputs) {
        log.debug(format_args!("input {}: {ledger}", input.name));
        total.add(ledger);
    }
    for (filter, counters) in pipeline.filters.iter().zip(&stopped.filters) {
        log.debug(format_args!("filter {}: {counters}", filter.name));
        if counters.failed_records > 0 {
            log.warn(format_args!(
                "filter {}: failed on {} records, which went on as they came",
                filter.name, counters.failed_records
            ));
        }
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
