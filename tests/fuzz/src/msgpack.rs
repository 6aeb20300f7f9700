//! msgpack of any bytes: lengths, heads, events and texts, against rmpv and serde_json.

use dataplane::codec::json_text::{JsonOptions, KEY_LEVELS_SHARE, Nan, Unicode, put_json};
use dataplane::codec::msgpack_text::put_text;
use dataplane::event::legacy::to_v1;
use dataplane::event::msgpack::{Head, map_entries, map_get, read_head};
use dataplane::event::reader::{EventKind, Events};
use dataplane::event::validate::{Stop, append_events};
use dataplane::kernel::msgpack_skip::{SkipError, Walk, skip_shallow_value, skip_value};
use dataplane::limits::NESTING_MAX;
use rmpv::Value;

use super::events::{self, Levels};

/// The bytes are a value, and events.
pub fn check(data: &[u8]) {
    check_lengths(data);
    check_stored(data);
    check_read(data);
    if let (Ok(value), Ok(length)) = (events::value_of(data), skip_value(data)) {
        check_heads(&value, &mut &data[..length]);
        check_map(&value, &data[..length]);
        check_texts(&value, &data[..length]);
    }
}

fn check_lengths(data: &[u8]) {
    let length = skip_value(data);
    match (length, plain_length(data)) {
        // A container that cannot fit is not looked into.
        (Err(SkipError::Incomplete), Err(SkipError::Invalid)) => {}
        (found, expected) => assert_eq!(found, expected),
    }
    let mut walk = Walk::from(0);
    let step = 1 + data.len() / 64;
    let pieces = (0..data.len()).step_by(step).chain([data.len()]);
    let mut found = Err(SkipError::Incomplete);
    for end in pieces {
        found = walk.resume(&data[..end]);
        if found != Err(SkipError::Incomplete) {
            break;
        }
        if let Ok(length) = length {
            assert!(walk.needed_bytes() <= length as u64);
        }
    }
    match (found, length) {
        // An invalid byte inside of a container that cannot fit shows earlier in pieces.
        (Err(SkipError::Invalid), Err(SkipError::Incomplete)) => {}
        (found, length) => assert_eq!(found, length),
    }
    if let Ok(length) = length {
        let is_shallow = Levels::of(data).full <= NESTING_MAX;
        let expected = if is_shallow { Ok(length) } else { Err(SkipError::Invalid) };
        assert_eq!(skip_shallow_value(data), expected);
    }
}

