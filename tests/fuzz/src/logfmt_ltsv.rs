//! logfmt and LTSV: the walkers against machines that take one byte after another, and the parsers of these formats
//! against what C makes of the pairs.

use std::ffi::CString;

use dataplane::codec::logfmt::{LogfmtValue, Pairs};
use dataplane::codec::ltsv::Fields;
use dataplane::codec::unescape::unescape_utf8;
use dataplane::event::time::EventTime;
use dataplane::plugin::parser::{Parsed, ParserScratch};
use rmpv::Value;

use super::choices::Choices;
use super::parsers;

/// The first byte chooses the format, the second the keys of the parser; the rest is the line.
pub fn check(data: &[u8]) {
    let mut choices = Choices::of(data);
    let (is_ltsv, keys) = (choices.below(2) == 0, choices.byte());
    let text = choices.rest();
    let (pairs, consumed) = if is_ltsv { ltsv_machine(text) } else { logfmt_machine(text) };
    if is_ltsv {
        let mut fields = Fields::new(text);
        let found: Vec<_> =
            fields.by_ref().map(|(key, value)| pair(key, Mark::Plain, value)).collect();
        assert_eq!((found, fields.consumed()), (pairs.clone(), consumed));
    } else {
        let mut walk = Pairs::new(text);
        let found: Vec<_> = walk.by_ref().map(|(key, value)| logfmt_pair(key, value)).collect();
        assert_eq!((found, walk.consumed()), (pairs.clone(), consumed));
    }
    check_parser(is_ltsv, keys, text, &pairs, consumed);
}

/// How a value stands in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// There is none.
    Bare,
    Plain,
    Quoted,
    /// Quoted, with a backslash in it.
    Escaped,
}

type Pair = (Vec<u8>, Mark, Vec<u8>);

fn pair(key: &[u8], mark: Mark, value: &[u8]) -> Pair {
    (key.to_vec(), mark, value.to_vec())
}

fn logfmt_pair(key: &[u8], value: LogfmtValue<'_>) -> Pair {
    let mark = match value {
        LogfmtValue::Bare => Mark::Bare,
        LogfmtValue::Plain(_) => Mark::Plain,
        LogfmtValue::Quoted { has_escapes: false, .. } => Mark::Quoted,
        LogfmtValue::Quoted { has_escapes: true, .. } => Mark::Escaped,
    };
    pair(key, mark, value.bytes())
}

/// Where a machine is in its line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Gap,
    Key,
    Equals,
    Value,
    Quoted,
    Escape,
    /// Behind a value.
    Behind,
    /// Behind the tab that follows a value.
    Tab,
    /// Behind a carriage return, which ends the line.
    Return,
}

/// The pairs of a line, and the bytes read.
fn logfmt_machine(text: &[u8]) -> (Vec<Pair>, usize) {
    let mut found = Vec::new();
    let (mut key, mut value, mut has_escapes) = (Vec::new(), Vec::new(), false);
    let mut state = State::Gap;
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        let is_key = byte > 32 && byte != b'=' && byte != b'"';
        // A state that does not take the byte hands it to the next one.
        let (next, is_taken) = match (state, byte) {
            (State::Gap, _) if !is_key => (State::Gap, true),
            (State::Gap, _) => (State::Key, false),
            (State::Key, _) if is_key => {
                key.push(byte);
                (State::Key, true)
            }
            (State::Key, b'=') => (State::Equals, true),
            (State::Key, _) => {
                found.push((std::mem::take(&mut key), Mark::Bare, Vec::new()));
                (State::Behind, false)
            }
            (State::Equals, b'"') => (State::Quoted, true),
            (State::Equals, _) => (State::Value, false),
            (State::Value, _) if is_key => {
                value.push(byte);
                (State::Value, true)
            }
            (State::Value, _) => {
                found.push((std::mem::take(&mut key), Mark::Plain, std::mem::take(&mut value)));
                (State::Behind, false)
            }
            (State::Quoted, b'"') => {
                let mark = if has_escapes { Mark::Escaped } else { Mark::Quoted };
                found.push((std::mem::take(&mut key), mark, std::mem::take(&mut value)));
                has_escapes = false;
                (State::Behind, true)
            }
            (State::Quoted | State::Escape, _) => {
                value.push(byte);
                let opens = state == State::Quoted && byte == b'\\';
                has_escapes |= opens;
                (if opens { State::Escape } else { State::Quoted }, true)
            }
            (State::Return, b'\n') | (State::Behind, b'\n') => return (found, at + 1),
            (State::Return, _) => return (found, at),
            (State::Behind, b'\r') => (State::Return, true),
            (State::Behind | State::Tab, _) => (State::Gap, false),
        };
        state = next;
        at += usize::from(is_taken);
    }
    match state {
        State::Key => found.push((key, Mark::Bare, Vec::new())),
        State::Equals | State::Value => found.push((key, Mark::Plain, value)),
        State::Quoted | State::Escape => {
            found.push((key, if has_escapes { Mark::Escaped } else { Mark::Quoted }, value));
        }
        State::Gap | State::Behind | State::Tab | State::Return => {}
    }
    (found, at)
}

