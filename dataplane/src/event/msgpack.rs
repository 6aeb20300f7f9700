//! Reads msgpack values from a slice: heads with errors instead of panics, entries of maps.

use crate::kernel::msgpack_skip::skip_value;

/// The head of a value; strings and the like are borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head<'a> {
    /// Nothing.
    Nil,
    /// A boolean.
    Bool(bool),
    /// An unsigned number.
    Uint(u64),
    /// A negative number.
    Int(i64),
    /// A floating point number.
    Float(f64),
    /// A string, any bytes.
    Str(&'a [u8]),
    /// A byte string.
    Bin(&'a [u8]),
    /// An array of so many values, which follow.
    Array(usize),
    /// A map of so many entries, which follow.
    Map(usize),
    /// An extension: type and bytes.
    Ext(i8, &'a [u8]),
}

/// Takes the head of the next value off `rest`; `None` when it is not whole or not msgpack.
pub fn read_head<'a>(rest: &mut &'a [u8]) -> Option<Head<'a>> {
    let marker = take(rest, 1)?[0];
    Some(match marker {
        0x00..=0x7f => Head::Uint(u64::from(marker)),
        0x80..=0x8f => Head::Map(usize::from(marker & 15)),
        0x90..=0x9f => Head::Array(usize::from(marker & 15)),
        0xa0..=0xbf => Head::Str(take(rest, usize::from(marker & 31))?),
        0xc0 => Head::Nil,
        0xc1 => return None,
        0xc2 => Head::Bool(false),
        0xc3 => Head::Bool(true),
        0xc4..=0xc6 => {
            let length = uint(rest, 1 << (marker - 0xc4))?;
            Head::Bin(take(rest, length as usize)?)
        }
        0xc7..=0xc9 => {
            let length = uint(rest, 1 << (marker - 0xc7))?;
            let kind = take(rest, 1)?[0] as i8;
            Head::Ext(kind, take(rest, length as usize)?)
        }
        0xca => Head::Float(f64::from(f32::from_bits(uint(rest, 4)? as u32))),
        0xcb => Head::Float(f64::from_bits(uint(rest, 8)?)),
        0xcc..=0xcf => Head::Uint(uint(rest, 1 << (marker - 0xcc))?),
        0xd0..=0xd3 => {
            let width = 1 << (marker - 0xd0);
            let shift = 64 - 8 * width as u32;
            let number = (uint(rest, width)? << shift) as i64 >> shift;
            if number >= 0 { Head::Uint(number as u64) } else { Head::Int(number) }
        }
        0xd4..=0xd8 => {
            let kind = take(rest, 1)?[0] as i8;
            Head::Ext(kind, take(rest, 1 << (marker - 0xd4))?)
        }
        0xd9..=0xdb => {
            let length = uint(rest, 1 << (marker - 0xd9))?;
            Head::Str(take(rest, length as usize)?)
        }
        0xdc => Head::Array(uint(rest, 2)? as usize),
        0xdd => Head::Array(uint(rest, 4)? as usize),
        0xde => Head::Map(uint(rest, 2)? as usize),
        0xdf => Head::Map(uint(rest, 4)? as usize),
        0xe0..=0xff => Head::Int(i64::from(marker as i8)),
    })
}

/// Takes one whole value off `rest`, as bytes.
pub fn take_value<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = skip_value(rest).ok()?;
    take(rest, length)
}

/// The entries of a map, keys and values as bytes. Ends early at bytes that are no map.
pub fn map_entries(map: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = map;
    let mut left = match read_head(&mut rest) {
        Some(Head::Map(count)) => count,
        _ => 0,
    };
    std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        Some((take_value(&mut rest)?, take_value(&mut rest)?))
    })
}

/// The value of a string key of a map; the last of repeated ones.
pub fn map_get<'a>(map: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let is_key = |entry: &[u8]| read_head(&mut &entry[..]) == Some(Head::Str(key));
    map_entries(map).filter(|(name, _)| is_key(name)).map(|(_, value)| value).last()
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn uint(rest: &mut &[u8], width: usize) -> Option<u64> {
    Some(take(rest, width)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_all_kinds_are_read() {
        let mut bytes = Vec::new();
        let map = rmpv::Value::Map(vec![
            ("a".into(), (-5).into()),
            ("b".into(), (-70_000).into()),
            ("c".into(), rmpv::Value::Ext(3, vec![1, 2, 3])),
            ("a".into(), 1.5.into()),
            ("d".into(), rmpv::Value::F32(0.5)),
        ]);
        rmpv::encode::write_value(&mut bytes, &map).unwrap();
        let get =
            |key: &str| map_get(&bytes, key.as_bytes()).and_then(|mut value| read_head(&mut value));
        assert_eq!(get("a"), Some(Head::Float(1.5)));
        assert_eq!(get("b"), Some(Head::Int(-70_000)));
        assert_eq!(get("c"), Some(Head::Ext(3, &[1, 2, 3])));
        assert_eq!(get("d"), Some(Head::Float(0.5)));
        assert_eq!(get("e"), None);
        assert_eq!(map_entries(&bytes).count(), 5);
        assert_eq!(map_entries(&bytes[..7]).count(), 1);
        assert_eq!(read_head(&mut &[0xd9, 5, b'x'][..]), None);
        assert_eq!(read_head(&mut &[0xd1, 0xff, 0xfe][..]), Some(Head::Int(-2)));
    }
}
