//! Whole chunks as JSON: `format` and the `json_date_*` keys that stdout, file and others share.

use crate::codec::json_date::{JsonDate, JsonDateFormat};
use crate::codec::json_text::{Entries, JsonOptions, TooDeep, put_entry, put_json, put_string};
use crate::event::msgpack::{Head, read_head};
use crate::event::reader::{Event, EventKind, Events};
use crate::limits::NESTING_MAX;

/// How records follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonLayout {
    /// One array.
    Array,
    /// Each on a line of its own.
    Lines,
    /// With nothing between them.
    Stream,
}

/// How records become JSON.
#[derive(Clone, Debug)]
pub struct RecordJson {
    /// How records follow each other.
    pub layout: JsonLayout,
    /// Key of the time, if it is written.
    pub date_key: Option<String>,
    /// Form of the time.
    pub date_format: JsonDateFormat,
    /// How text is written.
    pub options: JsonOptions,
}

/// What a group of records (OpenTelemetry's resources and scopes) says of each of them: its metadata and its
/// attributes, as the marker at its start bears them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// Metadata of the marker.
    pub metadata: &'a [u8],
    /// Body of the marker.
    pub attributes: &'a [u8],
}

/// The records of a chunk, each with the group it is in.
pub struct Records<'a> {
    events: Events<'a>,
    group: Option<Group<'a>>,
}

impl<'a> Records<'a> {
    /// Over the bytes of a chunk.
    pub fn new(chunk: &'a [u8]) -> Records<'a> {
        Records { events: Events::new(chunk), group: None }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (Event<'a>, Option<Group<'a>>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // Chunks hold nothing but events: they were checked on their way in.
            let event = self.events.next()?.ok()?;
            self.group = match event.kind {
                EventKind::Log => return Some((event, self.group)),
                EventKind::GroupStart => {
                    Some(Group { metadata: event.metadata, attributes: event.body })
                }
                EventKind::GroupEnd => None,
            };
        }
    }
}

impl RecordJson {
    /// Appends all records of a chunk. Returns how many had too many levels to be written.
    pub fn put_chunk(&self, chunk: &[u8], out: &mut Vec<u8>) -> u32 {
        let mut date = JsonDate::new(self.date_format);
        if self.layout == JsonLayout::Array {
            out.push(b'[');
        }
        let mut unformatted = 0;
        let mut is_first = true;
        for (event, group) in Records::new(chunk) {
            let start = out.len();
            if self.layout == JsonLayout::Array && !is_first {
                out.push(b',');
            }
            if self.put_record(&event, group, &mut date, out).is_err() {
                out.truncate(start);
                unformatted += 1;
                continue;
            }
            is_first = false;
            if self.layout == JsonLayout::Lines {
                out.push(b'\n');
            }
        }
        if self.layout == JsonLayout::Array {
            out.push(b']');
        }
        unformatted
    }

    /// One record: the time, what its group and its metadata say, its body. Where the body has the key of the time,
    /// the body's value is the one that is written.
    fn put_record(
        &self,
        event: &Event<'_>,
        group: Option<Group<'_>>,
        date: &mut JsonDate,
        out: &mut Vec<u8>,
    ) -> Result<(), TooDeep> {
        let entries = Entries::of(event.body);
        out.push(b'{');
        let start = out.len();
        if let Some(key) = &self.date_key
            && !entries.has(key.as_bytes())
        {
            put_string(key.as_bytes(), self.options.unicode, out);
            out.push(b':');
            date.put(event.time, out);
        }
        let attributes = group.map(|group| group.attributes);
        let has_attributes = attributes.is_some_and(|attributes| attributes != NO_ENTRIES);
        let has_internal = has_attributes || event.metadata != NO_ENTRIES;
        if has_internal && !entries.has(b"__internal__") {
            put_comma(start, out);
            out.extend_from_slice(b"\"__internal__\":{");
            if let Some(attributes) = attributes {
                out.extend_from_slice(b"\"group_attributes\":");
                put_json(attributes, self.options, out)?;
                out.push(b',');
            }
            out.extend_from_slice(b"\"log_metadata\":");
            put_json(event.metadata, self.options, out)?;
            out.push(b'}');
        }
        if !matches!(read_head(&mut &event.body[..]), Some(Head::Map(_))) {
            put_comma(start, out);
            out.extend_from_slice(b"\"log\":");
            put_json(event.body, self.options, out)?;
        }
        for entry in entries.iter() {
            put_comma(start, out);
            put_entry(*entry, self.options, NESTING_MAX, out)?;
        }
        out.push(b'}');
        Ok(())
    }
}

const NO_ENTRIES: &[u8] = &[0x80];

/// Appends a comma unless nothing stands before it.
fn put_comma(start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::encoder::{event_header, event_header_with_metadata};
    use crate::event::time::EventTime;

    fn chunk() -> Vec<u8> {
        let time = EventTime { secs: 1, nanos: 500_000_000 };
        let mut out = Vec::new();
        event_header(&mut out, time);
        out.extend_from_slice(&[0x81, 0xa1, b'a', 1]);
        event_header_with_metadata(&mut out, time, &[0x81, 0xa1, b'm', 2]);
        out.push(0x80);
        out
    }

    fn json(layout: JsonLayout, date_key: Option<&str>) -> String {
        let format = RecordJson {
            layout,
            date_key: date_key.map(str::to_owned),
            date_format: JsonDateFormat::Double,
            options: JsonOptions::default(),
        };
        let mut out = Vec::new();
        format.put_chunk(&chunk(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn records_follow_each_other_as_the_layout_says() {
        let first = r#"{"date":1.5,"a":1}"#;
        let second = r#"{"date":1.5,"__internal__":{"log_metadata":{"m":2}}}"#;
        assert_eq!(json(JsonLayout::Lines, Some("date")), format!("{first}\n{second}\n"));
        assert_eq!(json(JsonLayout::Array, Some("date")), format!("[{first},{second}]"));
        assert_eq!(json(JsonLayout::Stream, Some("date")), format!("{first}{second}"));
        assert_eq!(
            json(JsonLayout::Stream, None),
            r#"{"a":1}{"__internal__":{"log_metadata":{"m":2}}}"#
        );
    }
}
