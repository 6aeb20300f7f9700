//! How a line or record finds its parser, and what that does with it.

use std::sync::Arc;
use std::time::Duration;

use crate::event::encoder::{put_map_len, put_str, put_str_len};
use crate::event::msgpack::{Head, map_entries, read_head};
use crate::event::record::str_of;
use crate::event::time::EventTime;
use crate::limits::MULTILINE_GROUPS_MAX;
use crate::multiline::cri::CriLine;
use crate::multiline::definition::{FirstLine, Kind, LineForm, Multiline, MultilineParser, Text};
use crate::multiline::docker;
use crate::multiline::group::{First, Group, Part, Room};
use crate::multiline::rules::{Rules, Step};
use crate::multiline::stamp::LastMinute;
use crate::plugin::parser::{Parsed, ParserScratch};

/// The key of content where nothing names one.
const CONTENT_KEY: &[u8] = b"log";
const NO_METADATA: &[u8] = &[0x80];

/// Takes finished records.
pub trait RecordSink {
    /// Begins a record. Its body, a msgpack map, is appended to what is returned, and then comes
    /// [`end`](RecordSink::end).
    fn begin(&mut self, time: EventTime, metadata: &[u8]) -> &mut Vec<u8>;

    /// The body of the record is whole.
    fn end(&mut self, length: Length);
}

/// Whether a record has all of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// All.
    Whole,
    /// It met `multiline_buffer_limit`; its metadata says so too.
    Truncated,
}

/// A record that may be part of another.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its time.
    pub time: EventTime,
    /// A msgpack map.
    pub metadata: &'a [u8],
    /// A msgpack map.
    pub body: &'a [u8],
}

/// What is in the making for one stream: a file, or a tag of an input.
#[derive(Debug, Default)]
pub struct Stream {
    /// For each parser its groups, in the order in which they appeared; the first is that without a key.
    groups: Vec<Vec<Group>>,
    /// The parser that took the last line: it is asked first.
    last: usize,
}

impl Stream {
    /// Whether something is in the making.
    pub fn is_pending(&self) -> bool {
        self.groups.iter().flatten().any(Group::is_pending)
    }

    /// Bytes that are in the making.
    pub fn pending_bytes(&self) -> u64 {
        self.groups.iter().flatten().map(Group::pending_bytes).sum()
    }

    /// When the oldest of what is in the making was last added to, nanoseconds since 1970 by the clock that
    /// lines came with.
    pub fn oldest_ns(&self) -> Option<u64> {
        let pending = self.groups.iter().flatten().filter(|group| group.is_pending());
        pending.map(|group| group.touched_ns).min()
    }
}

/// Joins the lines or records of many streams; one for each instance and shard.
pub struct Joiner {
    plan: Arc<Multiline>,
    scratch: ParserScratch,
    minute: LastMinute,
    body: Vec<u8>,
}

/// What every step works with.
struct Context<'a> {
    now: EventTime,
    bytes_max: usize,
    scratch: &'a mut ParserScratch,
    minute: &'a mut LastMinute,
    sink: &'a mut dyn RecordSink,
}

/// A line or content, for parsers that make a record of it.
#[derive(Clone, Copy)]
struct Line<'a> {
    text: &'a [u8],
    metadata: &'a [u8],
    /// Its time, where the text bears none.
    time: EventTime,
}

/// Whether a parser took a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Yes,
    No,
}

impl Joiner {
    /// Joins by these parsers.
    pub fn new(plan: Arc<Multiline>) -> Joiner {
        let (scratch, minute) = (ParserScratch::default(), LastMinute::default());
        Joiner { plan, scratch, minute, body: Vec::new() }
    }

    /// A stream in which nothing is in the making.
    pub fn stream(&self) -> Stream {
        let groups = self.plan.parsers.iter().map(|_| vec![Group::default()]).collect();
        Stream { groups, last: 0 }
    }

