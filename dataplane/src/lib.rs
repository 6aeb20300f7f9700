//! The engine of `dataplane`, as a library; `main.rs` is the program.
//!
//! Layers, each importing only those above it in this list:
//! data ([`limits`], [`log`], [`tag`], [`kernel`], [`event`], [`codec`]), pure state ([`route`],
//! [`chunk`], [`flush`]), seams ([`plugin`], [`multiline`], [`reactor`], [`wire`]), plugins ([`inputs`], [`filters`],
//! [`outputs`], [`parsers`]), one core ([`lane`], [`shard`]), the process ([`pipeline`], [`supervisor`], [`cli`]).

pub mod codec;
pub mod event;
pub mod kernel;
pub mod limits;
pub mod log;
pub mod tag;

pub mod chunk;
pub mod flush;
pub mod route;

pub mod multiline;
pub mod plugin;
pub mod reactor;
pub mod wire;

pub mod filters;
pub mod inputs;
pub mod outputs;
pub mod parsers;

pub mod lane;
pub mod shard;

pub mod cli;
pub mod pipeline;
pub mod supervisor;
