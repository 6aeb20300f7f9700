//! `stdin`: JSON values one after another from standard input, or lines for a parser; its end stops the process.
//!
//! An object is the body of an event, an array a whole event: `[time, body]` or
//! `[[time, metadata], body]`. What is no JSON costs the rest of its line, not the rest of the buffer.

use std::sync::Arc;

use config::{Problem, Problems, Section, Settings, Size};

use crate::codec::json::{JsonError, JsonKind, encode_value};
use crate::event::encoder::event_header;
use crate::event::time::EventTime;
use crate::event::validate::{Stop, append_events};
use crate::inputs::text::{LongPieces, PieceParser, Text};
use crate::limits::{EVENT_BYTES_MAX, READ_BYTES};
use crate::plugin::descriptor::{BuildContext, InputPlugin, Placement};
use crate::plugin::input::{
    CloseReason, DropCause, EventSink, Fed, Framer, InputDefinition, InputPlace, InputTag, Next,
    Source,
};
use crate::plugin::parser::Parser;

/// The `stdin` input.
pub static PLUGIN: InputPlugin = InputPlugin {
    name: "stdin",
    summary: "takes JSON from standard input",
    keys: StdinSettings::KEYS,
    placement: Placement::OneShard,
    build,
};

config::config_map! {
    /// What `stdin` is told.
    pub struct StdinSettings {
        /// Bytes a record may have; 256 KiB are allowed in any case.
        "buffer_size" => buffer_size: Size, default "16000";
        /// Parser of the lines; without one, JSON comes.
        "parser" => parser: String, optional;
    }
}

/// Bytes gathered before they are handed on.
const BATCH_BYTES: usize = 64 * 1024;
/// The least that `buffer_size` may say (rule: Fluent Bit's).
const BUFFER_BYTES_MIN: u64 = 16_000;

struct Stdin {
    record_bytes_max: usize,
    parser: Option<Arc<dyn Parser>>,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn InputDefinition>> {
    let parser = context.parsers.of_key(section, "parser", problems);
    let settings = StdinSettings::read(section, context.engine_keys, problems)?;
    let parser = parser?;
    let Size(bytes) = settings.buffer_size;
    if !(BUFFER_BYTES_MIN..=EVENT_BYTES_MAX as u64 / 8).contains(&bytes) {
        let span = section.get("buffer_size").map(|property| property.value_span);
        let message = "`buffer_size` must be from 16000 bytes to 32 MiB";
        problems.push(Problem::error(span, message));
        return None;
    }
    Some(Arc::new(Stdin { record_bytes_max: (bytes as usize).max(READ_BYTES), parser }))
}

impl InputDefinition for Stdin {
    fn start(&self, _place: &InputPlace, tag: &InputTag) -> Result<Source, String> {
        let (tag, record_bytes_max) = (tag.text.as_bytes().into(), self.record_bytes_max);
        let framer: Box<dyn Framer> = match &self.parser {
            Some(parser) => Box::new(lines(tag, record_bytes_max, Arc::clone(parser))),
            None => Box::new(Values {
                tag,
                record_bytes_max,
                batch: Vec::new(),
                batch_count: 0,
                event: Vec::new(),
                resync: Resync::InStep,
            }),
        };
        Ok(Source::Descriptor(rustix::stdio::raw_stdin(), framer))
    }
}

fn lines(tag: Arc<[u8]>, record_bytes_max: usize, parser: Arc<dyn Parser>) -> Text {
    let parser = PieceParser::new(parser, None);
    Text::new(tag, record_bytes_max, b"\n", Some(parser)).with(LongPieces::Skip, Next::StopProcess)
}

/// Whether the next bytes begin a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resync {
    InStep,
    /// Garbage is skipped up to the end of its line.
    Skipping,
}