    /// Takes a line, without its line feed. A carriage return at its end is no part of it, but alone it is a line. An
    /// empty line that no parser takes is passed over. Both are so in Fluent Bit.
    pub fn take_line(
        &mut self,
        stream: &mut Stream,
        line: &[u8],
        now: EventTime,
        sink: &mut dyn RecordSink,
    ) {
        let text = line.strip_suffix(b"\r").filter(|text| !text.is_empty()).unwrap_or(line);
        let Joiner { plan, scratch, minute, body } = self;
        let bytes_max = plan.buffer_bytes_max;
        let context = &mut Context { now, bytes_max, scratch, minute, sink };
        let whole = Line { text, metadata: NO_METADATA, time: now };
        let taken = ask(&plan.parsers, stream, |parser, groups| match &parser.form {
            Some(form) => take_formed(parser, form, whole, groups, body, context),
            None => match &parser.kind {
                Kind::FirstLine(lines) => take_further(lines, parser, text, groups, body, context),
                _ => take_text(parser, text, groups, context),
            },
        });
        if taken == Taken::Yes {
            return;
        }
        self.flush(stream, sink);
        let first = self.plan.parsers.first();
        let keeps_empty = first.is_some_and(|first| matches!(first.kind, Kind::FirstLine(_)));
        if !text.is_empty() || keeps_empty {
            let first = first.and_then(|parser| parser.content_key.as_deref());
            put_lone(first, text, sink.begin(now, NO_METADATA));
            sink.end(Length::Whole);
        }
    }

    /// Takes a record. One that no parser takes passes as it is.
    pub fn take_record(
        &mut self,
        stream: &mut Stream,
        record: &Record<'_>,
        now: EventTime,
        sink: &mut dyn RecordSink,
    ) {
        let Joiner { plan, scratch, minute, body } = self;
        let bytes_max = plan.buffer_bytes_max;
        let context = &mut Context { now, bytes_max, scratch, minute, sink };
        let taken = ask(&plan.parsers, stream, |parser, groups| {
            let chosen = &plan.content_key;
            let Some(key) = chosen.as_deref().or(parser.content_key.as_deref()) else {
                return Taken::No;
            };
            let Some(form) = &parser.form else {
                return take_map(parser, key, record, groups, context);
            };
            let Some(content) = find(record.body, key, parser).content else { return Taken::No };
            let (text, metadata, time) = (content.text, record.metadata, record.time);
            let line = Line { text, metadata, time };
            take_formed(parser, form, line, groups, body, context)
        });
        if taken == Taken::No {
            self.flush(stream, sink);
            sink.begin(record.time, record.metadata).extend_from_slice(record.body);
            sink.end(Length::Whole);
        }
    }

    /// Hands on everything that is in the making: no more will come, or must be waited for.
    pub fn flush(&mut self, stream: &mut Stream, sink: &mut dyn RecordSink) {
        for group in stream.groups.iter_mut().flatten() {
            group.finish(Length::Whole, sink);
        }
    }

    /// Hands on what nothing was added to for so long.
    pub fn flush_idle(
        &mut self,
        stream: &mut Stream,
        now: EventTime,
        idle: Duration,
        sink: &mut dyn RecordSink,
    ) {
        let latest_ns = now.unix_nanos().saturating_sub(idle.as_nanos() as u64);
        for group in stream.groups.iter_mut().flatten() {
            if group.touched_ns <= latest_ns {
                group.finish(Length::Whole, sink);
            }
        }
    }

    /// How long a record waits for more.
    pub fn flush_timeout(&self) -> Duration {
        self.plan.flush_timeout()
    }
}

/// Asks the parsers in their order, the one that took the last line before the others.
fn ask(
    parsers: &[Arc<MultilineParser>],
    stream: &mut Stream,
    mut take: impl FnMut(&MultilineParser, &mut Vec<Group>) -> Taken,
) -> Taken {
    let Stream { groups, last } = stream;
    if take(&parsers[*last], &mut groups[*last]) == Taken::Yes {
        return Taken::Yes;
    }
    for (number, parser) in parsers.iter().enumerate() {
        if number != *last && take(parser, &mut groups[number]) == Taken::Yes {
            *last = number;
            return Taken::Yes;
        }
    }
    Taken::No
}

/// The record of a line that belongs to nothing: under the key of the first parser without, else with a line feed.
fn put_lone(key: Option<&[u8]>, text: &[u8], out: &mut Vec<u8>) {
    put_map_len(out, 1);
    match key {
        Some(key) => {
            put_str(out, key);
            put_str(out, text);
        }
        None => {
            put_str(out, CONTENT_KEY);
            put_str_len(out, text.len() + 1);
            out.extend_from_slice(text);
            out.push(b'\n');
        }
    }
}

