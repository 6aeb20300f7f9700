//! What must hold before `modify` changes a record.

use crate::codec::regex::Regex;
use crate::event::accessor::Accessor;
use crate::event::msgpack::{Head, read_head};
use crate::event::record::Record;
use crate::filters::key_pattern::text_of;
use crate::filters::words::split;

/// One condition.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    KeyExists(Accessor),
    KeyDoesNotExist(Accessor),
    AKeyMatches(Regex),
    NoKeyMatches(Regex),
    /// A key that is not there neither equals nor differs.
    KeyValueEquals(Accessor, Vec<u8>),
    KeyValueDoesNotEqual(Accessor, Vec<u8>),
    KeyValueMatches(Accessor, Regex),
    KeyValueDoesNotMatch(Accessor, Regex),
    MatchingKeysHaveMatchingValues(Regex, Regex),
    MatchingKeysDoNotHaveMatchingValues(Regex, Regex),
}

/// Names of conditions of one and of two words.
const OF_ONE: [&str; 4] = ["key_exists", "key_does_not_exist", "a_key_matches", "no_key_matches"];
const OF_TWO: [&str; 6] = [
    "key_value_equals",
    "key_value_does_not_equal",
    "key_value_matches",
    "key_value_does_not_match",
    "matching_keys_have_matching_values",
    "matching_keys_do_not_have_matching_values",
];

impl Condition {
    pub(super) fn parse(text: &str) -> Result<Condition, String> {
        let words = split(text)?;
        let name = words.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
        let all = OF_ONE.iter().chain(&OF_TWO);
        if !all.clone().any(|known| *known == name) {
            let all: Vec<&str> = all.copied().collect();
            return Err(config::value::no_choice(&name, &all));
        }
        Ok(match (name.as_str(), &words[1..]) {
            ("key_exists", [key]) => Condition::KeyExists(Accessor::parse(key)?),
            ("key_does_not_exist", [key]) => Condition::KeyDoesNotExist(Accessor::parse(key)?),
            ("a_key_matches", [keys]) => Condition::AKeyMatches(Regex::new(keys)?),
            ("no_key_matches", [keys]) => Condition::NoKeyMatches(Regex::new(keys)?),
            ("key_value_equals", [key, value]) => {
                Condition::KeyValueEquals(Accessor::parse(key)?, value.as_bytes().to_vec())
            }
            ("key_value_does_not_equal", [key, value]) => {
                Condition::KeyValueDoesNotEqual(Accessor::parse(key)?, value.as_bytes().to_vec())
            }
            ("key_value_matches", [key, value]) => {
                Condition::KeyValueMatches(Accessor::parse(key)?, Regex::new(value)?)
            }
            ("key_value_does_not_match", [key, value]) => {
                Condition::KeyValueDoesNotMatch(Accessor::parse(key)?, Regex::new(value)?)
            }
            ("matching_keys_have_matching_values", [keys, values]) => {
                Condition::MatchingKeysHaveMatchingValues(Regex::new(keys)?, Regex::new(values)?)
            }
            ("matching_keys_do_not_have_matching_values", [keys, values]) => {
                let (keys, values) = (Regex::new(keys)?, Regex::new(values)?);
                Condition::MatchingKeysDoNotHaveMatchingValues(keys, values)
            }
            _ => {
                let wanted = if OF_ONE.contains(&name.as_str()) { "one word" } else { "two words" };
                return Err(format!("`{text}`: write {wanted} behind `{name}`"));
            }
        })
    }

    pub(super) fn holds(&self, record: &Record<'_>) -> bool {
        let value =
            |key: &Accessor, holds: &dyn Fn(&[u8]) -> bool| key.get(record).is_some_and(holds);
        match self {
            Condition::KeyExists(key) => key.get(record).is_some(),
            Condition::KeyDoesNotExist(key) => key.get(record).is_none(),
            Condition::AKeyMatches(keys) => record.entries().any(|(key, _)| matches(keys, key)),
            Condition::NoKeyMatches(keys) => !record.entries().any(|(key, _)| matches(keys, key)),
            Condition::KeyValueEquals(key, text) => {
                value(key, &|value| text_of(value) == Some(text))
            }
            Condition::KeyValueDoesNotEqual(key, text) => {
                value(key, &|value| text_of(value) != Some(text))
            }
            Condition::KeyValueMatches(key, regex) => value(key, &|value| matches(regex, value)),
            Condition::KeyValueDoesNotMatch(key, regex) => {
                value(key, &|value| !matches(regex, value))
            }
            Condition::MatchingKeysHaveMatchingValues(keys, values) => {
                all_match(record, keys, values)
            }
            Condition::MatchingKeysDoNotHaveMatchingValues(keys, values) => {
                !all_match(record, keys, values)
            }
        }
    }
}

fn all_match(record: &Record<'_>, keys: &Regex, values: &Regex) -> bool {
    let mut meant = record.entries().filter(|(key, _)| matches(keys, key));
    meant.all(|(_, value)| matches(values, value))
}

/// Whether an expression matches a string, or a boolean as a word; numbers never match.
pub(super) fn matches(regex: &Regex, value: &[u8]) -> bool {
    match read_head(&mut &value[..]) {
        Some(Head::Str(text)) => regex.is_match(text),
        Some(Head::Bool(true)) => regex.is_match(b"true"),
        Some(Head::Bool(false)) => regex.is_match(b"false"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::filters::modify::PLUGIN;
    use crate::filters::testing::{errors, run};

    #[test]
    fn rules_apply_where_all_conditions_hold() {
        let record = r#"{"level":"error","n":5,"ok":true,"a":{"b":["x"]}}"#;
        let table = [
            ("key_exists level", true),
            ("Key_Exists $a['b'][0]", true),
            ("key_exists $a['b'][1]", false),
            ("key_does_not_exist nope", true),
            ("key_does_not_exist n", false),
            ("a_key_matches ^lev", true),
            ("a_key_matches ^ev", false),
            ("no_key_matches ^ev", true),
            ("key_value_equals level error", true),
            ("key_value_equals n 5", false),
            ("key_value_equals nope x", false),
            ("key_value_does_not_equal nope x", false),
            ("key_value_does_not_equal level x", true),
            ("key_value_matches level ^err", true),
            ("key_value_matches ok true", true),
            ("key_value_matches n 5", false),
            ("key_value_matches $a['b'][0] x", true),
            ("key_value_does_not_match level ^err", false),
            ("key_value_does_not_match nope ^err", false),
            ("key_value_does_not_match n 5", true),
            ("matching_keys_have_matching_values ^(level|ok)$ r", true),
            ("matching_keys_have_matching_values ^(level|n)$ r", false),
            ("matching_keys_have_matching_values nope r", true),
            ("matching_keys_do_not_have_matching_values ^(level|n)$ r", true),
            ("matching_keys_do_not_have_matching_values nope r", false),
        ];
        for (condition, holds) in table {
            let keys = [("condition", condition), ("remove", "a"), ("remove", "n")];
            let printed = run(&PLUGIN, &keys, record).unwrap();
            let expected = if holds { r#"{"level":"error","ok":true}"# } else { record };
            assert_eq!(printed, expected, "{condition}");
        }
        let both = [("condition", "key_exists n"), ("remove", "n"), ("condition", "key_exists x")];
        assert_eq!(run(&PLUGIN, &both, record).as_deref(), Some(record));
        for wrong in ["key_exist a", "key_exists", "key_exists a b", "key_value_matches a (", ""] {
            assert_eq!(errors(&PLUGIN, &[("condition", wrong)]).len(), 1, "{wrong}");
        }
    }
}