struct Values {
    tag: Arc<[u8]>,
    record_bytes_max: usize,
    /// Events not yet handed on.
    batch: Vec<u8>,
    batch_count: u32,
    /// An event that came as JSON array.
    event: Vec<u8>,
    resync: Resync,
}

impl Values {
    fn hand_on(&mut self, sink: &mut dyn EventSink) {
        if self.batch_count > 0 {
            sink.open(&self.tag, self.batch.len()).bytes.extend_from_slice(&self.batch);
            sink.commit(self.batch_count);
        }
        self.batch.clear();
        self.batch_count = 0;
    }

    /// Takes the value that `bytes` begin with.
    fn take(&mut self, bytes: &[u8], now: EventTime) -> Result<(usize, Taken), JsonError> {
        if bytes[0] == b'[' {
            self.event.clear();
            let consumed = encode_value(bytes, &mut self.event)?.consumed;
            let appended = append_events(&self.event, &mut self.batch, usize::MAX / 2);
            let is_event = appended.stop == Stop::End && appended.record_count == 1;
            return Ok((consumed, if is_event { Taken::Event } else { Taken::NoEvent }));
        }
        let start = self.batch.len();
        event_header(&mut self.batch, now);
        let value = encode_value(bytes, &mut self.batch);
        match value {
            Ok(value) if value.kind == JsonKind::Object => Ok((value.consumed, Taken::Event)),
            other => {
                self.batch.truncate(start);
                other.map(|value| (value.consumed, Taken::NoEvent))
            }
        }
    }
}

/// What a value was.
enum Taken {
    Event,
    NoEvent,
}

impl Framer for Values {
    fn feed(
        &mut self,
        bytes: &[u8],
        now: EventTime,
        sink: &mut dyn EventSink,
        _reply: &mut Vec<u8>,
    ) -> Result<Fed, CloseReason> {
        let mut at = 0;
        loop {
            if self.resync == Resync::Skipping {
                let Some(line) = memchr::memchr(b'\n', &bytes[at..]) else {
                    at = bytes.len();
                    break;
                };
                at += line + 1;
                self.resync = Resync::InStep;
            }
            at += bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            if at == bytes.len() {
                break;
            }
            match self.take(&bytes[at..], now) {
                Ok((consumed, taken)) => {
                    at += consumed;
                    match taken {
                        Taken::Event => self.batch_count += 1,
                        Taken::NoEvent => sink.drop_records(DropCause::Malformed, 1),
                    }
                    if self.batch.len() >= BATCH_BYTES {
                        self.hand_on(sink);
                    }
                }
                Err(JsonError::Incomplete) if bytes.len() - at < self.record_bytes_max => break,
                Err(error) => {
                    let cause = match error {
                        JsonError::Incomplete => DropCause::Oversized,
                        JsonError::Invalid(_) => DropCause::Malformed,
                    };
                    sink.drop_records(cause, 1);
                    self.resync = Resync::Skipping;
                }
            }
        }
        self.hand_on(sink);
        Ok(Fed { consumed: at, needed: 0 })
    }

    fn finish(&mut self, rest: &[u8], _now: EventTime, sink: &mut dyn EventSink) -> Next {
        if !rest.trim_ascii().is_empty() {
            sink.drop_records(DropCause::Malformed, 1);
        }
        Next::StopProcess
    }

    fn buffer_bytes_initial(&self) -> usize {
        READ_BYTES
    }