/// Makes a record of a line and takes that.
fn take_formed(
    parser: &MultilineParser,
    form: &LineForm,
    line: Line<'_>,
    groups: &mut Vec<Group>,
    body: &mut Vec<u8>,
    context: &mut Context<'_>,
) -> Taken {
    let Line { text, metadata, time: written } = line;
    let time = match form {
        LineForm::Cri(format) => {
            let Some(line) = CriLine::read(text) else { return Taken::No };
            let time = format.read(line.time, context.minute).unwrap_or(written);
            return take_cri(&line, time, metadata, groups, body, context);
        }
        LineForm::Docker(format) => {
            body.clear();
            if docker::read(text, body).is_none() {
                return Taken::No;
            }
            let key = |entry: &&(&[u8], &[u8])| str_of(entry.0) == Some(b"time");
            let time =
                map_entries(body).find(|entry| key(&entry)).and_then(|entry| str_of(entry.1));
            time.and_then(|time| format.read(time, context.minute))
        }
        LineForm::Section(section) => {
            body.clear();
            match section.parse(text, written, context.scratch, body) {
                Parsed::Body { time, .. } => time,
                Parsed::Unparsed | Parsed::CutOff => return Taken::No,
            }
        }
    };
    let Some(key) = &parser.content_key else { return Taken::No };
    let record = Record { time: time.unwrap_or(written), metadata, body };
    take_map(parser, key, &record, groups, context)
}

/// A part that the runtime calls whole passes straight through, unless others wait for it.
fn take_cri(
    line: &CriLine<'_>,
    time: EventTime,
    metadata: &[u8],
    groups: &mut Vec<Group>,
    body: &mut Vec<u8>,
    context: &mut Context<'_>,
) -> Taken {
    let group = group_of(groups, line.stream, context);
    if !line.is_partial && !group.is_pending() {
        let out = context.sink.begin(time, metadata);
        line.put_head(out);
        put_str(out, line.text);
        context.sink.end(Length::Whole);
        return Taken::Yes;
    }
    body.clear();
    line.put_head(body);
    let first = First::Record(Part { time, metadata, before: body, after: &[] });
    concatenate(group, &first, line.text, context);
    if !line.is_partial {
        group.finish(Length::Whole, context.sink);
    }
    Taken::Yes
}

/// Takes a line as text: only the state machine does.
fn take_text(
    parser: &MultilineParser,
    text: &[u8],
    groups: &mut [Group],
    context: &mut Context<'_>,
) -> Taken {
    let Kind::Regex(rules) = &parser.kind else { return Taken::No };
    if parser.content_key.is_some() {
        return Taken::No;
    }
    let first = First::Line { key: CONTENT_KEY, time: context.now };
    step(rules, text, &mut groups[0], &first, context)
}

/// Takes a line by the parser of the first one, or as one that follows.
fn take_further(
    lines: &FirstLine,
    parser: &MultilineParser,
    text: &[u8],
    groups: &mut [Group],
    body: &mut Vec<u8>,
    context: &mut Context<'_>,
) -> Taken {
    let group = &mut groups[0];
    body.clear();
    if let Parsed::Body { time, .. } = lines.first.parse(text, context.now, context.scratch, body) {
        group.finish(Length::Whole, context.sink);
        group.begin_last_string(time.unwrap_or(context.now), body);
        group.touched_ns = context.now.unix_nanos();
        return Taken::Yes;
    }
    if !group.is_pending() {
        return Taken::No;
    }
    group.touched_ns = context.now.unix_nanos();
    let is_parsed = lines.others.iter().any(|other| {
        let parsed = other.parse(text, context.now, context.scratch, body);
        matches!(parsed, Parsed::Body { .. })
    });
    if !is_parsed && !group.has_text() {
        put_map_len(body, 1);
        put_str(body, parser.content_key.as_deref().unwrap_or(CONTENT_KEY));
        put_str(body, text);
    }
    let room = if body.is_empty() {
        group.add_line(text, false, context.bytes_max)
    } else {
        group.add_entries(body, context.bytes_max)
    };
    if room != Room::Enough {
        group.finish(Length::Truncated, context.sink);
    }
    Taken::Yes
}

