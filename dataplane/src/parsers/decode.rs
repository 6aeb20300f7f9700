//! `decode_field` and `decode_field_as`: values that are encoded texts are decoded, in place or to further keys.

use crate::codec::json::{JsonError, JsonKind, encode_value};
use crate::codec::unescape::{unescape_plain, unescape_utf8, unquote_mysql};
use crate::event::encoder::{close_map, put_str};
use crate::event::msgpack::{Head, map_entries, read_head};
use crate::plugin::parser::ParserScratch;

/// How a value is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    Json,
    Escaped,
    EscapedUtf8,
    MysqlQuoted,
}

/// Where the decoded value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `decode_field_as`: the value is replaced.
    Value,
    /// `decode_field`: the keys of an object come last in the record.
    Record,
}

/// Which further rules of the key are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// None.
    Stop,
    /// The next, if this one failed.
    TryNext,
    /// The next in any case.
    DoNext,
}

/// One line of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) place: Place,
    pub(super) backend: Backend,
    pub(super) action: Action,
}

/// Rules by key, in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Decoders(Vec<(Vec<u8>, Vec<Rule>)>);

impl Decoders {
    pub(super) fn add(&mut self, key: &str, rule: Rule) {
        match self.0.iter_mut().find(|(known, _)| known == key.as_bytes()) {
            Some((_, rules)) => rules.push(rule),
            None => self.0.push((key.as_bytes().to_vec(), vec![rule])),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn rules(&self, key: &[u8]) -> Option<&[Rule]> {
        let Some(Head::Str(key)) = read_head(&mut &key[..]) else { return None };
        self.0.iter().find(|(known, _)| known == key).map(|(_, rules)| rules.as_slice())
    }

    /// Applies the rules to the map that `out` has from `body` on.
    pub(super) fn apply(&self, out: &mut Vec<u8>, body: usize, scratch: &mut ParserScratch) {
        if !map_entries(&out[body..]).any(|(key, _)| self.rules(key).is_some()) {
            return;
        }
        let ParserScratch { text, record, extra, .. } = scratch;
        record.clear();
        record.push(0x80);
        extra.clear();
        let (mut count, mut extra_count) = (0, 0);
        for (key, value) in map_entries(&out[body..]) {
            count += 1;
            record.extend_from_slice(key);
            let rules = self.rules(key);
            match (rules, read_head(&mut &value[..])) {
                (Some(rules), Some(Head::Str(encoded))) => {
                    extra_count += decode(rules, encoded, value, record, extra, text);
                }
                _ => record.extend_from_slice(value),
            }
        }
        record.extend_from_slice(extra);
        close_map(record, 0, count + extra_count);
        out.truncate(body);
        out.extend_from_slice(record);
    }
}

/// Appends the value of one key to `record`, and keys it brings to `extra`. Returns how many those are.
fn decode(
    rules: &[Rule],
    encoded: &[u8],
    value: &[u8],
    record: &mut Vec<u8>,
    extra: &mut Vec<u8>,
    text: &mut Vec<u8>,
) -> usize {
    let mut extra_count = 0;
    let mut has_extra = false;
    let mut replaced: Option<Decoded> = None;
    text.clear();
    text.extend_from_slice(encoded);
    for rule in rules {
        let is_done = rule.place == Place::Record && rule.action == Action::DoNext && has_extra;
        if is_done || matches!(replaced, Some(Decoded::Object(_))) {
            continue;
        }
        let Some(decoded) = rule.backend.decode(text) else {
            if rule.action == Action::Stop {
                break;
            }
            continue;
        };
        match (rule.place, decoded) {
            (Place::Value, decoded) => {
                if let Decoded::Text(decoded) = &decoded {
                    text.clone_from(decoded);
                }
                replaced = Some(decoded);
            }
            (Place::Record, Decoded::Object(object)) => {
                extra_count += map_entries(&object).count();
                let mut entries = object.as_slice();
                read_head(&mut entries);
                extra.extend_from_slice(entries);
                has_extra = true;
            }
            // A text has no keys to bring.
            (Place::Record, Decoded::Text(_)) => {}
        }
        if rule.action != Action::DoNext {
            break;
        }
    }
    match replaced {
        Some(Decoded::Text(decoded)) => put_str(record, &decoded),
        Some(Decoded::Object(object)) => record.extend_from_slice(&object),
        None => record.extend_from_slice(value),
    }
    extra_count
}

enum Decoded {
    Text(Vec<u8>),
    /// A msgpack map.
    Object(Vec<u8>),
}

impl Backend {
    fn decode(self, text: &[u8]) -> Option<Decoded> {
        let mut out = Vec::new();
        match self {
            Backend::Json => {
                one_object(text, &mut out)?;
                return Some(Decoded::Object(out));
            }
            Backend::Escaped => unescape_plain(text, &mut out),
            Backend::EscapedUtf8 => unescape_utf8(text, &mut out),
            Backend::MysqlQuoted => unquote_mysql(text, &mut out),
        }
        Some(Decoded::Text(out))
    }
}

/// Appends the object that `text` is. A further whole value behind it makes it none, other text does not.
/// Returns the bytes consumed.
pub(super) fn one_object(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let start = out.len();
    let value = encode_value(text, out).ok()?;
    let end = out.len();
    let rest = &text[value.consumed..];
    let is_followed = !rest.trim_ascii_start().is_empty()
        && match encode_value(rest, out) {
            Ok(_) => true,
            Err(JsonError::Incomplete | JsonError::Invalid(_)) => false,
        };
    if value.kind != JsonKind::Object || is_followed {
        out.truncate(start);
        return None;
    }
    out.truncate(end);
    Some(value.consumed)
}
