//! The C ABI of foreign output plugins: shared objects built with fluent-bit-go, or by hand in C.
//!
//! This crate knows the ABI and nothing else: no threads, no queues, no configuration. Its callers hold the
//! rules of order (register, init, flushes, exit) and of threads (`Init` to `Exit` on one plain thread).
//!
//! Reading order: [`library`] (open, register; `elf` looks into the file before), [`output`] (one instance), [`api`] (the table a plugin
//! calls back), [`buildinfo`] (which SDK it was built with), [`abi`] (layouts), [`property`] (which keys a
//! plugin may see).

pub mod abi;
pub mod api;
pub mod buildinfo;
mod elf;
pub mod library;
pub mod output;
pub mod property;

pub use api::set_log_sink;
pub use buildinfo::{EventFormat, Sdk};
pub use library::{Library, Registration};
pub use output::{FlushCode, FlushHandle, Instance, InstanceConfig};
