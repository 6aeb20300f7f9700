//! `nest`: moves keys into a map of their own, or lifts them out of one.

use std::sync::Arc;

use config::{Problem, Problems, Section, Settings};

use crate::event::record::{Field, Piece, Record};
use crate::filters::key_pattern::{KeyPattern, text_of};
use crate::filters::words::encoded_str;
use crate::log::Log;
use crate::plugin::descriptor::{BuildContext, FilterPlugin};
use crate::plugin::filter::{Filter, FilterDefinition, FilterPlace, Verdict};

/// The `nest` filter.
pub static PLUGIN: FilterPlugin = FilterPlugin {
    name: "nest",
    summary: "moves keys into a map, or lifts them out of one",
    keys: NestSettings::KEYS,
    build,
};

config::value_enum! {
    /// `operation`.
    pub enum Operation {
        /// Into a map.
        Nest = "nest",
        /// Out of a map.
        Lift = "lift",
    }
}

config::config_map! {
    /// What `nest` is told.
    pub struct NestSettings {
        /// nest: keys go into a map; lift: the keys of a map go to the top.
        "operation" => operation: Operation, required;
        /// A key to nest; with `*` at its end, all that begin so.
        "wildcard" => wildcard: String, repeat;
        /// Key of the new map.
        "nest_under" => nest_under: String, optional;
        /// Key of the map to lift from.
        "nested_under" => nested_under: String, optional;
        /// Put before each key that is moved.
        "add_prefix" => add_prefix: String, optional;
        /// Old name of add_prefix.
        "prefix_with" => prefix_with: String, optional;
        /// Taken off each key that is moved.
        "remove_prefix" => remove_prefix: String, optional;
    }
}

#[derive(Clone, Debug)]
struct Nest {
    movement: Movement,
    prefix: Prefix,
}

#[derive(Clone, Debug)]
enum Movement {
    Nest { keys: Vec<KeyPattern>, under: Vec<u8> },
    Lift { under: String },
}

#[derive(Clone, Debug)]
enum Prefix {
    Same,
    Add(Vec<u8>),
    Remove(Vec<u8>),
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn FilterDefinition>> {
    let settings = NestSettings::read(section, context.engine_keys, problems)?;
    let mut refuse = |message: &str| {
        problems.push(Problem::error(section.span, message));
        None
    };
    let added = settings.add_prefix.or(settings.prefix_with);
    let prefix = match (added, settings.remove_prefix) {
        (None, None) => Prefix::Same,
        (Some(prefix), None) => Prefix::Add(prefix.into_bytes()),
        (None, Some(prefix)) => Prefix::Remove(prefix.into_bytes()),
        (Some(_), Some(_)) => {
            return refuse("`add_prefix` and `remove_prefix` exclude each other: remove one");
        }
    };
    let movement = match (settings.operation, settings.nest_under, settings.nested_under) {
        (Operation::Nest, Some(under), _) => {
            let keys = settings.wildcard.iter().map(|name| KeyPattern::parse(name)).collect();
            Movement::Nest { keys, under: encoded_str(&under) }
        }
        (Operation::Nest, None, _) => return refuse("`nest` needs `nest_under`"),
        (Operation::Lift, _, Some(under)) => Movement::Lift { under },
        (Operation::Lift, _, None) => return refuse("`lift` needs `nested_under`"),
    };
    Some(Arc::new(Nest { movement, prefix }))
}

impl FilterDefinition for Nest {
    fn open(&self, place: &FilterPlace) -> Box<dyn Filter> {
        Box::new(NestFilter { plan: self.clone(), moved: Vec::new(), log: place.log.clone() })
    }
}

struct NestFilter {
    plan: Nest,
    /// Fields on their way.
    moved: Vec<Field>,
    log: Log,
}

impl Filter for NestFilter {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let NestFilter { plan: Nest { movement, prefix }, moved, log } = self;
        moved.clear();
        match movement {
            Movement::Nest { keys, under } => {
                let is_meant = |key: &[u8]| keys.iter().any(|pattern| pattern.matches(key));
                nest(record, is_meant, under, prefix, moved);
            }
            Movement::Lift { under } => lift(record, under, prefix, moved, log),
        }
        Verdict::Keep
    }
}

fn nest(
    record: &mut Record<'_>,
    is_meant: impl Fn(&[u8]) -> bool,
    under: &[u8],
    prefix: &Prefix,
    moved: &mut Vec<Field>,
) {
    if !record.entries().any(|(key, _)| is_meant(key)) {
        return;
    }
    for index in 0..record.fields().len() {
        let field = record.fields()[index];
        if is_meant(record.bytes(field.key)) {
            moved.push(Field { key: renamed(record, field.key, prefix), ..field });
        }
    }
    record.retain(|key, _| !is_meant(key));
    let value = record.store_map(moved);
    let key = record.store(|out| out.extend_from_slice(under));
    record.push(Field { key, value });
}

