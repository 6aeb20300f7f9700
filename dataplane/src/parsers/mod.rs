//! Parsers: `[PARSER]` sections compiled to what makes the body of an event of a text.
//!
//! Reading order: [`settings`] (what a section says), this file (how each format makes a body), [`time`](self::time),
//! [`regex`], [`types`], [`decode`], [`json_lines`].

mod decode;
mod json_lines;
mod regex;
mod settings;
mod time;
mod types;

use crate::codec::logfmt::{LogfmtValue, Pairs};
use crate::codec::ltsv::Fields;
use crate::codec::strptime::TimeMemo;
use crate::codec::unescape::unescape_utf8;
use crate::event::encoder::{close_map, put_bool, put_str};
use crate::event::msgpack::{Head, map_entries, read_head};
use crate::event::time::EventTime;
use crate::kernel::json_lines::{Stop, WholeLines};
use crate::parsers::decode::{Decoders, one_object};
use crate::parsers::regex::RegexFormat;
use crate::parsers::time::{NoTime, TimeRule};
use crate::parsers::types::Types;
use crate::plugin::parser::{BodyRoom, Parsed, ParsedLine, Parser, ParserScratch};

pub use settings::compile;

/// A compiled `[PARSER]` section.
#[derive(Clone, Debug)]
struct SectionParser {
    format: Format,
    time: Option<TimeRule>,
    types: Types,
    decoders: Decoders,
}

#[derive(Clone, Debug)]
enum Format {
    Json,
    Regex(RegexFormat),
    Ltsv,
    Logfmt { bare_keys: BareKeys },
}

/// Whether a key without `=` is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BareKeys {
    Allow,
    Refuse,
}

/// What becomes of an entry, with regard to the time.
enum Role {
    /// It is a field.
    Field,
    /// It said the time, and that is all.
    OnlyTime,
    /// It should be the time, and is none.
    NoTime,
}

impl Parser for SectionParser {
    fn parse(
        &self,
        text: &[u8],
        now: EventTime,
        scratch: &mut ParserScratch,
        out: &mut Vec<u8>,
    ) -> Parsed {
        let body = out.len();
        let parsed = match &self.format {
            Format::Json => self.json(text, now, scratch, out),
            Format::Regex(format) => format.parse(self.time.as_ref(), text, now, scratch, out),
            Format::Ltsv => self.ltsv(text, now, scratch, out),
            Format::Logfmt { bare_keys } => self.logfmt(*bare_keys, text, now, scratch, out),
        };
        if !matches!(parsed, Parsed::Body { .. }) {
            out.truncate(body);
        } else if !matches!(self.format, Format::Json) && !self.decoders.is_empty() {
            self.decoders.apply(out, body, scratch);
        }
        parsed
    }

    fn body_room(&self) -> Option<BodyRoom> {
        match &self.format {
            Format::Regex(format) if self.decoders.is_empty() => Some(format.body_room()),
            _ => None,
        }
    }

    fn parse_line(
        &self,
        lines: &WholeLines<'_>,
        at: usize,
        now: EventTime,
        scratch: &mut ParserScratch,
        out: &mut Vec<u8>,
    ) -> Result<ParsedLine, Stop> {
        if !matches!(self.format, Format::Json) || !self.decoders.is_empty() {
            return Err(Stop::Other);
        }
        json_lines::parse_line(self.time.as_ref(), lines, at, now, scratch, out)
    }
}

impl SectionParser {
    /// The time rule, if it is about this key.
    #[inline]
    fn time_of(&self, key: &[u8]) -> Option<&TimeRule> {
        self.time.as_ref().filter(|rule| rule.key == key)
    }

    fn json(
        &self,
        text: &[u8],
        now: EventTime,
        scratch: &mut ParserScratch,
        out: &mut Vec<u8>,
    ) -> Parsed {
        let body = out.len();
        let Some(consumed) = one_object(text, out) else { return Parsed::Unparsed };
        if !self.decoders.is_empty() {
            self.decoders.apply(out, body, scratch);
        }
        let time =
            self.time.as_ref().and_then(|rule| take_time(rule, now, &mut scratch.time, out, body));
        Parsed::Body { time, consumed }
    }

