//! JSON to msgpack in one pass, by Fluent Bit's rules.
//!
//! No tree and no second look: headers of objects and arrays are reserved and patched. Raw control bytes
//! and invalid UTF-8 in strings pass as they are, duplicate keys are both kept, an unknown escape or a lone
//! `01` is an error, `\ud800` alone becomes U+FFFD, numbers past 64 bits become doubles.

use crate::event::encoder::{put_bool, put_f64, put_int, put_nil, put_str, put_str_len, put_uint};
use crate::kernel::json_scan::{put_short_string, string_end};

/// Nesting a text may have.
pub const DEPTH_MAX: usize = 128;

/// Why a text has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// The text ends before the value does.
    Incomplete,
    /// No JSON, at this byte.
    Invalid(usize),
}

/// What kind of value was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonKind {
    /// `{...}`
    Object,
    /// `[...]`
    Array,
    /// Anything else.
    Scalar,
}

/// A value that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonValue {
    /// Bytes consumed, leading white space included.
    pub consumed: usize,
    /// What it is.
    pub kind: JsonKind,
}

/// Appends the msgpack form of the first value of `source` to `out`; white space before it is skipped.
///
/// # Errors
/// When there is no whole value; `out` is then as it was. A number at the very end is taken as whole.
pub fn encode_value(source: &[u8], out: &mut Vec<u8>) -> Result<JsonValue, JsonError> {
    let start = out.len();
    let mut encoder = Encoder { source, at: 0, out };
    encoder.skip_space();
    let kind = match source.get(encoder.at) {
        Some(b'{') => JsonKind::Object,
        Some(b'[') => JsonKind::Array,
        _ => JsonKind::Scalar,
    };
    match encoder.value(0) {
        Ok(()) => Ok(JsonValue { consumed: encoder.at, kind }),
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Appends the msgpack form of the string, number or word that `source` begins with. Returns the bytes consumed, or
/// `None`, with `out` as it was, where it begins with none.
pub fn encode_scalar(source: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    if matches!(source.first(), None | Some(b'{' | b'[')) {
        return None;
    }
    let start = out.len();
    let mut encoder = Encoder { source, at: 0, out };
    match encoder.value(0) {
        Ok(()) => Some(encoder.at),
        Err(_) => {
            out.truncate(start);
            None
        }
    }
}

/// Bytes a msgpack value may need for so many bytes of JSON: `[` is one byte and reserves five, and `1,` is
/// two and becomes one.
pub fn room_for(source_bytes: usize) -> usize {
    source_bytes * 9 / 2 + 64
}

struct Encoder<'a> {
    source: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
}

impl Encoder<'_> {
    #[inline]
    fn peek(&self) -> Result<u8, JsonError> {
        self.source.get(self.at).copied().ok_or(JsonError::Incomplete)
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.source.get(self.at) {
            self.at += 1;
        }
    }

    fn invalid<T>(&self) -> Result<T, JsonError> {
        Err(JsonError::Invalid(self.at))
    }

    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' => self.container(b'}', depth),
            b'[' => self.container(b']', depth),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(b"true", |out| put_bool(out, true)),
            b'f' => self.word(b"false", |out| put_bool(out, false)),
            b'n' => self.word(b"null", put_nil),
            _ => self.invalid(),
        }
    }

    fn word(&mut self, word: &[u8], put: impl Fn(&mut Vec<u8>)) -> Result<(), JsonError> {
        let rest = &self.source[self.at..];
        if rest.starts_with(word) {
            self.at += word.len();
            put(self.out);
            return Ok(());
        }
        if rest.len() < word.len() && word.starts_with(rest) {
            return Err(JsonError::Incomplete);
        }
        self.invalid()
    }

    /// An object or an array. One byte is reserved for its header; only a count above 15 moves bytes.
    fn container(&mut self, close: u8, depth: usize) -> Result<(), JsonError> {
        if depth >= DEPTH_MAX {
            return self.invalid();
        }
        let header = self.out.len();
        self.out.push(0);
        self.at += 1;
        let mut count = 0usize;
        self.skip_space();
        if self.peek()? == close {
            self.at += 1;
        } else {
            loop {
                if close == b'}' {
                    self.key()?;
                }
                self.value(depth + 1)?;
                count += 1;
                self.skip_space();
                match self.peek()? {
                    b',' => self.at += 1,
                    byte if byte == close => {
                        self.at += 1;
                        break;
                    }
                    _ => return self.invalid(),
                }
                self.skip_space();
            }
        }
        self.patch_header(header, close, count);
        Ok(())
    }

    #[inline]
    fn key(&mut self) -> Result<(), JsonError> {
        if self.peek()? != b'"' {
            return self.invalid();
        }
        self.string()?;
        self.skip_space();
        if self.peek()? != b':' {
            return self.invalid();
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn patch_header(&mut self, header: usize, close: u8, count: usize) {
        let is_map = close == b'}';
        if count <= 15 {
            self.out[header] = if is_map { 0x80 } else { 0x90 } | count as u8;
            return;
        }
        let wide = if is_map { 0xde } else { 0xdc };
        match u16::try_from(count) {
            Ok(count) => {
                let [a, b] = count.to_be_bytes();
                self.out.splice(header..=header, [wide, a, b]);
            }
            Err(_) => {
                let [a, b, c, d] = (count as u32).to_be_bytes();
                self.out.splice(header..=header, [wide + 1, a, b, c, d]);
            }
        }
    }

    #[inline]
    fn string(&mut self) -> Result<(), JsonError> {
        let text = &self.source[self.at + 1..];
        if let Some(length) = put_short_string(text, self.out) {
            self.at += length + 2;
            return Ok(());
        }
        let length = string_end(text);
        match text.get(length) {
            Some(b'"') => {
                put_str(self.out, &text[..length]);
                self.at += length + 2;
                Ok(())
            }
            Some(_) => self.escaped_string(length),
            None => Err(JsonError::Incomplete),
        }
    }

    /// A string with escapes: unescaped behind a header of one byte, which makes room for a longer one at the end.
    /// `first` bytes at its front are plain.
    #[cold]
    fn escaped_string(&mut self, first: usize) -> Result<(), JsonError> {
        let header = self.out.len();
        self.out.push(0xa0);
        self.at += 1;
        let mut plain = first;
        loop {
            self.out.extend_from_slice(&self.source[self.at..self.at + plain]);
            self.at += plain;
            match self.peek()? {
                b'"' => break,
                _ => self.escape()?,
            }
            plain = string_end(&self.source[self.at..]);
        }
        self.at += 1;
        let length = self.out.len() - header - 1;
        if length < 32 {
            self.out[header] = 0xa0 | length as u8;
            return Ok(());
        }
        let end = self.out.len();
        put_str_len(self.out, length);
        let header_bytes = self.out.len() - end;
        let mut head = [0; 5];
        head[..header_bytes].copy_from_slice(&self.out[end..]);
        self.out.copy_within(header + 1..end, header + header_bytes);
        self.out[header..header + header_bytes].copy_from_slice(&head[..header_bytes]);
        self.out.truncate(header + header_bytes + length);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let letter = *self.source.get(self.at + 1).ok_or(JsonError::Incomplete)?;
        let byte = match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode_escape(),
            _ => return self.invalid(),
        };
        self.out.push(byte);
        self.at += 2;
        Ok(())
    }

    fn unicode_escape(&mut self) -> Result<(), JsonError> {
        let first = self.hex4(self.at + 2)?;
        self.at += 6;
        let mut code = first;
        if (0xd800..0xdc00).contains(&first) {
            code = 0xfffd;
            let rest = &self.source[self.at..];
            if rest.len() < 2 && b"\\u".starts_with(rest) {
                return Err(JsonError::Incomplete);
            }
            if rest.starts_with(b"\\u") {
                let second = self.hex4(self.at + 2)?;
                if (0xdc00..0xe000).contains(&second) {
                    code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                    self.at += 6;
                }
            }
        }
        let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn hex4(&self, at: usize) -> Result<u32, JsonError> {
        let digits = self.source.get(at..at + 4).ok_or(JsonError::Incomplete)?;
        let mut code = 0;
        for digit in digits {
            match (*digit as char).to_digit(16) {
                Some(digit) => code = code << 4 | digit,
                None => return self.invalid(),
            }
        }
        Ok(code)
    }

    #[inline]
    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let is_negative = self.source[start] == b'-';
        self.at += usize::from(is_negative);
        let digits_start = self.at;
        let mut magnitude = 0u64;
        let mut overflows = false;
        while let Some(digit @ b'0'..=b'9') = self.source.get(self.at) {
            let digit = u64::from(digit - b'0');
            let shifted = magnitude.checked_mul(10).and_then(|shifted| shifted.checked_add(digit));
            match shifted {
                Some(sum) => magnitude = sum,
                None => overflows = true,
            }
            self.at += 1;
        }
        let digit_count = self.at - digits_start;
        if digit_count == 0 {
            return if self.at == self.source.len() {
                Err(JsonError::Incomplete)
            } else {
                self.invalid()
            };
        }
        if digit_count > 1 && self.source[digits_start] == b'0' {
            return self.invalid();
        }
        if let Some(b'.' | b'e' | b'E') = self.source.get(self.at) {
            return self.float(start, magnitude);
        }
        if overflows || (is_negative && magnitude > 1 << 63) {
            return self.put_float(start);
        }
        if is_negative {
            put_int(self.out, (magnitude as i64).wrapping_neg());
        } else {
            put_uint(self.out, magnitude);
        }
        Ok(())
    }

    /// A number with a fraction or an exponent; `whole` is the value of the digits before them.
    fn float(&mut self, start: usize, whole: u64) -> Result<(), JsonError> {
        if self.source[self.at] == b'.' {
            self.at += 1;
            let fraction_start = self.at;
            self.digits()?;
            let fraction = &self.source[fraction_start..self.at];
            let has_exponent = matches!(self.source.get(self.at), Some(b'e' | b'E'));
            if !has_exponent && let Some(number) = short_decimal(whole, fraction) {
                let is_negative = self.source[start] == b'-';
                put_f64(self.out, if is_negative { -number } else { number });
                return Ok(());
            }
        }
        if let Some(b'e' | b'E') = self.source.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.source.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        self.put_float(start)
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.source.get(self.at) {
            self.at += 1;
        }
        match self.at > start {
            true => Ok(()),
            false if self.at == self.source.len() => Err(JsonError::Incomplete),
            false => self.invalid(),
        }
    }

    fn put_float(&mut self, start: usize) -> Result<(), JsonError> {
        let text = std::str::from_utf8(&self.source[start..self.at]).unwrap_or("");
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                put_f64(self.out, number);
                Ok(())
            }
            _ => Err(JsonError::Invalid(start)),
        }
    }
}

