//! Record accessors: `$log`, `$a['b'][0]`, and templates such as `$TAG[1].$kubernetes['pod']`, compiled at start.
//!
//! The grammar is Fluent Bit's: a key begins with a letter or `_` and goes on with letters, digits and `_ . - /`;
//! in a template it ends at a dot, blank, comma or quote outside of brackets. Of repeated keys the last counts.

use std::io::Write;

use crate::codec::json_text::{JsonOptions, put_json};
use crate::event::msgpack::{Head, map_get, read_head, take_value};
use crate::event::record::Record;

/// The way to one value of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accessor {
    key: Box<[u8]>,
    steps: Box<[Step]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(Box<[u8]>),
    Index(usize),
}

impl Accessor {
    /// A plain key, taken as it is.
    pub fn key(name: &str) -> Accessor {
        Accessor { key: name.as_bytes().into(), steps: Box::default() }
    }

    /// `$key['sub'][0]`, or a plain key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Accessor, String> {
        match text.strip_prefix('$') {
            None => Ok(Accessor::key(text)),
            Some(path) => parse_path(path).map_err(|reason| format!("`{text}` {reason}")),
        }
    }

    /// As [`parse`](Self::parse), where the `$` may be left out of a path too.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_bare(text: &str) -> Result<Accessor, String> {
        match text.contains('[') && !text.starts_with('$') {
            true => Accessor::parse(&format!("${text}")),
            false => Accessor::parse(text),
        }
    }

    /// The value, as msgpack. `None` when the record does not have it.
    pub fn get<'r>(&self, record: &'r Record<'_>) -> Option<&'r [u8]> {
        self.descend(record.get(&self.key)?)
    }

    /// The value within a map.
    pub fn get_in<'r>(&self, map: &'r [u8]) -> Option<&'r [u8]> {
        self.descend(map_get(map, &self.key)?)
    }

    fn descend<'r>(&self, mut value: &'r [u8]) -> Option<&'r [u8]> {
        for step in &self.steps {
            value = match step {
                Step::Key(name) => map_get(value, name)?,
                Step::Index(index) => {
                    let mut rest = value;
                    let Head::Array(count) = read_head(&mut rest)? else { return None };
                    if *index >= count {
                        return None;
                    }
                    for _ in 0..*index {
                        take_value(&mut rest)?;
                    }
                    take_value(&mut rest)?
                }
            };
        }
        Some(value)
    }
}

/// Where a path ends: at a dot, blank, comma or quote outside of brackets.
fn path_end(text: &str) -> (&str, &str) {
    let mut is_quoted = false;
    let end = text.find(|c: char| {
        is_quoted ^= c == '\'';
        !is_quoted && matches!(c, '.' | ' ' | ',' | '"' | '$')
    });
    text.split_at(end.unwrap_or(text.len()))
}

/// What stands behind the `$`.
fn parse_path(path: &str) -> Result<Accessor, String> {
    let end = path.find('[').unwrap_or(path.len());
    let (key, mut rest) = path.split_at(end);
    if !is_identifier(key) {
        return Err("is no key of a record: write `$key`, `$key['sub']` or `$key[0]`".to_owned());
    }
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, after) = parse_step(rest).ok_or_else(|| {
            format!("is no key of a record at `{rest}`: write `['sub']` or `[0]`")
        })?;
        steps.push(step);
        rest = after;
    }
    Ok(Accessor { key: key.as_bytes().into(), steps: steps.into() })
}

fn is_identifier(key: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte);
    key.bytes().all(is_part)
        && key.starts_with(|first: char| first == '_' || first.is_ascii_alphabetic())
}

/// `['sub']`, in which `''` is a quote, or `[0]`; and what follows.
fn parse_step(text: &str) -> Option<(Step, &str)> {
    let inner = text.strip_prefix('[')?.trim_start();
    let Some(mut quoted) = inner.strip_prefix('\'') else {
        let (number, rest) = inner.split_once(']')?;
        return Some((Step::Index(number.trim().parse().ok()?), rest));
    };
    let mut name = String::new();
    loop {
        let (part, rest) = quoted.split_once('\'')?;
        name += part;
        match rest.strip_prefix('\'') {
            Some(more) => {
                name.push('\'');
                quoted = more;
            }
            None => {
                let rest = rest.trim_start().strip_prefix(']')?;
                return Some((Step::Key(name.as_bytes().into()), rest));
            }
        }
    }
}

/// Text with accessors, tags and captures in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<[u8]>),
    Value(Accessor),
    Tag,
    /// One of the parts of the tag between dots.
    SplitTag(usize),
    Capture(usize),
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            push_text(&mut parts, &rest[..at]);
            let (part, after) = parse_part(&rest[at + 1..])?;
            parts.push(part);
            rest = after;
        }
        push_text(&mut parts, rest);
        Ok(Template { parts: parts.into() })
    }

    /// Appends the text for a record. `capture` gives the text of a group. Returns whether every value was there;
    /// what is missing leaves nothing.
    pub fn put<'c>(
        &self,
        record: &Record<'_>,
        capture: impl Fn(usize) -> Option<&'c [u8]>,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut is_whole = true;
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Tag => out.extend_from_slice(record.tag()),
                Part::SplitTag(index) => {
                    let part = record.tag().split(|byte| *byte == b'.').nth(*index);
                    out.extend_from_slice(part.unwrap_or_default());
                }
                Part::Capture(index) => {
                    out.extend_from_slice(capture(*index).unwrap_or_default());
                }
                Part::Value(accessor) => match accessor.get(record) {
                    Some(value) => put_plain(value, out),
                    None => is_whole = false,
                },
            }
        }
        is_whole
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.as_bytes().into()));
    }
}

