//! `modify`: changes top-level keys by rules, in order, where conditions hold.
//!
//! [`condition`] has the conditions.

mod condition;

use std::sync::Arc;

use config::{Problem, Problems, Property, Section, Settings};

use crate::codec::regex::Regex;
use crate::event::record::{Field, Record};
use crate::filters::key_pattern::text_of;
use crate::filters::modify::condition::Condition;
use crate::filters::words::{encoded_str, split};
use crate::plugin::descriptor::{BuildContext, FilterPlugin};
use crate::plugin::filter::{Filter, FilterDefinition, FilterPlace, Verdict};

/// The `modify` filter.
pub static PLUGIN: FilterPlugin = FilterPlugin {
    name: "modify",
    summary: "sets, adds, removes, renames, copies and moves keys, where conditions hold",
    keys: ModifySettings::KEYS,
    build,
};

config::config_map! {
    /// What `modify` is told. Rules are applied in the order in which they are written.
    pub struct ModifySettings {
        /// A key and its value: replaces the key, or adds it.
        "set" => set: String, repeat;
        /// A key and its value: adds the key if it is not there.
        "add" => add: String, repeat;
        /// Removes a key.
        "remove" => remove: String, repeat;
        /// Removes keys that begin so.
        "remove_wildcard" => remove_wildcard: String, repeat;
        /// Removes keys that match an expression.
        "remove_regex" => remove_regex: String, repeat;
        /// Moves keys that begin so to the start.
        "move_to_start" => move_to_start: String, repeat;
        /// Moves keys that begin so to the end.
        "move_to_end" => move_to_end: String, repeat;
        /// A key and its new name, unless that is there already.
        "rename" => rename: String, repeat;
        /// A key and its new name; a key of that name is removed.
        "hard_rename" => hard_rename: String, repeat;
        /// A key and the name of its copy, unless that is there already.
        "copy" => copy: String, repeat;
        /// A key and the name of its copy; a key of that name is removed.
        "hard_copy" => hard_copy: String, repeat;
        /// What must hold, such as `key_exists level` or `key_value_matches level ^err`; all of them must.
        "condition" => condition: String, repeat;
    }
}

/// A name as text, and as msgpack.
#[derive(Clone, Debug)]
struct Name {
    text: Vec<u8>,
    encoded: Vec<u8>,
}

impl Name {
    fn new(text: &str) -> Name {
        Name { text: text.as_bytes().to_vec(), encoded: encoded_str(text) }
    }

    #[inline]
    fn is(&self, key: &[u8]) -> bool {
        // Equal bytes are equal keys, and a short string has one form that anyone writes.
        key == self.encoded.as_slice()
            || !matches!(key, [0xa0..=0xbf, ..]) && text_of(key) == Some(self.text.as_slice())
    }

    fn begins(&self, key: &[u8]) -> bool {
        text_of(key).is_some_and(|text| text.starts_with(&self.text))
    }
}

#[derive(Clone, Debug)]
enum Rule {
    Set(Name, Name),
    Add(Name, Name),
    Remove(Name),
    RemoveWildcard(Name),
    RemoveRegex(Regex),
    MoveToStart(Name),
    MoveToEnd(Name),
    Rename(Name, Name),
    HardRename(Name, Name),
    Copy(Name, Name),
    HardCopy(Name, Name),
}

