//! One tailed file: reads a block, turns its lines into events, and notices what was done to the file meanwhile.
//!
//! The place in the file is always the start of a line, and an unfinished line is read again when it has
//! grown, so a thousand files need no buffers of their own. Each block is read with the few bytes before it:
//! if they are others than last time, the file was truncated and written anew.

use std::io;
use std::path::PathBuf;

use crate::event::time::EventTime;
use crate::inputs::tail::gzip::{Filled, Gzip, is_gzip_name};
use crate::inputs::tail::joined::LineJoiner;
use crate::inputs::tail::lines::{Remainder, divide, leading_zeros, whole_characters};
use crate::inputs::tail::parsed::{LineParser, LinePlace};
use crate::inputs::tail::spread::{Given, MARKER_BYTES, Marker, Place};
use crate::kernel::newline::{EmptyLines, FrameOptions, LineTemplate, frame_lines};
use crate::limits::READ_BYTES;
use crate::log::Log;
use crate::multiline::Stream;
use crate::plugin::input::{DropCause, EventSink, Flow};
use crate::reactor::file::{FileId, OpenFile, Patience, Read};

/// How long a cold page is waited for between turns before a read may block on it.
const COLD_WAIT_NS: u64 = 5_000_000;
/// An unfinished line of this size is not read again before its newline is there.
const PROBE_BYTES: u64 = 64 * 1024;
/// Read bytes of a file that the page cache is told to forget at once.
const FORGET_BYTES: u64 = 8 * 1024 * 1024;
/// Room asked for at once in the sink.
const ROOM_BYTES: usize = 256 * 1024;

/// What becomes of a line that is longer than `buffer_max_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongLines {
    /// It is skipped, counted, and an error is logged once for the file.
    Report,
    /// It is skipped, counted, and a warning is logged once for the file.
    Skip,
    /// Its front is delivered.
    Truncate,
}

/// Whether the page cache is told what will not be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheAdvice {
    /// Yes, in large steps.
    Forget,
    /// No.
    None,
}

/// How lines are read; the same for all files of an instance.
#[derive(Clone, Copy, Debug)]
pub struct LineRules {
    /// Longest line with its newline, bytes: one less than `buffer_max_size`.
    pub line_bytes_max: usize,
    /// What becomes of longer ones.
    pub long_lines: LongLines,
    /// What becomes of empty ones.
    pub empty_lines: EmptyLines,
    /// What becomes of the page cache.
    pub cache: CacheAdvice,
}

/// What a visit works with.
pub struct Visit<'a> {
    /// Where blocks are read to; grows up to one longest line.
    pub buffer: &'a mut Vec<u8>,
    /// How lines are read.
    pub rules: &'a LineRules,
    /// Time of the next event; a nanosecond later with each.
    pub stamp: &'a mut EventTime,
    /// Monotonic clock.
    pub now_ns: u64,
    /// Where events go.
    pub sink: &'a mut dyn EventSink,
    /// Log of the instance.
    pub log: &'a Log,
    /// What lines are parsed with.
    pub parser: Option<&'a mut LineParser>,
    /// What lines are joined with.
    pub joiner: Option<&'a mut LineJoiner>,
}

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visited {
    /// So many bytes were taken, and there is more.
    More(usize),
    /// All there is was read.
    AtEnd,
    /// The next page is not in memory: visit again soon.
    Cold,
    /// The sink takes no more.
    Paused,
    /// The file cannot be read: visit again when it changes.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    LineStart,
    /// Inside a line that is too long; its rest is passed over.
    Discarding,
}

/// A file that is read as it grows.
#[derive(Debug)]
pub struct TailedFile {
    /// What it is.
    pub id: FileId,
    /// The name by which it was found; it keeps it through rotation.
    pub path: PathBuf,
    /// The open file.
    pub file: OpenFile,
    tag: Vec<u8>,
    template: LineTemplate,
    /// What its lines are joined to, where they are.
    stream: Option<Box<Stream>>,
    place: Place,
    position: Position,
    /// Bytes after the place that are known to hold no newline.
    unfinished_bytes: u64,
    /// Size when last looked at.
    size: u64,
    /// Where what is known to have been written ends: more than the place is still to be read.
    written_end: u64,
    /// Last change when last looked at.
    modified_secs: i64,
    /// Decompresses it, where its name says so. The place is then one in the text.
    gzip: Option<Box<Gzip>>,
    cold_since_ns: Option<u64>,
    /// When it last had something to read, monotonic.
    grown_ns: u64,
    forgotten_offset: u64,
    long_lines_seen: u64,
}

