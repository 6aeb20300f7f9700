//! The seams between the engine and its plugins: what a built-in must offer, and what the engine offers it.
//!
//! Read in this order: [`descriptor`] (what every plugin says of itself), [`input`] (sources and framers),
//! [`filter`] (one record at a time), [`output`] (local outputs and sinks), [`parser`] (text to bodies). A plugin sees these
//! types and nothing of routes, queues, lanes or shards, so it can be tested with a plain `Vec`.

pub mod descriptor;
pub mod filter;
pub mod input;
pub mod output;
pub mod parser;
pub mod testing;