    fn buffer_bytes_max(&self) -> usize {
        self.record_bytes_max + READ_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::msgpack_text::put_text;
    use crate::event::reader::Events;
    use crate::plugin::parser::{Parsed, ParserScratch};
    use crate::plugin::testing::{NOW, TestSink};

    fn values() -> Values {
        Values {
            tag: (*b"t").into(),
            record_bytes_max: 300,
            batch: Vec::new(),
            batch_count: 0,
            event: Vec::new(),
            resync: Resync::InStep,
        }
    }

    fn bodies(sink: &TestSink) -> Vec<String> {
        let events = sink.events().into_iter().map(|(_, bytes)| {
            let event = Events::new(&bytes).next().unwrap().unwrap();
            let mut text = format!("{} ", event.time.secs).into_bytes();
            put_text(event.body, &mut text).unwrap();
            String::from_utf8(text).unwrap()
        });
        events.collect()
    }

    #[test]
    fn objects_and_events_are_taken_and_garbage_costs_its_line() {
        let text = b"{\"a\":1} [5,{\"b\":2}]\n{\"c\":3} oops {\"lost\":1}\n7 [1]\n[[9,{}],{\"d\":4}] {\"e\"";
        let (mut framer, mut sink) = (values(), TestSink::new());
        let fed = framer.feed(text, NOW, &mut sink, &mut Vec::new()).unwrap();
        assert_eq!(fed.consumed, text.len() - 4);
        let now = NOW.secs;
        let expected = [
            format!("{now} {{\"a\"=>1}}"),
            "5 {\"b\"=>2}".into(),
            format!("{now} {{\"c\"=>3}}"),
            "9 {\"d\"=>4}".into(),
        ];
        assert_eq!(bodies(&sink), expected);
        assert_eq!(sink.dropped(DropCause::Malformed), 3);
        assert_eq!(framer.finish(b"{\"e\"", NOW, &mut sink), Next::StopProcess);
        assert_eq!(sink.dropped(DropCause::Malformed), 4);
    }

    /// Takes what begins with `ok`.
    #[derive(Debug)]
    struct TakesOk;

    impl Parser for TakesOk {
        fn parse(
            &self,
            text: &[u8],
            _now: EventTime,
            _scratch: &mut ParserScratch,
            out: &mut Vec<u8>,
        ) -> Parsed {
            if !text.starts_with(b"ok") {
                return Parsed::Unparsed;
            }
            out.extend_from_slice(&[0x81, 0xa1, b'p', text.len() as u8]);
            Parsed::Body { time: Some(EventTime { secs: 7, nanos: 8 }), consumed: text.len() }
        }
    }

    #[test]
    fn lines_are_parsed_and_long_ones_left_out_however_they_are_cut() {
        let long = "x".repeat(40);
        let sent = format!("ok\nother\n{long}\n\nok 4\r\n{long}ok\nok end");
        for size in 1..=sent.len() {
            let mut framer = lines((*b"t").into(), 20, Arc::new(TakesOk));
            let (mut sink, mut buffer) = (TestSink::new(), Vec::new());
            for piece in sent.as_bytes().chunks(size) {
                buffer.extend_from_slice(piece);
                let fed = framer.feed(&buffer, NOW, &mut sink, &mut Vec::new()).unwrap();
                buffer.drain(..fed.consumed);
            }
            assert_eq!(framer.finish(&buffer, NOW, &mut sink), Next::StopProcess);
            let other = format!("{} {{\"log\"=>\"other\"}}", NOW.secs);
            let expected = ["7 {\"p\"=>2}", &other, "7 {\"p\"=>5}", "7 {\"p\"=>6}"];
            assert_eq!(bodies(&sink), expected, "{size}");
            assert_eq!((sink.dropped(DropCause::Oversized), sink.unparsed.len()), (2, 1));
        }
    }

    #[test]
    fn a_record_over_the_limit_is_counted_and_the_next_line_is_taken() {
        let (mut framer, mut sink) = (values(), TestSink::new());
        let long = format!("{{\"k\":\"{}", "x".repeat(400));
        framer.feed(long.as_bytes(), NOW, &mut sink, &mut Vec::new()).unwrap();
        framer.feed(b"xxx\"}\n{\"a\":1}", NOW, &mut sink, &mut Vec::new()).unwrap();
        assert_eq!(sink.dropped(DropCause::Oversized), 1);
        assert_eq!(bodies(&sink), [format!("{} {{\"a\"=>1}}", NOW.secs)]);
    }
}
