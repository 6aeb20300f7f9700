//! Text between separators, for `tcp` and `stdin`: each piece becomes an event `{"log": piece}`, or what a parser
//! makes of it; empty ones become nothing.

use std::sync::Arc;

use crate::event::encoder::{close_map, event_header, put_map_len, put_str};
use crate::event::msgpack::{Head, read_head};
use crate::event::time::EventTime;
use crate::kernel::newline::LineTemplate;
use crate::limits::READ_BYTES;
use crate::plugin::input::{
    CloseReason, DropCause, EventSink, Fed, Framer, Next, OpenBatch, Unparsed,
};
use crate::plugin::parser::{Parsed, Parser, ParserScratch};

/// Room asked for at a time: enough for many records, and little enough to fill a chunk to its end.
pub(super) const BATCH_BYTES: usize = 64 * 1024;

/// Counts a record that is too long, and says so.
pub(super) fn too_long(bytes_max: usize, sink: &mut dyn EventSink) -> CloseReason {
    sink.drop_records(DropCause::Oversized, 1);
    CloseReason(format!("a record is longer than {bytes_max} bytes: raise `buffer_size`"))
}

/// Text between separators.
pub(super) struct Text {
    tag: Arc<[u8]>,
    record_bytes_max: usize,
    separator: memchr::memmem::Finder<'static>,
    form: Form,
    /// Bytes at the front in which no separator begins.
    searched: usize,
    long_pieces: LongPieces,
    /// Whether a piece that was too long has not ended yet.
    is_skipping: bool,
    ended: Next,
}

/// What a piece becomes.
enum Form {
    /// `{"log": piece}`.
    Whole(LineTemplate),
    /// What a parser makes of it.
    Parsed(Box<PieceParser>),
}

/// What a piece that is longer than a record may be does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LongPieces {
    /// It closes the connection.
    Close,
    /// It is left out.
    Skip,
}

/// The parser of an instance for one stream, and its memory.
pub(super) struct PieceParser {
    parser: Arc<dyn Parser>,
    scratch: ParserScratch,
    /// Key and value of the source address, encoded; empty for none.
    source: Vec<u8>,
    batch: Vec<u8>,
    unparsed: [u64; Unparsed::ALL.len()],
}

impl PieceParser {
    /// `source` is the key and the text of the address.
    pub(super) fn new(parser: Arc<dyn Parser>, source: Option<(&[u8], &[u8])>) -> PieceParser {
        let mut encoded = Vec::new();
        if let Some((key, address)) = source {
            put_str(&mut encoded, key);
            put_str(&mut encoded, address);
        }
        let (scratch, batch) = (ParserScratch::default(), Vec::new());
        PieceParser { parser, scratch, source: encoded, batch, unparsed: [0; 2] }
    }

    /// Puts the event of one piece into the batch: what it was parsed to, or `{"log": piece}`. `None` when the batch
    /// is full.
    fn take(&mut self, piece: &[u8], now: EventTime) -> Option<()> {
        let out = &mut self.batch;
        if out.len() >= BATCH_BYTES {
            return None;
        }
        let start = out.len();
        event_header(out, now);
        let body = out.len();
        match self.parser.parse(piece, now, &mut self.scratch, out) {
            Parsed::Body { time, .. } => {
                if let Some(time) = time {
                    out[start + 4..start + 12].copy_from_slice(&time.to_bytes());
                }
            }
            other => {
                let is_cut_off = other == Parsed::CutOff;
                let why = if is_cut_off { Unparsed::CutOff } else { Unparsed::OtherForm };
                self.unparsed[why as usize] += 1;
                put_map_len(out, 1);
                put_str(out, b"log");
                put_str(out, piece);
            }
        }
        if !self.source.is_empty()
            && let Some(Head::Map(count)) = read_head(&mut &out[body..])
        {
            close_map(out, body, count + 1);
            out.extend_from_slice(&self.source);
        }
        Some(())
    }

