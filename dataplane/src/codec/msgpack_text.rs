//! Fluent Bit's own notation of msgpack: `{"k"=>"v", "n"=>1.500000}`, as stdout and file print it.

use std::io::Write;

use crate::event::msgpack::{Head, map_entries, read_head, take_value};

/// Appends a value. Strings are in quotes and raw, floats have six decimals.
pub fn put_text(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    let Some(head) = read_head(&mut rest) else { return };
    match head {
        Head::Nil => out.extend_from_slice(b"nil"),
        Head::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Head::Uint(number) => crate::codec::json_text::put_integer(out, number),
        Head::Int(number) => crate::codec::json_text::put_integer(out, number),
        // Writing to a Vec cannot fail.
        Head::Float(number) => drop(write!(out, "{number:.6}")),
        Head::Str(text) | Head::Bin(text) => put_quoted(text, out),
        Head::Ext(kind, bytes) => {
            let _ = write!(out, "(ext: {kind})");
            put_quoted(bytes, out);
        }
        Head::Array(count) => {
            out.push(b'[');
            for index in 0..count {
                let Some(item) = take_value(&mut rest) else { break };
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                put_text(item, out);
            }
            out.push(b']');
        }
        Head::Map(_) => {
            out.push(b'{');
            for (index, (key, value)) in map_entries(value).enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                put_text(key, out);
                out.extend_from_slice(b"=>");
                put_text(value, out);
            }
            out.push(b'}');
        }
    }
}

fn put_quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text);
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
        put_text(&value, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"log\"=>\"hi \"é\", \"n\"=>3, \"f\"=>1.500000, \"nest\"=>{\"a\"=>[1, -2]}, \
             \"t\"=>true, \"z\"=>nil, \"e\"=>{}, \"l\"=>[]}"
        );
    }
}
