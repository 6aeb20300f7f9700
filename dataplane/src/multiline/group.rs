//! A record that is being put together: the first record of its parts, and their content.

use crate::event::encoder::{close_map, put_str};
use crate::event::msgpack::{Head, map_entries, read_head};
use crate::event::record::str_of;
use crate::event::time::EventTime;
use crate::limits::{MULTILINE_KEPT_BYTES, MULTILINE_METADATA_MAX};
use crate::multiline::joiner::{Length, RecordSink};

/// A record that is nothing but its content.
const EMPTY_MAP: &[u8] = &[0x80];

/// Parts of one group of a stream.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The string under the group key; empty for records without one.
    pub(super) key: Vec<u8>,
    /// The rule that matched last. It stays when the record is handed on, as in Fluent Bit.
    pub(super) rule: Option<usize>,
    /// When a part was last added, nanoseconds.
    pub(super) touched_ns: u64,
    state: State,
    /// Whether there is content: a record of numbers alone has none.
    has_text: bool,
    /// The content.
    text: Vec<u8>,
    /// The first record up to the content, and what follows it.
    before: Vec<u8>,
    after: Vec<u8>,
    time: EventTime,
    metadata: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing is in the making.
    #[default]
    Empty,
    /// Lines of text: their record ends with a line feed.
    Lines,
    /// Content of records.
    Records,
}

/// A record whose content is one of many parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) time: EventTime,
    /// A msgpack map.
    pub(super) metadata: &'a [u8],
    /// What stands before the value of the content, and after it.
    pub(super) before: &'a [u8],
    pub(super) after: &'a [u8],
}

/// What a record begins with.
#[derive(Clone, Copy, Debug)]
pub(super) enum First<'a> {
    /// A line of text, whose record will have it under this key.
    Line { key: &'a [u8], time: EventTime },
    /// A record.
    Record(Part<'a>),
}

/// Whether a text found room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Enough,
    /// So many bytes were taken.
    Full(usize),
}

impl Group {
    pub(super) fn is_pending(&self) -> bool {
        self.state != State::Empty
    }

    pub(super) fn pending_bytes(&self) -> u64 {
        match self.state {
            State::Empty => 0,
            State::Lines | State::Records => {
                let parts = [&self.text, &self.before, &self.after, &self.metadata];
                parts.iter().map(|part| part.len() as u64).sum()
            }
        }
    }

    /// Begins, or takes over the metadata of a further part.
    pub(super) fn begin_or_add(&mut self, first: &First<'_>) {
        match first {
            First::Record(part) if self.is_pending() => self.add_metadata(part.metadata),
            First::Record(part) => self.begin(State::Records, part),
            First::Line { .. } if self.is_pending() => {}
            First::Line { key, time } => {
                let (time, metadata) = (*time, EMPTY_MAP);
                self.begin(State::Lines, &Part { time, metadata, before: &[], after: &[] });
                self.before.push(0x81);
                put_str(&mut self.before, key);
            }
        }
    }

    fn begin(&mut self, state: State, part: &Part<'_>) {
        self.state = state;
        self.has_text = true;
        self.time = part.time;
        for (kept, bytes) in [
            (&mut self.before, part.before),
            (&mut self.after, part.after),
            (&mut self.metadata, part.metadata),
            (&mut self.text, &[][..]),
        ] {
            kept.clear();
            kept.extend_from_slice(bytes);
        }
    }

    /// Adds entries of metadata that are not there yet, as long as they stay few.
    fn add_metadata(&mut self, metadata: &[u8]) {
        if metadata == EMPTY_MAP || metadata == self.metadata {
            return;
        }
        for (key, value) in map_entries(metadata) {
            let is_there = map_entries(&self.metadata).any(|entry| entry == (key, value));
            let grown = self.metadata.len() + key.len() + value.len();
            if !is_there && grown <= MULTILINE_METADATA_MAX {
                add_entry(&mut self.metadata, &[key, value]);
            }
        }
    }

