//! One chunk on its way to one output.

use std::sync::Arc;

use crate::chunk::Chunk;
use crate::route::mask::OutputId;

/// A chunk to be flushed to an output, with its history.
#[derive(Debug)]
pub struct FlushTask {
    /// Where to.
    pub output: OutputId,
    /// What.
    pub chunk: Arc<Chunk>,
    /// Attempts that have failed.
    pub attempts: u32,
    /// Number for the log, unique on its shard.
    pub number: u64,
    /// Records that the output could not put into its format, in the attempt under way.
    pub unformatted: u32,
}

/// How a flush went; Fluent Bit's `FLB_OK`, `FLB_RETRY` and `FLB_ERROR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushStatus {
    /// Delivered.
    Ok,
    /// Try again later, within the retry limit.
    Retry,
    /// Will never be accepted: dropped and counted.
    Error,
}
