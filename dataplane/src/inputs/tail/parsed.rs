//! Lines of a file through a parser: parsed bodies first, then path and offset; what is not parsed is the line.

use std::sync::Arc;

use crate::event::encoder::{close_map, event_header};
use crate::event::msgpack::{Head, read_head};
use crate::event::time::EventTime;
use crate::kernel::newline::{EmptyLines, LineTemplate};
use crate::plugin::input::{EventSink, Flow, Unparsed};
use crate::plugin::parser::{Parsed, Parser, ParserScratch};

/// Bytes of events gathered before they are handed on.
const BATCH_BYTES: usize = 64 * 1024;

/// The parser of an instance on one shard, and its memory.
pub(super) struct LineParser {
    parser: Arc<dyn Parser>,
    scratch: ParserScratch,
    batch: Vec<u8>,
    record_count: u32,
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
        let scratch = ParserScratch::default();
        LineParser { parser, scratch, batch: Vec::new(), record_count: 0, unparsed: [0; 2] }
    }

    /// Appends the events of whole lines until the sink is full. Returns the bytes taken.
    pub(super) fn take_lines(
        &mut self,
        lines: &[u8],
        place: &LinePlace<'_>,
        stamp: &mut EventTime,
        sink: &mut dyn EventSink,
    ) -> (usize, Flow) {
        let mut at = 0;
        let mut flow = Flow::Open;
        for newline in memchr::memchr_iter(b'\n', lines) {
            let line = &lines[at..newline];
            let is_empty = matches!(line, b"" | b"\r");
            if !(is_empty && place.empty_lines == EmptyLines::Skip) {
                self.take_line(line, place.template, place.offset + at as u64, *stamp);
                *stamp = super::file::later(*stamp, 1);
            }
            at = newline + 1;
            if self.batch.len() >= BATCH_BYTES {
                flow = self.hand_on(place.tag, sink);
                if flow == Flow::Paused {
                    break;
                }
            }
        }
        if self.record_count > 0 {
            flow = self.hand_on(place.tag, sink);
        }
        (at, flow)
    }

    /// Puts the event of one line into the batch.
    pub(super) fn take_line(
        &mut self,
        line: &[u8],
        template: &LineTemplate,
        offset: u64,
        now: EventTime,
    ) {
        let out = &mut self.batch;
        let start = out.len();
        event_header(out, now);
        let body = out.len();
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        self.record_count += 1;
        let why = match self.parser.parse(text, now, &mut self.scratch, out) {
            Parsed::Body { time, .. } => {
                if let Some(time) = time {
                    out[start + 4..start + 12].copy_from_slice(&time.to_bytes());
                }
                let others = template.append_others(offset, out);
                if others > 0 {
                    let Some(Head::Map(count)) = read_head(&mut &out[body..]) else { return };
                    close_map(out, body, count + others);
                }
                return;
            }
            Parsed::Unparsed => Unparsed::OtherForm,
            Parsed::CutOff => Unparsed::CutOff,
        };
        self.unparsed[why as usize] += 1;
        out.truncate(start);
        template.append(line, offset, now, out);
    }

    /// Hands the batch to the sink.
    pub(super) fn hand_on(&mut self, tag: &[u8], sink: &mut dyn EventSink) -> Flow {
        for why in Unparsed::ALL {
            let count = std::mem::take(&mut self.unparsed[why as usize]);
            if count > 0 {
                sink.count_unparsed(why, count);
            }
        }
        sink.open(tag, self.batch.len()).bytes.extend_from_slice(&self.batch);
        self.batch.clear();
        sink.commit(std::mem::take(&mut self.record_count))
    }
}