struct Modify {
    rules: Vec<Rule>,
    conditions: Vec<Condition>,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn FilterDefinition>> {
    ModifySettings::read(section, context.engine_keys, problems)?;
    let mut modify = Modify { rules: Vec::new(), conditions: Vec::new() };
    let mut is_whole = true;
    for property in &section.properties {
        if !ModifySettings::KEYS.iter().any(|spec| property.is(spec.name)) {
            continue;
        }
        let done = match property.is("condition") {
            true => Condition::parse(&property.value).map(|made| modify.conditions.push(made)),
            false => rule(property).map(|rule| modify.rules.push(rule)),
        };
        if let Err(message) = done {
            let message = format!("`{}`: {message}", property.key);
            problems.push(Problem::error(property.value_span, message));
            is_whole = false;
        }
    }
    is_whole.then(|| Arc::new(modify) as Arc<dyn FilterDefinition>)
}

fn rule(property: &Property) -> Result<Rule, String> {
    let words = split(&property.value)?;
    let key = property.key.to_ascii_lowercase();
    match words.as_slice() {
        [name] => {
            let name_of = || Name::new(name);
            match key.as_str() {
                "remove" => return Ok(Rule::Remove(name_of())),
                "remove_wildcard" => return Ok(Rule::RemoveWildcard(name_of())),
                "remove_regex" => return Ok(Rule::RemoveRegex(Regex::new(name)?)),
                "move_to_start" => return Ok(Rule::MoveToStart(name_of())),
                "move_to_end" => return Ok(Rule::MoveToEnd(name_of())),
                _ => {}
            }
        }
        [first, second] => {
            let make = match key.as_str() {
                "set" => Rule::Set,
                "add" => Rule::Add,
                "rename" => Rule::Rename,
                "hard_rename" => Rule::HardRename,
                "copy" => Rule::Copy,
                "hard_copy" => Rule::HardCopy,
                _ => return Err(format!("`{}` is two words, write one", property.value)),
            };
            return Ok(make(Name::new(first), Name::new(second)));
        }
        _ => {}
    }
    let count = words.len();
    let wanted = match key.starts_with("remove") || key.starts_with("move") {
        true => "one",
        false => "two",
    };
    let value = &property.value;
    Err(format!("`{value}` is {count} words, write {wanted}, with quotes around blanks"))
}

impl FilterDefinition for Modify {
    fn open(&self, _place: &FilterPlace) -> Box<dyn Filter> {
        let (rules, conditions) = (self.rules.clone(), self.conditions.clone());
        Box::new(ModifyFilter { rules, conditions, moved: Vec::new() })
    }
}

struct ModifyFilter {
    rules: Vec<Rule>,
    conditions: Vec<Condition>,
    /// Fields on their way to another place.
    moved: Vec<Field>,
}

impl Filter for ModifyFilter {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        if self.conditions.iter().all(|condition| condition.holds(record)) {
            for rule in &self.rules {
                apply(rule, record, &mut self.moved);
            }
        }
        Verdict::Keep
    }
}

fn apply(rule: &Rule, record: &mut Record<'_>, moved: &mut Vec<Field>) {
    match rule {
        Rule::Set(name, value) => {
            remove(record, |key| name.is(key));
            record.push_encoded(&name.encoded, &value.encoded);
        }
        Rule::Add(name, value) => {
            if count(record, name) == 0 {
                record.push_encoded(&name.encoded, &value.encoded);
            }
        }
        Rule::Remove(name) => remove(record, |key| name.is(key)),
        Rule::RemoveWildcard(name) => remove(record, |key| name.begins(key)),
        Rule::RemoveRegex(regex) => {
            remove(record, |key| condition::matches(regex, key));
        }
        Rule::MoveToStart(name) => {
            if take(record, name, moved) {
                record.edit().splice(0..0, moved.drain(..));
            }
        }
        Rule::MoveToEnd(name) => {
            if take(record, name, moved) {
                record.edit().append(moved);
            }
        }
        Rule::Rename(from, to) => {
            if count(record, from) > 0 && count(record, to) == 0 {
                rename(record, from, to);
            }
        }
        Rule::HardRename(from, to) => {
            if count(record, from) > 0 {
                remove(record, |key| to.is(key));
                rename(record, from, to);
            }
        }
        Rule::Copy(from, to) => {
            if count(record, from) == 1 && count(record, to) == 0 {
                copy(record, from, to);
            }
        }
        Rule::HardCopy(from, to) => {
            if count(record, from) == 1 && count(record, to) <= 1 {
                remove(record, |key| to.is(key));
                copy(record, from, to);
            }
        }
    }
}

