//! Fluent Bit's own notation of msgpack: `{"k"=>"v", "n"=>1.500000}`, as stdout and file print it.

use std::io::Write;

use crate::codec::json_text::{TooDeep, put_integer};
use crate::event::msgpack::{Head, map_entries, read_head, take_value};
use crate::limits::NESTING_MAX;

/// Appends a value. Strings are in quotes and raw, floats have six decimals.
///
/// # Errors
/// When the value has more levels than are followed; what was appended is to be taken back.
pub fn put_text(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooDeep> {
    put_level(value, NESTING_MAX, out)
}

fn put_level(value: &[u8], levels: usize, out: &mut Vec<u8>) -> Result<(), TooDeep> {
    let mut rest = value;
    let Some(head) = read_head(&mut rest) else { return Ok(()) };
    match head {
        Head::Nil => out.extend_from_slice(b"nil"),
        Head::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Head::Uint(number) => put_integer(out, number),
        Head::Int(number) => put_integer(out, number),
        Head::Float(number) => put_float(number, out),
        Head::Str(text) => {
            out.push(b'"');
            out.extend_from_slice(text);
            out.push(b'"');
        }
        Head::Bin(bytes) => put_bytes(bytes, out),
        Head::Ext(kind, bytes) => {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "(ext: {kind})");
            put_bytes(bytes, out);
        }
        Head::Array(count) => {
            let levels = levels.checked_sub(1).ok_or(TooDeep)?;
            out.push(b'[');
            for index in 0..count {
                let Some(item) = take_value(&mut rest) else { break };
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                put_level(item, levels, out)?;
            }
            out.push(b']');
        }
        Head::Map(_) => {
            let levels = levels.checked_sub(1).ok_or(TooDeep)?;
            out.push(b'{');
            for (index, (key, value)) in map_entries(value).enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                put_level(key, levels, out)?;
                out.extend_from_slice(b"=>");
                put_level(value, levels, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// As C's `%f` writes it.
fn put_float(number: f64, out: &mut Vec<u8>) {
    let word: &[u8] = match (number.is_nan(), number.is_sign_negative()) {
        (true, true) => b"-nan",
        (true, false) => b"nan",
        // Writing to a Vec cannot fail.
        (false, _) => return drop(write!(out, "{number:.6}")),
    };
    out.extend_from_slice(word);
}

/// Bytes in quotes: what is printable as it is, but for quotes, the rest in hexadecimal.
fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in bytes {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            0x20..=0x7e => out.push(*byte),
            // Writing to a Vec cannot fail.
            _ => drop(write!(out, "\\x{byte:02x}")),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::encode_value;

    #[test]
    fn values_print_as_fluent_bit_prints_them() {
        let mut value = Vec::new();
        let json =
            r#"{"log":"hi \"é","n":3,"f":1.5,"nest":{"a":[1,-2]},"t":true,"z":null,"e":{},"l":[]}"#;
        encode_value(json.as_bytes(), &mut value).unwrap();
        let mut out = Vec::new();
        put_text(&value, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"log\"=>\"hi \"é\", \"n\"=>3, \"f\"=>1.500000, \"nest\"=>{\"a\"=>[1, -2]}, \
             \"t\"=>true, \"z\"=>nil, \"e\"=>{}, \"l\"=>[]}"
        );
    }

    #[test]
    fn bytes_and_odd_numbers_print_as_c_prints_them() {
        let table: [(&[u8], &str); 5] = [
            (&[0xc4, 4, b'a', b'"', 0, 0xff], r#""a\"\x00\xff""#),
            (&[0xd4, 0xff, b'x'], r#"(ext: -1)"x""#),
            (&[0xca, 0x7f, 0xc0, 0, 0], "nan"),
            (&[0xca, 0xff, 0xc0, 0, 0], "-nan"),
            (&[0xca, 0xff, 0x80, 0, 0], "-inf"),
        ];
        for (value, expected) in table {
            let mut out = Vec::new();
            put_text(value, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        let mut deep = vec![0x91; 10_000];
        deep.push(1);
        assert_eq!(put_text(&deep, &mut Vec::new()), Err(TooDeep));
    }
}
