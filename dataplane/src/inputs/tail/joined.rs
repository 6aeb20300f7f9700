//! Lines of a file through multiline parsers. What is in the making belongs to a file, and is delivered when nothing
//! was added to it for the flush timeout, when the file is closed or truncated, and at the stop.
//!
//! Path and offset come last in a record; the offset is that of the line at which it was found to be complete, as in
//! Fluent Bit.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::event::encoder::{close_map, event_header_with_metadata};
use crate::event::msgpack::{Head, read_head};
use crate::event::time::EventTime;
use crate::inputs::tail::parsed::LinePlace;
use crate::inputs::tail::turns::{FileKey, TailTurns};
use crate::kernel::newline::{EmptyLines, LineTemplate};
use crate::log::Log;
use crate::multiline::{Joiner, Length, Multiline, RecordSink, Stream};
use crate::plugin::input::{EventSink, Flow};

/// Bytes of events gathered before they are handed on.
const BATCH_BYTES: usize = 64 * 1024;
/// Time between warnings of records that met the limit.
const TRUNCATED_PAUSE_NS: u64 = 60_000_000_000;

/// The multiline parsers of an instance on one shard, and their memory.
pub(super) struct LineJoiner {
    joiner: Joiner,
    events: Events,
    /// Files with something in the making.
    waiting: HashSet<FileKey>,
    /// When the first of it may be due, monotonic.
    look_ns: u64,
    truncated_count: u64,
    truncated_said_ns: Option<u64>,
}

/// Events that were made and not handed on.
#[derive(Default)]
struct Events {
    batch: Vec<u8>,
    /// Where the body of the last one begins.
    body: usize,
    record_count: u32,
    truncated_count: u64,
}

/// Makes events of records.
struct EventMaker<'a> {
    events: &'a mut Events,
    template: &'a LineTemplate,
    offset: u64,
}

impl RecordSink for EventMaker<'_> {
    fn begin(&mut self, time: EventTime, metadata: &[u8]) -> &mut Vec<u8> {
        event_header_with_metadata(&mut self.events.batch, time, metadata);
        self.events.body = self.events.batch.len();
        &mut self.events.batch
    }

    fn end(&mut self, length: Length) {
        let Events { batch, body, record_count, truncated_count } = &mut *self.events;
        *record_count += 1;
        *truncated_count += u64::from(length == Length::Truncated);
        let others = self.template.append_others(self.offset, batch);
        if others > 0
            && let Some(Head::Map(count)) = read_head(&mut &batch[*body..])
        {
            close_map(batch, *body, count + others);
        }
    }
}

impl LineJoiner {
    pub(super) fn new(plan: Arc<Multiline>) -> LineJoiner {
        LineJoiner {
            joiner: Joiner::new(plan),
            events: Events::default(),
            waiting: HashSet::new(),
            look_ns: 0,
            truncated_count: 0,
            truncated_said_ns: None,
        }
    }

    /// A file of which nothing is in the making.
    pub(super) fn stream(&self) -> Stream {
        self.joiner.stream()
    }

    /// Takes whole lines until the sink is full. Returns the bytes taken.
    pub(super) fn take_lines(
        &mut self,
        stream: &mut Stream,
        lines: &[u8],
        place: &LinePlace<'_>,
        stamp: &mut EventTime,
        sink: &mut dyn EventSink,
    ) -> (usize, Flow) {
        let LineJoiner { joiner, events, .. } = self;
        let mut maker = EventMaker { events, template: place.template, offset: 0 };
        let mut at = 0;
        let mut flow = sink.flow();
        for newline in memchr::memchr_iter(b'\n', lines) {
            let line = &lines[at..newline];
            let is_empty = matches!(line, b"" | b"\r");
            if !(is_empty && place.empty_lines == EmptyLines::Skip) {
                maker.offset = place.offset + at as u64;
                joiner.take_line(stream, line, *stamp, &mut maker);
                *stamp = super::file::later(*stamp, 1);
            }
            at = newline + 1;
            if maker.events.batch.len() >= BATCH_BYTES {
                flow = maker.events.hand_on(place.tag, sink);
                if flow == Flow::Paused {
                    break;
                }
            }
        }
        if self.events.record_count > 0 {
            flow = self.events.hand_on(place.tag, sink);
        }
        self.truncated_count += std::mem::take(&mut self.events.truncated_count);
        (at, flow)
    }

