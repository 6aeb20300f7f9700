//! `expect`: checks records against rules, and says so, ends the process, or writes the result into the record.

use std::sync::Arc;

use config::{Problem, Problems, Property, Section, Settings};

use crate::codec::json_text::{JsonOptions, put_json};
use crate::event::accessor::Accessor;
use crate::event::encoder::put_bool;
use crate::event::record::{Field, Record, str_of};
use crate::filters::words::encoded_str;
use crate::plugin::descriptor::{BuildContext, FilterPlugin};
use crate::plugin::filter::{Filter, FilterDefinition, FilterPlace, Verdict};

/// The `expect` filter.
pub static PLUGIN: FilterPlugin = FilterPlugin {
    name: "expect",
    summary: "checks records against rules",
    keys: ExpectSettings::KEYS,
    build,
};

config::value_enum! {
    /// `action`.
    pub enum Action {
        /// Logs it.
        Warn = "warn",
        /// Ends the process with status 255.
        Exit = "exit",
        /// Writes the result into the record.
        ResultKey = "result_key",
    }
}

config::config_map! {
    /// What `expect` is told. Rules are checked in the order in which they are written.
    pub struct ExpectSettings {
        /// This key must be there.
        "key_exists" => key_exists: String, repeat;
        /// This key must not be there.
        "key_not_exists" => key_not_exists: String, repeat;
        /// This key must be there and null.
        "key_val_is_null" => key_val_is_null: String, repeat;
        /// This key must be there and not null.
        "key_val_is_not_null" => key_val_is_not_null: String, repeat;
        /// This key must be there and, if it holds a string, hold this one.
        "key_val_eq" => key_val_eq: String, repeat;
        /// What is done where a rule does not hold: warn, exit or result_key.
        "action" => action: Action, default "warn";
        /// Key of the result.
        "result_key" => result_key: String, default "matched";
    }
}

#[derive(Clone, Debug)]
enum Check {
    Exists,
    NotExists,
    IsNull,
    IsNotNull,
    Equals(Vec<u8>),
}

#[derive(Clone, Debug)]
struct Rule {
    check: Check,
    name: String,
    key_text: String,
    key: Accessor,
}

#[derive(Clone, Debug)]
struct Expect {
    rules: Vec<Rule>,
    action: Action,
    /// As msgpack.
    result_key: Vec<u8>,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn FilterDefinition>> {
    let settings = ExpectSettings::read(section, context.engine_keys, problems)?;
    let mut rules = Vec::new();
    let errors_before = problems.error_count();
    for property in &section.properties {
        match rule(property) {
            None => {}
            Some(Ok(rule)) => rules.push(rule),
            Some(Err(message)) => {
                let message = format!("`{}`: {message}", property.key);
                problems.push(Problem::error(property.value_span, message));
            }
        }
    }
    if problems.error_count() > errors_before {
        return None;
    }
    let result_key = encoded_str(&settings.result_key);
    Some(Arc::new(Expect { rules, action: settings.action, result_key }))
}

fn rule(property: &Property) -> Option<Result<Rule, String>> {
    let name = property.key.to_ascii_lowercase();
    let value = property.value.trim();
    let (check, key_text) = match name.as_str() {
        "key_exists" => (Check::Exists, value),
        "key_not_exists" => (Check::NotExists, value),
        "key_val_is_null" => (Check::IsNull, value),
        "key_val_is_not_null" => (Check::IsNotNull, value),
        "key_val_eq" => match value.split_once(' ') {
            Some((key, value)) => (Check::Equals(value.trim_start().as_bytes().to_vec()), key),
            None => return Some(Err(format!("`{value}`: write a key and a value"))),
        },
        _ => return None,
    };
    let rule = |key| Rule { check, name: name.clone(), key_text: key_text.to_owned(), key };
    Some(Accessor::parse(key_text).map(rule))
}

impl FilterDefinition for Expect {
    fn open(&self, place: &FilterPlace) -> Box<dyn Filter> {
        Box::new(ExpectFilter { plan: self.clone(), place: place.clone() })
    }
}

struct ExpectFilter {
    plan: Expect,
    place: FilterPlace,
}

impl ExpectFilter {
    /// The first rule that does not hold, with its number and why.
    fn broken(&self, record: &Record<'_>) -> Option<(usize, &Rule, &'static str)> {
        self.plan.rules.iter().enumerate().find_map(|(number, rule)| {
            let reason = match (&rule.check, rule.key.get(record)) {
                (Check::NotExists, None) => return None,
                (Check::NotExists, Some(_)) => "exists",
                (_, None) => "not found",
                (Check::Exists, Some(_)) => return None,
                (Check::IsNull, Some([0xc0])) => return None,
                (Check::IsNull, Some(_)) => "is not null",
                (Check::IsNotNull, Some([0xc0])) => "is null",
                (Check::IsNotNull, Some(_)) => return None,
                (Check::Equals(text), Some(value)) => match str_of(value) {
                    Some(found) if found != text.as_slice() => "is different",
                    _ => return None,
                },
            };
            Some((number, rule, reason))
        })
    }

