//! msgpack to JSON text, as Fluent Bit writes it: its float rule, its escapes, its treatment of broken UTF-8.

use std::io::Write;

use hashbrown::HashSet;
use smallvec::SmallVec;

use crate::event::msgpack::{Head, map_entries, read_head, take_value};
use crate::kernel::json_escape::put_plain_front;
use crate::limits::NESTING_MAX;

/// The service keys `json.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonOptions {
    /// What becomes of characters beyond ASCII (`json.escape_unicode`).
    pub unicode: Unicode,
    /// What becomes of NaN (`json.convert_nan_to_null`).
    pub nan: Nan,
}

impl Default for JsonOptions {
    fn default() -> Self {
        JsonOptions { unicode: Unicode::Escaped, nan: Nan::Word }
    }
}

/// How characters beyond ASCII are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unicode {
    /// `\u00e9`
    Escaped,
    /// As they are.
    Raw,
}

/// How NaN is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nan {
    /// `nan`, which is no JSON.
    Word,
    /// `null`
    Null,
}

/// A value has more levels than a writer follows; what was appended of it is to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDeep;

/// Appends a msgpack value as JSON. Of repeated keys the last is written. Nothing is appended for bytes that
/// are no value.
///
/// # Errors
/// [`TooDeep`].
pub fn put_json(value: &[u8], options: JsonOptions, out: &mut Vec<u8>) -> Result<(), TooDeep> {
    put_level(value, options, NESTING_MAX, out)
}

