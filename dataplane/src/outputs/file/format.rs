//! Records to the lines of a file.

use std::io::Write;

use crate::chunk::Chunk;
use crate::codec::json_text::{JsonOptions, TooDeep, put_integer};
use crate::codec::json_writer::JsonWriter;
use crate::codec::msgpack_text::put_text;
use crate::codec::records::Records;
use crate::event::encoder::HEADER_BYTES;
use crate::event::msgpack::map_entries;
use crate::event::reader::{Event, EventKind, Events};
use crate::event::time::EventTime;
use crate::outputs::file::template::Template;

/// How records are written.
pub(super) enum Format {
    /// `tag: [seconds.nanoseconds, {json}]`
    Tagged(JsonOptions),
    /// `{json}`
    Plain(JsonOptions),
    /// `seconds.nanoseconds,"value",1`
    Csv {
        /// Between fields.
        delimiter: u8,
        /// Whether a file begins with the names of its columns.
        has_header: bool,
    },
    /// `"time":seconds.microseconds` and so on, keys and text in quotes.
    Ltsv {
        /// Between fields.
        delimiter: u8,
        /// Between label and value.
        label_delimiter: u8,
    },
    /// As the template says.
    Template(Template),
    /// The events as they are stored.
    Msgpack,
}

/// Bytes of the length of the header, which come first where a format has a header.
pub(super) const HEADER_LENGTH_BYTES: usize = 4;

impl Format {
    /// Whether chunks begin with a header: its length, then itself. Only the writer knows whether the file is
    /// empty and wants it.
    pub(super) fn has_header(&self) -> bool {
        matches!(self, Format::Csv { has_header: true, .. })
    }

    /// Appends the records of a chunk. Returns how many cannot be said in this format.
    pub(super) fn put_chunk(&self, chunk: &Chunk, out: &mut Vec<u8>) -> u32 {
        if matches!(self, Format::Msgpack) {
            out.extend_from_slice(chunk.bytes());
            return 0;
        }
        if let Format::Tagged(json) | Format::Plain(json) = self {
            return self.put_json_chunk(chunk, *json, out);
        }
        let mut needs_header = self.has_header();
        let mut unformatted = 0;
        for (event, _) in Records::new(chunk.bytes()) {
            let start = out.len();
            let said = match needs_header {
                true => self.put_header(&event, out),
                false => Ok(()),
            };
            match said.and_then(|()| self.put_record(&event, out)) {
                Ok(Said::Yes) => needs_header = false,
                Ok(Said::No) | Err(TooDeep) => {
                    out.truncate(start);
                    unformatted += 1;
                }
            }
        }
        unformatted
    }

    /// As [`put_chunk`](Self::put_chunk), with a memory of what records are like.
    fn put_json_chunk(&self, chunk: &Chunk, options: JsonOptions, out: &mut Vec<u8>) -> u32 {
        let mut writer = JsonWriter::new(options);
        let mut rest = chunk.bytes();
        let mut unformatted = 0;
        out.reserve(rest.len() + rest.len() / 4);
        while !rest.is_empty() {
            let start = out.len();
            let (time, body, after) = match plain_event(rest) {
                Some((time, body)) => (time, body, None),
                None => {
                    // Chunks hold nothing but events: they were checked on their way in.
                    let Some(Ok(event)) = Events::new(rest).next() else { break };
                    let after = &rest[event.bytes.len()..];
                    if event.kind != EventKind::Log {
                        rest = after;
                        continue;
                    }
                    (event.time, event.body, Some(after))
                }
            };
            if matches!(self, Format::Tagged(_)) {
                out.extend_from_slice(chunk.tag());
                out.extend_from_slice(b": [");
                put_time(time, out);
                out.extend_from_slice(b", ");
            }
            match writer.put(body, out) {
                Ok(behind) => rest = after.unwrap_or(behind),
                Err(TooDeep) => {
                    out.truncate(start);
                    unformatted += 1;
                    let Some(Ok(event)) = Events::new(rest).next() else { break };
                    rest = &rest[event.bytes.len()..];
                    continue;
                }
            }
            let end: &[u8] = if matches!(self, Format::Tagged(_)) { b"]\n" } else { b"\n" };
            out.extend_from_slice(end);
        }
        unformatted
    }

    /// Appends the names of the columns.
    fn put_header(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), TooDeep> {
        let Format::Csv { delimiter, .. } = self else { return Ok(()) };
        out.extend_from_slice(&[0; HEADER_LENGTH_BYTES]);
        out.extend_from_slice(b"timestamp");
        for (key, _) in map_entries(event.body) {
            out.push(*delimiter);
            put_text(key, out)?;
        }
        out.push(b'\n');
        let length = (out.len() - HEADER_LENGTH_BYTES) as u32;
        out[..HEADER_LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    /// Appends the line of a record.
    fn put_record(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<Said, TooDeep> {
        match self {
            Format::Csv { delimiter, .. } => {
                put_time(event.time, out);
                if put_fields(event.body, *delimiter, None, out)? == Said::No {
                    return Ok(Said::No);
                }
            }
            Format::Ltsv { delimiter, label_delimiter } => {
                out.extend_from_slice(b"\"time\"");
                out.push(*label_delimiter);
                // Writing to a Vec cannot fail.
                let _ = write!(out, "{:.6}", event.time.as_f64());
                if put_fields(event.body, *delimiter, Some(*label_delimiter), out)? == Said::No {
                    return Ok(Said::No);
                }
            }
            Format::Template(template) => template.put_record(event, out)?,
            // Written as whole chunks.
            Format::Tagged(_) | Format::Plain(_) | Format::Msgpack => return Ok(Said::Yes),
        }
        out.push(b'\n');
        Ok(Said::Yes)
    }
}

/// Whether a record can be said in a format; one without fields is nothing in csv.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Yes,
    No,
}

/// `1700000000.123456789`
fn put_time(time: EventTime, out: &mut Vec<u8>) {
    put_integer(out, time.secs);
    // Writing to a Vec cannot fail.
    let _ = write!(out, ".{:09}", time.nanos);
}

/// The time of a record without metadata, and what begins with its body.
fn plain_event(bytes: &[u8]) -> Option<(EventTime, &[u8])> {
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [0x92, 0x92, 0xd7, 0, time @ .., 0x80] = *header else { return None };
    let time = EventTime::from_bytes(time);
    // The last seconds mark groups.
    (time.secs < 0xffff_fffe).then_some((time, body))
}

/// A delimiter and a value for each entry, with its label where that has a delimiter of its own.
fn put_fields(
    body: &[u8],
    delimiter: u8,
    label_delimiter: Option<u8>,
    out: &mut Vec<u8>,
) -> Result<Said, TooDeep> {
    let mut said = Said::No;
    for (key, value) in map_entries(body) {
        said = Said::Yes;
        out.push(delimiter);
        if let Some(label_delimiter) = label_delimiter {
            put_text(key, out)?;
            out.push(label_delimiter);
        }
        put_text(value, out)?;
    }
    Ok(said)
}
