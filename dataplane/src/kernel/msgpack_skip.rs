//! The length of a msgpack value, without decoding it.
//!
//! A table gives each first byte its fixed length and its kind; open containers are one counter instead of
//! a stack, so there is no recursion and no allocation. Measured in a prototype at 8.6 GB/s against 4.9 GB/s
//! for reading markers one by one.

use crate::limits::NESTING_MAX;

/// Why a value has no length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipError {
    /// The bytes end before the value does.
    Incomplete,
    /// A byte that begins no value (0xc1).
    Invalid,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Bytes of marker, length field and fixed payload.
    fixed: u8,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// `fixed` is all.
    Fixed,
    /// A payload whose length stands in the 1, 2 or 4 bytes after the marker.
    Length1,
    Length2,
    Length4,
    /// So many values more.
    Items(u8),
    Array2,
    Array4,
    Map2,
    Map4,
    Invalid,
}

const TABLE: [Entry; 256] = table();

const fn table() -> [Entry; 256] {
    let mut table = [Entry { fixed: 1, kind: Kind::Fixed }; 256];
    let mut byte = 0x80;
    while byte <= 0xbf {
        table[byte] = match byte {
            0x80..=0x8f => Entry { fixed: 1, kind: Kind::Items((byte as u8 & 15) * 2) },
            0x90..=0x9f => Entry { fixed: 1, kind: Kind::Items(byte as u8 & 15) },
            _ => Entry { fixed: 1 + (byte as u8 & 31), kind: Kind::Fixed },
        };
        byte += 1;
    }
    let sized: [(usize, u8, Kind); 29] = [
        (0xc1, 1, Kind::Invalid),
        (0xc4, 2, Kind::Length1),
        (0xc5, 3, Kind::Length2),
        (0xc6, 5, Kind::Length4),
        (0xc7, 3, Kind::Length1),
        (0xc8, 4, Kind::Length2),
        (0xc9, 6, Kind::Length4),
        (0xca, 5, Kind::Fixed),
        (0xcb, 9, Kind::Fixed),
        (0xcc, 2, Kind::Fixed),
        (0xcd, 3, Kind::Fixed),
        (0xce, 5, Kind::Fixed),
        (0xcf, 9, Kind::Fixed),
        (0xd0, 2, Kind::Fixed),
        (0xd1, 3, Kind::Fixed),
        (0xd2, 5, Kind::Fixed),
        (0xd3, 9, Kind::Fixed),
        (0xd4, 3, Kind::Fixed),
        (0xd5, 4, Kind::Fixed),
        (0xd6, 6, Kind::Fixed),
        (0xd7, 10, Kind::Fixed),
        (0xd8, 18, Kind::Fixed),
        (0xd9, 2, Kind::Length1),
        (0xda, 3, Kind::Length2),
        (0xdb, 5, Kind::Length4),
        (0xdc, 3, Kind::Array2),
        (0xdd, 5, Kind::Array4),
        (0xde, 3, Kind::Map2),
        (0xdf, 5, Kind::Map4),
    ];
    let mut index = 0;
    while index < sized.len() {
        let (byte, fixed, kind) = sized[index];
        table[byte] = Entry { fixed, kind };
        index += 1;
    }
    table
}

/// Length in bytes of the value that `bytes` begins with.
///
/// # Errors
/// When the value is not whole or not msgpack. A huge array or map that cannot fit is incomplete.
#[inline]
pub fn skip_value(bytes: &[u8]) -> Result<usize, SkipError> {
    // Nearly all keys and values of records are short strings and small numbers: no walk for these.
    let length = match bytes {
        [head @ 0xa0..=0xbf, ..] => 1 + usize::from(head & 31),
        [0xd9, length, ..] => 2 + usize::from(*length),
        [0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff, ..] => 1,
        _ => return Walk::from(0).resume(bytes),
    };
    if length <= bytes.len() { Ok(length) } else { Err(SkipError::Incomplete) }
}

