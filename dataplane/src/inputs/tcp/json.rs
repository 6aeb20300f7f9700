//! JSON values one after another: objects are bodies, arrays stand under `msg`, the rest is no
//! event.

use std::sync::Arc;

use crate::codec::json::{JsonError, JsonKind, encode_value, room_for};
use crate::event::encoder::{HEADER_BYTES, event_header, put_map_len, put_str};
use crate::event::time::EventTime;
use crate::inputs::text::{BATCH_BYTES, too_long};
use crate::limits::READ_BYTES;
use crate::log::Log;
use crate::plugin::input::{CloseReason, DropCause, EventSink, Fed, Framer, Next, OpenBatch};

/// JSON values one after another.
pub(super) struct Json {
    tag: Arc<[u8]>,
    record_bytes_max: usize,
    /// Key and value of the source address, encoded; empty for none.
    source: Vec<u8>,
    /// Bytes of an unfinished value that was tried; 0 when it is short enough to be tried at any
    /// time.
    tried_bytes: usize,
    /// Told of the first bytes that are no JSON.
    complain: Option<Complaint>,
}

/// A log, and the peer that its line is about.
pub(super) struct Complaint {
    pub(super) log: Log,
    pub(super) peer: String,
}

/// An unfinished value up to this length is tried again whenever more has come; a longer one only
/// when a bracket is in what has come, so that a trickled value does not cost the square of its
/// length.
const RETRY_BYTES: usize = 4096;
/// Longest value that is encoded at once. A longer one is met with a larger window, up to the
/// limit, so that room is not asked for as if each were that long.
const WINDOW_BYTES: usize = 16 * 1024;
/// `81 a3 "msg"` before an array.
const ARRAY_KEY: &[u8] = b"msg";

/// What stopped a batch.
enum Stop {
    /// All values were taken; the rest is white space or unfinished.
    End,
    /// The room is used up.
    Full,
    /// The value is longer than the window.
    Window,
    /// These bytes are no JSON.
    Invalid,
}

impl Json {
    /// For a connection that has not sent anything yet. `source` is the key and the text of its
    /// address.
    pub(super) fn new(
        tag: Arc<[u8]>,
        record_bytes_max: usize,
        source: Option<(&[u8], &[u8])>,
        complain: Complaint,
    ) -> Json {
        let mut encoded = Vec::new();
        if let Some((key, address)) = source {
            put_str(&mut encoded, key);
            put_str(&mut encoded, address);
        }
        Json { tag, record_bytes_max, source: encoded, tried_bytes: 0, complain: Some(complain) }
    }

    /// Appends values to one batch, with a window of so many bytes for each. Returns bytes
    /// consumed.
    fn fill(
        &self,
        bytes: &[u8],
        window_bytes: usize,
        now: EventTime,
        sink: &mut dyn EventSink,
    ) -> (usize, Stop) {
        let overhead = HEADER_BYTES + ARRAY_KEY.len() + 8 + self.source.len();
        let room_each = room_for(window_bytes.min(bytes.len())) + overhead;
        let OpenBatch { bytes: out, room_bytes } = sink.open(&self.tag, room_each.max(BATCH_BYTES));
        let limit = out.len() + room_bytes;
        let (mut at, mut record_count, mut scalar_count) = (0, 0, 0);
        let stop = loop {
            at += bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let rest = &bytes[at..];
            if rest.is_empty() {
                break Stop::End;
            }
            if out.len() + room_each > limit {
                break Stop::Full;
            }
            let window = &rest[..rest.len().min(window_bytes)];
            let start = out.len();
            match self.append(window, now, out) {
                Ok((consumed, JsonKind::Scalar)) => {
                    out.truncate(start);
                    // A number is over when something follows it.
                    if consumed == window.len() && !matches!(window.last(), Some(b'"')) {
                        break self.unfinished(window, rest);
                    }
                    scalar_count += 1;
                    at += consumed;
                }
                Ok((consumed, _)) => {
                    record_count += 1;
                    at += consumed;
                }
                Err(error) => {
                    out.truncate(start);
                    break match error {
                        JsonError::Incomplete => self.unfinished(window, rest),
                        JsonError::Invalid(_) => Stop::Invalid,
                    };
                }
            }
        };
        if record_count > 0 {
            sink.commit(record_count);
        }
        if scalar_count > 0 {
            sink.drop_records(DropCause::Malformed, scalar_count);
        }
        (at, stop)
    }

