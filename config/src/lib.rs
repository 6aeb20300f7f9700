//! Configuration text in, one [`Document`] out: sections and properties, each knowing where it stands.
//!
//! Reading order: [`span`] (places in texts), [`error`] (problems, collected and shown with the line),
//! [`document`] (what comes out), [`classic`] and [`yaml`] (the two dialects), [`section_kind`] (names of
//! sections), [`include`] (files that name files), `yaml_sections` (sections of a YAML tree), [`env`]
//! (`${NAME}`), [`value`] (types of values), [`map`] (what a section may say: `config_map!`), [`service`]
//! (the keys of `[SERVICE]`), [`parser_sections`] (what parsers must say).

pub mod classic;
pub mod document;
pub mod env;
pub mod error;
pub mod include;
pub mod map;
pub mod parser_sections;
pub mod section_kind;
pub mod service;
pub mod span;
pub mod value;
pub mod yaml;
mod yaml_sections;

pub use document::{Block, Document, Property, Section};
pub use error::{Problem, Problems, Severity, Stage, nearest};
pub use include::{beside, load};
pub use map::{KeySpec, Settings, join_keys};
pub use service::ServiceSettings;
pub use span::{SourceId, SourceMap, Span};
pub use value::{BinarySize, CommaList, Octal, Seconds, Size, Value, Words};
