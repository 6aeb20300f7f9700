//! Text to events and events to text.
//!
//! [`json`] (JSON to msgpack), [`json_text`] (msgpack to JSON), [`json_writer`] (the same, for rows of
//! alike records), [`json_date`] (times in JSON),
//! [`records`] (whole chunks as JSON), [`msgpack_text`] (Fluent Bit's own notation), [`regex`] (Ruby's expressions),
//! [`strptime`] with [`zone_names`] and [`calendar`] (times in text), [`ltsv`], [`logfmt`], [`unescape`].

pub mod calendar;
mod cursor;
pub mod json;
pub mod json_date;
pub mod json_text;
pub mod json_writer;
pub mod logfmt;
pub mod ltsv;
pub mod msgpack_text;
pub mod records;
pub mod regex;
pub mod strptime;
pub mod unescape;
pub mod zone_names;