    fn unfinished(&self, window: &[u8], rest: &[u8]) -> Stop {
        if window.len() < rest.len() { Stop::Window } else { Stop::End }
    }

    /// Appends the event of the value that `window` begins with. What a scalar leaves is for the
    /// caller.
    #[inline]
    fn append(
        &self,
        window: &[u8],
        now: EventTime,
        out: &mut Vec<u8>,
    ) -> Result<(usize, JsonKind), JsonError> {
        event_header(out, now);
        if window[0] == b'[' {
            put_map_len(out, 1 + usize::from(!self.source.is_empty()));
            put_str(out, ARRAY_KEY);
            let value = encode_value(window, out)?;
            out.extend_from_slice(&self.source);
            return Ok((value.consumed, value.kind));
        }
        let body = out.len();
        let value = encode_value(window, out)?;
        if !self.source.is_empty() && value.kind == JsonKind::Object {
            count_one_more(out, body);
            out.extend_from_slice(&self.source);
        }
        Ok((value.consumed, value.kind))
    }
}

/// Raises the count in the header of the map at `at`, which then lacks an entry at its end.
fn count_one_more(out: &mut Vec<u8>, at: usize) {
    match out[at] {
        head @ 0x80..=0x8e => out[at] = head + 1,
        0x8f => {
            out.splice(at..=at, [0xde, 0, 16]);
        }
        0xde if out[at + 1..at + 3] == [0xff, 0xff] => {
            out.splice(at..at + 3, [0xdf, 0, 1, 0, 0]);
        }
        head => {
            let width = if head == 0xde { 2 } else { 4 };
            for byte in out[at + 1..=at + width].iter_mut().rev() {
                *byte = byte.wrapping_add(1);
                if *byte != 0 {
                    break;
                }
            }
        }
    }
}

impl Framer for Json {
    fn feed(
        &mut self,
        bytes: &[u8],
        now: EventTime,
        sink: &mut dyn EventSink,
        _reply: &mut Vec<u8>,
    ) -> Result<Fed, CloseReason> {
        let news = &bytes[self.tried_bytes.min(bytes.len())..];
        if self.tried_bytes > 0 && memchr::memchr2(b'}', b']', news).is_none() {
            if bytes.len() > self.record_bytes_max {
                return Err(too_long(self.record_bytes_max, sink));
            }
            self.tried_bytes = bytes.len();
            return Ok(Fed { consumed: 0, needed: 0 });
        }
        let (mut consumed, mut window_bytes) = (0, WINDOW_BYTES.min(self.record_bytes_max));
        loop {
            let (taken, stop) = self.fill(&bytes[consumed..], window_bytes, now, sink);
            consumed += taken;
            let left = bytes.len() - consumed;
            match stop {
                Stop::Full => {}
                Stop::End if left > self.record_bytes_max => {
                    return Err(too_long(self.record_bytes_max, sink));
                }
                Stop::End => {
                    self.tried_bytes = if left > RETRY_BYTES { left } else { 0 };
                    return Ok(Fed { consumed, needed: 0 });
                }
                Stop::Window if window_bytes >= self.record_bytes_max => {
                    return Err(too_long(self.record_bytes_max, sink));
                }
                Stop::Window => {
                    window_bytes = (window_bytes * 8).min(self.record_bytes_max);
                    continue;
                }
                Stop::Invalid => {
                    // What follows cannot be told apart from the broken value. Fluent Bit drops all
                    // that it has read, too, and keeps the connection.
                    sink.drop_records(DropCause::Malformed, 1);
                    if let Some(Complaint { log, peer }) = self.complain.take() {
                        log.warn(format_args!("{peer}: invalid JSON message, skipping"));
                    }
                    self.tried_bytes = 0;
                    return Ok(Fed { consumed: bytes.len(), needed: 0 });
                }
            }
            window_bytes = WINDOW_BYTES.min(self.record_bytes_max);
        }
    }

