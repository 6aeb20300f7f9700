//! Which events of any bytes are accepted, said again over decoded values.

use dataplane::event::encoder::event_header_with_metadata;
use dataplane::event::time::EventTime;
use dataplane::event::validate::Stop;
use dataplane::kernel::msgpack_skip::{SkipError, skip_value};
use dataplane::limits::NESTING_MAX;
use rmpv::Value;

/// The first value of these bytes; an error too for one that nests as deep as the decoder goes.
pub fn value_of(bytes: &[u8]) -> Result<Value, rmpv::decode::Error> {
    rmpv::decode::read_value(&mut &bytes[..])
}

/// How deep arrays and maps nest in the first value of some bytes, which is whole.
pub struct Levels {
    /// Those alone that hold something.
    pub full: usize,
    /// All of them.
    pub all: usize,
}

impl Levels {
    /// Counts them by walking the heads, since decoders end early.
    pub fn of(bytes: &[u8]) -> Levels {
        use dataplane::event::msgpack::{Head, read_head};
        let mut rest = bytes;
        let mut open: Vec<usize> = Vec::new();
        let mut levels = Levels { full: 0, all: 0 };
        loop {
            let items = match read_head(&mut rest) {
                Some(Head::Array(count)) => Some(count),
                Some(Head::Map(count)) => Some(2 * count),
                Some(_) => None,
                None => return levels,
            };
            levels.all = levels.all.max(open.len() + usize::from(items.is_some()));
            if let Some(count) = items.filter(|count| *count > 0) {
                open.push(count);
                levels.full = levels.full.max(open.len());
                continue;
            }
            while let Some(left) = open.last_mut() {
                *left -= 1;
                if *left > 0 {
                    break;
                }
                open.pop();
            }
            if open.is_empty() {
                return levels;
            }
        }
    }
}

/// Stored forms of the events that `source` begins with, bytes consumed, and why it ends there.
pub fn accepted(source: &[u8]) -> (Vec<Vec<u8>>, usize, Stop) {
    let mut found = Vec::new();
    let mut at = 0;
    while at < source.len() {
        match one(&source[at..]) {
            Ok((event, length)) => {
                found.push(event);
                at += length;
            }
            Err(stop) => return (found, at, stop),
        }
    }
    (found, at, Stop::End)
}

/// The stored form of the first event and its length.
fn one(source: &[u8]) -> Result<(Vec<u8>, usize), Stop> {
    if source.len() > 12 && source.starts_with(&[0x92, 0x92, 0xd7, 0]) {
        // Metadata and body are told apart as they come: what is no map is seen before the rest is there.
        let metadata = map_length(&source[12..])?;
        let body = map_length(&source[12 + metadata..])?;
        let length = 12 + metadata + body;
        return Ok((source[..length].to_vec(), length));
    }
    let length = skip_value(source).map_err(stop_of)?;
    let source = &source[..length];
    if Levels::of(source).full > NESTING_MAX {
        return Err(Stop::Invalid);
    }
    let parts = members(source).ok_or(Stop::Invalid)?;
    let [first, body] = parts[..] else { return Err(Stop::Invalid) };
    let (time, metadata) = match members(first) {
        Some(header) => match header[..] {
            [time, metadata] => (time, metadata),
            _ => return Err(Stop::Invalid),
        },
        None => (first, &[0x80][..]),
    };
    stored(time, metadata, body).map(|event| (event, length)).ok_or(Stop::Invalid)
}

fn stop_of(error: SkipError) -> Stop {
    match error {
        SkipError::Incomplete => Stop::Incomplete,
        SkipError::Invalid => Stop::Invalid,
    }
}

fn map_length(bytes: &[u8]) -> Result<usize, Stop> {
    match bytes.first() {
        None => return Err(Stop::Incomplete),
        Some(0x80..=0x8f | 0xde | 0xdf) => {}
        Some(_) => return Err(Stop::Invalid),
    }
    let length = skip_value(bytes).map_err(stop_of)?;
    if Levels::of(bytes).full > NESTING_MAX { Err(Stop::Invalid) } else { Ok(length) }
}

/// The bytes of each member of an array, which is whole.
pub fn members(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let head = match bytes.first()? {
        0x90..=0x9f => 1,
        0xdc => 3,
        0xdd => 5,
        _ => return None,
    };
    let mut rest = &bytes[head..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (member, after) = rest.split_at(skip_value(rest).ok()?);
        found.push(member);
        rest = after;
    }
    Some(found)
}

/// The stored form of an event whose parts are these values; `None` when one has another type.
pub fn stored(time: &[u8], metadata: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    let is_map = |bytes: &[u8]| matches!(bytes.first(), Some(0x80..=0x8f | 0xde | 0xdf));
    let time = match value_of(time).ok()? {
        Value::Ext(0, bytes) => {
            let [a, b, c, d, e, f, g, h] = bytes.try_into().ok()?;
            let number = |bytes| u32::from_be_bytes(bytes);
            EventTime { secs: number([a, b, c, d]), nanos: number([e, f, g, h]) }
        }
        Value::Integer(number) => {
            // Markers of groups are negative.
            let secs = match number.as_i64() {
                Some(secs @ (-1 | -2)) => secs as u32,
                _ => u32::try_from(number.as_u64()?).ok()?,
            };
            EventTime { secs, nanos: 0 }
        }
        Value::F32(seconds) => EventTime::from_f64(seconds.into()),
        Value::F64(seconds) => EventTime::from_f64(seconds),
        _ => return None,
    };
    if !is_map(metadata) || !is_map(body) {
        return None;
    }
    let mut out = Vec::new();
    event_header_with_metadata(&mut out, time, metadata);
    out.extend_from_slice(body);
    Some(out)
}