/// The fields of a line, and the bytes read.
fn ltsv_machine(text: &[u8]) -> (Vec<Pair>, usize) {
    let mut found = Vec::new();
    let (mut label, mut value) = (Vec::new(), Vec::new());
    let mut state = State::Key;
    for (at, byte) in text.iter().enumerate() {
        let is_label = matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'.' | b'-');
        if state == State::Return {
            return (found, at + usize::from(*byte == b'\n'));
        }
        if state == State::Value && b"\0\t\r\n".contains(byte) {
            if !label.is_empty() {
                found.push((label.clone(), Mark::Plain, value.clone()));
            }
            label.clear();
            value.clear();
            state = State::Behind;
        }
        state = match (state, byte) {
            (State::Value, _) => {
                value.push(*byte);
                State::Value
            }
            (State::Behind, b'\t') => State::Tab,
            (State::Behind | State::Tab, b'\n') => return (found, at + 1),
            (State::Behind | State::Tab, b'\r') => State::Return,
            (_, b':') => State::Value,
            (_, _) if is_label => {
                label.push(*byte);
                State::Key
            }
            _ => return (found, at),
        };
    }
    if state == State::Value && !label.is_empty() {
        found.push((label, Mark::Plain, value));
    }
    (found, text.len())
}

const TYPES: &str = "i:integer f:float h:hex b:bool s:string";

fn check_parser(is_ltsv: bool, keys: u8, text: &[u8], pairs: &[Pair], consumed: usize) {
    let has = |bit: u8| keys & bit != 0;
    let (is_typed, has_time, keeps_time, is_strict, refuses_bare) =
        (has(1), has(2), has(4), !has(8), has(16));
    let word = |is_on: bool| if is_on { "on" } else { "off" };
    let mut section = vec![("format", if is_ltsv { "ltsv" } else { "logfmt" })];
    if is_typed {
        section.push(("types", TYPES));
    }
    if has_time {
        section.extend([("time_key", "t"), ("time_format", "%s"), ("time_keep", word(keeps_time))]);
        section.push(("time_strict", word(is_strict)));
    }
    if !is_ltsv {
        section.push(("logfmt_no_bare_keys", word(refuses_bare)));
    }
    let parser = parsers::compile(&section).expect("the section is right");
    let parsed = parsers::parse(&*parser, text, parsers::NOW, &mut ParserScratch::default());

    let mut entries = Vec::new();
    let mut time = None;
    let mut is_parsed = true;
    for (key, mark, value) in pairs {
        if *mark == Mark::Bare && !is_ltsv && refuses_bare {
            is_parsed = false;
            break;
        }
        if has_time && key == b"t" && !value.is_empty() {
            match parsers::epoch(value) {
                None if is_strict => {
                    is_parsed = false;
                    break;
                }
                // What matches in part has the time of a zeroed `tm`, which no event can bear.
                secs => {
                    time = secs.and_then(|secs| u32::try_from(secs).ok()).filter(|secs| *secs > 0)
                }
            }
            if !keeps_time {
                continue;
            }
        }
        entries.push((string(key), expected(is_ltsv, is_typed, key, *mark, value)));
    }
    if !is_parsed || entries.is_empty() {
        assert_eq!(parsed, (Parsed::Unparsed, Vec::new()));
        return;
    }
    let time = time.map(|secs| EventTime { secs, nanos: 0 });
    assert_eq!(format!("{parsed:?}"), format!("{:?}", (Parsed::Body { time, consumed }, entries)));
}

/// A msgpack string of any bytes.
fn string(bytes: &[u8]) -> Value {
    let mut out = Vec::new();
    dataplane::event::encoder::put_str(&mut out, bytes);
    rmpv::decode::read_value(&mut out.as_slice()).expect("a string")
}

fn expected(is_ltsv: bool, is_typed: bool, key: &[u8], mark: Mark, value: &[u8]) -> Value {
    if is_typed {
        return typed(key, value);
    }
    match mark {
        _ if is_ltsv => string(value),
        Mark::Bare => true.into(),
        Mark::Plain if value.is_empty() => true.into(),
        Mark::Plain | Mark::Quoted => string(value),
        Mark::Escaped => {
            let mut text = Vec::new();
            unescape_utf8(value, &mut text);
            string(text.split(|byte| *byte == 0).next().unwrap_or_default())
        }
    }
}

/// The value that C's functions make of a text.
fn typed(key: &[u8], value: &[u8]) -> Value {
    let until_zero = value.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = CString::new(until_zero).expect("no zero byte is left");
    let front =
        |word: &[u8]| value.get(..word.len()).is_some_and(|at| at.eq_ignore_ascii_case(word));
    let end = std::ptr::null_mut();
    match key {
        // SAFETY: the text ends with a zero byte, and no end is asked for.
        b"i" => unsafe { libc::strtoll(text.as_ptr(), end, 10) }.into(),
        // SAFETY: as above.
        b"h" => unsafe { libc::strtoull(text.as_ptr(), end, 16) }.into(),
        b"f" => Value::F64(float(&text)),
        b"b" if front(b"true") => true.into(),
        b"b" if front(b"false") => false.into(),
        _ => string(value),
    }
}

/// C's number of a text; hexadecimal ones end behind their first zero, and NaN has no payload.
fn float(text: &CString) -> f64 {
    let bytes: Vec<u8> = text.to_bytes().to_vec();
    let decimal = bytes.split(|byte| matches!(byte, b'x' | b'X')).next().unwrap_or_default();
    let text = CString::new(decimal).expect("no zero byte is left");
    // SAFETY: the text ends with a zero byte, and no end is asked for.
    let number = unsafe { libc::strtod(text.as_ptr(), std::ptr::null_mut()) };
    if number.is_nan() { f64::NAN.copysign(number) } else { number }
}