impl TailedFile {
    /// Starts to tail an open file.
    pub fn new(given: Given, tag: Vec<u8>, template: LineTemplate) -> TailedFile {
        let Given { found, start } = given;
        let gzip = is_gzip_name(&found.path).then(|| Box::new(Gzip::new(start.place.offset)));
        let written_end = match start.place.marker.bytes() {
            [] => found.state.size,
            // Read before, and perhaps another file by now.
            _ => start.place.offset,
        };
        TailedFile {
            id: found.state.id,
            path: found.path,
            file: found.file,
            tag,
            template,
            stream: None,
            place: start.place,
            position: Position::LineStart,
            unfinished_bytes: 0,
            size: found.state.size,
            written_end,
            modified_secs: found.state.modified_secs,
            gzip,
            cold_since_ns: None,
            grown_ns: 0,
            forgotten_offset: start.place.offset,
            long_lines_seen: 0,
        }
    }

    /// Where it would be read on.
    pub fn place(&self) -> Place {
        match &self.gzip {
            Some(gzip) => Place { offset: gzip.raw_offset(), marker: Marker::default() },
            None => self.place,
        }
    }

    /// Bytes of the unfinished line at its end.
    pub fn unfinished_bytes(&self) -> u64 {
        self.unfinished_bytes
    }

    /// When something was last read, monotonic.
    pub fn grown_ns(&self) -> u64 {
        self.grown_ns
    }

    /// Whether it differs from when it was last read.
    pub fn has_changed(&self, size: u64, modified_secs: i64) -> bool {
        size != self.size || modified_secs != self.modified_secs
    }

    /// Reads one block and appends the events of its lines.
    pub fn visit(&mut self, visit: &mut Visit<'_>) -> Visited {
        match self.try_visit(visit) {
            Ok(visited) => visited,
            Err(error) => {
                visit.log.error(format_args!(
                    "cannot read `{}`: {error}; trying again when it changes",
                    self.path.display()
                ));
                Visited::Failed
            }
        }
    }

    fn try_visit(&mut self, visit: &mut Visit<'_>) -> io::Result<Visited> {
        let state = self.file.state()?;
        if let Some(mut gzip) = self.gzip.take() {
            let visited = self.visit_gzip(&mut gzip, visit, state.size);
            (self.size, self.modified_secs) = (state.size, state.modified_secs);
            self.gzip = Some(gzip);
            return visited;
        }
        if state.size < self.written_end {
            self.shrink(visit, state.size);
        }
        let written_end = std::mem::replace(&mut self.written_end, state.size);
        self.size = state.size;
        self.modified_secs = state.modified_secs;
        if self.unfinished_bytes >= PROBE_BYTES && !self.probe(visit)? {
            return Ok(Visited::AtEnd);
        }
        let before = self.place.marker.bytes().len();
        let patience = self.patience(visit.now_ns);
        let begin = self.place.offset - before as u64;
        let count = match self.file.read_at(visit.buffer, begin, patience)? {
            Read::Bytes(count) => count,
            Read::Cold => return Ok(self.cold(visit.now_ns)),
        };
        if count < before {
            // Cut in this moment, or half in memory: the next visit knows.
            return Ok(self.cold(visit.now_ns));
        }
        if visit.buffer[..before] != *self.place.marker.bytes() {
            self.restart(visit, state.size, written_end.saturating_sub(self.place.offset));
            return Ok(Visited::More(0));
        }
        let buffer = std::mem::take(visit.buffer);
        let taken = self.take_block(&buffer[before..count], buffer.len() - before, visit);
        *visit.buffer = buffer;
        self.advance(visit, before, taken.bytes, count - before - taken.bytes);
        if taken.flow == Flow::Paused {
            // What is left may hold whole lines.
            self.unfinished_bytes = 0;
            return Ok(Visited::Paused);
        }
        let known_offset = self.place.offset + (count - before - taken.bytes) as u64;
        if known_offset >= self.size || taken.bytes == 0 && patience == Patience::Wait {
            return Ok(Visited::AtEnd);
        }
        if taken.bytes > 0 {
            return Ok(Visited::More(taken.bytes));
        }
        if count < visit.buffer.len() {
            // A line that is longer than what is in memory of it. Reading on asks for the rest.
            let _ = self.file.read_at(&mut [0], known_offset, Patience::Cached)?;
            return Ok(self.cold(visit.now_ns));
        }
        let longest = visit.rules.line_bytes_max + MARKER_BYTES;
        let larger = (visit.buffer.len() * 2).min(longest.max(READ_BYTES));
        visit.buffer.resize(larger, 0);
        Ok(Visited::More(count))
    }

