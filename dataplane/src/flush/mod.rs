//! What becomes of sealed chunks: pure state, no I/O and no clock.
//!
//! Reading order: [`task`] (one chunk for one output), [`retry`] (Fluent Bit's rules), [`permits`] (how
//! many calls at once), [`watermark`] (memory limits), [`scheduler`] (all queues of a shard).

pub mod permits;
pub mod retry;
pub mod scheduler;
pub mod task;
pub mod watermark;
