//! What must hold for `[PARSER]` and `[MULTILINE_PARSER]` sections before anyone compiles them.

use crate::document::{Document, Section};
use crate::error::{Problem, Problems};
use crate::value::{Value, Words, no_choice};

const TYPES: [&str; 4] = ["regex", "endswith", "equal", "eq"];
const FORMATS: [&str; 4] = ["regex", "json", "ltsv", "logfmt"];

/// Checks names and formats.
pub fn check(document: &Document, problems: &mut Problems) {
    let mut seen: Vec<&str> = Vec::new();
    for section in &document.parsers {
        let Some(name) = named(section, "parser", problems) else { continue };
        if seen.contains(&name) {
            let span = section.get("name").map_or(section.span, |property| property.value_span);
            let message = format!("parser `{name}` is defined already");
            problems.push(Problem::error(span, message).with_help("give one of them another name"));
        }
        seen.push(name);
        match section.get("format") {
            None => {
                let message = format!("parser `{name}` needs `format`");
                problems.push(Problem::error(section.span, message));
            }
            Some(format) => {
                if !FORMATS.iter().any(|known| known.eq_ignore_ascii_case(&format.value)) {
                    let message = format!("`format`: {}", no_choice(&format.value, &FORMATS));
                    problems.push(Problem::error(format.value_span, message));
                } else if format.value.eq_ignore_ascii_case("regex")
                    && section.get("regex").is_none()
                {
                    let message = format!("parser `{name}` needs `regex`");
                    problems.push(Problem::error(section.span, message));
                }
            }
        }
    }
    for section in &document.multiline_parsers {
        if let Some(name) = named(section, "multiline_parser", problems) {
            check_multiline(section, name, problems);
        }
    }
}

fn check_multiline(section: &Section, name: &str, problems: &mut Problems) {
    let Some(kind) = section.get("type") else {
        let message = format!("multiline parser `{name}` needs `type`");
        problems.push(Problem::error(section.span, message));
        return;
    };
    if !TYPES.iter().any(|known| known.eq_ignore_ascii_case(&kind.value)) {
        let message = format!("`type`: {}", no_choice(&kind.value, &TYPES));
        problems.push(Problem::error(kind.value_span, message));
        return;
    }
    let mut rules = Vec::new();
    for property in section.all("rule") {
        match Words::parse(&property.value) {
            Ok(Words(words)) if words.len() >= 2 => rules.push((property, words)),
            _ => {
                let problem = Problem::error(property.value_span, "a rule has two or three parts");
                problems.push(problem.with_help("write \"state\" \"/expression/\" \"next state\""));
            }
        }
    }
    if let Some((property, words)) = rules.first()
        && !states(&words[0]).any(|state| state == "start_state")
    {
        let message = "the first rule must be that of `start_state`";
        problems.push(Problem::error(property.value_span, message));
    }
    for (property, words) in &rules {
        let Some(next) = words.get(2).filter(|next| !next.is_empty()) else { continue };
        if !rules.iter().any(|(_, other)| states(&other[0]).any(|state| state == next)) {
            let message = format!("no rule is for the next state `{next}`");
            problems.push(Problem::error(property.value_span, message));
        }
    }
}

/// The states that a rule is for.
fn states(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

fn named<'s>(section: &'s Section, kind: &str, problems: &mut Problems) -> Option<&'s str> {
    let name = section.get("name");
    if name.is_none() {
        let message = format!("section `{kind}` is missing the `name` property");
        problems.push(Problem::error(section.span, message));
    }
    name.map(|property| property.value.as_str())
}