    fn visit_gzip(
        &mut self,
        gzip: &mut Gzip,
        visit: &mut Visit<'_>,
        size: u64,
    ) -> io::Result<Visited> {
        if size < gzip.raw_offset() {
            // What is in a part that was not read is not known.
            *gzip = Gzip::new(0);
            self.restart(visit, size, 0);
        }
        let wanted = READ_BYTES.max(visit.rules.line_bytes_max);
        let patience = self.patience(visit.now_ns);
        let filled = gzip.fill(&mut self.file, wanted, size, patience)?;
        let taken = self.take_block(gzip.text(), 0, visit);
        gzip.consume(taken.bytes);
        self.place.offset += taken.bytes as u64;
        self.unfinished_bytes = gzip.text().len() as u64;
        if taken.bytes > 0 {
            (self.cold_since_ns, self.grown_ns) = (None, visit.now_ns);
        }
        if filled == Filled::Broken {
            visit.sink.drop_records(DropCause::Malformed, 1);
            visit.log.error(format_args!(
                "`{}` is no gzip from byte {} on: its rest is skipped",
                self.path.display(),
                self.place.offset
            ));
        }
        Ok(match (taken.flow, filled) {
            (Flow::Paused, _) => Visited::Paused,
            (Flow::Open, Filled::Enough) => Visited::More(taken.bytes),
            (Flow::Open, Filled::Cold) => self.cold(visit.now_ns),
            (Flow::Open, Filled::AtEnd | Filled::Broken) => Visited::AtEnd,
        })
    }

    fn patience(&self, now_ns: u64) -> Patience {
        match self.cold_since_ns {
            Some(since_ns) if now_ns.saturating_sub(since_ns) > COLD_WAIT_NS => Patience::Wait,
            _ => Patience::Cached,
        }
    }

    fn cold(&mut self, now_ns: u64) -> Visited {
        self.cold_since_ns.get_or_insert(now_ns);
        Visited::Cold
    }

    /// Looks for the newline of a long unfinished line in what is new; whether the line must be read.
    fn probe(&mut self, visit: &mut Visit<'_>) -> io::Result<bool> {
        loop {
            let begin = self.place.offset + self.unfinished_bytes;
            let count = match self.file.read_at(visit.buffer, begin, Patience::Wait)? {
                Read::Bytes(0) | Read::Cold => return Ok(false),
                Read::Bytes(count) => count,
            };
            let is_too_long =
                self.unfinished_bytes + count as u64 >= visit.rules.line_bytes_max as u64;
            if is_too_long || memchr::memchr(b'\n', &visit.buffer[..count]).is_some() {
                return Ok(true);
            }
            self.unfinished_bytes += count as u64;
        }
    }

    /// The file is shorter than it was. Where what was read is gone too, it starts again.
    fn shrink(&mut self, visit: &mut Visit<'_>, size: u64) {
        if size < self.place.offset {
            self.restart(visit, size, self.written_end.saturating_sub(self.place.offset));
            return;
        }
        let lost_bytes = self.written_end - size;
        self.unfinished_bytes = 0;
        visit.sink.drop_records(DropCause::Vanished, 1);
        visit.log.warn(format_args!(
            "`{}` was truncated to {size} bytes before its last {lost_bytes} bytes were read",
            self.path.display()
        ));
    }

    /// The file was truncated and what was read is gone: starts again at its head, and says what was lost.
    fn restart(&mut self, visit: &mut Visit<'_>, size: u64, unread_bytes: u64) {
        if let Some(joiner) = &mut visit.joiner {
            self.flush_joined(joiner, visit.sink);
        }
        let lost_bytes = match self.position {
            Position::LineStart => unread_bytes,
            // Its one line was counted when it became too long.
            Position::Discarding => 0,
        };
        let path = self.path.display();
        if lost_bytes > 0 {
            visit.sink.drop_records(DropCause::Vanished, 1);
            visit.log.warn(format_args!(
                "`{path}` was truncated to {size} bytes before its last {lost_bytes} bytes were \
                 read; reading it from the start"
            ));
        } else {
            visit.log.info(format_args!("`{path}` was truncated; reading it from the start"));
        }
        self.place = Place::default();
        self.position = Position::LineStart;
        self.unfinished_bytes = 0;
        self.forgotten_offset = 0;
        self.written_end = size;
    }

