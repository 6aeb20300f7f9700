//! What must hold for `[PARSER]` and `[MULTILINE_PARSER]` sections before anyone compiles them.

use crate::document::{Document, Section};
use crate::error::{Problem, Problems};
use crate::value::no_choice;

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
        named(section, "multiline_parser", problems);
    }
}

fn named<'s>(section: &'s Section, kind: &str, problems: &mut Problems) -> Option<&'s str> {
    let name = section.get("name");
    if name.is_none() {
        let message = format!("section `{kind}` is missing the `name` property");
        problems.push(Problem::error(section.span, message));
    }
    name.map(|property| property.value.as_str())
}