/// The length of a value, by one marker after another.
fn plain_length(bytes: &[u8]) -> Result<usize, SkipError> {
    let number = |at: usize, width: usize| {
        let field = bytes.get(at..at + width).ok_or(SkipError::Incomplete)?;
        Ok(field.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    let mut at = 0;
    let mut left = 1usize;
    while left > 0 {
        left -= 1;
        let (head, payload, items) = match *bytes.get(at).ok_or(SkipError::Incomplete)? {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (1, 0, 0),
            marker @ 0x80..=0x8f => (1, 0, 2 * usize::from(marker - 0x80)),
            marker @ 0x90..=0x9f => (1, 0, usize::from(marker - 0x90)),
            marker @ 0xa0..=0xbf => (1, usize::from(marker - 0xa0), 0),
            0xc1 => return Err(SkipError::Invalid),
            0xc4 | 0xd9 => (2, number(at + 1, 1)?, 0),
            0xc5 | 0xda => (3, number(at + 1, 2)?, 0),
            0xc6 | 0xdb => (5, number(at + 1, 4)?, 0),
            0xc7 => (3, number(at + 1, 1)?, 0),
            0xc8 => (4, number(at + 1, 2)?, 0),
            0xc9 => (6, number(at + 1, 4)?, 0),
            0xcc | 0xd0 => (2, 0, 0),
            0xcd | 0xd1 => (3, 0, 0),
            0xca | 0xce | 0xd2 => (5, 0, 0),
            0xcb | 0xcf | 0xd3 => (9, 0, 0),
            marker @ 0xd4..=0xd8 => (2, 1 << (marker - 0xd4), 0),
            0xdc => (3, 0, number(at + 1, 2)?),
            0xdd => (5, 0, number(at + 1, 4)?),
            0xde => (3, 0, 2 * number(at + 1, 2)?),
            0xdf => (5, 0, 2 * number(at + 1, 4)?),
        };
        at += head + payload;
        left += items;
        if at > bytes.len() {
            return Err(SkipError::Incomplete);
        }
    }
    Ok(at)
}

/// The events that the bytes begin with, stored whole and in rooms of any size.
fn check_stored(data: &[u8]) {
    let (expected, consumed, stop) = events::accepted(data);
    let mut out = Vec::new();
    let appended = append_events(data, &mut out, usize::MAX / 2);
    assert_eq!((appended.consumed, appended.stop), (consumed, stop));
    assert_eq!((appended.record_count as usize, &out), (expected.len(), &expected.concat()));

    let mut in_rooms = Vec::new();
    let mut room = usize::from(data.first().copied().unwrap_or_default());
    let mut at = 0;
    loop {
        let before = in_rooms.len();
        let appended = append_events(&data[at..], &mut in_rooms, room);
        assert!(in_rooms.len() - before <= room);
        at += appended.consumed;
        if appended.stop != Stop::Full {
            assert_eq!(appended.stop, stop);
            break;
        }
        // A room that is full at once must grow, the largest event is not larger than all of them.
        assert!(appended.record_count > 0 || room < 2 * data.len() + 64);
        room = if appended.record_count == 0 { 2 * room + 1 } else { room };
    }
    assert_eq!(in_rooms, out);

    let read: Vec<_> =
        Events::new(&out).map(|event| event.expect("stored events are events")).collect();
    assert!(read.iter().map(|event| event.bytes).eq(expected.iter().map(Vec::as_slice)));
    let mut legacy = Vec::new();
    let logs: Vec<_> = read.iter().filter(|event| event.kind == EventKind::Log).collect();
    assert_eq!(to_v1(&out, &mut legacy) as usize, logs.len());
    let again: Vec<_> =
        Events::new(&legacy).map(|event| event.expect("legacy events are events")).collect();
    assert!(
        again
            .iter()
            .map(|event| (event.time, event.body))
            .eq(logs.iter().map(|event| (event.time, event.body)))
    );
    let mut stored_again = Vec::new();
    let appended = append_events(&legacy, &mut stored_again, usize::MAX / 2);
    // The legacy form nests one level less than the stored one, which is checked part by part.
    if appended.stop == Stop::End {
        let again = Events::new(&stored_again).map(|event| event.expect("an event"));
        assert!(again.map(|event| event.body).eq(logs.iter().map(|event| event.body)));
    }
}

/// The reader, which takes what is in chunks, over bytes that nobody checked.
fn check_read(data: &[u8]) {
    let mut at = 0;
    for event in Events::new(data) {
        let Ok(event) = event else { return };
        assert_eq!(event.bytes, &data[at..at + event.bytes.len()]);
        at += event.bytes.len();
        assert_eq!(skip_value(event.bytes), Ok(event.bytes.len()));
        assert!(event.bytes.ends_with(event.body));
    }
    assert_eq!(at, data.len());
}

/// Heads, one after another, against the decoded value.
fn check_heads(value: &Value, rest: &mut &[u8]) {
    let head = read_head(rest).expect("a whole value");
    match (value, head) {
        (Value::Nil, Head::Nil) => {}
        (Value::Boolean(a), Head::Bool(b)) => assert_eq!(*a, b),
        (Value::Integer(a), Head::Uint(b)) => assert_eq!(a.as_u64(), Some(b)),
        (Value::Integer(a), Head::Int(b)) => assert!(b < 0 && a.as_i64() == Some(b)),
        (Value::F32(a), Head::Float(b)) => assert_eq!(f64::from(*a).to_bits(), b.to_bits()),
        (Value::F64(a), Head::Float(b)) => assert_eq!(a.to_bits(), b.to_bits()),
        (Value::String(a), Head::Str(b)) => assert_eq!(a.as_bytes(), b),
        (Value::Binary(a), Head::Bin(b)) => assert_eq!(a, b),
        (Value::Ext(kind, a), Head::Ext(other, b)) => assert_eq!((*kind, a.as_slice()), (other, b)),
        (Value::Array(items), Head::Array(count)) => {
            assert_eq!(items.len(), count);
            items.iter().for_each(|item| check_heads(item, rest));
        }
        (Value::Map(entries), Head::Map(count)) => {
            assert_eq!(entries.len(), count);
            for (key, value) in entries {
                check_heads(key, rest);
                check_heads(value, rest);
            }
        }
        (value, head) => panic!("{value} was read as {head:?}"),
    }
}

fn check_map(value: &Value, bytes: &[u8]) {
    let Value::Map(entries) = value else {
        assert_eq!(map_entries(bytes).count(), 0);
        return;
    };
    let read: Vec<_> = map_entries(bytes).collect();
    assert_eq!(read.len(), entries.len());
    for ((key, value), (key_bytes, value_bytes)) in entries.iter().zip(&read) {
        check_heads(key, &mut &key_bytes[..]);
        check_heads(value, &mut &value_bytes[..]);
        let Value::String(name) = key else { continue };
        let is_name = |(other, _): &&(Value, Value)| *other == *key;
        let last = entries.iter().zip(&read).rfind(|(entry, _)| is_name(entry));
        assert_eq!(map_get(bytes, name.as_bytes()), last.map(|(_, (_, value))| *value));
    }
}

/// Levels that serde_json follows.
const JSON_LEVELS_MAX: usize = 100;

fn check_texts(value: &Value, bytes: &[u8]) {
    let levels = Levels::of(bytes);
    let mut text = Vec::new();
    assert_eq!(put_text(bytes, &mut text).is_ok(), levels.all <= NESTING_MAX);
    for unicode in [Unicode::Escaped, Unicode::Raw] {
        for nan in [Nan::Null, Nan::Word] {
            let mut json = Vec::new();
            let options = JsonOptions { unicode, nan };
            let is_written = put_json(bytes, options, &mut json).is_ok();
            assert_eq!(is_written, fits_json(value, NESTING_MAX));
            if !is_written || levels.all > JSON_LEVELS_MAX || !is_json(value, nan) {
                continue;
            }
            let json = String::from_utf8(json).expect("JSON is UTF-8");
            assert!(
                unicode == Unicode::Raw || !json.contains(|c: char| c > '\x7f' && !is_private(c))
            );
            let read: serde_json::Value = serde_json::from_str(&json)
                .unwrap_or_else(|error| panic!("{value} was written as {json}: {error}"));
            let expected = as_json(value, bytes, options);
            assert!(is_near(&read, &expected), "{value} was written as {json}, not {expected}");
        }
    }
    if levels.all <= JSON_LEVELS_MAX && is_plain(value) {
        let text = String::from_utf8(text).expect("plain strings are ASCII");
        let json = text.replace("=>", ":").replace("nil", "null");
        let read: serde_json::Value = serde_json::from_str(&json)
            .unwrap_or_else(|error| panic!("{value} was written as {text}: {error}"));
        let expected = as_json(value, bytes, JsonOptions::default());
        assert!(is_near_decimals(&read, &expected), "{value} was written as {text}");
    }
}

/// Stands for broken bytes.
fn is_private(letter: char) -> bool {
    ('\u{e000}'..'\u{e100}').contains(&letter)
}

/// Doubles above this are rounded up, and out of range, by 16 digits.
const ROUNDED_MAX: f64 = 1.797_693_134_862_315e308;

/// Whether a value has so many levels at most; keys that are no text have fewer. Of repeated texts only the last is
/// written.
fn fits_json(value: &Value, levels: usize) -> bool {
    let is_text = |key: &Value| matches!(key, Value::String(_) | Value::Binary(_));
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| fits_json(item, levels - 1)),
        Value::Map(entries) => {
            levels > 0
                && entries.iter().enumerate().all(|(index, (key, value))| {
                    is_repeated(key, &entries[index + 1..])
                        || ((is_text(key) || fits_json(key, (levels - 1) / KEY_LEVELS_SHARE))
                            && fits_json(value, levels - 1))
                })
        }
        _ => true,
    }
}