    fn hand_on(&mut self, tag: &[u8], record_count: u32, sink: &mut dyn EventSink) {
        for why in Unparsed::ALL {
            let count = std::mem::take(&mut self.unparsed[why as usize]);
            if count > 0 {
                sink.count_unparsed(why, count);
            }
        }
        if record_count > 0 {
            sink.open(tag, self.batch.len()).bytes.extend_from_slice(&self.batch);
            sink.commit(record_count);
        }
        self.batch.clear();
    }
}

impl Form {
    /// Begins a batch: events that need no parser go straight to the sink.
    fn open<'s>(
        &self,
        tag: &[u8],
        first_bytes: usize,
        sink: &'s mut dyn EventSink,
    ) -> Option<OpenBatch<'s>> {
        match self {
            Form::Whole(template) => {
                let room = template.event_bytes_max(first_bytes).max(BATCH_BYTES);
                Some(sink.open(tag, room))
            }
            Form::Parsed(_) => None,
        }
    }

    /// Appends one piece; `None` when there is no room for it.
    fn take(
        &mut self,
        piece: &[u8],
        now: EventTime,
        batch: &mut Option<OpenBatch<'_>>,
    ) -> Option<()> {
        match (self, batch) {
            (Form::Whole(template), Some(batch)) => {
                let room = template.event_bytes_max(piece.len());
                batch.room_bytes = batch.room_bytes.checked_sub(room)?;
                template.append(piece, 0, now, batch.bytes);
                Some(())
            }
            (Form::Parsed(parser), _) => parser.take(piece, now),
            (Form::Whole(_), None) => None,
        }
    }

    fn hand_on(&mut self, tag: &[u8], record_count: u32, sink: &mut dyn EventSink) {
        match self {
            Form::Whole(_) if record_count > 0 => {
                sink.commit(record_count);
            }
            Form::Whole(_) => {}
            Form::Parsed(parser) => parser.hand_on(tag, record_count, sink),
        }
    }
}

/// What one batch took.
struct Filled {
    consumed: usize,
    stop: Stop,
}

/// Why a batch took no more.
#[derive(PartialEq, Eq)]
enum Stop {
    /// What is left has no separator.
    End,
    /// The room is used up.
    Full,
    /// A piece, or what is left, is longer than a record may be.
    TooLong,
}

impl Text {
    /// For a stream that has not sent anything yet.
    pub(super) fn new(
        tag: Arc<[u8]>,
        record_bytes_max: usize,
        separator: &[u8],
        parser: Option<PieceParser>,
    ) -> Text {
        let form = match parser {
            Some(parser) => Form::Parsed(Box::new(parser)),
            None => Form::Whole(LineTemplate::new(&[], None, b"log")),
        };
        let separator = memchr::memmem::Finder::new(separator).into_owned();
        Text {
            tag,
            record_bytes_max,
            separator,
            form,
            searched: 0,
            long_pieces: LongPieces::Close,
            is_skipping: false,
            ended: Next::Ended,
        }
    }

    /// Chooses what long pieces do, and what the end of the stream means.
    pub(super) fn with(self, long_pieces: LongPieces, ended: Next) -> Text {
        Text { long_pieces, ended, ..self }
    }

    /// Appends pieces to one batch.
    fn fill(&mut self, bytes: &[u8], now: EventTime, sink: &mut dyn EventSink) -> Filled {
        let width = self.separator.needle().len();
        let mut at = 0;
        let mut next = self.find(bytes, self.searched);
        let mut batch = self.form.open(&self.tag, next.unwrap_or(0), sink);
        let mut record_count = 0;
        let stop = loop {
            let Some(end) = next else {
                break match bytes.len() - at > self.record_bytes_max + width {
                    true => Stop::TooLong,
                    false => Stop::End,
                };
            };
            let piece = &bytes[at..end];
            if piece.len() > self.record_bytes_max {
                break Stop::TooLong;
            }
            if !is_empty(piece) {
                if self.form.take(piece, now, &mut batch).is_none() {
                    break Stop::Full;
                }
                record_count += 1;
            }
            at = end + width;
            next = self.find(bytes, at);
        };
        self.form.hand_on(&self.tag, record_count, sink);
        self.searched = match stop {
            // A separator may have begun in the last bytes.
            Stop::End => (bytes.len() - at).saturating_sub(width - 1),
            Stop::Full | Stop::TooLong => 0,
        };
        Filled { consumed: at, stop }
    }

