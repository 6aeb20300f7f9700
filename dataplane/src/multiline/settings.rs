//! `[MULTILINE_PARSER]` sections, checked and compiled.

use std::time::Duration;

use config::{
    Document, KeySpec, Problem, Problems, Property, Section, Settings, Value, Words, nearest,
};

use crate::codec::regex::Regex;
use crate::multiline::definition::{
    FLUSH_TIMEOUT, Kind, LineForm, MultilineParser, MultilineParsers, Text,
};
use crate::multiline::rules::{Matcher, Rule, Rules};
use crate::plugin::parser::Parsers;

config::config_map! {
    /// What a multiline parser is told.
    pub struct MultilineSettings {
        /// By which it is named.
        "name" => name: String, required;
        /// regex, endswith or equal.
        "type" => kind: String, required;
        /// What the content must end with or be.
        "match_string" => match_string: String, optional;
        /// Takes a record for complete when it does not match.
        "negate" => negate: bool, default "false";
        /// The key of the content.
        "key_content" => key_content: String, optional;
        /// The key whose value is compared.
        "key_pattern" => key_pattern: String, optional;
        /// The key that keeps records apart.
        "key_group" => key_group: String, optional;
        /// Parser of each line.
        "parser" => parser: String, optional;
        /// How long a record waits for more, milliseconds.
        "flush_timeout" => flush_timeout: i64, default "4000";
        /// State, expression and next state.
        "rule" => rule: Words, repeat;
    }
}

/// Compiles the multiline parsers of a configuration; pushes every problem.
pub fn compile(
    document: &Document,
    parsers: &Parsers,
    buffer_bytes_max: usize,
    problems: &mut Problems,
) -> MultilineParsers {
    let mut all = MultilineParsers::new(buffer_bytes_max);
    for section in &document.multiline_parsers {
        // Without these the section was refused when it was read.
        let Some(name) = section.get("name").filter(|_| section.get("type").is_some()) else {
            continue;
        };
        let Some(parser) = parser(section, parsers, problems) else {
            all.add_wrong(&name.value);
            continue;
        };
        if all.get(&parser.name).is_some() {
            let message =
                format!("multiline parser `{}` exists already: this one is not used", parser.name);
            warn(section, "name", message, problems);
        }
        all.add(parser);
    }
    all
}

fn parser(
    section: &Section,
    parsers: &Parsers,
    problems: &mut Problems,
) -> Option<MultilineParser> {
    let section = &known_part(section, problems);
    let form = parsers.of_key(section, "parser", problems);
    let settings = MultilineSettings::read(section, &[], problems)?;
    let kind = kind(&settings, section, problems);
    let bytes = |text: Option<String>| text.map(String::into_bytes);
    Some(MultilineParser {
        kind: kind?,
        form: form?.map(LineForm::Section),
        flush_timeout: match u64::try_from(settings.flush_timeout) {
            Ok(0) | Err(_) => FLUSH_TIMEOUT,
            Ok(milliseconds) => Duration::from_millis(milliseconds),
        },
        name: settings.name,
        content_key: bytes(settings.key_content),
        pattern_key: bytes(settings.key_pattern),
        group_key: bytes(settings.key_group),
    })
}

/// The section without keys that nobody knows, which Fluent Bit passes over.
fn known_part(section: &Section, problems: &mut Problems) -> Section {
    let mut part = section.clone();
    let is_known = |spec: &&KeySpec, key: &Property| key.is(spec.name);
    part.properties.retain(|property| {
        let is_known = MultilineSettings::KEYS.iter().any(|spec| is_known(&spec, property));
        if !is_known {
            let message = format!("a multiline parser has no property `{}`", property.key);
            let problem = Problem::warning(property.key_span, message);
            let names = MultilineSettings::KEYS.iter().map(|spec| spec.name);
            problems.push(match nearest(&property.key, names) {
                Some(near) => problem.with_help(format!("did you mean `{near}`?")),
                None => problem,
            });
        }
        is_known
    });
    part
}

fn warn(section: &Section, key: &str, message: String, problems: &mut Problems) {
    let span = section.get(key).map_or(section.span, |property| property.value_span);
    problems.push(Problem::warning(span, message));
}

fn kind(settings: &MultilineSettings, section: &Section, problems: &mut Problems) -> Option<Kind> {
    let text = |problems: &mut Problems| {
        if let Some(property) = section.get("rule") {
            let message = "`rule` is for multiline parsers of type `regex` only";
            problems.push(Problem::error(property.key_span, message));
        }
        let Some(text) = settings.match_string.clone().filter(|text| !text.is_empty()) else {
            let message = format!("multiline parser `{}` needs `match_string`", settings.name);
            problems.push(Problem::error(section.span, message));
            return None;
        };
        Some(Text { text: text.into_bytes(), is_negated: settings.negate })
    };
    Some(match settings.kind.to_ascii_lowercase().as_str() {
        "endswith" => Kind::EndsWith(text(problems)?),
        "equal" | "eq" => Kind::Equal(text(problems)?),
        "regex" => {
            for key in ["match_string", "key_pattern", "negate"] {
                if section.get(key).is_some() {
                    let message =
                        format!("`{key}` has no effect in a multiline parser of type `regex`");
                    warn(section, key, message, problems);
                }
            }
            Kind::Regex(rules(settings, section, problems)?)
        }
        // Refused when it was read.
        _ => return None,
    })
}

fn rules(
    settings: &MultilineSettings,
    section: &Section,
    problems: &mut Problems,
) -> Option<Rules> {
    let errors_before = problems.error_count();
    let mut rules = Vec::new();
    for property in section.all("rule") {
        // What is no rule was refused when it was read.
        let Ok(Words(words)) = Words::parse(&property.value) else { continue };
        let [from, expression, next @ ..] = words.as_slice() else { continue };
        match Regex::new(expression) {
            Ok(regex) => rules.push(Rule {
                from: from.split(',').map(|state| state.trim().to_owned()).collect(),
                matcher: Matcher::new(regex, None),
                next: next.first().cloned().unwrap_or_default(),
            }),
            Err(error) => {
                let message = format!("`{expression}` is no regular expression: {error}");
                problems.push(Problem::error(property.value_span, message));
            }
        }
    }
    if rules.is_empty() && problems.error_count() == errors_before {
        let message = format!("multiline parser `{}` needs a `rule`", settings.name);
        problems.push(Problem::error(section.span, message));
    }
    (problems.error_count() == errors_before).then(|| Rules::new(rules))
}
