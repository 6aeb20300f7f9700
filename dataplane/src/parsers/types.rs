//! `types`: values of chosen keys become numbers and booleans, by C's rules for texts that are none.

use crate::event::encoder::{put_bool, put_f64, put_int, put_str, put_uint};

/// What a value becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    String,
    Integer,
    Hex,
    Float,
    Bool,
}

/// The types of a parser by key; the first of a key counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Types(pub(super) Vec<(String, Type)>);

impl Types {
    /// Reads `key:type key:type`. The second value is the words that are no such pair, or name no type.
    pub(super) fn parse(text: &str) -> (Types, Vec<String>) {
        let (mut types, mut odd) = (Vec::new(), Vec::new());
        for word in text.split_ascii_whitespace() {
            let Some((key, name)) = word.split_once(':') else {
                odd.push(word.to_owned());
                continue;
            };
            let kind = match name.to_ascii_lowercase().as_str() {
                "integer" => Type::Integer,
                "hex" => Type::Hex,
                "float" => Type::Float,
                "bool" => Type::Bool,
                "string" => Type::String,
                _ => {
                    odd.push(word.to_owned());
                    Type::String
                }
            };
            types.push((key.to_owned(), kind));
        }
        (Types(types), odd)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What values of a key become.
    pub(super) fn of(&self, key: &[u8]) -> Type {
        let known = self.0.iter().find(|(name, _)| name.as_bytes() == key);
        known.map_or(Type::String, |(_, kind)| *kind)
    }

    /// Appends the value of a key.
    pub(super) fn put(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        put_typed(self.of(key), value, out);
    }
}

/// Appends a value that is to become this.
pub(super) fn put_typed(kind: Type, value: &[u8], out: &mut Vec<u8>) {
    match kind {
        Type::Integer => put_int(out, integer(value)),
        Type::Hex => put_uint(out, hex(value)),
        Type::Float => put_f64(out, float(value)),
        Type::Bool if starts_with(value, b"true") => put_bool(out, true),
        Type::Bool if starts_with(value, b"false") => put_bool(out, false),
        Type::String | Type::Bool => put_str(out, value),
    }
}

fn starts_with(value: &[u8], word: &[u8]) -> bool {
    value.get(..word.len()).is_some_and(|front| front.eq_ignore_ascii_case(word))
}

/// The sign, and what stands behind it and behind blanks.
fn signed(value: &[u8]) -> (bool, &[u8]) {
    let blanks = value.iter().take_while(|byte| **byte == b' ' || (9..=13).contains(*byte));
    match &value[blanks.count()..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    }
}

/// C's `atoll`: the digits at the front; what does not fit becomes the nearest that does.
fn integer(value: &[u8]) -> i64 {
    let (is_negative, rest) = signed(value);
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    let magnitude = digits
        .fold(0i128, |sum, digit| (sum * 10 + i128::from(digit - b'0')).min(i128::from(u64::MAX)));
    let number = if is_negative { -magnitude } else { magnitude };
    number.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// C's `strtoull` to base 16.
fn hex(value: &[u8]) -> u64 {
    let (is_negative, rest) = signed(value);
    let digits = match rest {
        [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => &rest[2..],
        _ => rest,
    };
    let digits = digits.iter().map_while(|byte| char::from(*byte).to_digit(16));
    let number = digits.fold(0u128, |sum, digit| (sum * 16 + u128::from(digit)).min(1 << 64));
    match u64::try_from(number) {
        Ok(number) if is_negative => number.wrapping_neg(),
        Ok(number) => number,
        Err(_) => u64::MAX,
    }
}

/// C's `atof` of decimal numbers.
fn float(value: &[u8]) -> f64 {
    let (is_negative, rest) = signed(value);
    let digits = |from: usize| rest[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = digits(0);
    if rest.get(end) == Some(&b'.') {
        end += 1 + digits(end + 1);
    }
    if matches!(rest.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(rest.get(end + 1), Some(b'+' | b'-')));
        let exponent = rest.get(end + 1 + sign..).map_or(0, |_| digits(end + 1 + sign));
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    let special = [("infinity", f64::INFINITY), ("inf", f64::INFINITY), ("nan", f64::NAN)];
    let named = special.iter().find(|(name, _)| starts_with(rest, name.as_bytes()));
    let text = std::str::from_utf8(&rest[..end]).unwrap_or_default();
    let number = named.map_or_else(|| text.parse().ok(), |(_, number)| Some(*number));
    // A sign alone is no number, and what is none is 0, not -0.
    let Some(number) = number else { return 0.0 };
    if is_negative { -number } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        let integers: [(&str, i64); 7] = [
            ("12ab", 12),
            (" -7", -7),
            ("+5", 5),
            ("", 0),
            ("x", 0),
            ("99999999999999999999", i64::MAX),
            ("-99999999999999999999", i64::MIN),
        ];
        for (text, expected) in integers {
            assert_eq!(integer(text.as_bytes()), expected, "{text}");
        }
        let hexes: [(&str, u64); 6] = [
            ("ff", 255),
            ("0xFFg", 255),
            ("-1", u64::MAX),
            ("0x", 0),
            ("1ffffffffffffffff", u64::MAX),
            ("", 0),
        ];
        for (text, expected) in hexes {
            assert_eq!(hex(text.as_bytes()), expected, "{text}");
        }
        let floats = [
            ("1.5x", 1.5),
            ("-.5", -0.5),
            ("2e3", 2000.0),
            ("2e", 2.0),
            ("", 0.0),
            ("1e-2e", 0.01),
            ("inf", f64::INFINITY),
            ("-0", -0.0),
            ("-x", 0.0),
            ("-.", 0.0),
        ];
        for (text, expected) in floats {
            assert_eq!(float(text.as_bytes()).to_bits(), expected.to_bits(), "{text}");
        }
    }
}