    /// Takes what it can of a block that begins at the place.
    fn take_block(&mut self, block: &[u8], block_bytes_max: usize, visit: &mut Visit<'_>) -> Taken {
        let mut at = 0;
        if self.position == Position::Discarding {
            match memchr::memchr(b'\n', block) {
                Some(newline) => at = newline + 1,
                None => return Taken { bytes: block.len(), flow: Flow::Open },
            }
            self.position = Position::LineStart;
        } else if block.first() == Some(&0) {
            // A hole, left by a writer that goes on at its old place after a truncation. Zeros up to the end
            // of the file may as well be space that is reserved and not written yet.
            let zeros = leading_zeros(block);
            if zeros == block.len() && zeros < block_bytes_max {
                self.written_end = self.place.offset;
                return Taken { bytes: 0, flow: Flow::Open };
            }
            at = zeros;
        }
        let limit = visit.rules.line_bytes_max;
        loop {
            let (whole, remainder) = divide(&block[at..], limit);
            let taken = self.frame(&block[at..at + whole], at as u64, visit);
            at += taken.bytes;
            if taken.flow == Flow::Paused || remainder == Remainder::Unfinished {
                return Taken { bytes: at, flow: taken.flow };
            }
            at += self.take_long_line(&block[at..], at as u64, visit);
            if self.position == Position::Discarding {
                return Taken { bytes: at, flow: visit.sink.flow() };
            }
        }
    }

    /// Appends the events of whole lines; `at` is where they begin after the place.
    fn frame(&mut self, lines: &[u8], at: u64, visit: &mut Visit<'_>) -> Taken {
        if let Some(joiner) = &mut visit.joiner {
            let (stream, place) = self.joined(joiner, at, visit.rules.empty_lines);
            let (bytes, flow) = joiner.take_lines(stream, lines, &place, visit.stamp, visit.sink);
            joiner.report_truncated(visit.now_ns, visit.log, visit.sink);
            return Taken { bytes, flow };
        }
        if let Some(parser) = &mut visit.parser {
            let place = LinePlace {
                template: &self.template,
                tag: &self.tag,
                empty_lines: visit.rules.empty_lines,
                offset: self.place.offset + at,
            };
            let (bytes, flow) = parser.take_lines(lines, &place, visit.stamp, visit.sink);
            return Taken { bytes, flow };
        }
        let mut done = 0;
        let mut flow = Flow::Open;
        while done < lines.len() && flow == Flow::Open {
            let rest = &lines[done..];
            let first = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let room = self.template.event_bytes_max(first);
            // Short lines grow most, but a quiet file must not ask for a large chunk.
            let likely = (rest.len() + rest.len() / 4).max((rest.len() * 4).min(4096));
            let batch = visit.sink.open(&self.tag, room.max(likely.min(ROOM_BYTES)));
            let options = FrameOptions {
                time: *visit.stamp,
                offset: self.place.offset + at + done as u64,
                empty_lines: visit.rules.empty_lines,
                room_bytes: batch.room_bytes,
            };
            let framed = frame_lines(rest, batch.bytes, &self.template, &options);
            debug_assert!(framed.consumed > 0, "the room holds the first line");
            *visit.stamp = later(*visit.stamp, framed.record_count);
            flow = visit.sink.commit(framed.record_count);
            done += framed.consumed;
        }
        Taken { bytes: done, flow }
    }

    /// Takes a line that is too long, as far as it is in the block. Returns its bytes.
    fn take_long_line(&mut self, block: &[u8], at: u64, visit: &mut Visit<'_>) -> usize {
        let limit = visit.rules.line_bytes_max;
        let (path, is_first) = (self.path.display(), self.long_lines_seen == 0);
        let say = format_args!(
            "file=`{path}` requires a larger buffer size: lines of more than {limit} bytes are skipped; \
             raise `buffer_max_size`, or set `truncate_long_lines` to have their front"
        );
        match visit.rules.long_lines {
            LongLines::Truncate => {
                if let Some(joiner) = &mut visit.joiner {
                    self.flush_joined(joiner, visit.sink);
                }
                let front = whole_characters(&block[..limit]);
                let room = self.template.event_bytes_max(front.len());
                let batch = visit.sink.open(&self.tag, room);
                self.template.append(front, self.place.offset + at, *visit.stamp, batch.bytes);
                *visit.stamp = later(*visit.stamp, 1);
                visit.sink.commit(1);
            }
            LongLines::Report if is_first => visit.log.error(say),
            LongLines::Skip if is_first => visit.log.warn(say),
            LongLines::Report | LongLines::Skip => {}
        }
        if visit.rules.long_lines != LongLines::Truncate {
            visit.sink.drop_records(DropCause::Oversized, 1);
        }
        self.long_lines_seen += 1;
        match memchr::memchr(b'\n', &block[limit..]) {
            Some(newline) => limit + newline + 1,
            None => {
                self.position = Position::Discarding;
                block.len()
            }
        }
    }