fn count(record: &Record<'_>, name: &Name) -> usize {
    record.entries().filter(|(key, _)| name.is(key)).count()
}

/// Looks before it indexes: a record without the key is not touched.
fn remove(record: &mut Record<'_>, is_meant: impl Fn(&[u8]) -> bool) {
    if record.entries().any(|(key, _)| is_meant(key)) {
        record.retain(|key, _| !is_meant(key));
    }
}

fn rename(record: &mut Record<'_>, from: &Name, to: &Name) {
    let new = record.store(|out| out.extend_from_slice(&to.encoded));
    for index in 0..record.fields().len() {
        let key = record.fields()[index].key;
        if from.is(record.bytes(key)) {
            record.edit()[index].key = new;
        }
    }
}

/// The copy stands behind its source.
fn copy(record: &mut Record<'_>, from: &Name, to: &Name) {
    let key = record.store(|out| out.extend_from_slice(&to.encoded));
    let Some(index) = record.entries().position(|(key, _)| from.is(key)) else { return };
    let value = record.fields()[index].value;
    record.edit().insert(index + 1, Field { key, value });
}

/// Takes out the fields that begin with a name, in order. Whether there are any.
fn take(record: &mut Record<'_>, name: &Name, moved: &mut Vec<Field>) -> bool {
    if !record.entries().any(|(key, _)| name.begins(key)) {
        return false;
    }
    moved.clear();
    for index in 0..record.fields().len() {
        let field = record.fields()[index];
        if name.begins(record.bytes(field.key)) {
            moved.push(field);
        }
    }
    record.retain(|key, _| !name.begins(key));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::testing::{errors, run};

    #[test]
    fn rules_change_keys_in_order() {
        let record = r#"{"a":1,"b":2,"ab":3}"#;
        let table: [(&[(&str, &str)], &str); 16] = [
            (&[("set", "a x")], r#"{"b":2,"ab":3,"a":"x"}"#),
            (&[("set", "c 'x y'")], r#"{"a":1,"b":2,"ab":3,"c":"x y"}"#),
            (&[("add", "a x"), ("add", "c x")], r#"{"a":1,"b":2,"ab":3,"c":"x"}"#),
            (&[("remove", "a"), ("add", "a x")], r#"{"b":2,"ab":3,"a":"x"}"#),
            (&[("remove_wildcard", "a")], r#"{"b":2}"#),
            (&[("remove_wildcard", "a*")], record),
            (&[("remove_regex", "^.$")], r#"{"ab":3}"#),
            (&[("move_to_start", "ab")], r#"{"ab":3,"a":1,"b":2}"#),
            (&[("move_to_end", "a")], r#"{"b":2,"a":1,"ab":3}"#),
            (&[("rename", "a b"), ("rename", "b c")], r#"{"a":1,"c":2,"ab":3}"#),
            (&[("hard_rename", "ab a")], r#"{"b":2,"a":3}"#),
            (&[("copy", "a b"), ("copy", "a c")], r#"{"a":1,"c":1,"b":2,"ab":3}"#),
            (&[("hard_copy", "a ab")], r#"{"a":1,"ab":1,"b":2}"#),
            (&[("rename", "x y"), ("hard_copy", "x y"), ("remove", "x")], record),
            (
                &[("set", "b 5"), ("rename", "b c"), ("copy", "c d")],
                r#"{"a":1,"ab":3,"c":"5","d":"5"}"#,
            ),
            (&[], record),
        ];
        for (keys, expected) in table {
            assert_eq!(run(&PLUGIN, keys, record).as_deref(), Some(expected), "{keys:?}");
        }
        for (key, value) in [
            ("set", "a"),
            ("set", "a b c"),
            ("remove", "a b"),
            ("remove_regex", "("),
            ("rename", "'a b"),
        ] {
            assert_eq!(errors(&PLUGIN, &[(key, value)]).len(), 1, "{key} {value}");
        }
    }
}
