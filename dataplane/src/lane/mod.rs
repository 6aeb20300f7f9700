//! Lanes: the way of a chunk from the queue of its output to the call that delivers it, and back.
//!
//! Reading order: this file (the messages that cross threads), [`thread`] (foreign plugins, on threads
//! beside their shard), [`sink`] (one owner per kind of sink), [`host`] (where foreign plugins are opened,
//! started and ended). Local outputs need no lane of their own: `shard::drive` awaits them in place.

pub mod host;
pub mod sink;
pub mod thread;

use std::os::fd::OwnedFd;

use crate::chunk::InputId;
use crate::flush::task::{FlushStatus, FlushTask};
use crate::reactor::mailbox;
use crate::route::mask::OutputId;

/// What another thread tells a shard.
pub enum Message {
    /// A lane thread has finished a flush.
    Flushed {
        /// The task, handed back.
        task: FlushTask,
        /// How it went.
        status: FlushStatus,
        /// Which thread of which lane is free again.
        worker: WorkerId,
    },
    /// A sink has been written.
    Written {
        /// The task, handed back.
        task: FlushTask,
        /// How it went.
        status: FlushStatus,
        /// The buffer the chunk was formatted into.
        buffer: Vec<u8>,
    },
    /// A connection was accepted and this shard has the fewest.
    Connection {
        /// The input that listens.
        input: InputId,
        /// The connected socket.
        descriptor: OwnedFd,
        /// Who connected.
        peer: String,
    },
    /// A memory limit was left: paused inputs may go on.
    Resume,
    /// A permit of this output's lane was handed to this shard.
    PermitFree(OutputId),
    /// Stop reading, deliver what is held, and end.
    Stop,
    /// The time to drain is over: end with what is left.
    Deadline,
}

/// The way to a shard from other threads.
pub type ShardSender = mailbox::Sender<Message>;

/// A lane thread of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerId {
    /// Index of the group of threads on its shard.
    pub group: usize,
    /// Index of the thread in its group.
    pub thread: usize,
}