    /// Delivers all that is in the making of a file.
    pub(super) fn flush(
        &mut self,
        stream: &mut Stream,
        place: &LinePlace<'_>,
        sink: &mut dyn EventSink,
    ) {
        let LineJoiner { joiner, events, .. } = self;
        let mut maker = EventMaker { events, template: place.template, offset: place.offset };
        joiner.flush(stream, &mut maker);
        self.events.hand_on(place.tag, sink);
    }

    /// Delivers what nothing was added to for the flush timeout. Returns when the rest is due, by the clock of `now`.
    pub(super) fn flush_idle(
        &mut self,
        stream: &mut Stream,
        place: &LinePlace<'_>,
        now: EventTime,
        sink: &mut dyn EventSink,
    ) -> Option<u64> {
        let idle = self.joiner.flush_timeout();
        let LineJoiner { joiner, events, .. } = self;
        let mut maker = EventMaker { events, template: place.template, offset: place.offset };
        joiner.flush_idle(stream, now, idle, &mut maker);
        self.events.hand_on(place.tag, sink);
        stream.oldest_ns().map(|oldest_ns| oldest_ns + idle.as_nanos() as u64)
    }

    /// Counts what met the limit, and says so once in a while.
    pub(super) fn report_truncated(&mut self, now_ns: u64, log: &Log, sink: &mut dyn EventSink) {
        let count = self.truncated_count;
        if count == 0 {
            return;
        }
        self.truncated_count = 0;
        sink.count_truncated(count);
        let is_new = |said_ns: u64| now_ns.saturating_sub(said_ns) >= TRUNCATED_PAUSE_NS;
        if self.truncated_said_ns.is_none_or(is_new) {
            self.truncated_said_ns = Some(now_ns);
            log.warn(format_args!(
                "records of several lines met `multiline_buffer_limit` of `[SERVICE]` and were cut there"
            ));
        }
    }

    /// A file has something in the making.
    pub(super) fn wait_for(&mut self, key: FileKey, now_ns: u64) {
        if self.waiting.is_empty() {
            self.look_ns = now_ns + self.joiner.flush_timeout().as_nanos() as u64;
        }
        self.waiting.insert(key);
    }

    /// When to look for what is due, monotonic.
    pub(super) fn look_ns(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.look_ns)
    }
}

impl Events {
    fn hand_on(&mut self, tag: &[u8], sink: &mut dyn EventSink) -> Flow {
        if self.record_count == 0 {
            return sink.flow();
        }
        sink.open(tag, self.batch.len()).bytes.extend_from_slice(&self.batch);
        self.batch.clear();
        sink.commit(std::mem::take(&mut self.record_count))
    }
}

impl TailTurns {
    /// Delivers what has waited for more lines for long enough.
    pub(super) fn flush_idle(&mut self, now_ns: u64, now: EventTime, sink: &mut dyn EventSink) {
        let Some(joiner) = &mut self.joiner else { return };
        if joiner.look_ns().is_none_or(|look_ns| now_ns < look_ns) {
            return;
        }
        let mut waiting = std::mem::take(&mut joiner.waiting);
        let mut wait_ns = joiner.joiner.flush_timeout().as_nanos() as u64;
        waiting.retain(|key| {
            let Some(slot) = self.files.get_mut(key) else { return false };
            let due_ns = slot.tailed.flush_idle(joiner, now, sink);
            // By the clock of the lines, which may jump: no wait is longer than the timeout.
            let left_ns = due_ns.map(|due_ns| due_ns.saturating_sub(now.unix_nanos()));
            wait_ns = wait_ns.min(left_ns.unwrap_or(u64::MAX));
            left_ns.is_some()
        });
        joiner.waiting = waiting;
        joiner.look_ns = now_ns + wait_ns.max(Duration::from_millis(1).as_nanos() as u64);
    }

    /// Delivers all that is in the making of any file.
    pub(super) fn flush_joined(&mut self, sink: &mut dyn EventSink) {
        let Some(joiner) = &mut self.joiner else { return };
        joiner.waiting.clear();
        for slot in self.files.values_mut().filter(|slot| slot.tailed.is_joining()) {
            slot.tailed.flush_joined(joiner, sink);
        }
    }
}