    fn finish(&mut self, rest: &[u8], _now: EventTime, sink: &mut dyn EventSink) -> Next {
        if !rest.trim_ascii().is_empty() {
            sink.drop_records(DropCause::Malformed, 1);
        }
        Next::Ended
    }

    fn buffer_bytes_initial(&self) -> usize {
        READ_BYTES
    }

    fn buffer_bytes_max(&self) -> usize {
        READ_BYTES.max(2 * self.record_bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rmpv::Value;

    use super::*;
    use crate::event::reader::Events;
    use crate::inputs::tcp::PLUGIN;
    use crate::plugin::testing::{NOW, TestSink, Wire, stream_input};

    fn run(properties: &[(&str, &str)], bytes: &[u8], sizes: &[usize]) -> (TestSink, Wire) {
        let input = stream_input(&PLUGIN, properties);
        let mut sink = TestSink::new();
        let mut wire = Wire::connect(&*input);
        wire.send_in_pieces(bytes, sizes, &mut sink);
        (sink, wire)
    }

    fn bodies(sink: &TestSink) -> Vec<String> {
        let all: Vec<u8> = sink.events().into_iter().flat_map(|(_, event)| event).collect();
        let events = Events::new(&all).map(|event| {
            let event = event.unwrap();
            assert_eq!((event.time, event.metadata), (NOW, &[0x80][..]));
            rmpv::decode::read_value(&mut &event.body[..]).unwrap().to_string()
        });
        events.collect()
    }

    const MIXED: &[u8] = b" {\"a\":1}{\"b\":[2,{}]}\n\n[1,\"x\"]\t{\"c\":\"}{\"} ";
    const MIXED_BODIES: [&str; 4] =
        [r#"{"a": 1}"#, r#"{"b": [2, {}]}"#, r#"{"msg": [1, "x"]}"#, r#"{"c": "}{"}"#];

    #[test]
    fn values_in_a_row_become_events_however_they_are_cut() {
        for cut in 1..=MIXED.len() {
            let (sink, wire) = run(&[], MIXED, &[cut, usize::MAX]);
            assert_eq!(
                (bodies(&sink), wire.closed),
                (MIXED_BODIES.map(String::from).to_vec(), None)
            );
            assert!(sink.drops.is_empty());
        }
    }

    #[test]
    fn an_event_is_stored_byte_by_byte() {
        let (sink, _) = run(&[], b"{\"a\":1}", &[1]);
        let time = NOW.to_bytes();
        let stored = [&[0x92, 0x92, 0xd7, 0][..], &time, &[0x80, 0x81, 0xa1, b'a', 1]].concat();
        assert_eq!(sink.events(), [(b"tcp.0".to_vec(), stored)]);
    }

    #[test]
    fn the_address_is_the_last_entry_whatever_the_size_of_the_map() {
        for count in [0, 1, 14, 15, 16, 255, 256, 65_534, 65_535, 65_536] {
            let members: Vec<String> = (0..count).map(|n| format!("\"k{n}\":{n}")).collect();
            let json = format!("{{{}}}", members.join(","));
            let properties = [("source_address_key", "from"), ("chunk_size", "2000")];
            let (sink, _) = run(&properties, json.as_bytes(), &[usize::MAX]);
            let (_, event) = &sink.events()[0];
            let Value::Map(entries) =
                rmpv::decode::read_value(&mut &event[HEADER_BYTES..]).unwrap()
            else {
                panic!("{count}");
            };
            assert_eq!(entries.len(), count + 1);
            assert_eq!(entries[count], ("from".into(), "tcp://10.0.0.7:99".into()));
        }
        let (sink, _) = run(&[("source_address_key", "from")], b"[1]", &[usize::MAX]);
        assert_eq!(bodies(&sink), [r#"{"msg": [1], "from": "tcp://10.0.0.7:99"}"#]);
    }

    #[test]
    fn scalars_are_counted_and_passed_over() {
        let (sink, wire) = run(&[], b"{\"a\":1} 12 \"x\" true {\"b\":2}", &[usize::MAX]);
        assert_eq!(bodies(&sink), [r#"{"a": 1}"#, r#"{"b": 2}"#]);
        assert_eq!((sink.dropped(DropCause::Malformed), wire.closed), (3, None));
    }

    #[test]
    fn broken_json_costs_what_was_read_and_keeps_the_connection() {
        let input = stream_input(&PLUGIN, &[]);
        let mut sink = TestSink::new();
        let mut wire = Wire::connect(&*input);
        wire.send(b"{\"good\":1} {bad} {\"lost\":1}", &mut sink);
        wire.send(b"{\"next\":1}", &mut sink);
        assert_eq!(bodies(&sink), [r#"{"good": 1}"#, r#"{"next": 1}"#]);
        assert_eq!((sink.dropped(DropCause::Malformed), &wire.closed), (1, &None));
        wire.send(b"{\"never\":", &mut sink);
        wire.end(&mut sink);
        assert_eq!(sink.dropped(DropCause::Malformed), 2);
    }

    #[test]
    fn a_record_may_be_as_long_as_the_bound_and_no_longer() {
        let record = |bytes: usize| format!("{{\"k\":\"{}\"}}", "x".repeat(bytes - 8));
        for size in [1000, usize::MAX] {
            let fitting = ["{}".to_owned(), record(102_400), record(40_000), "{}".into()].concat();
            let (sink, wire) = run(&[("buffer_size", "100")], fitting.as_bytes(), &[size]);
            assert_eq!((sink.events().len(), wire.closed), (4, None));
            let long = ["{}".to_owned(), record(102_401), "{}".into()].concat();
            let (sink, wire) = run(&[("buffer_size", "100")], long.as_bytes(), &[size]);
            assert_eq!((sink.events().len(), sink.dropped(DropCause::Oversized)), (1, 1));
            assert!(wire.closed.is_some());
        }
    }

    #[test]
    fn many_records_fill_many_batches() {
        let sent: String = (0..30_000).map(|n| format!("{{\"n\":{n},\"l\":[1,[2]]}}\n")).collect();
        let (sink, _) = run(&[], sent.as_bytes(), &[READ_BYTES]);
        assert!(sink.batches.len() > 1);
        let expected: Vec<_> =
            (0..30_000).map(|n| format!("{{\"n\": {n}, \"l\": [1, [2]]}}")).collect();
        assert!(bodies(&sink) == expected);
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_same_events(
            texts in proptest::collection::vec(".{0,3000}", 1..6),
            sizes in proptest::collection::vec(1usize..3000, 1..6)
        ) {
            let record = |text: &String| serde_json::json!({ "t": text }).to_string();
            let sent = texts.iter().map(record).collect::<String>();
            let (sink, wire) = run(&[], sent.as_bytes(), &sizes);
            let (whole, _) = run(&[], sent.as_bytes(), &[usize::MAX]);
            prop_assert_eq!(sink.events().len(), texts.len());
            prop_assert_eq!((sink.events(), wire.closed), (whole.events(), None));
        }

        #[test]
        fn any_bytes_at_all_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), size in 1usize..99
        ) {
            let sent = [MIXED, &bytes, MIXED].concat();
            let (mut sink, wire) = run(&[("source_address_key", "from")], &sent, &[size]);
            wire.end(&mut sink);
        }
    }
}