/// The other keys come first. A value that is no map stays where it is.
fn lift(record: &mut Record<'_>, under: &str, prefix: &Prefix, moved: &mut Vec<Field>, log: &Log) {
    let is_named = |key: &[u8]| text_of(key) == Some(under.as_bytes());
    if !record.entries().any(|(key, _)| is_named(key)) {
        return;
    }
    for index in 0..record.fields().len() {
        let field = record.fields()[index];
        if !is_named(record.bytes(field.key)) {
            continue;
        }
        match is_map(record.bytes(field.value)) {
            true => record.fields_of(field.value, moved),
            false => log.warn(format_args!("`{under}` is no map: it is not lifted")),
        }
    }
    if record.retain(|key, value| !(is_named(key) && is_map(value))) == 0 {
        return;
    }
    for field in moved {
        let key = renamed(record, field.key, prefix);
        record.push(Field { key, ..*field });
    }
}

fn is_map(value: &[u8]) -> bool {
    matches!(value.first(), Some(0x80..=0x8f | 0xde | 0xdf))
}

fn renamed(record: &mut Record<'_>, key: Piece, prefix: &Prefix) -> Piece {
    match prefix {
        Prefix::Same => key,
        Prefix::Add(prefix) => record.store_renamed(prefix, key, 0),
        Prefix::Remove(prefix) => {
            let begins = text_of(record.bytes(key)).is_some_and(|text| text.starts_with(prefix));
            match begins {
                true => record.store_renamed(b"", key, prefix.len()),
                false => key,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::testing::{errors, run};

    #[test]
    fn keys_go_into_maps_and_out() {
        let record = r#"{"ab":1,"c":2,"ad":{"x":3,"pre_y":4},"e":5}"#;
        let table: [(&[(&str, &str)], &str); 10] = [
            (
                &[
                    ("operation", "nest"),
                    ("wildcard", "a*"),
                    ("wildcard", "e"),
                    ("nest_under", "n"),
                ],
                r#"{"c":2,"n":{"ab":1,"ad":{"x":3,"pre_y":4},"e":5}}"#,
            ),
            (
                &[
                    ("operation", "nest"),
                    ("wildcard", "a*"),
                    ("nest_under", "c"),
                    ("remove_prefix", "a"),
                ],
                // The JSON writer keeps the last of repeated keys.
                r#"{"e":5,"c":{"b":1,"d":{"x":3,"pre_y":4}}}"#,
            ),
            (
                &[
                    ("operation", "nest"),
                    ("wildcard", "ab"),
                    ("nest_under", "n"),
                    ("add_prefix", "p_"),
                ],
                r#"{"c":2,"ad":{"x":3,"pre_y":4},"e":5,"n":{"p_ab":1}}"#,
            ),
            (&[("operation", "nest"), ("wildcard", "x"), ("nest_under", "n")], record),
            (&[("operation", "nest"), ("nest_under", "n")], record),
            (
                &[("operation", "lift"), ("nested_under", "ad")],
                r#"{"ab":1,"c":2,"e":5,"x":3,"pre_y":4}"#,
            ),
            (
                &[("operation", "lift"), ("nested_under", "ad"), ("remove_prefix", "pre_")],
                r#"{"ab":1,"c":2,"e":5,"x":3,"y":4}"#,
            ),
            (
                &[("operation", "lift"), ("nested_under", "ad"), ("prefix_with", "ad.")],
                r#"{"ab":1,"c":2,"e":5,"ad.x":3,"ad.pre_y":4}"#,
            ),
            (&[("operation", "lift"), ("nested_under", "c")], record),
            (&[("operation", "lift"), ("nested_under", "z")], record),
        ];
        for (keys, expected) in table {
            assert_eq!(run(&PLUGIN, keys, record).as_deref(), Some(expected), "{keys:?}");
        }
        for keys in [
            &[("operation", "sink")][..],
            &[("operation", "nest")],
            &[("operation", "lift"), ("nest_under", "x")],
            &[
                ("operation", "lift"),
                ("nested_under", "x"),
                ("add_prefix", "a"),
                ("remove_prefix", "b"),
            ],
        ] {
            assert_eq!(errors(&PLUGIN, keys).len(), 1, "{keys:?}");
        }
    }
}
