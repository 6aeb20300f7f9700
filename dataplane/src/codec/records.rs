//! Whole chunks as JSON: `format` and the `json_date_*` keys that stdout, file and others share.

use crate::codec::json_date::{JsonDate, JsonDateFormat};
use crate::codec::json_text::{JsonOptions, put_entries, put_json, put_string};
use crate::event::msgpack::{Head, read_head};
use crate::event::reader::{Event, EventKind, Events};

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

impl RecordJson {
    /// Appends all records of a chunk.
    pub fn put_chunk(&self, chunk: &[u8], out: &mut Vec<u8>) {
        let mut date = JsonDate::new(self.date_format);
        if self.layout == JsonLayout::Array {
            out.push(b'[');
        }
        let mut is_first = true;
        for event in Events::new(chunk) {
            let Ok(event) = event else { break };
            if event.kind != EventKind::Log {
                continue;
            }
            if self.layout == JsonLayout::Array && !is_first {
                out.push(b',');
            }
            is_first = false;
            self.put_record(&event, &mut date, out);
            if self.layout == JsonLayout::Lines {
                out.push(b'\n');
            }
        }
        if self.layout == JsonLayout::Array {
            out.push(b']');
        }
    }

    /// One record: the time, its metadata if it has any, its body.
    fn put_record(&self, event: &Event<'_>, date: &mut JsonDate, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut needs_comma = false;
        if let Some(key) = &self.date_key {
            put_string(key.as_bytes(), self.options.unicode, out);
            out.push(b':');
            date.put(event.time, out);
            needs_comma = true;
        }
        if event.metadata != [0x80] {
            if needs_comma {
                out.push(b',');
            }
            out.extend_from_slice(b"\"__internal__\":{\"log_metadata\":");
            put_json(event.metadata, self.options, out);
            out.push(b'}');
            needs_comma = true;
        }
        let body_start = out.len();
        if needs_comma {
            out.push(b',');
        }
        let is_map = matches!(read_head(&mut &event.body[..]), Some(Head::Map(_)));
        if !is_map {
            out.extend_from_slice(b"\"log\":");
            put_json(event.body, self.options, out);
        } else if !put_entries(event.body, self.options, out) {
            out.truncate(body_start);
        }
        out.push(b'}');
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
