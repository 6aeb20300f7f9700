//! Sink lanes: chunks are formatted on their shard and written by one owner, so no line is torn.
//!
//! There is a thread per [`SinkOwner`], not per output: two hundred files need one writer, and a blocked
//! terminal stops no file.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::flush::task::FlushTask;
use crate::lane::{Message, ShardSender};
use crate::log::Log;
use crate::plugin::output::{SinkBatch, SinkOutput, SinkOwner, SinkWriter};
use crate::route::mask::OutputId;

/// What an owner is told.
enum Job {
    /// Write a formatted chunk.
    Write { task: FlushTask, buffer: Vec<u8>, back: ShardSender },
    /// Nothing follows.
    End,
}

/// The ways to all owners; cheap to clone, one for each shard.
#[derive(Clone, Default)]
pub struct SinkOwners {
    by_owner: BTreeMap<SinkOwner, Sender<Job>>,
}

impl SinkOwners {
    /// Sends a formatted chunk to the owner of its output.
    pub fn write(&self, owner: SinkOwner, task: FlushTask, buffer: Vec<u8>, back: &ShardSender) {
        let job = Job::Write { task, buffer, back: back.clone() };
        self.by_owner[&owner].send(job).expect("an owner thread ends after the shards");
    }

    /// Ends the owners. Said, not left to the dropping of senders: tasks that a stopped shard never
    /// polls again still hold some.
    pub fn end(&self) {
        for owner in self.by_owner.values() {
            // An owner that has ended already needs no word.
            let _ = owner.send(Job::End);
        }
    }
}

/// A sink and its log, to be opened by its owner.
pub struct SinkPlan {
    /// Which output.
    pub output: OutputId,
    /// What it is.
    pub sink: Arc<dyn SinkOutput>,
    /// `[output:stdout:stdout.0]`.
    pub log: Log,
}

/// Starts the owner threads that these sinks need.
///
/// # Errors
/// When the system refuses a thread.
pub fn start(sinks: Vec<SinkPlan>) -> io::Result<(SinkOwners, Vec<JoinHandle<()>>)> {
    let mut owned: BTreeMap<SinkOwner, Vec<SinkPlan>> = BTreeMap::new();
    for plan in sinks {
        owned.entry(plan.sink.owner()).or_default().push(plan);
    }
    let mut owners = SinkOwners::default();
    let mut threads = Vec::new();
    for (owner, plans) in owned {
        let (sender, jobs) = channel();
        owners.by_owner.insert(owner, sender);
        let name = match owner {
            SinkOwner::Stdout => "sink-stdout",
            SinkOwner::Files => "sink-files",
        };
        threads.push(
            std::thread::Builder::new()
                .name(name.into())
                .spawn(move || own(plans, &jobs))?,
        );
    }
    Ok((owners, threads))
}

fn own(plans: Vec<SinkPlan>, jobs: &Receiver<Job>) {
    let mut writers: HashMap<OutputId, Box<dyn SinkWriter>> =
        plans.into_iter().map(|plan| (plan.output, plan.sink.open(plan.log))).collect();
    while let Ok(Job::Write { task, buffer, back }) = jobs.recv() {
        let writer = writers.get_mut(&task.output).expect("every sink was opened by its owner");
        let status = writer.write(&SinkBatch {
            tag: task.chunk.tag(),
            bytes: &buffer,
            record_count: task.chunk.record_count(),
            chunk_bytes: task.chunk.bytes().len(),
        });
        back.send(Message::Written { task, status, buffer });
    }
}