    /// Leaves out what is left of a piece that was too long. Returns the bytes taken.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        let width = self.separator.needle().len();
        match self.find(bytes, 0) {
            Some(end) => {
                self.is_skipping = false;
                end + width
            }
            None => bytes.len().saturating_sub(width - 1),
        }
    }

    #[inline]
    fn find(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let found = match self.separator.needle() {
            [byte] => memchr::memchr(*byte, &bytes[from..]),
            _ => self.separator.find(&bytes[from..]),
        };
        found.map(|at| from + at)
    }
}

/// Empty, or an empty line of which the separator took only the `\n`.
fn is_empty(piece: &[u8]) -> bool {
    matches!(piece, b"" | b"\r")
}

impl Framer for Text {
    fn feed(
        &mut self,
        bytes: &[u8],
        now: EventTime,
        sink: &mut dyn EventSink,
        _reply: &mut Vec<u8>,
    ) -> Result<Fed, CloseReason> {
        let mut consumed = 0;
        loop {
            if self.is_skipping {
                consumed += self.skip(&bytes[consumed..]);
                if self.is_skipping {
                    return Ok(Fed { consumed, needed: 0 });
                }
            }
            let filled = self.fill(&bytes[consumed..], now, sink);
            consumed += filled.consumed;
            match (filled.stop, self.long_pieces) {
                (Stop::Full, _) => {}
                (Stop::End, _) => return Ok(Fed { consumed, needed: 0 }),
                (Stop::TooLong, LongPieces::Close) => {
                    return Err(too_long(self.record_bytes_max, sink));
                }
                (Stop::TooLong, LongPieces::Skip) => {
                    sink.drop_records(DropCause::Oversized, 1);
                    self.is_skipping = true;
                }
            }
        }
    }

