//! `template`: text with `{key}` in it, cut into pieces once.

use std::io::Write;

use crate::codec::json_text::TooDeep;
use crate::codec::msgpack_text::put_text;
use crate::event::msgpack::{Head, map_entries, read_head};
use crate::event::reader::Event;

/// A template.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    /// Written as it is.
    Text(String),
    /// `{time}`: seconds with six decimals.
    Time,
    /// `{key}`: the value of a top-level key, or itself where a record lacks the key.
    Key(String),
}

impl Template {
    /// Cuts a template. Any text is one: an open brace that is never closed is text, and of `{a{b}` only
    /// `{b}` is a key.
    pub(super) fn parse(text: &str) -> Template {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(close) = rest.find('}') {
            let Some(open) = rest[..close].rfind('{') else {
                push_text(&mut pieces, &rest[..=close]);
                rest = &rest[close + 1..];
                continue;
            };
            push_text(&mut pieces, &rest[..open]);
            pieces.push(match &rest[open + 1..close] {
                "time" => Piece::Time,
                key => Piece::Key(key.to_owned()),
            });
            rest = &rest[close + 1..];
        }
        push_text(&mut pieces, rest);
        Template { pieces }
    }

    /// Appends a record, without a line end.
    pub(super) fn put_record(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), TooDeep> {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                // Writing to a Vec cannot fail.
                Piece::Time => drop(write!(out, "{:.6}", event.time.as_f64())),
                Piece::Key(key) => put_value(event.body, key, out)?,
            }
        }
        Ok(())
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(before)) => before.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

/// The value of the first entry with this key: text as it is, anything else in the notation of stdout.
fn put_value(body: &[u8], key: &str, out: &mut Vec<u8>) -> Result<(), TooDeep> {
    let is_key = |entry: &[u8]| match read_head(&mut &entry[..]) {
        Some(Head::Str(name) | Head::Bin(name)) => name == key.as_bytes(),
        _ => false,
    };
    let Some((_, value)) = map_entries(body).find(|(name, _)| is_key(name)) else {
        out.push(b'{');
        out.extend_from_slice(key.as_bytes());
        out.push(b'}');
        return Ok(());
    };
    match read_head(&mut &value[..]) {
        Some(Head::Str(text)) => {
            out.extend_from_slice(text);
            Ok(())
        }
        _ => put_text(value, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.into())
    }

    fn key(key: &str) -> Piece {
        Piece::Key(key.into())
    }

    #[test]
    fn any_text_is_a_template() {
        let table = [
            ("{time} {message}", vec![Piece::Time, text(" "), key("message")]),
            ("a{b{c}d}e", vec![text("a{b"), key("c"), text("d}e")]),
            ("}x{", vec![text("}x{")]),
            ("{}", vec![key("")]),
            ("{tim}", vec![key("tim")]),
            ("", vec![]),
            ("plain", vec![text("plain")]),
        ];
        for (template, pieces) in table {
            assert_eq!(Template::parse(template), Template { pieces }, "{template}");
        }
    }
}
