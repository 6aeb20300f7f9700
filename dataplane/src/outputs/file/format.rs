//! Records to the lines of a file.

use std::io::Write;

use crate::chunk::Chunk;
use crate::codec::json_text::{JsonOptions, TooDeep, put_integer, put_json};
use crate::codec::msgpack_text::put_text;
use crate::codec::records::Records;
use crate::event::msgpack::map_entries;
use crate::event::reader::Event;
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
        let mut needs_header = self.has_header();
        let mut unformatted = 0;
        for (event, _) in Records::new(chunk.bytes()) {
            let start = out.len();
            let said = match needs_header {
                true => self.put_header(&event, out),
                false => Ok(()),
            };
            match said.and_then(|()| self.put_record(chunk.tag(), &event, out)) {
                Ok(Said::Yes) => needs_header = false,
                Ok(Said::No) | Err(TooDeep) => {
                    out.truncate(start);
                    unformatted += 1;
                }
            }
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
    fn put_record(
        &self,
        tag: &[u8],
        event: &Event<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Said, TooDeep> {
        match self {
            Format::Tagged(json) => {
                out.extend_from_slice(tag);
                out.extend_from_slice(b": [");
                put_time(event, out);
                out.extend_from_slice(b", ");
                put_json(event.body, *json, out)?;
                out.push(b']');
            }
            Format::Plain(json) => put_json(event.body, *json, out)?,
            Format::Csv { delimiter, .. } => {
                put_time(event, out);
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
            Format::Msgpack => return Ok(Said::Yes),
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
fn put_time(event: &Event<'_>, out: &mut Vec<u8>) {
    put_integer(out, event.time.secs);
    // Writing to a Vec cannot fail.
    let _ = write!(out, ".{:09}", event.time.nanos);
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