/// Powers of ten that a double holds exactly.
const EXACT_POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
/// Whole numbers below this are exact as doubles.
const EXACT_MAX: u64 = 1 << 53;

/// `whole.fraction` where digits and power of ten are exact as doubles: their quotient is then the nearest double
/// (Clinger, How to Read Floating Point Numbers Accurately, 1990). `None` where they are not.
#[inline]
fn short_decimal(whole: u64, fraction: &[u8]) -> Option<f64> {
    let power = *EXACT_POWERS.get(fraction.len())?;
    if whole >= EXACT_MAX {
        return None;
    }
    let digits = fraction.iter().try_fold(whole, |sum, digit| {
        let sum = sum * 10 + u64::from(digit - b'0');
        (sum < EXACT_MAX).then_some(sum)
    })?;
    Some(digits as f64 / power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(text: &[u8]) -> Result<(JsonValue, rmpv::Value), JsonError> {
        let mut out = Vec::new();
        let value = encode_value(text, &mut out)?;
        assert!(out.len() <= room_for(text.len()));
        let mut rest = out.as_slice();
        let decoded = rmpv::decode::read_value(&mut rest).unwrap();
        assert!(rest.is_empty());
        Ok((value, decoded))
    }

    #[test]
    fn fluent_bits_rules_hold() {
        let text = |json: &str| encode(json.as_bytes()).map(|(_, value)| value.to_string());
        let table = [
            (r#"{"a":1,"a":2}"#, r#"{"a": 1, "a": 2}"#),
            (r#"{"n":-0,"m":-0.0}"#, r#"{"n": 0, "m": -0}"#),
            (
                r#"[18446744073709551615, 18446744073709551616]"#,
                "[18446744073709551615, 18446744073709552000]",
            ),
            (
                r#"[-9223372036854775808, -9223372036854775809]"#,
                "[-9223372036854775808, -9223372036854776000]",
            ),
            (r#"["\u00e9\ud83d\ude00\ud800x"]"#, "[\"\u{e9}\u{1f600}\u{fffd}x\"]"),
            (r#"[1e-400, {}, ""]"#, r#"[0, {}, ""]"#),
            (r#""\ud800""#, "\"\u{fffd}\""),
        ];
        for (json, expected) in table {
            assert_eq!(text(json), Ok(expected.to_owned()), "{json}");
        }
        for wrong in
            [r#"{"a":"\x"}"#, "[01]", "[1,]", "NaN", "[1e400]", "{,\"a\":1}", "{\"a\" 1}", "]"]
        {
            assert!(matches!(text(wrong), Err(JsonError::Invalid(_))), "{wrong}");
        }
        for half in
            [r#"{"a""#, "[1,", "\"ab", "{\"a\":tr", "[-", "\"\\u00", r#""\ud800\"#, "", "  "]
        {
            assert_eq!(text(half), Err(JsonError::Incomplete), "{half}");
        }
    }

    #[test]
    fn control_bytes_and_invalid_utf8_pass_as_they_are() {
        let mut out = Vec::new();
        encode_value(b"\"a\x01\n\xff\"", &mut out).unwrap();
        assert_eq!(out, b"\xa4a\x01\n\xff");
    }

    #[test]
    fn what_follows_the_first_value_is_left() {
        let (value, _) = encode(b" {\"a\":1} junk").unwrap();
        assert_eq!(value, JsonValue { consumed: 8, kind: JsonKind::Object });
        let deep = "[".repeat(DEPTH_MAX + 1);
        assert!(matches!(encode(deep.as_bytes()), Err(JsonError::Invalid(_))));
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Into::into),
            ".{0,30}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(Into::into),
                proptest::collection::hash_map(".{0,8}", inner, 0..20)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn to_json(value: &rmpv::Value) -> serde_json::Value {
        match value {
            rmpv::Value::Nil => serde_json::Value::Null,
            rmpv::Value::Boolean(b) => (*b).into(),
            rmpv::Value::Integer(n) => match n.as_u64() {
                Some(n) => n.into(),
                None => n.as_i64().unwrap().into(),
            },
            rmpv::Value::F64(f) => (*f).into(),
            rmpv::Value::String(s) => s.as_str().unwrap().into(),
            rmpv::Value::Array(items) => items.iter().map(to_json).collect::<Vec<_>>().into(),
            rmpv::Value::Map(map) => serde_json::Value::Object(
                map.iter().map(|(k, v)| (k.as_str().unwrap().to_owned(), to_json(v))).collect(),
            ),
            other => panic!("{other}"),
        }
    }

    proptest! {
        #[test]
        fn whole_numbers_are_exact_up_to_64_bits_and_then_doubles(text in "-?(0|[1-9][0-9]{0,21})") {
            let (_, decoded) = encode(text.as_bytes()).unwrap();
            let expected = match (text.parse::<u64>(), text.parse::<i64>()) {
                (Ok(number), _) => rmpv::Value::from(number),
                (_, Ok(number)) => rmpv::Value::from(number),
                _ => rmpv::Value::F64(text.parse().unwrap()),
            };
            prop_assert_eq!(decoded, expected);
        }

        #[test]
        fn decimals_are_the_nearest_doubles(text in "-?(0|[1-9][0-9]{0,18})\\.[0-9]{1,20}") {
            let (_, decoded) = encode(text.as_bytes()).unwrap();
            let expected: f64 = text.parse().unwrap();
            let rmpv::Value::F64(number) = decoded else { panic!("{decoded}") };
            prop_assert_eq!(number.to_bits(), expected.to_bits());
        }

        #[test]
        fn values_equal_those_of_a_plain_decoder(value in json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.unwrap();
            let (read, decoded) = encode(text.as_bytes()).unwrap();
            prop_assert_eq!(read.consumed, text.len());
            prop_assert_eq!(to_json(&decoded), value);
        }

        #[test]
        fn mutated_text_never_panics(value in json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut text = serde_json::to_vec(&value).unwrap();
            let at = at.index(text.len());
            text[at] = byte;
            let _ = encode(&text);
        }
    }
}