/// Takes a record by its content.
fn take_map(
    parser: &MultilineParser,
    key: &[u8],
    record: &Record<'_>,
    groups: &mut Vec<Group>,
    context: &mut Context<'_>,
) -> Taken {
    let found = find(record.body, key, parser);
    let Some(Content { text, before, after }) = found.content else { return Taken::No };
    let part = Part { time: record.time, metadata: record.metadata, before, after };
    let is_complete = match &parser.kind {
        Kind::Regex(rules) => {
            let group = group_of(groups, found.group, context);
            return step(rules, text, group, &First::Record(part), context);
        }
        Kind::FirstLine(_) => return Taken::No,
        Kind::EndsWith(Text { text: end, is_negated }) => text.ends_with(end) != *is_negated,
        Kind::Equal(Text { text: wanted, is_negated }) => {
            (found.pattern.unwrap_or(text) == wanted) != *is_negated
        }
    };
    let group = group_of(groups, found.group, context);
    if is_complete && !group.is_pending() {
        context.sink.begin(record.time, record.metadata).extend_from_slice(record.body);
        context.sink.end(Length::Whole);
        return Taken::Yes;
    }
    concatenate(group, &First::Record(part), text, context);
    if is_complete {
        group.finish(Length::Whole, context.sink);
    }
    Taken::Yes
}

/// One step of the state machine.
fn step(
    rules: &Rules,
    line: &[u8],
    group: &mut Group,
    first: &First<'_>,
    context: &mut Context<'_>,
) -> Taken {
    let Some(step) = rules.step(group.rule, line, &mut context.scratch.captures) else {
        return Taken::No;
    };
    let rule = match step {
        Step::Continues(rule) => rule,
        Step::Begins(rule) => {
            group.finish(Length::Whole, context.sink);
            rule
        }
    };
    let is_first = !group.is_pending();
    group.begin_or_add(first);
    group.rule = Some(rule);
    group.touched_ns = context.now.unix_nanos();
    if group.add_line(line, is_first, context.bytes_max) != Room::Enough {
        // What continues the rest would be taken for a record of its own: it begins anew, as in Fluent Bit.
        group.rule = None;
        group.finish(Length::Truncated, context.sink);
    } else if rules.ends(rule) {
        group.finish(Length::Whole, context.sink);
    }
    Taken::Yes
}

/// Adds a part without anything between. Where the limit is met, the rest goes on in another record.
fn concatenate(group: &mut Group, first: &First<'_>, text: &[u8], context: &mut Context<'_>) {
    group.touched_ns = context.now.unix_nanos();
    group.begin_or_add(first);
    let mut rest = text;
    while let Room::Full(taken) = group.add(rest, context.bytes_max) {
        group.finish(Length::Truncated, context.sink);
        group.begin_or_add(first);
        rest = &rest[taken..];
    }
}

/// The group of that key. Where there are too many, the one that was quiet for longest ends.
fn group_of<'g>(
    groups: &'g mut Vec<Group>,
    key: &[u8],
    context: &mut Context<'_>,
) -> &'g mut Group {
    if let Some(number) = groups.iter().position(|group| group.key == key) {
        return &mut groups[number];
    }
    let number = if groups.len() < MULTILINE_GROUPS_MAX {
        groups.push(Group::default());
        groups.len() - 1
    } else {
        let quiet = (1..groups.len()).min_by_key(|number| groups[*number].touched_ns).unwrap_or(0);
        groups[quiet].finish(Length::Whole, context.sink);
        groups[quiet].rule = None;
        quiet
    };
    let group = &mut groups[number];
    group.key.clear();
    group.key.extend_from_slice(key);
    group
}

/// What a parser looks at in a record.
struct Looked<'a> {
    content: Option<Content<'a>>,
    /// The string that is compared, where there is one.
    pattern: Option<&'a [u8]>,
    /// The string under the group key; empty where there is none.
    group: &'a [u8],
}

/// The content of a record, and what stands around its value.
struct Content<'a> {
    text: &'a [u8],
    before: &'a [u8],
    after: &'a [u8],
}

fn find<'a>(body: &'a [u8], content_key: &[u8], parser: &MultilineParser) -> Looked<'a> {
    let mut looked = Looked { content: None, pattern: None, group: &[] };
    let mut rest = body;
    if !matches!(read_head(&mut rest), Some(Head::Map(_))) {
        return looked;
    }
    let mut at = body.len() - rest.len();
    for (key, value) in map_entries(body) {
        let start = at + key.len();
        at = start + value.len();
        let (Some(key), Some(text)) = (str_of(key), str_of(value)) else { continue };
        if key == content_key && looked.content.is_none() {
            looked.content = Some(Content { text, before: &body[..start], after: &body[at..] });
        }
        if Some(key) == parser.pattern_key.as_deref() {
            looked.pattern = Some(text);
        }
        if Some(key) == parser.group_key.as_deref() {
            looked.group = text;
        }
    }
    looked
}