/// Appends a value that may have so many levels below it.
fn put_level(
    value: &[u8],
    options: JsonOptions,
    levels: usize,
    out: &mut Vec<u8>,
) -> Result<(), TooDeep> {
    let mut rest = value;
    let Some(head) = read_head(&mut rest) else { return Ok(()) };
    match head {
        Head::Nil => out.extend_from_slice(b"null"),
        Head::Bool(true) => out.extend_from_slice(b"true"),
        Head::Bool(false) => out.extend_from_slice(b"false"),
        Head::Uint(number) => put_integer(out, number),
        Head::Int(number) => put_integer(out, number),
        Head::Float(number) => put_float(number, options.nan, out),
        Head::Str(text) | Head::Bin(text) => put_string(text, options.unicode, out),
        Head::Ext(_, bytes) => {
            out.push(b'"');
            for byte in bytes {
                // Writing to a Vec cannot fail.
                let _ = write!(out, "\\x{byte:02x}");
            }
            out.push(b'"');
        }
        Head::Array(count) => {
            let levels = levels.checked_sub(1).ok_or(TooDeep)?;
            out.push(b'[');
            for index in 0..count {
                let Some(item) = take_value(&mut rest) else { break };
                if index > 0 {
                    out.push(b',');
                }
                put_level(item, options, levels, out)?;
            }
            out.push(b']');
        }
        Head::Map(_) => {
            let levels = levels.checked_sub(1).ok_or(TooDeep)?;
            out.push(b'{');
            for (index, entry) in Entries::of(value).iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                put_entry(*entry, options, levels, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// The entries of a map that are written: of repeated text keys only the last.
pub struct Entries<'a> {
    kept: SmallVec<[Entry<'a>; 16]>,
}

/// Key and value.
type Entry<'a> = (&'a [u8], &'a [u8]);

/// Entries from which on a set finds the repeated keys: a map may have a million.
const SET_MIN: usize = 32;

impl<'a> Entries<'a> {
    /// Of a map; none of another value.
    pub fn of(map: &'a [u8]) -> Entries<'a> {
        let mut kept: SmallVec<[Entry<'a>; 16]> = map_entries(map).collect();
        if kept.len() < SET_MIN {
            for index in (0..kept.len().saturating_sub(1)).rev() {
                let key = text_key(kept[index].0);
                if key.is_some()
                    && kept[index + 1..].iter().any(|(other, _)| text_key(other) == key)
                {
                    kept.remove(index);
                }
            }
        } else {
            let mut seen = HashSet::new();
            kept.reverse();
            kept.retain(|(key, _)| text_key(key).is_none_or(|key| seen.insert(key)));
            kept.reverse();
        }
        Entries { kept }
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.kept.iter()
    }

    /// Whether there is a text key of these bytes.
    pub fn has(&self, key: &[u8]) -> bool {
        self.kept.iter().any(|(other, _)| text_key(other) == Some(key))
    }
}

fn text_key(key: &[u8]) -> Option<&[u8]> {
    match read_head(&mut &key[..]) {
        Some(Head::Str(text)) => Some(text),
        _ => None,
    }
}

/// What a key that is no text has of the levels around it, as a divisor: four keys within each other at most.
pub const KEY_LEVELS_SHARE: usize = 4;

/// Appends `"key":value`.
///
/// # Errors
/// [`TooDeep`].
pub fn put_entry(
    (key, value): Entry<'_>,
    options: JsonOptions,
    levels: usize,
    out: &mut Vec<u8>,
) -> Result<(), TooDeep> {
    match read_head(&mut &key[..]) {
        Some(Head::Str(text) | Head::Bin(text)) => put_string(text, options.unicode, out),
        // A key of another type is written as its text in quotes, to stay JSON. Each key within a key doubles the
        // backslashes again, so their levels end soon: 300 bytes of them would become gigabytes.
        _ => {
            let mut text = Vec::new();
            put_level(key, options, levels / KEY_LEVELS_SHARE, &mut text)?;
            put_string(&text, options.unicode, out);
        }
    }
    out.push(b':');
    put_level(value, options, levels, out)
}

/// Appends an integer.
pub fn put_integer(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends an integer that is most often a short one.
#[inline]
pub fn put_unsigned(out: &mut Vec<u8>, number: u64) {
    if number >= 100_000_000 {
        return put_integer(out, number);
    }
    let digits = eight_digits(number);
    let zeros = (digits.trailing_zeros() / 8).min(7);
    let text = digits >> (8 * zeros) | 0x3030_3030_3030_3030;
    let end = out.len() + 8 - zeros as usize;
    out.extend_from_slice(&text.to_le_bytes());
    out.truncate(end);
}

/// The eight digits of a number below 10^8, as numbers, the first in the lowest byte.
#[inline]
fn eight_digits(number: u64) -> u64 {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let pairs = hundreds | (fours - hundreds * 100) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (pairs - tens * 10) << 8
}

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

/// Whole numbers that fit 64 bits with one decimal (`3.0`), others with up to 16 significant digits as C's `%g` writes them.
pub fn put_float(number: f64, nan: Nan, out: &mut Vec<u8>) {
    if number.is_nan() {
        let word: &[u8] = match (nan, number.is_sign_negative()) {
            (Nan::Null, _) => b"null",
            (Nan::Word, true) => b"-nan",
            (Nan::Word, false) => b"nan",
        };
        out.extend_from_slice(word);
        return;
    }
    if number.is_infinite() {
        out.extend_from_slice(if number > 0.0 { b"inf" } else { b"-inf" });
        return;
    }
    // Fluent Bit compares with what becomes of the number in an integer of 64 bits.
    let is_whole = number.trunc() == number && (-TWO_TO_63..TWO_TO_63).contains(&number);
    if is_whole {
        if number == 0.0 && number.is_sign_negative() {
            out.push(b'-');
        }
        put_integer(out, number as i64);
        out.extend_from_slice(b".0");
        return;
    }
    if !put_decimal(number, out) {
        put_general(number, 16, out);
    }
}

/// Powers of ten.
const POWERS: [u64; 20] = {
    let mut powers = [1; 20];
    let mut index = 1;
    while index < 20 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// Appends a number with 16 significant digits, without the zeros at their end, where that takes no exponent:
/// exactly, in whole numbers of 128 bits. `false`, and nothing appended, for others.
fn put_decimal(number: f64, out: &mut Vec<u8>) -> bool {
    const DIGITS: u32 = 16;
    let magnitude = number.abs();
    if !(1e-4..1e15).contains(&magnitude) {
        return false;
    }
    // Digits before the point; where there is none but zeros, less than none.
    let digits_before = match magnitude as u64 {
        0 => -([1e-1, 1e-2, 1e-3].iter().filter(|limit| magnitude < **limit).count() as i32),
        whole => whole.ilog10() as i32 + 1,
    };
    let decimals = (DIGITS as i32 - digits_before) as u32;
    // number = mantissa / 2^shift; both factors fit.
    let bits = magnitude.to_bits();
    let mantissa = (bits & ((1 << 52) - 1)) | 1 << 52;
    let shift = 1075 - (bits >> 52) as u32;
    if shift > 126 {
        return false;
    }
    let scaled = u128::from(mantissa) * u128::from(POWERS[decimals as usize]);
    let mut digits = (scaled >> shift) as u64;
    let rest = scaled & ((1 << shift) - 1);
    let half = (1u128 << shift) >> 1;
    if rest > half || (rest == half && shift > 0 && digits & 1 == 1) {
        digits += 1;
    }
    // The limits above are not exact, and a carry makes a digit more.
    if !(POWERS[DIGITS as usize - 1]..POWERS[DIGITS as usize]).contains(&digits) {
        return false;
    }
    if number < 0.0 {
        out.push(b'-');
    }
    // The first digit in the lowest byte.
    let low = u128::from(eight_digits(digits % 100_000_000)) << 64;
    let text = low | u128::from(eight_digits(digits / 100_000_000));
    let length = 16 - (text.leading_zeros() / 8) as usize;
    let text = (text | 0x3030_3030_3030_3030_3030_3030_3030_3030).to_le_bytes();
    match usize::try_from(digits_before) {
        // A point between the digits.
        Ok(before @ 1..16) if before < length => {
            let end = out.len() + length + 1;
            let mut row = [0; 17];
            row[..16].copy_from_slice(&text);
            row.copy_within(before..16, before + 1);
            row[before] = b'.';
            out.extend_from_slice(&row);
            out.truncate(end);
        }
        Ok(before @ 1..) => {
            out.extend_from_slice(&text[..before.min(16)]);
            out.resize(out.len() + before.saturating_sub(16), b'0');
        }
        _ => {
            out.extend_from_slice(&b"0.000"[..2 + digits_before.unsigned_abs() as usize]);
            out.extend_from_slice(&text[..length]);
        }
    }
    true
}

/// C's `%.{digits}g`, written in place.
pub fn put_general(number: f64, digits: usize, out: &mut Vec<u8>) {
    let start = out.len();
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{number:.*e}", digits - 1);
    let mark = out[start..].iter().rposition(|byte| *byte == b'e').unwrap_or(out.len() - start);
    let mark = start + mark;
    let exponent = std::str::from_utf8(&out[mark..]).ok();
    let exponent = exponent.and_then(|text| text.strip_prefix('e')?.parse::<i32>().ok());
    let exponent = exponent.unwrap_or(0);
    if exponent < -4 || exponent >= digits as i32 {
        out.truncate(mark);
        trim_zeros(start, out);
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "e{sign}{:02}", exponent.abs());
        return;
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    out.truncate(start);
    let _ = write!(out, "{number:.decimals$}");
    trim_zeros(start, out);
}

/// Takes the zeros off the end of a fraction, and its point when nothing is left of it.
fn trim_zeros(start: usize, out: &mut Vec<u8>) {
    if out[start..].contains(&b'.') {
        let zeros = out.iter().rev().take_while(|byte| **byte == b'0').count();
        out.truncate(out.len() - zeros);
        out.pop_if(|byte| *byte == b'.');
    }
}

/// Appends a string in quotes.
pub fn put_string(text: &[u8], unicode: Unicode, out: &mut Vec<u8>) {
    put_text(text, text.len(), unicode, out);
}

/// Appends the string that `source` begins with, of so many bytes, in quotes. What is behind it is not used, but
/// makes copies faster.
#[inline]
pub fn put_text(source: &[u8], length: usize, unicode: Unicode, out: &mut Vec<u8>) {
    out.push(b'"');
    let plain = put_plain_front(source, length, out);
    if plain < length {
        put_rest(&source[plain..length], unicode, out);
    }
    out.push(b'"');
}

/// Appends a text that begins with a byte that needs an escape.
fn put_rest(text: &[u8], unicode: Unicode, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(first) = rest.first() {
        if first.is_ascii() {
            put_escape(*first, out);
            rest = &rest[1..];
        } else {
            let taken = put_beyond_ascii(rest, unicode, out);
            rest = &rest[taken..];
        }
        let plain = put_plain_front(rest, rest.len(), out);
        rest = &rest[plain..];
    }
}

fn put_escape(byte: u8, out: &mut Vec<u8>) {
    let letter = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        8 => b'b',
        12 => b'f',
        _ => {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "\\u{byte:04x}");
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

/// Writes the character or the broken byte that `rest` begins with; returns how many bytes it took.
fn put_beyond_ascii(rest: &[u8], unicode: Unicode, out: &mut Vec<u8>) -> usize {
    let window = &rest[..rest.len().min(4)];
    let letter = match std::str::from_utf8(window) {
        Ok(text) => text.chars().next(),
        Err(error) => {
            let valid = &window[..error.valid_up_to()];
            std::str::from_utf8(valid).ok().and_then(|text| text.chars().next())
        }
    };
    let mut buffer = [0; 4];
    match (letter, unicode) {
        (Some(letter), Unicode::Raw) => {
            out.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
            letter.len_utf8()
        }
        (Some(letter), Unicode::Escaped) => {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                // Writing to a Vec cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
            letter.len_utf8()
        }
        (None, Unicode::Raw) => {
            out.extend_from_slice("\u{fffd}".as_bytes());
            1
        }
        (None, Unicode::Escaped) => {
            // Fluent Bit on x86-64: the byte as a private-use character, U+E000 plus its value, unescaped.
            let private = char::from_u32(0xe000 + u32::from(rest[0])).unwrap_or('\u{fffd}');
            out.extend_from_slice(private.encode_utf8(&mut buffer).as_bytes());
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn float(number: f64) -> String {
        let mut out = Vec::new();
        put_float(number, Nan::Word, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn string(text: &[u8], unicode: Unicode) -> Vec<u8> {
        let mut out = Vec::new();
        put_string(text, unicode, &mut out);
        out
    }

    #[test]
    fn floats_follow_fluent_bits_rule() {
        let table = [
            (3.0, "3.0"),
            (0.1, "0.1"),
            (1.5, "1.5"),
            (1700000000.123_456_7, "1700000000.123457"),
            (1e21, "1e+21"),
            (1e16, "10000000000000000.0"),
            (-9_223_372_036_854_775_808.0, "-9223372036854775808.0"),
            (9.3e18, "9.3e+18"),
            (-0.0, "-0.0"),
            (1e-7, "1e-07"),
            (0.0001, "0.0001"),
            (-0.5, "-0.5"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (number, expected) in table {
            assert_eq!(float(number), expected);
        }
    }

    #[test]
    fn strings_escape_as_fluent_bit_on_x86() {
        let escaped = |text: &[u8]| string(text, Unicode::Escaped);
        assert_eq!(
            escaped("hi \u{e9}\u{1f600}\n\u{1}\u{7f}\"\\/".as_bytes()),
            br#""hi \u00e9\ud83d\ude00\n\u0001\u007f\"\\/""#
        );
        assert_eq!(escaped(b"\xff"), b"\"\xee\x83\xbf\"");
        assert_eq!(escaped(b"\xc3"), b"\"\xee\x83\x83\"");
        assert_eq!(string("\u{e9}".as_bytes(), Unicode::Raw), "\"\u{e9}\"".as_bytes());
        assert_eq!(string(b"a\xffb", Unicode::Raw), "\"a\u{fffd}b\"".as_bytes());
    }

    fn json(value: &[u8]) -> Result<String, TooDeep> {
        let mut out = Vec::new();
        put_json(value, JsonOptions::default(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_last_of_repeated_text_keys_is_written() {
        let bytes = [
            0x86, 0xa1, b'a', 1, 0xa1, b'b', 0x92, 0xc0, 0xc3, 0xd9, 1, b'a', 2, 5, 0xc4, 1, b'z',
            5, 6, 0xc4, 1, b'a', 7,
        ];
        let expected = r#"{"b":[null,true],"a":2,"5":"z","5":6,"a":7}"#;
        assert_eq!(json(&bytes).unwrap(), expected);
    }

    #[test]
    fn repeated_keys_of_large_maps_are_found_too() {
        let mut map = vec![0xde, 0, 100];
        for index in 0..100u8 {
            map.extend_from_slice(&[0xa1, b'a' + index % 4, index & 0x7f]);
        }
        assert_eq!(json(&map).unwrap(), r#"{"a":96,"b":97,"c":98,"d":99}"#);
    }

    #[test]
    fn a_value_of_ten_thousand_levels_is_refused() {
        let mut deep = vec![0x91; 10_000];
        deep.push(1);
        assert_eq!(json(&deep), Err(TooDeep));
        let mut allowed = vec![0x91; NESTING_MAX];
        allowed.push(1);
        assert_eq!(json(&allowed).unwrap().len(), 2 * NESTING_MAX + 1);
    }

    #[test]
    fn maps_that_are_keys_of_maps_end_before_their_escapes_grow() {
        // {{7: 0}: 0}
        let keys = |depth: usize| [vec![0x81; depth], vec![7], vec![0; depth]].concat();
        assert_eq!(json(&keys(2)).unwrap(), r#"{"{\"7\":0}":0}"#);
        assert_eq!(json(&keys(4)).unwrap().len(), 47);
        assert_eq!(json(&keys(5)), Err(TooDeep));
        assert_eq!(json(&keys(60)), Err(TooDeep));
    }

    fn fraction() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<f64>(),
            -1e16..1e16,
            -1.0..1.0,
            (any::<i64>(), 0u32..64, 0i32..20)
                .prop_map(|(n, s, p)| (n >> s) as f64 / 10f64.powi(p)),
            (any::<i64>(), 0u32..64, 0i32..20).prop_map(|(n, s, p)| (n >> s) as f64 / 2f64.powi(p)),
        ]
    }

    proptest! {
        #[test]
        fn unsigned_numbers_are_written(number in any::<u64>(), shift in 0u32..64) {
            let number = number >> shift;
            let mut out = Vec::new();
            put_unsigned(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }

        #[test]
        fn decimals_are_written_as_the_general_form_writes_them(number in fraction()) {
            let (mut out, mut twin) = (Vec::new(), Vec::new());
            if put_decimal(number, &mut out) {
                put_general(number, 16, &mut twin);
                prop_assert_eq!(String::from_utf8(out), String::from_utf8(twin));
            } else {
                prop_assert!(out.is_empty());
            }
            if number.trunc() == number && number.abs() < 9e18 {
                prop_assert_eq!(float(number), format!("{number:.1}"));
            }
        }
    }
}