/// Whether a text is a key again in the entries behind it.
fn is_repeated(key: &Value, behind: &[(Value, Value)]) -> bool {
    matches!(key, Value::String(_)) && behind.iter().any(|(other, _)| other == key)
}

/// Whether JSON can say a value.
fn is_json(value: &Value, nan: Nan) -> bool {
    match value {
        Value::Ext(..) => false,
        Value::F32(_) | Value::F64(_) => {
            let number = value.as_f64().unwrap_or_default();
            if number.is_nan() { nan == Nan::Null } else { number.abs() <= ROUNDED_MAX }
        }
        Value::Array(items) => items.iter().all(|item| is_json(item, nan)),
        Value::Map(entries) => {
            entries.iter().all(|(key, value)| is_json(key, nan) && is_json(value, nan))
        }
        _ => true,
    }
}

/// Whether Fluent Bit's own notation of a value differs from JSON in its signs alone.
fn is_plain(value: &Value) -> bool {
    let is_word = |value: &Value| match value {
        Value::String(text) => text
            .as_bytes()
            .iter()
            .all(|byte| matches!(byte, b' ' | b'_' | b'A'..=b'Z' | b'0'..=b'9')),
        _ => false,
    };
    match value {
        Value::Ext(..) | Value::Binary(_) => false,
        // serde_json is not exact, and knows no number that is a little above the largest.
        Value::F32(_) | Value::F64(_) => value.as_f64().is_some_and(|number| number.abs() < 1e300),
        Value::String(_) => is_word(value),
        Value::Array(items) => items.iter().all(is_plain),
        Value::Map(entries) => entries.iter().all(|(key, value)| is_word(key) && is_plain(value)),
        _ => true,
    }
}

