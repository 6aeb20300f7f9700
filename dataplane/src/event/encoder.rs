//! Appends events and msgpack values to a buffer, each in its shortest form.

use std::ops::Range;

use crate::event::time::EventTime;

/// What stands before the body of an event without metadata, but for the eight bytes of the time.
pub const HEADER_START: [u8; 4] = [0x92, 0x92, 0xd7, 0x00];

/// Bytes of a header without metadata.
pub const HEADER_BYTES: usize = 13;

/// Begins an event without metadata; the body, a map, must follow.
#[inline]
pub fn event_header(out: &mut Vec<u8>, time: EventTime) {
    let mut header = [0x80; HEADER_BYTES];
    header[..4].copy_from_slice(&HEADER_START);
    header[4..12].copy_from_slice(&time.to_bytes());
    out.extend_from_slice(&header);
}

/// Begins an event; `metadata` is a msgpack map.
pub fn event_header_with_metadata(out: &mut Vec<u8>, time: EventTime, metadata: &[u8]) {
    out.extend_from_slice(&HEADER_START);
    out.extend_from_slice(&time.to_bytes());
    out.extend_from_slice(metadata);
}

/// A string; any bytes, as Fluent Bit does not validate them either.
#[inline]
pub fn put_str(out: &mut Vec<u8>, text: &[u8]) {
    put_str_len(out, text.len());
    out.extend_from_slice(text);
}

/// Begins a string; so many bytes must follow.
#[inline]
pub fn put_str_len(out: &mut Vec<u8>, length: usize) {
    match length {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 0x100..=0xffff => put_marked(out, 0xda, &(len as u16).to_be_bytes()),
        len => put_marked(out, 0xdb, &(len as u32).to_be_bytes()),
    }
}

/// A byte string.
pub fn put_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        len @ 0..=0xff => out.extend_from_slice(&[0xc4, len as u8]),
        len @ 0x100..=0xffff => put_marked(out, 0xc5, &(len as u16).to_be_bytes()),
        len => put_marked(out, 0xc6, &(len as u32).to_be_bytes()),
    }
    out.extend_from_slice(bytes);
}

/// An unsigned number.
pub fn put_uint(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=0x7f => out.push(number as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, number as u8]),
        0x100..=0xffff => put_marked(out, 0xcd, &(number as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => put_marked(out, 0xce, &(number as u32).to_be_bytes()),
        _ => put_marked(out, 0xcf, &number.to_be_bytes()),
    }
}

/// A signed number.
pub fn put_int(out: &mut Vec<u8>, number: i64) {
    match number {
        0.. => put_uint(out, number as u64),
        -32..=-1 => out.push(number as u8),
        -0x80..=-33 => out.extend_from_slice(&[0xd0, number as u8]),
        -0x8000..=-0x81 => put_marked(out, 0xd1, &(number as i16).to_be_bytes()),
        -0x8000_0000..=-0x8001 => put_marked(out, 0xd2, &(number as i32).to_be_bytes()),
        _ => put_marked(out, 0xd3, &number.to_be_bytes()),
    }
}

/// A floating point number.
pub fn put_f64(out: &mut Vec<u8>, number: f64) {
    put_marked(out, 0xcb, &number.to_be_bytes());
}

/// A boolean.
pub fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(0xc2 | u8::from(value));
}

/// Nothing.
pub fn put_nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

/// Begins a map; so many keys and values must follow.
pub fn put_map_len(out: &mut Vec<u8>, count: usize) {
    match count {
        0..=15 => out.push(0x80 | count as u8),
        16..=0xffff => put_marked(out, 0xde, &(count as u16).to_be_bytes()),
        _ => put_marked(out, 0xdf, &(count as u32).to_be_bytes()),
    }
}

/// Writes the true head of the map whose one reserved byte stands at `at`, or which has one of another count there.
pub fn close_map(out: &mut Vec<u8>, at: usize, count: usize) {
    let width = match out[at] {
        0xde => 3,
        0xdf => 5,
        _ => 1,
    };
    if count <= 15 && width == 1 {
        out[at] = 0x80 | count as u8;
        return;
    }
    let [.., high, low] = (count as u32).to_be_bytes();
    match count {
        0..=15 => splice_head(out, at..at + width, [0x80 | count as u8]),
        16..=0xffff => splice_head(out, at..at + width, [0xde, high, low]),
        _ => {
            let [a, b, c, d] = (count as u32).to_be_bytes();
            splice_head(out, at..at + width, [0xdf, a, b, c, d]);
        }
    }
}

fn splice_head<const N: usize>(out: &mut Vec<u8>, old: Range<usize>, head: [u8; N]) {
    out.splice(old, head);
}

/// Begins an array; so many values must follow.
pub fn put_array_len(out: &mut Vec<u8>, count: usize) {
    match count {
        0..=15 => out.push(0x90 | count as u8),
        16..=0xffff => put_marked(out, 0xdc, &(count as u16).to_be_bytes()),
        _ => put_marked(out, 0xdd, &(count as u32).to_be_bytes()),
    }
}

fn put_marked<const N: usize>(out: &mut Vec<u8>, marker: u8, bytes: &[u8; N]) {
    out.push(marker);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> rmpv::Value {
        let mut rest = bytes;
        let value = rmpv::decode::read_value(&mut rest).unwrap();
        assert!(rest.is_empty());
        value
    }

    #[test]
    fn a_header_is_thirteen_bytes() {
        let mut out = Vec::new();
        event_header(&mut out, EventTime { secs: 1, nanos: 2 });
        assert_eq!(out, [0x92, 0x92, 0xd7, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x80]);
        assert_eq!(out.len(), HEADER_BYTES);
    }

    proptest! {
        #[test]
        fn values_are_what_another_encoder_writes(
            int in any::<i64>(), shift in 0u32..64, len in 0usize..70_000, float in any::<f64>()
        ) {
            let int = int >> shift;
            let mut ours = Vec::new();
            let mut theirs = Vec::new();
            put_int(&mut ours, int);
            rmp::encode::write_sint(&mut theirs, int).unwrap();
            put_uint(&mut ours, int as u64);
            rmp::encode::write_uint(&mut theirs, int as u64).unwrap();
            put_map_len(&mut ours, len);
            rmp::encode::write_map_len(&mut theirs, len as u32).unwrap();
            put_array_len(&mut ours, len);
            rmp::encode::write_array_len(&mut theirs, len as u32).unwrap();
            put_f64(&mut ours, float);
            rmp::encode::write_f64(&mut theirs, float).unwrap();
            let text = "x".repeat(len);
            put_str(&mut ours, text.as_bytes());
            rmp::encode::write_str(&mut theirs, &text).unwrap();
            put_bin(&mut ours, text.as_bytes());
            rmp::encode::write_bin(&mut theirs, text.as_bytes()).unwrap();
            put_bool(&mut ours, true);
            put_nil(&mut ours);
            theirs.extend_from_slice(&[0xc3, 0xc0]);
            prop_assert!(ours == theirs);
        }
    }

    #[test]
    fn an_event_reads_back() {
        let mut out = Vec::new();
        event_header(&mut out, EventTime { secs: 7, nanos: 8 });
        put_map_len(&mut out, 1);
        put_str(&mut out, b"log");
        put_str(&mut out, b"x");
        let value = read(&out);
        assert_eq!(value[1]["log"], rmpv::Value::from("x"));
    }
}
