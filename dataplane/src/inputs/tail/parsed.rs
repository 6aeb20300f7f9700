//! Lines of a file through a parser: parsed bodies first, then path and offset; what is not parsed is the line.

use std::sync::Arc;

use crate::event::encoder::{HEADER_BYTES, close_map, event_header};
use crate::event::msgpack::{Head, read_head};
use crate::event::time::EventTime;
use crate::kernel::json_lines::{Stop, WholeLines};
use crate::kernel::newline::{EmptyLines, LineTemplate};
use crate::plugin::input::{EventSink, Flow, OpenBatch, Unparsed};
use crate::plugin::parser::{BodyRoom, Parsed, Parser, ParserScratch};

/// Room asked for at once in the sink.
const ROOM_BYTES: usize = 256 * 1024;

/// The parser of an instance on one shard, and its memory.
pub(super) struct LineParser {
    parser: Arc<dyn Parser>,
    /// Room that a body needs, where the length of the line says it.
    room: Option<BodyRoom>,
    scratch: ParserScratch,
    /// The event of one line.
    event: Vec<u8>,
    unparsed: [u64; Unparsed::ALL.len()],
}

/// What is the same for all lines of a block.
pub(super) struct LinePlace<'a> {
    pub(super) template: &'a LineTemplate,
    pub(super) tag: &'a [u8],
    pub(super) empty_lines: EmptyLines,
    /// Where the block begins in its file.
    pub(super) offset: u64,
}

impl LineParser {
    pub(super) fn new(parser: Arc<dyn Parser>) -> LineParser {
        let (room, scratch) = (parser.body_room(), ParserScratch::default());
        LineParser { parser, room, scratch, event: Vec::new(), unparsed: [0; 2] }
    }

    /// Appends the events of whole lines until the sink is full. Returns the bytes taken.
    pub(super) fn take_lines(
        &mut self,
        lines: &[u8],
        place: &LinePlace<'_>,
        stamp: &mut EventTime,
        sink: &mut dyn EventSink,
    ) -> (usize, Flow) {
        let whole = WholeLines::new(lines);
        let mut at = 0;
        let mut flow = Flow::Open;
        let mut wanted = 0;
        while at < lines.len() && flow == Flow::Open {
            // A quiet file must not ask for a large chunk.
            let left = lines.len() - at;
            let likely = (left + left / 4).max((left * 4).min(4096)).min(ROOM_BYTES);
            let batch = sink.open(place.tag, likely.max(wanted));
            let filled = match self.room {
                Some(room) => self.fill_lines(room, &lines[at..], (at, place), stamp, batch),
                None => self.fill(&whole, at, place, stamp, batch),
            };
            wanted = filled.wanted;
            at = filled.next;
            flow = sink.commit(filled.record_count);
        }
        self.tell_unparsed(sink);
        (at, flow)
    }

    /// Appends the events of the lines from `at` on that there is room for.
    fn fill(
        &mut self,
        lines: &WholeLines<'_>,
        at: usize,
        place: &LinePlace<'_>,
        stamp: &mut EventTime,
        batch: OpenBatch<'_>,
    ) -> Filled {
        let limit = batch.bytes.len() + batch.room_bytes;
        let mut batch = Batch { out: batch.bytes, limit };
        let mut filled = Filled { next: at, record_count: 0, wanted: 0 };
        while filled.next < lines.bytes().len() {
            let at = filled.next;
            let offset = place.offset + at as u64;
            match self.take_straight(lines, at, place, *stamp, &mut batch) {
                Ok(next) => filled.next = next,
                Err(Stop::Room) if filled.record_count > 0 => break,
                Err(_) => {
                    let rest = &lines.bytes()[at..];
                    let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                    let line = &rest[..end];
                    let is_empty = matches!(line, b"" | b"\r");
                    if is_empty && place.empty_lines == EmptyLines::Skip {
                        filled.next = at + end + 1;
                        continue;
                    }
                    let mut event = std::mem::take(&mut self.event);
                    event.clear();
                    let unparsed = self.unparsed;
                    self.encode(line, place.template, offset, *stamp, &mut event);
                    let fits = batch.out.len() + event.len() <= limit;
                    if fits {
                        batch.out.extend_from_slice(&event);
                    } else {
                        // It is encoded again, and counted then.
                        self.unparsed = unparsed;
                        filled.wanted = event.len();
                    }
                    self.event = event;
                    if !fits {
                        break;
                    }
                    filled.next = at + end + 1;
                }
            }
            filled.record_count += 1;
            *stamp = super::file::later(*stamp, 1);
        }
        filled
    }

