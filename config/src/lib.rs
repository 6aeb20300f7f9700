//! Configuration text in, one [`Document`] out: sections and properties, each knowing where it stands.
//!
//! Reading order: [`span`] (places in texts), [`error`] (problems, collected and shown with the line),
//! [`document`] (what comes out), [`classic`] and [`yaml`] (the two dialects), [`include`] (files that
//! name files), [`env`] (`${NAME}`), [`value`] (types of values), [`map`] (what a section may say:
//! `config_map!`), [`service`] (the keys of `[SERVICE]`).

pub mod classic;
pub mod document;
pub mod env;
pub mod error;
pub mod include;
pub mod map;
pub mod service;
pub mod span;
pub mod value;
pub mod yaml;

pub use document::{Document, Property, Section};
pub use error::{Problem, Problems, Severity, nearest};
pub use include::load;
pub use map::{KeySpec, Settings, join_keys};
pub use service::ServiceSettings;
pub use span::{SourceId, SourceMap, Span};
pub use value::{CommaList, Octal, Seconds, Size, Value, Words};