    /// Moves the place behind what was taken. The buffer holds the marker, then the block.
    fn advance(&mut self, visit: &mut Visit<'_>, before: usize, taken: usize, left: usize) {
        self.unfinished_bytes = left as u64;
        if taken == 0 {
            return;
        }
        self.cold_since_ns = None;
        self.grown_ns = visit.now_ns;
        self.place.offset += taken as u64;
        self.place.marker = Marker::of(&visit.buffer[..before + taken]);
        self.size = self.size.max(self.place.offset + left as u64);
        self.written_end = self.written_end.max(self.size);
        let unforgotten = self.place.offset - self.forgotten_offset;
        if visit.rules.cache == CacheAdvice::Forget && unforgotten >= FORGET_BYTES {
            self.file.forget(self.forgotten_offset, unforgotten);
            self.forgotten_offset = self.place.offset;
        }
    }

    /// Delivers the unfinished line of a file that nobody will write again.
    pub fn deliver_rest(&mut self, visit: &mut Visit<'_>) {
        let length = self.unfinished_bytes as usize;
        if visit.buffer.len() < length {
            visit.buffer.resize(length, 0);
        }
        let line = &mut visit.buffer[..length];
        let read = match &self.gzip {
            Some(gzip) => {
                line.copy_from_slice(gzip.text());
                Ok(Read::Bytes(length))
            }
            None => self.file.read_at(line, self.place.offset, Patience::Wait),
        };
        if length == 0
            || line.first() == Some(&0)
            || !matches!(read, Ok(Read::Bytes(n)) if n == length)
        {
            return;
        }
        if let Some(joiner) = &mut visit.joiner {
            let whole = [&*line, b"\n"].concat();
            let (stream, place) = self.joined(joiner, 0, visit.rules.empty_lines);
            joiner.take_lines(stream, &whole, &place, visit.stamp, visit.sink);
        } else if let Some(parser) = &mut visit.parser {
            parser.take_line(line, &self.template, self.place.offset, *visit.stamp);
            parser.hand_on(&self.tag, visit.sink);
        } else {
            let batch = visit.sink.open(&self.tag, self.template.event_bytes_max(length));
            self.template.append(line, self.place.offset, *visit.stamp, batch.bytes);
            visit.sink.commit(1);
        }
        self.place.offset += length as u64;
        self.place.marker = Marker::of(&[self.place.marker.bytes(), line].concat());
        self.unfinished_bytes = 0;
    }
}

/// Joined lines.
impl TailedFile {
    /// Whether lines of it wait for more.
    pub fn is_joining(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.is_pending())
    }

    /// What is in the making of it, and what is the same for lines from so many bytes after the place on.
    fn joined(
        &mut self,
        joiner: &LineJoiner,
        at: u64,
        empty_lines: EmptyLines,
    ) -> (&mut Stream, LinePlace<'_>) {
        let stream = self.stream.get_or_insert_with(|| Box::new(joiner.stream()));
        let (template, tag) = (&self.template, self.tag.as_slice());
        (stream, LinePlace { template, tag, empty_lines, offset: self.place.offset + at })
    }

    /// Delivers what is in the making of it.
    pub fn flush_joined(&mut self, joiner: &mut LineJoiner, sink: &mut dyn EventSink) {
        let (stream, place) = self.joined(joiner, 0, EmptyLines::Keep);
        joiner.flush(stream, &place, sink);
    }

    /// Delivers what nothing was added to for long. Returns when the rest is due, by the clock of `now`.
    pub fn flush_idle(
        &mut self,
        joiner: &mut LineJoiner,
        now: EventTime,
        sink: &mut dyn EventSink,
    ) -> Option<u64> {
        let (stream, place) = self.joined(joiner, 0, EmptyLines::Keep);
        joiner.flush_idle(stream, &place, now, sink)
    }
}

/// What was taken of a block.
struct Taken {
    bytes: usize,
    flow: Flow,
}

/// A time so many nanoseconds later.
#[inline]
pub(super) fn later(time: EventTime, nanos: u32) -> EventTime {
    if let Some(nanos @ ..1_000_000_000) = time.nanos.checked_add(nanos) {
        return EventTime { nanos, ..time };
    }
    EventTime::from_unix_nanos(
        u64::from(time.secs) * 1_000_000_000 + u64::from(time.nanos) + u64::from(nanos),
    )
}
