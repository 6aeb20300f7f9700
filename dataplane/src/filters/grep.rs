//! `grep`: keeps or drops records by what their strings match.

use std::sync::Arc;

use config::{Problem, Problems, Property, Section, Settings};

use crate::codec::regex::Regex;
use crate::event::accessor::Accessor;
use crate::event::record::{Record, str_of};
use crate::plugin::descriptor::{BuildContext, FilterPlugin};
use crate::plugin::filter::{Filter, FilterDefinition, FilterPlace, Verdict};

/// The `grep` filter.
pub static PLUGIN: FilterPlugin = FilterPlugin {
    name: "grep",
    summary: "keeps or drops records by what their values match",
    keys: GrepSettings::KEYS,
    build,
};

config::value_enum! {
    /// `logical_op`.
    pub enum LogicalOp {
        /// The first rule that decides.
        Legacy = "legacy",
        /// All rules.
        And = "and",
        /// Any rule.
        Or = "or",
    }
}

config::config_map! {
    /// What `grep` is told.
    pub struct GrepSettings {
        /// A key and an expression: a record whose value matches is kept.
        "regex" => regex: String, repeat;
        /// A key and an expression: a record whose value matches is dropped.
        "exclude" => exclude: String, repeat;
        /// How rules work together: legacy (the first `regex` decides, or an `exclude` before it), and, or.
        "logical_op" => logical_op: LogicalOp, default "legacy";
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Regex,
    Exclude,
}

#[derive(Clone, Debug)]
struct Rule {
    kind: Kind,
    key: Accessor,
    regex: Regex,
}

impl Rule {
    /// Only strings match.
    fn matches(&self, record: &Record<'_>) -> bool {
        let text = self.key.get(record).and_then(str_of);
        text.is_some_and(|text| self.regex.is_match(text))
    }
}

#[derive(Clone, Debug)]
struct Grep {
    rules: Vec<Rule>,
    logical_op: LogicalOp,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn FilterDefinition>> {
    let settings = GrepSettings::read(section, context.engine_keys, problems)?;
    let mut grep = Grep { rules: Vec::new(), logical_op: settings.logical_op };
    let errors_before = problems.error_count();
    for property in &section.properties {
        let kind = match (property.is("regex"), property.is("exclude")) {
            (true, _) => Kind::Regex,
            (_, true) => Kind::Exclude,
            _ => continue,
        };
        match rule(kind, property) {
            Ok(rule) => grep.rules.push(rule),
            Err(message) => {
                let message = format!("`{}`: {message}", property.key);
                problems.push(Problem::error(property.value_span, message));
            }
        }
    }
    let is_mixed = grep.rules.windows(2).any(|pair| pair[0].kind != pair[1].kind);
    if is_mixed && grep.logical_op != LogicalOp::Legacy {
        let message = "`logical_op` joins rules of one kind: `regex` and `exclude` are both set";
        problems.push(Problem::error(section.span, message));
    }
    (problems.error_count() == errors_before).then(|| Arc::new(grep) as Arc<dyn FilterDefinition>)
}

fn rule(kind: Kind, property: &Property) -> Result<Rule, String> {
    let Some((key, expression)) = property.value.trim_start().split_once(' ') else {
        return Err(format!("`{}`: write a key and an expression", property.value));
    };
    let key = Accessor::parse_bare(key)?;
    Ok(Rule { kind, key, regex: Regex::new(expression)? })
}

impl FilterDefinition for Grep {
    fn open(&self, _place: &FilterPlace) -> Box<dyn Filter> {
        Box::new(self.clone())
    }
}

impl Grep {
    fn keeps(&self, record: &Record<'_>) -> bool {
        let mut rules = self.rules.iter();
        let found = match self.logical_op {
            LogicalOp::Legacy => {
                for rule in rules {
                    match (rule.kind, rule.matches(record)) {
                        (Kind::Regex, is_match) => return is_match,
                        (Kind::Exclude, true) => return false,
                        (Kind::Exclude, false) => {}
                    }
                }
                return true;
            }
            LogicalOp::And => rules.all(|rule| rule.matches(record)),
            LogicalOp::Or => rules.any(|rule| rule.matches(record)),
        };
        match self.rules.first().map(|rule| rule.kind) {
            Some(Kind::Regex) => found,
            Some(Kind::Exclude) => !found,
            None => true,
        }
    }
}

impl Filter for Grep {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        match self.keeps(record) {
            true => Verdict::Keep,
            false => Verdict::Drop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::testing::{errors, run};

    #[test]
    fn rules_keep_and_drop() {
        let record = r#"{"log":"an error","n":5,"a":{"b":["x"]},"d.k":"y"}"#;
        let table: [(&[(&str, &str)], bool); 16] = [
            (&[], true),
            (&[("regex", "log error")], true),
            (&[("regex", "$log ^error")], false),
            (&[("regex", "nope error")], false),
            (&[("regex", "n 5")], false),
            (&[("regex", "a['b'][0] x")], true),
            (&[("regex", "d.k y")], true),
            (&[("exclude", "log error")], false),
            (&[("exclude", "n 5")], true),
            // The first `regex` decides.
            (&[("regex", "log error"), ("regex", "log nope"), ("exclude", "log an")], true),
            (&[("exclude", "log nope"), ("regex", "log  error")], true),
            (&[("logical_op", "AND"), ("regex", "log error"), ("regex", "log nope")], false),
            (&[("logical_op", "and"), ("exclude", "log error"), ("exclude", "log nope")], true),
            (&[("logical_op", "or"), ("regex", "log error"), ("regex", "log nope")], true),
            (&[("logical_op", "or"), ("exclude", "log nope"), ("exclude", "log error")], false),
            (&[("logical_op", "or")], true),
        ];
        for (keys, is_kept) in table {
            assert_eq!(run(&PLUGIN, keys, record).is_some(), is_kept, "{keys:?}");
        }
        for keys in [
            &[("regex", "log")][..],
            &[("regex", "log (")],
            &[("regex", "a[b] x")],
            &[("logical_op", "xor")],
            &[("logical_op", "or"), ("regex", "a b"), ("exclude", "a b")],
        ] {
            assert_eq!(errors(&PLUGIN, keys).len(), 1, "{keys:?}");
        }
    }
}