/// The value that a reader of the JSON must find; `bytes` are its own.
fn as_json(value: &Value, bytes: &[u8], options: JsonOptions) -> serde_json::Value {
    match value {
        Value::Nil | Value::Ext(..) => serde_json::Value::Null,
        Value::Boolean(is_true) => (*is_true).into(),
        Value::Integer(number) => match number.as_u64() {
            Some(number) => number.into(),
            None => number.as_i64().expect("negative").into(),
        },
        // NaN is null.
        Value::F32(number) => f64::from(*number).into(),
        Value::F64(number) => (*number).into(),
        Value::String(text) => text_of(text.as_bytes(), options.unicode).into(),
        Value::Binary(bytes) => text_of(bytes, options.unicode).into(),
        Value::Array(items) => {
            let bytes = events::members(bytes).expect("an array");
            items.iter().zip(bytes).map(|(item, bytes)| as_json(item, bytes, options)).collect()
        }
        Value::Map(entries) => {
            let mut map = serde_json::Map::new();
            let all = entries.iter().zip(map_entries(bytes)).enumerate();
            for (index, ((key, value), (key_bytes, bytes))) in all {
                if is_repeated(key, &entries[index + 1..]) {
                    continue;
                }
                let key = match key {
                    Value::String(text) => text_of(text.as_bytes(), options.unicode),
                    Value::Binary(bytes) => text_of(bytes, options.unicode),
                    _ => {
                        // The text of the key, itself a JSON string when written.
                        let mut text = Vec::new();
                        put_json(key_bytes, options, &mut text).expect("not deep");
                        text_of(&text, options.unicode)
                    }
                };
                map.insert(key, as_json(value, bytes, options));
            }
            map.into()
        }
    }
}

/// Bytes as text: what is broken has a letter of its own.
fn text_of(bytes: &[u8], unicode: Unicode) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| match unicode {
            Unicode::Raw => '\u{fffd}',
            Unicode::Escaped => char::from_u32(0xe000 + u32::from(*byte)).expect("a letter"),
        }));
    }
    text
}

/// Equal, but for the digits beyond the sixteenth.
fn is_near(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    is_equal(a, b, &|a, b| (a - b).abs() <= b.abs() * 1e-14)
}

/// Equal, but for the decimals beyond the sixth.
fn is_near_decimals(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    is_equal(a, b, &|a, b| (a - b).abs() <= 1e-6 + b.abs() * 1e-14)
}

fn is_equal(
    a: &serde_json::Value,
    b: &serde_json::Value,
    is_near: &dyn Fn(f64, f64) -> bool,
) -> bool {
    use serde_json::Value as Json;
    match (a, b) {
        (Json::Number(a), Json::Number(b)) if b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            a.is_sign_negative() == b.is_sign_negative() && is_near(a, b)
        }
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b, is_near))
        }
        (Json::Object(a), Json::Object(b)) => {
            let is_there = |(key, a)| b.get(key).is_some_and(|b| is_equal(a, b, is_near));
            a.len() == b.len() && a.iter().all(is_there)
        }
        (a, b) => a == b,
    }
}
