//! Parsers: `[PARSER]` sections compiled to what makes the body of an event of a text.
//!
//! Reading order: [`settings`] (what a section says), this file (how each format makes a body), [`time`](self::time),
//! [`types`], [`decode`], [`json_lines`].

mod decode;
mod json_lines;
mod settings;
mod time;
mod types;

use crate::codec::logfmt::{LogfmtValue, Pairs};
use crate::codec::ltsv::Fields;
use crate::codec::regex::{Found, Regex};
use crate::codec::strptime::TimeMemo;
use crate::codec::unescape::unescape_utf8;
use crate::event::encoder::{close_map, put_bool, put_str};
use crate::event::msgpack::{Head, map_entries, read_head};
use crate::event::time::EventTime;
use crate::kernel::json_lines::{Stop, WholeLines};
use crate::parsers::decode::{Decoders, one_object};
use crate::parsers::time::TimeRule;
use crate::parsers::types::Types;
use crate::plugin::parser::{Parsed, ParsedLine, Parser, ParserScratch};

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

#[derive(Clone, Debug)]
struct RegexFormat {
    regex: Regex,
    empty_values: EmptyValues,
}

/// What becomes of groups that match nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EmptyValues {
    Skip,
    Keep,
}

/// Whether a key without `=` is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BareKeys {
    Allow,
    Refuse,
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
            Format::Regex(format) => self.regex(format, text, now, scratch, out),
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

    fn regex(
        &self,
        format: &RegexFormat,
        text: &[u8],
        now: EventTime,
        scratch: &mut ParserScratch,
        out: &mut Vec<u8>,
    ) -> Parsed {
        match format.regex.search(text, &mut scratch.captures) {
            Found::Match => {}
            Found::Nothing => return Parsed::Unparsed,
            Found::CutOff => return Parsed::CutOff,
        }
        let body = out.len();
        out.push(0x80);
        let (mut count, mut last_end, mut time) = (0, None, None);
        for group in format.regex.groups() {
            for number in &group.numbers {
                let range = scratch.captures.get(*number);
                if let Some(range) = &range {
                    last_end = Some(range.end);
                }
                let value = &text[range.unwrap_or(0..0)];
                if value.is_empty() && format.empty_values == EmptyValues::Skip {
                    continue;
                }
                let key = group.name.as_bytes();
                if let Some(rule) = self.time_of(key) {
                    let Ok(found) = rule.read(value, now, &mut scratch.time) else { continue };
                    time = found;
                    if !rule.keeps_key {
                        continue;
                    }
                }
                count += 1;
                put_str(out, key);
                self.types.put(key, value, out);
            }
        }
        close_map(out, body, count);
        match last_end {
            Some(consumed) => Parsed::Body { time, consumed },
            None => Parsed::Unparsed,
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
            if let Some(rule) = self.time_of(label).filter(|_| !value.is_empty()) {
                let Ok(found) = rule.read(value, now, &mut scratch.time) else {
                    return Parsed::Unparsed;
                };
                time = found;
                if !rule.keeps_key {
                    continue;
                }
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
            if let Some(rule) = self.time_of(key).filter(|_| !bytes.is_empty()) {
                let Ok(found) = rule.read(bytes, now, &mut scratch.time) else {
                    return Parsed::Unparsed;
                };
                time = found;
                if !rule.keeps_key {
                    continue;
                }
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