    /// What becomes of an entry whose key may be the one of the time, which goes to `time`.
    #[inline]
    fn role(
        &self,
        (key, value): (&[u8], &[u8]),
        now: EventTime,
        memo: &mut TimeMemo,
        time: &mut Option<EventTime>,
    ) -> Role {
        let Some(rule) = self.time_of(key).filter(|_| !value.is_empty()) else {
            return Role::Field;
        };
        match rule.read(value, now, memo) {
            Err(NoTime) => Role::NoTime,
            Ok(found) => {
                *time = found;
                if rule.keeps_key { Role::Field } else { Role::OnlyTime }
            }
        }
    }

    fn ltsv(
        &self,
        text: &[u8],
        now: EventTime,
        scratch: &mut ParserScratch,
        out: &mut Vec<u8>,
    ) -> Parsed {
        let body = out.len();
        out.push(0x80);
        let (mut count, mut time) = (0, None);
        let mut fields = Fields::new(text);
        for (label, value) in fields.by_ref() {
            match self.role((label, value), now, &mut scratch.time, &mut time) {
                Role::Field => {}
                Role::OnlyTime => continue,
                Role::NoTime => return Parsed::Unparsed,
            }
            count += 1;
            put_str(out, label);
            self.types.put(label, value, out);
        }
        if count == 0 {
            return Parsed::Unparsed;
        }
        close_map(out, body, count);
        Parsed::Body { time, consumed: fields.consumed() }
    }

    fn logfmt(
        &self,
        bare_keys: BareKeys,
        text: &[u8],
        now: EventTime,
        scratch: &mut ParserScratch,
        out: &mut Vec<u8>,
    ) -> Parsed {
        let body = out.len();
        out.push(0x80);
        let (mut count, mut time) = (0, None);
        let mut pairs = Pairs::new(text);
        for (key, value) in pairs.by_ref() {
            let bytes = value.bytes();
            if value == LogfmtValue::Bare && bare_keys == BareKeys::Refuse {
                return Parsed::Unparsed;
            }
            match self.role((key, bytes), now, &mut scratch.time, &mut time) {
                Role::Field => {}
                Role::OnlyTime => continue,
                Role::NoTime => return Parsed::Unparsed,
            }
            count += 1;
            put_str(out, key);
            match value {
                // Where values are typed, the rest are strings as they are written (rule: Fluent Bit's).
                _ if !self.types.is_empty() => self.types.put(key, bytes, out),
                LogfmtValue::Quoted { text, has_escapes: true } => {
                    scratch.text.clear();
                    unescape_utf8(text, &mut scratch.text);
                    let end = memchr::memchr(0, &scratch.text).unwrap_or(scratch.text.len());
                    put_str(out, &scratch.text[..end]);
                }
                LogfmtValue::Quoted { text, has_escapes: false } => put_str(out, text),
                LogfmtValue::Bare | LogfmtValue::Plain(b"") => put_bool(out, true),
                LogfmtValue::Plain(text) => put_str(out, text),
            }
        }
        if count == 0 {
            return Parsed::Unparsed;
        }
        close_map(out, body, count);
        Parsed::Body { time, consumed: pairs.consumed() }
    }
}

/// Reads the time of the map that `out` has from `body` on, and takes its entry out of it. A value that is no time
/// stays.
fn take_time(
    rule: &TimeRule,
    now: EventTime,
    memo: &mut TimeMemo,
    out: &mut Vec<u8>,
    body: usize,
) -> Option<EventTime> {
    let map = &out[body..];
    let mut after_head = map;
    let Some(Head::Map(count)) = read_head(&mut after_head) else { return None };
    let mut start = map.len() - after_head.len();
    let is_key = |key: &[u8]| read_head(&mut &key[..]) == Some(Head::Str(&rule.key));
    let (key, value) = map_entries(map).find(|(key, value)| {
        let is_it = is_key(key);
        if !is_it {
            start += key.len() + value.len();
        }
        is_it
    })?;
    let end = start + key.len() + value.len();
    let Some(Head::Str(text)) = read_head(&mut &value[..]) else { return None };
    let time = rule.read(text, now, memo).ok()?;
    if !rule.keeps_key {
        out.drain(body + start..body + end);
        close_map(out, body, count - 1);
    }
    time
}