/// As [`skip_value`], for values that readers will descend into: one that nests deeper than they can is
/// invalid. Only a value with that many containers is looked at twice.
///
/// # Errors
/// When the value is not whole, not msgpack, or nests deeper than [`NESTING_MAX`].
#[inline]
pub fn skip_shallow_value(bytes: &[u8]) -> Result<usize, SkipError> {
    let mut walk = Walk::from(0);
    let length = walk.resume(bytes)?;
    match walk.container_count > NESTING_MAX && nests_too_deep(&bytes[..length]) {
        true => Err(SkipError::Invalid),
        false => Ok(length),
    }
}

/// Whether a whole value has more than [`NESTING_MAX`] arrays and maps within each other.
#[cold]
fn nests_too_deep(value: &[u8]) -> bool {
    // Values still to come in each open container.
    let mut open = [0u64; NESTING_MAX];
    let (mut depth, mut at) = (0, 0);
    while let Some(first) = value.get(at) {
        let entry = TABLE[usize::from(*first)];
        let Ok((payload, items)) = sized(entry.kind, &value[at + 1..]) else { return true };
        at += usize::from(entry.fixed) + payload;
        if items > 0 {
            if depth == NESTING_MAX {
                return true;
            }
            open[depth] = items;
            depth += 1;
            continue;
        }
        while depth > 0 {
            open[depth - 1] -= 1;
            if open[depth - 1] > 0 {
                break;
            }
            depth -= 1;
        }
    }
    false
}

/// A walk over one value whose bytes are still arriving: each is looked at once, however they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Where the next token begins; past the end while a payload is arriving.
    at: usize,
    /// Values still to come.
    left: u64,
    /// Arrays and maps met that are not empty.
    container_count: usize,
}

impl Walk {
    /// Over the value that begins at this byte.
    pub fn from(at: usize) -> Walk {
        Walk { at, left: 1, container_count: 0 }
    }

    /// Bytes that must be there before the value can be whole, counted from the first of `bytes`.
    pub fn needed_bytes(&self) -> u64 {
        self.at as u64 + self.left
    }

    /// Goes on over `bytes`, which begin with those of the call before. Returns the value's end.
    ///
    /// # Errors
    /// When the value is not whole or not msgpack.
    #[inline]
    pub fn resume(&mut self, bytes: &[u8]) -> Result<usize, SkipError> {
        let Walk { mut at, mut left, mut container_count } = *self;
        let incomplete = loop {
            if left == 0 {
                break None;
            }
            let Some(first) = bytes.get(at) else { break Some(SkipError::Incomplete) };
            let entry = TABLE[usize::from(*first)];
            if entry.kind == Kind::Fixed {
                at += usize::from(entry.fixed);
                left -= 1;
                continue;
            }
            let (payload, items) = match sized(entry.kind, &bytes[at + 1..]) {
                Ok(sizes) => sizes,
                Err(error) => break Some(error),
            };
            at += usize::from(entry.fixed) + payload;
            left = left - 1 + items;
            container_count += usize::from(items > 0);
            // Every open value needs a byte at least: stop early instead of counting to four billion.
            if at > bytes.len() || left > (bytes.len() - at) as u64 {
                // An invalid byte further on is found when the rest has come.
                break Some(SkipError::Incomplete);
            }
        };
        *self = Walk { at, left, container_count };
        match incomplete {
            Some(error) => Err(error),
            None if at > bytes.len() => Err(SkipError::Incomplete),
            None => Ok(at),
        }
    }
}