    /// As `fill`, for a parser whose bodies have a known bound: each event is made where it stays. `lines` begin at
    /// `start` of the block.
    fn fill_lines(
        &mut self,
        room: BodyRoom,
        lines: &[u8],
        (start, place): (usize, &LinePlace<'_>),
        stamp: &mut EventTime,
        batch: OpenBatch<'_>,
    ) -> Filled {
        let limit = batch.bytes.len() + batch.room_bytes;
        let mut filled = Filled { next: start, record_count: 0, wanted: 0 };
        let mut at = 0;
        for newline in memchr::memchr_iter(b'\n', lines) {
            let line = &lines[at..newline];
            let is_skipped = place.empty_lines == EmptyLines::Skip && matches!(line, b"" | b"\r");
            if !is_skipped {
                let likely = room.bytes(line.len()) + place.template.event_bytes_max(line.len());
                if batch.bytes.len() + likely > limit {
                    filled.wanted = likely;
                    break;
                }
                let offset = place.offset + filled.next as u64;
                self.encode(line, place.template, offset, *stamp, batch.bytes);
                filled.record_count += 1;
                *stamp = super::file::later(*stamp, 1);
            }
            at = newline + 1;
            filled.next = start + at;
        }
        filled
    }

    /// Appends the event of a line to `out`, where the parser can do that without knowing its end.
    #[inline]
    fn take_straight(
        &mut self,
        lines: &WholeLines<'_>,
        at: usize,
        place: &LinePlace<'_>,
        now: EventTime,
        batch: &mut Batch<'_>,
    ) -> Result<usize, Stop> {
        let Batch { out, limit } = batch;
        let start = out.len();
        if start + HEADER_BYTES > *limit {
            return Err(Stop::Room);
        }
        event_header(out, now);
        let stop = match self.parser.parse_line(lines, at, now, &mut self.scratch, out) {
            Ok(line) if out.len() + place.template.event_bytes_max(0) <= *limit => {
                let offset = place.offset + at as u64;
                finish_event(out, start, line.time, place.template, offset);
                return Ok(line.next);
            }
            Ok(_) => Stop::Room,
            Err(stop) => stop,
        };
        out.truncate(start);
        Err(stop)
    }

    /// Appends the event of one line, and counts it if it is not parsed.
    fn encode(
        &mut self,
        line: &[u8],
        template: &LineTemplate,
        offset: u64,
        now: EventTime,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        event_header(out, now);
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        let why = match self.parser.parse(text, now, &mut self.scratch, out) {
            Parsed::Body { time, .. } => return finish_event(out, start, time, template, offset),
            Parsed::Unparsed => Unparsed::OtherForm,
            Parsed::CutOff => Unparsed::CutOff,
        };
        self.unparsed[why as usize] += 1;
        out.truncate(start);
        template.append(line, offset, now, out);
    }

    /// Makes the event of a line that is handed on alone.
    pub(super) fn take_line(
        &mut self,
        line: &[u8],
        template: &LineTemplate,
        offset: u64,
        now: EventTime,
    ) {
        let mut event = std::mem::take(&mut self.event);
        event.clear();
        self.encode(line, template, offset, now, &mut event);
        self.event = event;
    }

    /// Hands it to the sink.
    pub(super) fn hand_on(&mut self, tag: &[u8], sink: &mut dyn EventSink) -> Flow {
        self.tell_unparsed(sink);
        sink.open(tag, self.event.len()).bytes.extend_from_slice(&self.event);
        sink.commit(1)
    }

    fn tell_unparsed(&mut self, sink: &mut dyn EventSink) {
        for why in Unparsed::ALL {
            let count = std::mem::take(&mut self.unparsed[why as usize]);
            if count > 0 {
                sink.count_unparsed(why, count);
            }
        }
    }
}

/// Where events go, and where that ends.
struct Batch<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
}

/// What became of a batch.
struct Filled {
    /// Where the next line begins.
    next: usize,
    record_count: u32,
    /// Bytes that the event of the next line needs, if they were not there.
    wanted: usize,
}

/// Gives the event that `out` has from `start` on its time, and what it bears besides its body.
#[inline]
fn finish_event(
    out: &mut Vec<u8>,
    start: usize,
    time: Option<EventTime>,
    template: &LineTemplate,
    offset: u64,
) {
    if let Some(time) = time {
        out[start + 4..start + 12].copy_from_slice(&time.to_bytes());
    }
    let others = template.append_others(offset, out);
    if others > 0 {
        let body = start + HEADER_BYTES;
        let Some(Head::Map(count)) = read_head(&mut &out[body..]) else { return };
        close_map(out, body, count + others);
    }
}
