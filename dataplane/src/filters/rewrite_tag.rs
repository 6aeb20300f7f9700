//! `rewrite_tag`: lets records enter again under another tag, made of their values, of their tag and of captures.

use std::sync::Arc;

use config::{Problem, Problems, Section, Settings, Size, Value};

use crate::codec::regex::{Captures, Found, Regex};
use crate::event::accessor::{Accessor, Template};
use crate::event::record::{Record, str_of};
use crate::filters::words::tokens;
use crate::plugin::descriptor::{BuildContext, FilterPlugin};
use crate::plugin::filter::{Filter, FilterDefinition, FilterPlace, Original, Verdict};

/// The `rewrite_tag` filter.
pub static PLUGIN: FilterPlugin = FilterPlugin {
    name: "rewrite_tag",
    summary: "lets records enter again under another tag",
    keys: RewriteTagSettings::KEYS,
    build,
};

/// `$KEY REGEX NEW_TAG KEEP`.
#[derive(Clone, Debug)]
pub struct Rule {
    key: Accessor,
    regex: Regex,
    tag: Template,
    original: Original,
}

impl Value for Rule {
    const TYPE: &'static str = "key, expression, new tag and keep";
    fn parse(text: &str) -> Result<Self, String> {
        let words = tokens(text, 4);
        let [key, regex, tag, keep, ..] = words.as_slice() else {
            let count = words.len();
            return Err(format!(
                "`{text}` is {count} words: write a key, an expression, a new tag, and true or false"
            ));
        };
        let original = match bool::parse(keep)? {
            true => Original::Kept,
            false => Original::Dropped,
        };
        let (key, regex) = (Accessor::parse(key)?, Regex::new(regex)?);
        Ok(Rule { key, regex, tag: Template::parse(tag)?, original })
    }
}

config::value_enum! {
    /// `emitter_storage.type`.
    pub enum StorageType {
        /// In memory.
        Memory = "memory",
    }
}

config::config_map! {
    /// What `rewrite_tag` is told. The first rule that matches counts.
    pub struct RewriteTagSettings {
        /// A key, an expression for its value, the new tag, and whether the record goes on under its old tag too.
        "rule" => rule: Rule, repeat;
        /// Name of the emitter; there is none here, re-tagged records stay with their input.
        "emitter_name" => emitter_name: String, optional;
        /// Where re-tagged records wait.
        "emitter_storage.type" => emitter_storage_type: StorageType, default "memory";
        /// Memory for re-tagged records; they count for the limit of their input.
        "emitter_mem_buf_limit" => emitter_mem_buf_limit: Size, default "10M";
    }
}

struct RewriteTag {
    rules: Vec<Rule>,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn FilterDefinition>> {
    let settings = RewriteTagSettings::read(section, context.engine_keys, problems)?;
    if settings.rule.is_empty() {
        let problem = Problem::warning(section.span, "`rewrite_tag` has no rules and does nothing");
        problems.push(problem.with_help("add `rule $KEY REGEX NEW_TAG false`"));
    }
    Some(Arc::new(RewriteTag { rules: settings.rule }))
}

impl FilterDefinition for RewriteTag {
    fn open(&self, _place: &FilterPlace) -> Box<dyn Filter> {
        let (rules, tag) = (self.rules.clone(), Vec::new());
        Box::new(RewriteTagFilter { rules, captures: Captures::default(), tag })
    }
}

struct RewriteTagFilter {
    rules: Vec<Rule>,
    captures: Captures,
    /// The tag being made.
    tag: Vec<u8>,
}

impl Filter for RewriteTagFilter {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let RewriteTagFilter { rules, captures, tag } = self;
        for rule in rules {
            let Some(text) = rule.key.get(record).and_then(str_of) else { continue };
            if rule.regex.search(text, captures) != Found::Match {
                continue;
            }
            tag.clear();
            let capture = |group| captures.get(group).and_then(|range| text.get(range));
            rule.tag.put(record, capture, tag);
            // A tag of nothing would reach nobody.
            if tag.is_empty() {
                return Verdict::Keep;
            }
            record.new_tag().extend_from_slice(tag);
            return Verdict::Retag(rule.original);
        }
        Verdict::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::encode_value;
    use crate::event::encoder::event_header;
    use crate::event::reader::Events;
    use crate::event::record::Workspace;
    use crate::event::time::EventTime;
    use crate::filters::testing::{TAG, errors, open};

    fn retag(rules: &[&str], json: &str) -> Option<(String, Original)> {
        let keys: Vec<_> = rules.iter().map(|rule| ("rule", *rule)).collect();
        let mut filter = open(&PLUGIN, &keys);
        let mut bytes = Vec::new();
        event_header(&mut bytes, EventTime::default());
        encode_value(json.as_bytes(), &mut bytes).unwrap();
        let event = Events::new(&bytes).next().unwrap().unwrap();
        let mut work = Workspace::default();
        let mut record = Record::new(TAG, event, &mut work).unwrap();
        match filter.apply(&mut record) {
            Verdict::Retag(original) => {
                Some((String::from_utf8(record.tag_buffer().clone()).unwrap(), original))
            }
            verdict => {
                assert_eq!(verdict, Verdict::Keep);
                None
            }
        }
    }

    #[test]
    fn tags_are_made_of_values_tags_and_captures() {
        let record = r#"{"level":"error 42","n":5,"a":{"b":["x.y"]},"t":true}"#;
        let table = [
            ("$level ^error new false", "new"),
            ("$level ^error $TAG false", "app.web.one"),
            ("$level ^error $TAG[1].$TAG[0].x false", "web.app.x"),
            ("$level ^error a.$TAG[2].$TAG[9] false", "a.one."),
            (r"$level (\w+)\s(\d+) $2.$1.$0 false", "42.error.error 42"),
            ("$level error $a['b'][0].z false", "x.y.z"),
            ("$level error t.$n.$t.$nope false", "t.5.true."),
            (r#"$a['b'][0] "^x\.y$" $TAG-x false"#, "app.web.one-x"),
            ("$level error $a false", r#"{"b":["x.y"]}"#),
        ];
        for (rule, tag) in table {
            let expected = Some((tag.to_owned(), Original::Dropped));
            assert_eq!(retag(&[rule], record), expected, "{rule}");
        }
        let two = ["$level nope a false", "$level error b true", "$level error c false"];
        assert_eq!(retag(&two, record), Some(("b".to_owned(), Original::Kept)));
        for rule in ["$n 5 a false", "$nope . a false", "$level error $nope false"] {
            assert_eq!(retag(&[rule], record), None, "{rule}");
        }
        for rule in
            ["$a b c", "$a ( c false", "$a b c maybe", "$a b $- false", "$a b $TAG[x] false"]
        {
            assert_eq!(errors(&PLUGIN, &[("rule", rule)]).len(), 1, "{rule}");
        }
        assert_eq!(errors(&PLUGIN, &[("emitter_storage.type", "filesystem")]).len(), 1);
    }
}