/// Payload bytes and further values behind a marker that does not say all itself.
#[inline(always)]
fn sized(kind: Kind, after: &[u8]) -> Result<(usize, u64), SkipError> {
    let field = |width: usize| -> Result<u64, SkipError> {
        let Some(field) = after.get(..width) else { return Err(SkipError::Incomplete) };
        Ok(field.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    Ok(match kind {
        Kind::Fixed => (0, 0),
        Kind::Length1 => (field(1)? as usize, 0),
        Kind::Length2 => (field(2)? as usize, 0),
        Kind::Length4 => (field(4)? as usize, 0),
        Kind::Items(count) => (0, u64::from(count)),
        Kind::Array2 => (0, field(2)?),
        Kind::Array4 => (0, field(4)?),
        Kind::Map2 => (0, field(2)? * 2),
        Kind::Map4 => (0, field(4)? * 2),
        Kind::Invalid => return Err(SkipError::Invalid),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The twin: recursion over markers as `rmp` reads them.
    fn skip_naive(bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        rmpv::decode::read_value(&mut rest).ok()?;
        Some(bytes.len() - rest.len())
    }

    fn value() -> impl Strategy<Value = rmpv::Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(rmpv::Value::from),
            any::<f64>().prop_map(rmpv::Value::from),
            any::<bool>().prop_map(rmpv::Value::from),
            ".{0,40}".prop_map(rmpv::Value::from),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(rmpv::Value::from),
            (any::<i8>(), proptest::collection::vec(any::<u8>(), 0..20))
                .prop_map(|(kind, bytes)| rmpv::Value::Ext(kind, bytes)),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(rmpv::Value::Array),
                proptest::collection::vec((inner.clone(), inner), 0..20).prop_map(rmpv::Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_length_is_what_a_decoder_consumes(value in value(), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &value).unwrap();
            prop_assert_eq!(skip_value(&bytes), Ok(bytes.len()));
            let cut = cut.index(bytes.len());
            prop_assert_eq!(skip_value(&bytes[..cut]), Err(SkipError::Incomplete));
        }

        #[test]
        fn a_walk_in_pieces_ends_where_one_walk_does(value in value(), step in 1usize..9) {
            let mut bytes = vec![0xc1];
            rmpv::encode::write_value(&mut bytes, &value).unwrap();
            let mut walk = Walk::from(1);
            for end in (1..bytes.len()).step_by(step) {
                prop_assert_eq!(walk.resume(&bytes[..end]), Err(SkipError::Incomplete));
                prop_assert!(walk.needed_bytes() <= bytes.len() as u64);
            }
            prop_assert_eq!(walk.resume(&bytes), Ok(bytes.len()));
        }

        #[test]
        fn any_bytes_agree_with_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            match skip_value(&bytes) {
                Ok(length) => prop_assert_eq!(skip_naive(&bytes[..length]), Some(length)),
                Err(_) => {
                    // 0xc1 is an error here and nil there.
                    if !bytes.contains(&0xc1) {
                        prop_assert_eq!(skip_naive(&bytes), None);
                    }
                }
            }
        }
    }

    fn nested(opens: &[u8], depth: usize) -> Vec<u8> {
        let mut bytes = opens.repeat(depth);
        bytes.push(1);
        // Each pair but the innermost has one value more.
        bytes.resize(bytes.len() + if opens[0] == 0x92 { depth } else { 0 }, 0x90);
        bytes
    }

    #[test]
    fn a_value_may_nest_so_deep_and_no_deeper() {
        for opens in [&[0x91][..], &[0x92], &[0x81, 7], &[0xdd, 0, 0, 0, 1]] {
            let deepest = nested(opens, NESTING_MAX);
            assert_eq!(skip_shallow_value(&deepest), Ok(deepest.len()));
            let deeper = nested(opens, NESTING_MAX + 1);
            assert_eq!(skip_shallow_value(&deeper), Err(SkipError::Invalid));
            assert_eq!(skip_value(&deeper), Ok(deeper.len()));
        }
        let mut wide = vec![0xdc, 1, 0];
        wide.extend([0x91, 0x91, 0x80].repeat(256));
        assert_eq!(skip_shallow_value(&wide), Ok(wide.len()));
        assert_eq!(skip_shallow_value(&nested(&[0x91], 1_000_000)), Err(SkipError::Invalid));
    }

    #[test]
    fn a_lie_about_lengths_ends_at_once() {
        assert_eq!(skip_value(&[0xdd, 0xff, 0xff, 0xff, 0xff, 1]), Err(SkipError::Incomplete));
        assert_eq!(skip_value(&[0xc1]), Err(SkipError::Invalid));
        assert_eq!(skip_value(&[]), Err(SkipError::Incomplete));
    }
}
