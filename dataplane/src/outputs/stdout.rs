//! `stdout`: prints records. Every shard formats, one thread writes whole buffers, so no line is torn.

use std::io::{ErrorKind, Write};
use std::sync::Arc;

use config::{Problems, Section, Settings};

use crate::chunk::Chunk;
use crate::codec::json_date::JsonDateFormat;
use crate::codec::json_text::TooDeep;
use crate::codec::json_text::put_integer;
use crate::codec::msgpack_text::put_text;
use crate::codec::records::{Group, JsonLayout, RecordJson, Records};
use crate::event::reader::Event;
use crate::log::Log;
use crate::outputs::json_keys::{DateKey, record_json};
use crate::outputs::whole::{Partial, write_whole};
use crate::plugin::descriptor::{BuildContext, OutputPlugin, Placement};
use crate::plugin::output::{
    FlushStatus, OutputDefinition, SinkBatch, SinkOutput, SinkOwner, SinkWriter,
};

/// The `stdout` output.
pub static PLUGIN: OutputPlugin = OutputPlugin {
    name: "stdout",
    summary: "prints records to standard output",
    keys: StdoutSettings::KEYS,
    placement: Placement::OneSink,
    build,
};

config::value_enum! {
    /// `format`.
    pub enum Format {
        /// Fluent Bit's own notation.
        Msgpack = "msgpack",
        /// One array a chunk.
        Json = "json",
        /// A line a record.
        JsonLines = "json_lines",
        /// Records without anything between them.
        JsonStream = "json_stream",
    }
}

config::config_map! {
    /// What `stdout` is told.
    pub struct StdoutSettings {
        /// How records are printed: msgpack, json, json_lines or json_stream.
        "format" => format: Format, default "msgpack";
        /// Key of the time in JSON; `off` leaves it out.
        "json_date_key" => json_date_key: DateKey, default "date";
        /// Form of the time in JSON: double, iso8601, java_sql_timestamp, epoch or epoch_ms.
        "json_date_format" => json_date_format: JsonDateFormat, default "double";
    }
}

enum Stdout {
    Text,
    Json(RecordJson),
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<OutputDefinition> {
    let settings = StdoutSettings::read(section, context.engine_keys, problems)?;
    let layout = match settings.format {
        Format::Msgpack => return Some(OutputDefinition::Sink(Arc::new(Stdout::Text))),
        Format::Json => JsonLayout::Array,
        Format::JsonLines => JsonLayout::Lines,
        Format::JsonStream => JsonLayout::Stream,
    };
    let json =
        record_json(layout, &settings.json_date_key, settings.json_date_format, context.json);
    Some(OutputDefinition::Sink(Arc::new(Stdout::Json(json))))
}

impl SinkOutput for Stdout {
    fn owner(&self) -> SinkOwner {
        SinkOwner::Stdout
    }

    fn format(&self, chunk: &Chunk, out: &mut Vec<u8>) -> u32 {
        match self {
            Stdout::Text => put_lines(chunk, out),
            Stdout::Json(json) => {
                let unformatted = json.put_chunk(chunk.bytes(), out);
                if json.layout != JsonLayout::Lines {
                    out.push(b'\n');
                }
                unformatted
            }
        }
    }

    fn open(&self, log: Log) -> Box<dyn SinkWriter> {
        Box::new(StdoutWriter::new(log))
    }
}

/// A line a record, numbered in each chunk. Returns how many had too many levels to be written.
fn put_lines(chunk: &Chunk, out: &mut Vec<u8>) -> u32 {
    let mut number = 0;
    let mut unformatted = 0;
    for (event, group) in Records::new(chunk.bytes()) {
        let start = out.len();
        match put_line(chunk.tag(), number, &event, group, out) {
            Ok(()) => number += 1,
            Err(TooDeep) => {
                out.truncate(start);
                unformatted += 1;
            }
        }
    }
    unformatted
}

/// `[0] tag: [[1700000000.123456789, {}], {"log"=>"x"}]`, after what its group says.
fn put_line(
    tag: &[u8],
    number: u64,
    event: &Event<'_>,
    group: Option<Group<'_>>,
    out: &mut Vec<u8>,
) -> Result<(), TooDeep> {
    if let Some(group) = group {
        out.extend_from_slice(b"GROUP METADATA : \n\n");
        put_text(group.metadata, out)?;
        out.extend_from_slice(b"\n\nGROUP ATTRIBUTES : \n\n");
        put_text(group.attributes, out)?;
        out.extend_from_slice(b"\n\n");
    }
    out.push(b'[');
    put_integer(out, number);
    out.extend_from_slice(b"] ");
    out.extend_from_slice(tag);
    out.extend_from_slice(b": [[");
    put_integer(out, event.time.secs);
    // Writing to a Vec cannot fail.
    let _ = write!(out, ".{:09}, ", event.time.nanos);
    put_text(event.metadata, out)?;
    out.extend_from_slice(b"], ");
    put_text(event.body, out)?;
    out.extend_from_slice(b"]\n");
    Ok(())
}

/// Writes to descriptor 1 whole.
pub(super) struct StdoutWriter {
    log: Log,
    is_gone: bool,
}

impl StdoutWriter {
    /// A writer that complains to this log.
    pub(super) fn new(log: Log) -> StdoutWriter {
        StdoutWriter { log, is_gone: false }
    }

    /// Writes all of it. A reader that is gone never comes back; a full disk may have room again.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> FlushStatus {
        let Err(Partial { error, left }) = write_whole(rustix::stdio::stdout(), bytes) else {
            return FlushStatus::Ok;
        };
        let is_gone = error.kind() == ErrorKind::BrokenPipe;
        if !(is_gone && self.is_gone) {
            let note = match left {
                0 => "",
                _ => "; a part of the chunk is written, perhaps with half a line at its end",
            };
            self.log.error(format_args!("cannot write to standard output: {error}{note}"));
        }
        self.is_gone = is_gone;
        match is_gone {
            true => FlushStatus::Error,
            false => FlushStatus::Retry,
        }
    }
}

impl SinkWriter for StdoutWriter {
    fn write(&mut self, batch: &SinkBatch<'_>) -> FlushStatus {
        self.write_all(batch.bytes)
    }
}
