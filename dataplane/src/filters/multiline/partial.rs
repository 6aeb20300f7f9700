//! Records that Docker's drivers split: `partial_message` marks the parts of one message, `partial_id` says of which,
//! `partial_last` ends it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::event::encoder::{close_map, put_str};
use crate::event::msgpack::{Head, read_head};
use crate::event::record::{Record, is_str};
use crate::event::time::{Clock, EventTime};
use crate::filters::key_pattern::text_of;
use crate::filters::multiline::Wait;
use crate::limits::{MULTILINE_KEPT_BYTES, PARTIAL_BYTES_MAX, PARTIAL_MESSAGES_MAX};
use crate::log::Log;
use crate::plugin::filter::{FilterStream, Given, Held, Verdict};

/// Keys that begin so are marks.
const MARK: &[u8] = b"partial_";

/// Messages whose memory a stream keeps.
const SPARE_MAX: usize = 4;

/// The messages of one stream that are not whole.
pub(super) struct PartialStream {
    content_key: Arc<[u8]>,
    idle_ns: u64,
    /// In the order in which they began.
    messages: Vec<Message>,
    /// Memory of those that went.
    spare: Vec<Message>,
    warning: Rc<Warning>,
}

/// A message of which parts have come.
#[derive(Default)]
struct Message {
    id: Vec<u8>,
    time: EventTime,
    metadata: Vec<u8>,
    /// The first record without content and marks, and then the key of the content.
    body: Vec<u8>,
    text: Vec<u8>,
    due_ns: u64,
}

/// Says once that parts bear no id.
pub(super) struct Warning {
    log: Log,
    is_said: Cell<bool>,
}

impl Warning {
    pub(super) fn new(log: Log) -> Rc<Warning> {
        Rc::new(Warning { log, is_said: Cell::new(false) })
    }

    fn say(&self) {
        if !self.is_said.replace(true) {
            self.log.warn(
                "a record with `partial_message` has no `partial_id`: it passes as it is, and so do others like it",
            );
        }
    }
}

impl PartialStream {
    pub(super) fn new(content_key: Arc<[u8]>, wait: Wait, warning: Rc<Warning>) -> PartialStream {
        let idle_ns = match wait {
            Wait::Batch => 0,
            Wait::Idle(idle) => idle.as_nanos() as u64,
        };
        PartialStream { content_key, idle_ns, messages: Vec::new(), spare: Vec::new(), warning }
    }

    /// The message of a part; a new one begins with what the part has besides content and marks.
    fn message_of(&mut self, id: &[u8], record: &Record<'_>, given: &mut Given) -> usize {
        if let Some(at) = self.messages.iter().position(|message| message.id == id) {
            return at;
        }
        if self.messages.len() == PARTIAL_MESSAGES_MAX {
            given.count_truncated();
            self.give(0, given);
        }
        let mut message = self.spare.pop().unwrap_or_default();
        message.begin(id, record, &self.content_key);
        self.messages.push(message);
        self.messages.len() - 1
    }

    fn give(&mut self, at: usize, given: &mut Given) {
        let message = self.messages.remove(at);
        let Message { time, metadata, body, text, .. } = &message;
        let out = given.begin(*time, metadata);
        out.extend_from_slice(body);
        put_str(out, text);
        given.end();
        if message.memory_bytes() <= MULTILINE_KEPT_BYTES && self.spare.len() < SPARE_MAX {
            self.spare.push(message);
        }
    }
}

impl Message {
    fn begin(&mut self, id: &[u8], record: &Record<'_>, content_key: &[u8]) {
        self.id.clear();
        self.id.extend_from_slice(id);
        self.time = record.time();
        self.metadata.clear();
        self.metadata.extend_from_slice(record.metadata());
        self.text.clear();
        let body = &mut self.body;
        body.clear();
        body.push(0x80);
        let mut count = 1;
        for (key, value) in record.entries() {
            let is_mark = text_of(key).is_some_and(|key| key.starts_with(MARK));
            if !is_mark && !is_str(key, content_key) {
                body.extend_from_slice(key);
                body.extend_from_slice(value);
                count += 1;
            }
        }
        put_str(body, content_key);
        close_map(body, 0, count);
    }

    fn memory_bytes(&self) -> usize {
        self.id.capacity() + self.metadata.capacity() + self.body.capacity() + self.text.capacity()
    }

    fn held_bytes(&self) -> usize {
        self.id.len() + self.metadata.len() + self.body.len() + self.text.len()
    }
}

/// Whether a mark says yes: as the text `true`, which Docker writes, or as a boolean.
fn is_true(value: Option<&[u8]>) -> bool {
    let Some(value) = value else { return false };
    match read_head(&mut &value[..]) {
        Some(Head::Bool(is_true)) => is_true,
        Some(Head::Str(text) | Head::Bin(text)) => {
            text.get(..4).is_some_and(|front| front.eq_ignore_ascii_case(b"true"))
        }
        _ => false,
    }
}

