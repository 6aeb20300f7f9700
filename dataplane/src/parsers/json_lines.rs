//! Lines of JSON straight from a block: their end is found by the parse, and their time is taken on the way.

use crate::codec::json::encode_scalar;
use crate::codec::strptime::TimeMemo;
use crate::event::time::EventTime;
use crate::kernel::json_lines::{Hooks, Stop, Taken, WholeLines};
use crate::parsers::time::TimeRule;
use crate::plugin::parser::{ParsedLine, ParserScratch};

/// See [`Parser::parse_line`](crate::plugin::parser::Parser::parse_line).
#[inline]
pub(super) fn parse_line(
    rule: Option<&TimeRule>,
    lines: &WholeLines<'_>,
    at: usize,
    now: EventTime,
    scratch: &mut ParserScratch,
    out: &mut Vec<u8>,
) -> Result<ParsedLine, Stop> {
    let ParserScratch { object_lines, time: memo, .. } = scratch;
    let watched = rule.map(|rule| rule.key.as_slice());
    let mut line = Line { rule, now, memo, time: None };
    let next = object_lines.watching(watched).put(lines, at, &mut line, out)?;
    Ok(ParsedLine { time: line.time, next })
}

/// What a line says besides its body.
struct Line<'a> {
    rule: Option<&'a TimeRule>,
    now: EventTime,
    memo: &'a mut TimeMemo,
    time: Option<EventTime>,
}

impl Hooks for Line<'_> {
    fn put_scalar(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        encode_scalar(text, out)
    }

    #[inline]
    fn take(&mut self, text: &[u8]) -> Taken {
        let Some(rule) = self.rule else { return Taken::Keep };
        let Ok(time) = rule.read(text, self.now, self.memo) else { return Taken::Keep };
        self.time = time;
        if rule.keeps_key { Taken::Keep } else { Taken::Remove }
    }
}
