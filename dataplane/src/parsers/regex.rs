//! The `regex` format: a named group is a field. What does not depend on the text is settled at start.

use crate::codec::regex::{Found, Regex};
use crate::event::encoder::{close_map, put_str};
use crate::event::time::EventTime;
use crate::kernel::fields::{FieldKey, put_text_field};
use crate::parsers::time::TimeRule;
use crate::parsers::types::{Type, Types, put_typed};
use crate::plugin::parser::{BodyRoom, Parsed, ParserScratch};

/// The longest header of a map.
const MAP_HEADER_MAX: usize = 5;

/// What becomes of groups that match nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EmptyValues {
    Skip,
    Keep,
}

/// A compiled expression and its fields.
#[derive(Clone, Debug)]
pub(super) struct RegexFormat {
    regex: Regex,
    empty_values: EmptyValues,
    fields: Vec<Field>,
}

/// A group that makes a field.
#[derive(Clone, Debug)]
struct Field {
    group: usize,
    key: FieldKey,
    kind: Type,
    is_time: bool,
}

impl RegexFormat {
    pub(super) fn new(regex: Regex, empty_values: EmptyValues) -> RegexFormat {
        RegexFormat { regex, empty_values, fields: Vec::new() }
    }

    /// Settles the fields, in the order in which their groups open; groups of one name stand together.
    pub(super) fn settle_fields(&mut self, types: &Types, time: Option<&TimeRule>) {
        self.fields.clear();
        for group in self.regex.groups() {
            let name = group.name.as_bytes();
            let mut key = Vec::new();
            put_str(&mut key, name);
            self.fields.extend(group.numbers.iter().map(|number| Field {
                group: *number,
                key: FieldKey::new(&key),
                kind: types.of(name),
                is_time: time.is_some_and(|rule| rule.key == name),
            }));
        }
    }

    /// Groups may lie within each other, so each may be the whole text.
    pub(super) fn body_room(&self) -> BodyRoom {
        let fields = self.fields.iter().map(|field| field.key.room_bytes(0));
        BodyRoom {
            fixed_bytes: MAP_HEADER_MAX + fields.sum::<usize>(),
            bytes_per_byte: self.fields.len(),
        }
    }

    pub(super) fn parse(
        &self,
        time_rule: Option<&TimeRule>,
        text: &[u8],
        now: EventTime,
        scratch: &mut ParserScratch,
        out: &mut Vec<u8>,
    ) -> Parsed {
        match self.regex.search(text, &mut scratch.captures) {
            Found::Match => {}
            Found::Nothing => return Parsed::Unparsed,
            Found::CutOff => return Parsed::CutOff,
        }
        let body = out.len();
        out.push(0x80);
        let (mut count, mut last_end, mut time) = (0, None, None);
        for field in &self.fields {
            let range = scratch.captures.get(field.group);
            if let Some(range) = &range {
                last_end = Some(range.end);
            }
            let range = range.unwrap_or(0..0);
            let value = &text[range.clone()];
            if value.is_empty() && self.empty_values == EmptyValues::Skip {
                continue;
            }
            if field.is_time
                && let Some(rule) = time_rule
            {
                let Ok(found) = rule.read(value, now, &mut scratch.time) else { continue };
                time = found;
                if !rule.keeps_key {
                    continue;
                }
            }
            count += 1;
            match field.kind {
                Type::String => {
                    put_text_field(out, &field.key, text, (range.start, range.end));
                }
                kind => {
                    out.extend_from_slice(field.key.encoded());
                    put_typed(kind, value, out);
                }
            }
        }
        close_map(out, body, count);
        match last_end {
            Some(consumed) => Parsed::Body { time, consumed },
            None => Parsed::Unparsed,
        }
    }
}
