//! The output seam: local outputs flush on the shard, sinks are formatted there and written by one owner.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::chunk::Chunk;
use crate::log::Log;

pub use crate::flush::task::FlushStatus;

/// One configured output, immutable and shared by all shards.
#[derive(Clone)]
pub enum OutputDefinition {
    /// Async on the shard.
    Local(Arc<dyn LocalOutput>),
    /// Formatted on the shard, written by the one owner.
    Sink(Arc<dyn SinkOutput>),
}

/// Where an output instance runs.
#[derive(Clone)]
pub struct OutputPlace {
    /// Index of the shard, from 0.
    pub shard: usize,
    /// Number of shards.
    pub shard_count: usize,
    /// Writes lines as `[output:forward:forward.0]`.
    pub log: Log,
}

/// An output whose flush is a future on the shard.
pub trait LocalOutput: Send + Sync {
    /// Flushes that may be under way at once in the whole process when `workers` is not set.
    fn default_workers(&self) -> usize {
        1
    }

    /// The part of one shard: connections and the like.
    fn open(&self, place: &OutputPlace) -> Box<dyn Flush>;
}

/// A flush under way.
pub type FlushFuture<'a> = Pin<Box<dyn Future<Output = FlushStatus> + 'a>>;

/// The part of a local output that one shard owns. Interior state stands in cells: several flushes
/// may be under way, and no borrow may live across an await.
pub trait Flush {
    /// Delivers a chunk. Dropped when the process ends at its deadline.
    fn flush<'a>(&'a self, chunk: &'a Chunk) -> FlushFuture<'a>;
}

/// An output that is one thing.
pub trait SinkOutput: Send + Sync {
    /// Which owner writes it.
    fn owner(&self) -> SinkOwner;

    /// Turns a chunk into the bytes to be written, on the shard. Returns how many of its records the format
    /// cannot say: those are dropped, counted and told of.
    fn format(&self, chunk: &Chunk, out: &mut Vec<u8>) -> u32;

    /// The writing half, opened once by the owner thread.
    fn open(&self, log: Log) -> Box<dyn SinkWriter>;
}

/// The thread that writes a sink: one for each of these, so a blocked terminal stops no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SinkOwner {
    /// Writes standard output.
    Stdout,
    /// Writes files.
    Files,
}

/// The writing half of a sink, owned by one thread. Calls may block.
pub trait SinkWriter: Send {
    /// Writes one formatted chunk, all of it or nothing the reader could take for whole.
    fn write(&mut self, batch: &SinkBatch<'_>) -> FlushStatus;
}

/// A formatted chunk.
pub struct SinkBatch<'a> {
    /// Tag of the chunk, without the NUL.
    pub tag: &'a [u8],
    /// What [`SinkOutput::format`] appended.
    pub bytes: &'a [u8],
    /// Records in the chunk.
    pub record_count: u32,
    /// msgpack bytes of the chunk.
    pub chunk_bytes: usize,
}
