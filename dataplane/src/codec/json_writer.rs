//! Rows of alike records as JSON, in one walk over their bytes.
//!
//! The text is that of [`put_json`], which is the twin. Faster is what it knows from the records before: the text of
//! a key with its quotes, and by the same memory that no key comes twice in a map, which would cost a second walk.

use crate::codec::json_text::{
    JsonOptions, TooDeep, put_float, put_integer, put_json, put_text, put_unsigned,
};
use crate::event::msgpack::{Head, read_head, take_value};
use crate::limits::NESTING_MAX;

/// Keys that are remembered: one bit each in the set of those that a map has had.
const KEYS_MAX: usize = 64;
/// Longest msgpack form of a key that is remembered.
const KEY_BYTES: usize = 32;
/// Longest text of one, with comma, quotes and colon.
const TEXT_BYTES: usize = 40;

/// Writes records; one for each row of them.
#[derive(Debug)]
pub struct JsonWriter {
    options: JsonOptions,
    keys: Vec<Key>,
    /// The key that is expected next.
    next: usize,
}

/// A key of a map.
#[derive(Debug)]
struct Key {
    encoded: [u8; KEY_BYTES],
    encoded_bytes: usize,
    /// Which bits of the words of `encoded` are of the key.
    mask: [u64; KEY_BYTES / 8],
    /// `,"key":`
    text: [u8; TEXT_BYTES],
    text_bytes: usize,
    /// The key whose value the map is; the outermost has none.
    parent: Option<usize>,
}

/// The bytes are no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NoValue;

impl JsonWriter {
    /// A writer without a memory.
    pub fn new(options: JsonOptions) -> JsonWriter {
        JsonWriter { options, keys: Vec::new(), next: 0 }
    }

    /// Appends the value that `bytes` begin with, as [`put_json`] does, and returns what follows it.
    ///
    /// # Errors
    /// [`TooDeep`]; what was appended is then to be taken back.
    pub fn put<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], TooDeep> {
        self.next = 0;
        let start = out.len();
        let mut rest = bytes;
        if self.put_value(&mut rest, None, NESTING_MAX, out).is_ok() {
            return Ok(rest);
        }
        out.truncate(start);
        let mut rest = bytes;
        let value = take_value(&mut rest).unwrap_or(bytes);
        put_json(value, self.options, out)?;
        Ok(rest)
    }

    /// Appends the next value of `rest`, which may have so many levels below it.
    fn put_value(
        &mut self,
        rest: &mut &[u8],
        parent: Option<usize>,
        levels: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), NoValue> {
        let before = *rest;
        // Most values are strings.
        let string = match *before {
            [head @ 0xa0..=0xbf, ..] => Some((1, usize::from(head & 31))),
            [0xd9, length, ..] => Some((2, usize::from(length))),
            _ => None,
        };
        if let Some((header, length)) = string {
            *rest = before.get(header + length..).ok_or(NoValue)?;
            put_text(&before[header..], length, self.options.unicode, out);
            return Ok(());
        }
        match read_head(rest).ok_or(NoValue)? {
            Head::Str(text) | Head::Bin(text) => {
                let at = before.len() - rest.len() - text.len();
                put_text(&before[at..], text.len(), self.options.unicode, out);
            }
            Head::Uint(number) => put_unsigned(out, number),
            Head::Int(number) => put_integer(out, number),
            Head::Float(number) => put_float(number, self.options.nan, out),
            Head::Nil => out.extend_from_slice(b"null"),
            Head::Bool(true) => out.extend_from_slice(b"true"),
            Head::Bool(false) => out.extend_from_slice(b"false"),
            Head::Map(count) => {
                let levels = levels.checked_sub(1).ok_or(NoValue)?;
                let start = out.len();
                let inside = *rest;
                if !self.put_entries(count, rest, parent, levels, out)? {
                    out.truncate(start);
                    *rest = inside;
                    self.put_plainly(before, rest, out)?;
                }
            }
            Head::Array(count) => {
                let levels = levels.checked_sub(1).ok_or(NoValue)?;
                out.push(b'[');
                for index in 0..count {
                    if index > 0 {
                        out.push(b',');
                    }
                    // Maps of an array are alike: they share their keys.
                    self.put_value(rest, parent, levels, out)?;
                }
                out.push(b']');
            }
            Head::Ext(..) => {
                *rest = before;
                self.put_plainly(before, rest, out)?;
            }
        }
        Ok(())
    }

    /// Appends the value that `value` begins with as its twin does; `rest` goes behind it.
    #[cold]
    fn put_plainly(
        &self,
        value: &[u8],
        rest: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), NoValue> {
        let mut after = value;
        let value = take_value(&mut after).ok_or(NoValue)?;
        // `rest` ends where `after` does.
        *rest = &rest[rest.len() - after.len()..];
        put_json(value, self.options, out).map_err(|TooDeep| NoValue)
    }

    /// Appends a map of so many entries. `false` where a key comes twice, or is not one to be remembered: what was
    /// appended is then to be taken back.
    fn put_entries(
        &mut self,
        count: usize,
        rest: &mut &[u8],
        parent: Option<usize>,
        levels: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, NoValue> {
        if count == 0 {
            out.extend_from_slice(b"{}");
            return Ok(true);
        }
        let start = out.len();
        let mut had = 0u64;
        for _ in 0..count {
            let Some(index) = self.key(rest, parent) else { return Ok(false) };
            if had & 1 << index != 0 {
                return Ok(false);
            }
            had |= 1 << index;
            let key = &self.keys[index];
            let end = out.len() + key.text_bytes;
            out.extend_from_slice(&key.text);
            out.truncate(end);
            self.next = index + 1;
            self.put_value(rest, Some(index), levels, out)?;
        }
        out[start] = b'{';
        out.push(b'}');
        Ok(true)
    }

    /// The index of the key that `rest` begins with, which goes behind it. `None` where it cannot be remembered.
    #[inline]
    fn key(&mut self, rest: &mut &[u8], parent: Option<usize>) -> Option<usize> {
        if let Some(block) = rest.first_chunk::<KEY_BYTES>() {
            let is_it = |key: &Key| key.is_front_of(block) && key.parent == parent;
            let expected = self.keys.get(self.next).is_some_and(is_it);
            let found = if expected { Some(self.next) } else { self.keys.iter().position(is_it) };
            if let Some(index) = found {
                *rest = &rest[self.keys[index].encoded_bytes..];
                return Some(index);
            }
        }
        self.other_key(rest, parent)
    }

    /// A key that is new, or near the end of the bytes.
    #[cold]
    fn other_key(&mut self, rest: &mut &[u8], parent: Option<usize>) -> Option<usize> {
        let mut after = *rest;
        let encoded = take_value(&mut after)?;
        let Some(Head::Str(name)) = read_head(&mut &encoded[..]) else { return None };
        let known = self
            .keys
            .iter()
            .position(|key| key.parent == parent && key.encoded[..key.encoded_bytes] == *encoded);
        if known.is_some() {
            *rest = after;
            return known;
        }
        let mut text = b",".to_vec();
        put_text(name, name.len(), self.options.unicode, &mut text);
        text.push(b':');
        // A longer form than need be of a key that is there too would not be seen as the same.
        let is_shortest = encoded.len() == name.len() + 1 && name.len() < KEY_BYTES;
        if self.keys.len() == KEYS_MAX || text.len() > TEXT_BYTES || !is_shortest {
            return None;
        }
        let mut mask = [0xff; KEY_BYTES];
        mask[encoded.len()..].fill(0);
        let mut key = Key {
            encoded: [0; KEY_BYTES],
            encoded_bytes: encoded.len(),
            mask: words(&mask),
            text: [0; TEXT_BYTES],
            text_bytes: text.len(),
            parent,
        };
        key.encoded[..encoded.len()].copy_from_slice(encoded);
        key.text[..text.len()].copy_from_slice(&text);
        self.keys.push(key);
        *rest = after;
        Some(self.keys.len() - 1)
    }
}

