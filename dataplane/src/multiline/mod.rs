//! Multiline: lines or records that belong together become one record.
//!
//! Reading order: [`definition`] (what a parser is), [`builtin`] with [`plain`] and [`settings`] (where parsers come from), [`rules`] (the
//! state machine of regular expressions), [`group`] (a record that is being put together), [`joiner`] (how a
//! line or record finds its parser), [`cri`], [`docker`] and [`stamp`] (the lines of containers).
//!
//! An instance that joins holds a [`Multiline`], which `BuildContext::multiline` makes of its `multiline.parser`
//! keys, and on each shard one [`Joiner`] with the memory that all streams share. What is in the making is kept in
//! a [`Stream`]: one a file in `tail`, one for each (input, tag) in a filter.
//!
//! `tail` feeds lines: [`Joiner::take_line`]. A filter feeds records:
//!
//! ```ignore
//! // build:    let multiline = context.multiline.of_key(section, "multiline.parser", problems)??;
//! //           let multiline = multiline.with_content_key(settings.key_content);    // `multiline.key_content`
//! // a shard:  let mut joiner = Joiner::new(Arc::new(multiline));
//! // a stream: let mut stream = joiner.stream();
//! joiner.take_record(&mut stream, &Record { time, metadata, body }, now, &mut sink);
//! // by the clock, flush_ms after a stream was last fed:
//! joiner.flush_idle(&mut stream, now, flush_after, &mut sink);
//! // at the end of a chunk with `buffer off`, when a tag is forgotten, at the stop:
//! joiner.flush(&mut stream, &mut sink);
//! ```
//!
//! Each call hands no record, one or several to the [`RecordSink`]: a record that is complete at once passes without
//! being copied, one that no parser takes passes as it is, after everything that was in the making before it. The
//! content of a record is the string under `multiline.key_content`, else under the `key_content` of the parser, and
//! where neither is set the parser takes no record; where a parser has a parser of lines (`cri` and `docker` do), that reads the content, and the record
//! becomes what it makes of it. Events that are no log records, or whose body is no map, are not for the joiner.

mod builtin;
mod cri;
mod definition;
mod docker;
mod group;
mod joiner;
mod plain;
mod rules;
mod settings;
mod stamp;
#[cfg(test)]
mod tests;

pub use definition::{Multiline, MultilineParsers};
pub use joiner::{Joiner, Length, Record, RecordSink, Stream};
pub use settings::compile;