    fn finish(&mut self, rest: &[u8], now: EventTime, sink: &mut dyn EventSink) -> Next {
        if !is_empty(rest) && !self.is_skipping {
            let mut batch = self.form.open(&self.tag, rest.len(), sink);
            let is_taken = self.form.take(rest, now, &mut batch).is_some();
            self.form.hand_on(&self.tag, u32::from(is_taken), sink);
        }
        self.ended
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

    use super::*;
    use crate::inputs::tcp::PLUGIN;
    use crate::plugin::testing::{NOW, TestSink, Wire, stream_input};

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
            put_map_len(out, 1);
            put_str(out, b"p");
            put_str(out, text);
            Parsed::Body { time: Some(EventTime { secs: 7, nanos: 8 }), consumed: text.len() }
        }
    }

    #[test]
    fn pieces_are_parsed_however_they_are_cut() {
        let sent = b"ok 1\n\nother\nok 2\r\nok 3";
        for size in 1..=sent.len() {
            let source = Some((&b"from"[..], &b"tcp://x"[..]));
            let parser = PieceParser::new(Arc::new(TakesOk), source);
            let mut framer = Text::new((*b"t").into(), 100, b"\n", Some(parser));
            let (mut sink, mut buffer) = (TestSink::new(), Vec::new());
            for piece in sent.chunks(size) {
                buffer.extend_from_slice(piece);
                let fed = framer.feed(&buffer, NOW, &mut sink, &mut Vec::new()).unwrap();
                buffer.drain(..fed.consumed);
            }
            framer.finish(&buffer, NOW, &mut sink);
            let seen: Vec<_> = sink
                .events()
                .iter()
                .map(|(_, event)| {
                    let event = rmpv::decode::read_value(&mut event.as_slice()).unwrap();
                    let is_now = !event[0][0].to_string().contains("[0, 0, 0, 7, 0, 0, 0, 8]");
                    (is_now, event[1].to_string())
                })
                .collect();
            let body =
                |key: &str, text: &str| format!(r#"{{"{key}": "{text}", "from": "tcp://x"}}"#);
            let expected = [
                (false, body("p", "ok 1")),
                (true, body("log", "other")),
                (false, body("p", r"ok 2\r")),
                (false, body("p", "ok 3")),
            ];
            assert_eq!(seen, expected);
            assert_eq!(sink.unparsed, [(Unparsed::OtherForm, 1)]);
        }
    }

    fn run(separator: &str, bytes: &[u8], sizes: &[usize]) -> (TestSink, Wire) {
        let properties = [("format", "none"), ("separator", separator), ("chunk_size", "1")];
        let input = stream_input(&PLUGIN, &properties);
        let mut sink = TestSink::new();
        let mut wire = Wire::connect(&*input);
        wire.send_in_pieces(bytes, sizes, &mut sink);
        (sink, wire)
    }

    fn event(line: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut out = Vec::new();
        event_header(&mut out, NOW);
        put_map_len(&mut out, 1);
        put_str(&mut out, b"log");
        put_str(&mut out, line);
        (b"tcp.0".to_vec(), out)
    }

    fn events(lines: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        lines.iter().map(|line| event(line)).collect()
    }

    #[test]
    fn pieces_become_events_and_empty_ones_nothing() {
        let (sink, _) = run("\\n", b"one\n\n\r\ntwo\r\nthr\0ee\nunfinished", &[usize::MAX]);
        assert_eq!(sink.events(), events(&[b"one", b"two\r", b"thr\0ee"]));
    }

    #[test]
    fn long_separators_are_found_across_reads() {
        for size in 1..12 {
            let (sink, _) = run("--\\n", b"a--\n-b---\n--\nc--", &[size]);
            assert_eq!(sink.events(), events(&[b"a", b"-b-"]), "{size}");
        }
    }

    #[test]
    fn the_end_of_a_connection_ends_the_last_piece() {
        let (mut sink, wire) = run("\\n", b"one\ntwo", &[usize::MAX]);
        assert_eq!(wire.end(&mut sink), Next::Ended);
        assert_eq!(sink.events(), events(&[b"one", b"two"]));
    }

    #[test]
    fn a_piece_beyond_the_bound_closes_the_connection_counted() {
        let mut bytes = b"good\n".to_vec();
        bytes.extend([b'x'; 1025]);
        bytes.extend_from_slice(b"\nlost\n");
        for size in [1, 100, usize::MAX] {
            let (sink, wire) = run("\\n", &bytes, &[size]);
            assert_eq!(sink.events(), events(&[b"good"]));
            assert_eq!(sink.dropped(DropCause::Oversized), 1);
            assert!(wire.closed.unwrap().contains("raise `buffer_size`"));
        }
        let (sink, wire) = run("\\n", &[&[b'x'; 1024][..], b"\n"].concat(), &[1]);
        assert_eq!((sink.events().len(), wire.closed), (1, None));
    }

    #[test]
    fn many_pieces_fill_many_batches() {
        let lines: Vec<Vec<u8>> = (0..20_000).map(|n| format!("line {n}").into_bytes()).collect();
        let sent = lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect::<Vec<u8>>();
        let (sink, _) = run("\\n", &sent, &[100_000]);
        assert!(sink.batches.len() > 1);
        assert!(sink.events() == lines.iter().map(|line| event(line)).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_events_of_a_split(
            bytes in "[ab\r\n|]{0,200}", sizes in proptest::collection::vec(1usize..20, 1..5),
            separator in prop_oneof![Just("\\n"), Just("|"), Just("|\\n")]
        ) {
            let (sink, _) = run(separator, bytes.as_bytes(), &sizes);
            let real = separator.replace("\\n", "\n");
            let mut expected: Vec<_> = bytes.split(real.as_str()).collect();
            expected.pop();
            expected.retain(|piece| !matches!(*piece, "" | "\r"));
            let expected: Vec<_> = expected.iter().map(|piece| event(piece.as_bytes())).collect();
            prop_assert_eq!(sink.events(), expected);
        }
    }
}