impl Key {
    /// Whether the bytes begin with this key.
    #[inline]
    fn is_front_of(&self, block: &[u8; KEY_BYTES]) -> bool {
        // The length stands in the first byte: a key that goes on differs there.
        let (ours, theirs) = (words(&self.encoded), words(block));
        let differs = |index: usize| (ours[index] ^ theirs[index]) & self.mask[index];
        differs(0) | differs(1) | differs(2) | differs(3) == 0
    }
}

#[inline]
fn words(bytes: &[u8; KEY_BYTES]) -> [u64; KEY_BYTES / 8] {
    let (words, _) = bytes.as_chunks::<8>();
    [0, 1, 2, 3].map(|index| u64::from_le_bytes(words[index]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = rmpv::Value> {
        let leaf = prop_oneof![
            Just(rmpv::Value::Nil),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<f32>().prop_map(Into::into),
            (-1_000_000i64..1_000_000, 0i32..8)
                .prop_map(|(n, p)| (n as f64 / 10f64.powi(p)).into()),
            "[a-z\"\\\\\u{7f}\u{e4}\n]{0,40}".prop_map(Into::into),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(rmpv::Value::Binary),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| rmpv::Value::Ext(7, bytes)),
        ];
        leaf.prop_recursive(4, 40, 8, |inner| {
            let key = prop_oneof![
                10 => "[a-d]".prop_map(rmpv::Value::from),
                2 => "[a-z\u{e4}\"]{20,40}".prop_map(rmpv::Value::from),
                1 => inner.clone(),
            ];
            prop_oneof![
                1 => prop::collection::vec(inner.clone(), 0..8).prop_map(rmpv::Value::Array),
                3 => prop::collection::vec((key, inner), 0..20).prop_map(rmpv::Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn records_are_written_as_the_twin_writes_them(
            values in prop::collection::vec(value(), 1..6), cut in any::<prop::sample::Index>(), is_cut in any::<bool>()
        ) {
            let options = JsonOptions::default();
            let mut writer = JsonWriter::new(options);
            let mut bytes = Vec::new();
            for value in &values {
                rmpv::encode::write_value(&mut bytes, value).unwrap();
            }
            if is_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (mut out, mut twin) = (b"before".to_vec(), b"before".to_vec());
                let mut after = rest;
                let value = take_value(&mut after).unwrap_or(rest);
                let expected = put_json(value, options, &mut twin);
                let written = writer.put(rest, &mut out);
                prop_assert_eq!(written, expected.map(|()| after));
                prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&twin));
                if after.len() == rest.len() {
                    break;
                }
                rest = after;
            }
        }
    }
}