impl FilterStream for PartialStream {
    fn apply(&mut self, record: &mut Record<'_>, clock: Clock, given: &mut Given) -> Verdict {
        if !is_true(record.get(b"partial_message")) {
            return Verdict::Keep;
        }
        let Some(id) = record.get(b"partial_id").and_then(text_of) else {
            self.warning.say();
            return Verdict::Keep;
        };
        let Some(text) = record.get(&self.content_key).and_then(text_of) else {
            return Verdict::Keep;
        };
        let mut at = self.message_of(id, record, given);
        if self.messages[at].text.len() + text.len() > PARTIAL_BYTES_MAX {
            given.count_truncated();
            self.give(at, given);
            at = self.message_of(id, record, given);
        }
        let message = &mut self.messages[at];
        message.text.extend_from_slice(text);
        message.due_ns = clock.monotonic_ns + self.idle_ns;
        if is_true(record.get(b"partial_last")) {
            self.give(at, given);
        }
        Verdict::Held
    }

    fn give_due(&mut self, clock: Clock, given: &mut Given) {
        let is_due = |message: &Message| message.due_ns <= clock.monotonic_ns;
        while let Some(at) = self.messages.iter().position(is_due) {
            self.give(at, given);
        }
    }

    fn give_all(&mut self, given: &mut Given) {
        while !self.messages.is_empty() {
            self.give(0, given);
        }
    }

    fn held(&self) -> Held {
        let bytes: usize = self.messages.iter().map(Message::held_bytes).sum();
        let due_ns = self.messages.iter().map(|message| message.due_ns).min();
        Held { bytes: bytes as u64, due_ns }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::codec::json::encode_value;
    use crate::codec::json_text::{JsonOptions, put_json};
    use crate::event::encoder::event_header;
    use crate::event::reader::Events;
    use crate::event::record::Workspace;

    fn stream() -> PartialStream {
        let wait = Wait::Idle(Duration::from_millis(500));
        PartialStream::new(b"log".as_slice().into(), wait, Warning::new(Log::discard()))
    }

    fn at(milliseconds: u64) -> Clock {
        Clock { now: EventTime::default(), monotonic_ns: milliseconds * 1_000_000 }
    }

    fn apply(stream: &mut PartialStream, json: &str, clock: Clock, given: &mut Given) -> Verdict {
        let mut bytes = Vec::new();
        event_header(&mut bytes, EventTime { secs: 1, nanos: 2 });
        encode_value(json.as_bytes(), &mut bytes).unwrap();
        let event = Events::new(&bytes).next().unwrap().unwrap();
        let mut work = Workspace::default();
        let mut record = Record::new(b"t", event, &mut work).unwrap();
        stream.apply(&mut record, clock, given)
    }

    fn part(id: u32, text: &str) -> String {
        format!(
            "{{\"log\":\"{text}\",\"partial_message\":true,\"partial_id\":\"{id}\",\"id\":{id}}}"
        )
    }

    fn records(given: &mut Given) -> Vec<String> {
        let mut records = Vec::new();
        for event in Events::new(given.bytes()) {
            let mut json = Vec::new();
            put_json(event.unwrap().body, JsonOptions::default(), &mut json).unwrap();
            records.push(String::from_utf8(json).unwrap());
        }
        assert_eq!(records.len() as u64, given.record_count());
        given.clear();
        records
    }

    #[test]
    fn each_message_waits_for_its_own_parts() {
        let (mut stream, mut given) = (stream(), Given::default());
        for (id, text, ms) in [(1, "a", 0), (2, "x", 100), (1, "b", 300)] {
            assert_eq!(apply(&mut stream, &part(id, text), at(ms), &mut given), Verdict::Held);
        }
        assert_eq!(stream.held().due_ns, Some(600_000_000));
        stream.give_due(at(599), &mut given);
        assert!(given.bytes().is_empty());
        stream.give_due(at(700), &mut given);
        assert_eq!(records(&mut given), [r#"{"id":2,"log":"x"}"#]);
        stream.give_all(&mut given);
        assert_eq!(records(&mut given), [r#"{"id":1,"log":"ab"}"#]);
        assert_eq!(stream.held(), Held::default());
    }

    #[test]
    fn messages_are_bounded_in_number_and_length() {
        let (mut stream, mut given) = (stream(), Given::default());
        for id in 0..=PARTIAL_MESSAGES_MAX as u32 {
            apply(&mut stream, &part(id, "a"), at(0), &mut given);
        }
        assert_eq!(given.truncated_count(), 1);
        assert_eq!(records(&mut given), [r#"{"id":0,"log":"a"}"#]);
        let long = "y".repeat(PARTIAL_BYTES_MAX / 2 - 100);
        for _ in 0..3 {
            apply(&mut stream, &part(7, &long), at(0), &mut given);
        }
        assert_eq!(given.truncated_count(), 1);
        let cut = records(&mut given);
        assert_eq!(cut.len(), 1);
        assert!(cut[0].len() > PARTIAL_BYTES_MAX - 1_000 && cut[0].len() < PARTIAL_BYTES_MAX);
        stream.give_all(&mut given);
        assert_eq!(records(&mut given).len(), PARTIAL_MESSAGES_MAX);
    }
}