    /// Begins with a record whose last string goes on.
    pub(super) fn begin_last_string(&mut self, time: EventTime, body: &[u8]) {
        let first = Part { time, metadata: EMPTY_MAP, before: body, after: &[] };
        self.begin(State::Records, &first);
        self.open_last_string();
    }

    /// Adds the entries of another record, as long as they fit.
    pub(super) fn add_entries(&mut self, body: &[u8], bytes_max: usize) -> Room {
        let length = self.before.len() + self.text.len() + self.after.len();
        if length + body.len() > bytes_max {
            return Room::Full(0);
        }
        self.close_last_string();
        for (key, value) in map_entries(body) {
            add_entry(&mut self.before, &[key, value]);
        }
        self.open_last_string();
        Room::Enough
    }

    /// Splits the record around its last string, which becomes the content. A record without one gets none.
    fn open_last_string(&mut self) {
        let mut at = self.before.len() - head_bytes_after(&self.before);
        let mut found = None;
        for (key, value) in map_entries(&self.before) {
            let start = at + key.len();
            at = start + value.len();
            if let Some(text) = str_of(value) {
                found = Some((start, at, at - text.len()));
            }
        }
        self.has_text = found.is_some();
        let Some((start, end, text)) = found else { return };
        self.text.extend_from_slice(&self.before[text..end]);
        self.after.extend_from_slice(&self.before[end..]);
        self.before.truncate(start);
    }

    fn close_last_string(&mut self) {
        if self.has_text {
            put_str(&mut self.before, &self.text);
        }
        self.before.append(&mut self.after);
        self.text.clear();
    }

    /// Whether there is a string to add lines to.
    pub(super) fn has_text(&self) -> bool {
        self.has_text
    }

    /// Adds a line, behind a line feed where there is none before it. An empty line is a line feed.
    pub(super) fn add_line(&mut self, line: &[u8], is_first: bool, bytes_max: usize) -> Room {
        if !is_first && self.text.last() != Some(&b'\n') && self.text.len() < bytes_max {
            self.text.push(b'\n');
        }
        self.add(if line.is_empty() && !is_first { b"\n" } else { line }, bytes_max)
    }

    /// Adds a text as it is, up to the limit; characters stay whole.
    pub(super) fn add(&mut self, text: &[u8], bytes_max: usize) -> Room {
        let room = bytes_max.saturating_sub(self.text.len());
        if text.len() <= room {
            self.text.extend_from_slice(text);
            return Room::Enough;
        }
        let is_inside = |at: &usize| text.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
        let cut = (room.saturating_sub(3)..=room).rfind(|at| !is_inside(at)).unwrap_or(room);
        self.text.extend_from_slice(&text[..cut]);
        Room::Full(cut)
    }

    /// Hands on what is in the making.
    pub(super) fn finish(&mut self, length: Length, sink: &mut dyn RecordSink) {
        if self.state == State::Empty {
            return;
        }
        if self.state == State::Lines && self.text.last() != Some(&b'\n') {
            self.text.push(b'\n');
        }
        self.state = State::Empty;
        if length == Length::Truncated {
            add_entry(&mut self.metadata, &[b"\xb3multiline_truncated", &[0xc3]]);
        }
        let out = sink.begin(self.time, &self.metadata);
        out.extend_from_slice(&self.before);
        if self.has_text {
            put_str(out, &self.text);
        }
        out.extend_from_slice(&self.after);
        sink.end(length);
        for kept in [&mut self.text, &mut self.before, &mut self.after, &mut self.metadata] {
            if kept.capacity() > MULTILINE_KEPT_BYTES {
                *kept = Vec::new();
            }
        }
    }
}

/// Bytes of a map behind its head.
fn head_bytes_after(map: &[u8]) -> usize {
    let mut rest = map;
    read_head(&mut rest);
    rest.len()
}

/// Adds an entry, key and value, to an encoded map.
fn add_entry(map: &mut Vec<u8>, entry: &[&[u8]]) {
    let Some(Head::Map(count)) = read_head(&mut map.as_slice()) else { return };
    entry.iter().for_each(|bytes| map.extend_from_slice(bytes));
    close_map(map, 0, count + 1);
}