/// What stands behind a `$`, and what follows it.
fn parse_part(text: &str) -> Result<(Part, &str), String> {
    if let Some(digit) = text.bytes().next().filter(u8::is_ascii_digit) {
        return Ok((Part::Capture(usize::from(digit - b'0')), &text[1..]));
    }
    if let Some(rest) = text.strip_prefix("TAG") {
        let Some(inner) = rest.strip_prefix('[') else { return Ok((Part::Tag, rest)) };
        let part = inner
            .split_once(']')
            .and_then(|(number, rest)| Some((Part::SplitTag(number.trim().parse().ok()?), rest)));
        return part.ok_or_else(|| format!("`$TAG{rest}`: write `$TAG[0]` for a part of the tag"));
    }
    let (path, rest) = path_end(text);
    let accessor = parse_path(path).map_err(|reason| format!("`${path}` {reason}"))?;
    Ok((Part::Value(accessor), rest))
}

/// A value as text without quotes: strings as they are, bytes in hexadecimal, the rest as JSON writes it.
fn put_plain(value: &[u8], out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = match read_head(&mut &value[..]) {
        Some(Head::Str(text)) => return out.extend_from_slice(text),
        Some(Head::Bin(bytes)) => bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}")),
        Some(Head::Float(number)) => write!(out, "{number:.6}"),
        // As in Fluent Bit, an array says nothing.
        Some(Head::Array(_) | Head::Ext(..)) | None => return,
        Some(_) => {
            let start = out.len();
            if put_json(value, JsonOptions::default(), out).is_err() {
                out.truncate(start);
            }
            return;
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::encode_value;
    use crate::event::encoder::event_header;
    use crate::event::reader::Events;
    use crate::event::record::Workspace;
    use crate::event::time::EventTime;

    const RECORD: &str = r#"{"a":{"b":["x",{"c d":5}],"it's":1},"k.v":2,"d":3,"d":4,"n":null}"#;

    fn with_record<T>(look: impl FnOnce(&Record<'_>) -> T) -> T {
        let mut bytes = Vec::new();
        event_header(&mut bytes, EventTime::default());
        encode_value(RECORD.as_bytes(), &mut bytes).unwrap();
        let event = Events::new(&bytes).next().unwrap().unwrap();
        let mut work = Workspace::default();
        look(&Record::new(b"app.web.one", event, &mut work).unwrap())
    }

    #[test]
    fn paths_lead_to_values() {
        let table: [(&str, Option<&[u8]>); 12] = [
            ("$a['b'][0]", Some(&[0xa1, b'x'])),
            ("$a['b'][1]['c d']", Some(&[5])),
            ("$a[ 'it''s' ]", Some(&[1])),
            ("$a['b'][2]", None),
            ("$a['x']", None),
            ("$d['x']", None),
            ("$a['b']['x']", None),
            ("$k.v", Some(&[2])),
            ("k.v", Some(&[2])),
            // Of repeated keys the last counts.
            ("d", Some(&[4])),
            ("$n", Some(&[0xc0])),
            ("a['b']", None),
        ];
        for (text, expected) in table {
            let accessor = Accessor::parse(text).unwrap();
            with_record(|record| assert_eq!(accessor.get(record), expected, "{text}"));
        }
        assert_eq!(Accessor::parse_bare("a['b'][0]"), Accessor::parse("$a['b'][0]"));
        for wrong in ["$", "$1", "$a[", "$a[x]", "$a['b'", "$a['b]", "$a b", "$a['b']c", "$a[-1]"] {
            assert!(Accessor::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn templates_are_filled() {
        let table = [
            ("plain", "plain", true),
            ("$TAG", "app.web.one", true),
            ("$TAG[0]-$TAG[2].$TAG[7]", "app-one.", true),
            ("$TAGS $1$0", "app.web.oneS groupwhole", true),
            ("x.$d.$a['b'][0] $n", "x.4.x null", true),
            ("$a['b'][1]", "", true),
            ("$nope,$d", ",4", false),
        ];
        for (text, expected, is_whole) in table {
            let template = Template::parse(text).unwrap();
            let capture = |group: usize| [b"whole" as &[u8], b"group"].get(group).copied();
            let mut out = Vec::new();
            let found = with_record(|record| template.put(record, capture, &mut out));
            let expected = match text {
                "$a['b'][1]" => r#"{"c d":5}"#,
                _ => expected,
            };
            assert_eq!((String::from_utf8(out).unwrap().as_str(), found), (expected, is_whole));
        }
        for wrong in ["$", "a$", "$TAG[x]", "$TAG[1", "$a['b']c"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
