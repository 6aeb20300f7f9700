//! Chunks: contiguous msgpack events of one input and one tag.
//!
//! Reading order: [`chunk`] (the sealed, immutable one), [`open`] (the growing one), [`pool`] (whose
//! buffers both use), [`buffer`] (all open chunks of a shard).

pub mod buffer;
#[expect(clippy::module_inception, reason = "the sealed chunk is the noun of this folder")]
mod chunk;
pub mod open;
pub mod pool;

pub use chunk::{Chunk, InputId, Lost};
