//! Thread lanes: foreign plugins are called on plain threads beside their shard, never on it.
//!
//! A Go call may block as long as the network does. Each shard has its own threads for each group of
//! outputs that share permits, so each core calls with its own chunks. The shard hands a task to a thread
//! it knows to be idle, after it has taken a permit; no thread ever waits with a chunk in hand.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use ffi::{EventFormat, FlushCode, FlushHandle};
use rustix::thread::CpuSet;

use crate::event::legacy;
use crate::flush::permits::Permits;
use crate::flush::task::{FlushStatus, FlushTask};
use crate::lane::{Message, ShardSender, WorkerId};
use crate::limits::FOREIGN_STACK_BYTES;
use crate::log::Log;
use crate::reactor;

/// How a foreign output is called.
#[derive(Clone)]
pub struct ForeignFlush {
    /// The plugin's function and context.
    pub handle: FlushHandle,
    /// Which form of events it understands.
    pub format: EventFormat,
    /// For its complaints: `[output:gstdout:gstdout.0]`.
    pub log: Log,
}

/// One group of threads on one shard, and the permits it shares with the other shards.
pub struct ThreadGroup {
    permits: Arc<Permits>,
    shard: usize,
    workers: Vec<Sender<Job>>,
    idle: Vec<usize>,
    threads: Vec<JoinHandle<()>>,
}

/// A flush to be done.
struct Job {
    task: FlushTask,
    flush: Arc<ForeignFlush>,
}

/// What a group is made of.
pub struct GroupPlan {
    /// Index of the group on its shard.
    pub group: usize,
    /// The shard it belongs to.
    pub shard: usize,
    /// The cores of the process. Lane threads are not pinned: a thread that Go starts during a call inherits
    /// the cores of the caller, and a plugin's goroutines would crowd onto one.
    pub allowed: CpuSet,
    /// Threads.
    pub thread_count: usize,
    /// Shared with the same group of other shards.
    pub permits: Arc<Permits>,
    /// When the last flush of any group ended, monotonic nanoseconds.
    pub last_flush_ns: Arc<AtomicU64>,
    /// The way back.
    pub sender: ShardSender,
}

impl ThreadGroup {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system refuses one.
    pub fn start(plan: &GroupPlan) -> io::Result<ThreadGroup> {
        let mut workers = Vec::new();
        let mut threads = Vec::new();
        for thread in 0..plan.thread_count {
            let (sender, jobs) = channel();
            workers.push(sender);
            let worker = WorkerId { group: plan.group, thread };
            let last = Arc::clone(&plan.last_flush_ns);
            let (back, allowed) = (plan.sender.clone(), plan.allowed);
            let name = format!("lane-{}.{}.{thread}", plan.shard, plan.group);
            let builder = std::thread::Builder::new().name(name).stack_size(FOREIGN_STACK_BYTES);
            threads.push(builder.spawn(move || {
                // A thread that stays pinned works as well.
                let _ = rustix::thread::sched_setaffinity(None, &allowed);
                work(&jobs, worker, &last, &back);
            })?);
        }
        let idle = (0..plan.thread_count).rev().collect();
        let permits = Arc::clone(&plan.permits);
        Ok(ThreadGroup { permits, shard: plan.shard, workers, idle, threads })
    }

    /// Takes an idle thread and a permit, or says that neither is to be had now; the shard is told with
    /// [`Message::PermitFree`] or when a thread comes back.
    pub fn reserve(&mut self) -> Option<usize> {
        let thread = *self.idle.last()?;
        if !self.permits.try_take(self.shard) {
            return None;
        }
        self.idle.pop();
        Some(thread)
    }

    /// Gives a reserved thread a flush to do.
    pub fn start_flush(&mut self, thread: usize, task: FlushTask, flush: &Arc<ForeignFlush>) {
        let job = Job { task, flush: Arc::clone(flush) };
        // The thread ends only when this sender is dropped.
        self.workers[thread].send(job).expect("a lane thread lives as long as its group");
    }

    /// Takes a thread back; returns the shard that was handed the permit.
    pub fn release(&mut self, thread: usize) -> Option<usize> {
        self.idle.push(thread);
        self.permits.give_back(self.shard)
    }

    /// Hands on a permit that came with [`Message::PermitFree`] and found nothing to do; returns the shard
    /// that was handed it.
    pub fn return_unused(&self) -> Option<usize> {
        self.permits.return_unused(self.shard)
    }

    /// Ends the threads once their calls have returned.
    pub fn join(self) {
        drop(self.workers);
        for thread in self.threads {
            // A panic aborts the process, so joining cannot fail.
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Receiver<Job>, worker: WorkerId, last_flush_ns: &AtomicU64, back: &ShardSender) {
    let mut legacy_events = Vec::new();
    while let Ok(Job { task, flush }) = jobs.recv() {
        let chunk = &task.chunk;
        let bytes = match flush.format {
            EventFormat::V2 => chunk.bytes(),
            EventFormat::V1 => {
                legacy_events.clear();
                legacy::to_v1(chunk.bytes(), &mut legacy_events);
                &legacy_events
            }
        };
        let status = match flush.handle.flush(bytes, chunk.tag_c_str()) {
            FlushCode::Ok => FlushStatus::Ok,
            FlushCode::Retry => FlushStatus::Retry,
            FlushCode::Error => FlushStatus::Error,
            FlushCode::Unknown(code) => {
                flush.log.error(format_args!(
                    "the plugin returned {code}, which is none of 0 (error), 1 (ok), 2 (retry): taken as an error"
                ));
                FlushStatus::Error
            }
        };
        last_flush_ns.store(reactor::monotonic_ns(), Ordering::Relaxed);
        back.send(Message::Flushed { task, status, worker });
    }
}