    fn tell(&self, record: &Record<'_>, (number, rule, reason): (usize, &Rule, &str)) {
        let (mut body, mut json) = (Vec::new(), Vec::new());
        record.write_body(&mut body);
        // What is too deep to be shown is left out.
        let _ = put_json(&body, JsonOptions::default(), &mut json);
        self.place.log.error(format_args!(
            "exception on rule #{number} '{}', key '{}' {reason}. Record content:\n{}",
            rule.name,
            rule.key_text,
            String::from_utf8_lossy(&json)
        ));
    }
}

impl Filter for ExpectFilter {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let broken = self.broken(record);
        if let Some(broken) = broken {
            self.tell(record, broken);
        }
        let is_well = broken.is_none();
        match self.plan.action {
            Action::ResultKey => {
                let key = record.store(|out| out.extend_from_slice(&self.plan.result_key));
                let value = record.store(|out| put_bool(out, is_well));
                record.edit().insert(0, Field { key, value });
            }
            Action::Warn if !is_well => self.place.log.warn("expect check failed"),
            Action::Exit if !is_well => (self.place.fail)(),
            Action::Warn | Action::Exit => {}
        }
        Verdict::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::testing::{errors, run};

    #[test]
    fn rules_hold_or_not() {
        let record = r#"{"s":"x y","z":null,"n":5,"a":{"b":1}}"#;
        let table = [
            ("key_exists", "s", true),
            ("key_exists", "$a['b']", true),
            ("key_exists", "$a['c']", false),
            ("key_not_exists", "q", true),
            ("key_not_exists", "s", false),
            ("key_val_is_null", "z", true),
            ("key_val_is_null", "s", false),
            ("key_val_is_null", "q", false),
            ("key_val_is_not_null", "s", true),
            ("key_val_is_not_null", "z", false),
            ("key_val_is_not_null", "q", false),
            ("key_val_eq", "s x y", true),
            ("key_val_eq", "s x", false),
            ("key_val_eq", "n 6", true),
            ("key_val_eq", "q x", false),
        ];
        for (key, rule, holds) in table {
            let keys = [("action", "result_key"), ("key_exists", "n"), (key, rule)];
            let expected = format!(r#"{{"matched":{holds},{}"#, &record[1..]);
            assert_eq!(run(&PLUGIN, &keys, record), Some(expected), "{key} {rule}");
        }
        let named = [("action", "RESULT_KEY"), ("result_key", "ok")];
        assert_eq!(run(&PLUGIN, &named, "{}").as_deref(), Some(r#"{"ok":true}"#));
        assert_eq!(run(&PLUGIN, &[("key_exists", "q")], record).as_deref(), Some(record));
        for (key, value) in [("key_val_eq", "a"), ("key_exists", "$"), ("action", "stop")] {
            assert_eq!(errors(&PLUGIN, &[(key, value)]).len(), 1, "{key} {value}");
        }
    }
}
