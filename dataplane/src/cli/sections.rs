//! Sections from flags, from left to right, and the command line as a text that problems point into.

use clap::ArgMatches;
use config::{Document, Problem, Problems, Property, Section, SourceId, Span};

use super::flags::{Flag, SECTIONS, SERVICE};

/// Puts what the flags say into a document.
pub fn build(matches: &ArgMatches, document: &mut Document, problems: &mut Problems) {
    let mut text = CommandText::default();
    let mut places = Vec::new();
    for (_, flag, value) in ordered(matches) {
        let place = text.push(&flag.brief(), &value);
        places.push((flag.id, value, place));
    }
    let mut service = Vec::new();
    for (flag, key) in &SERVICE {
        for value in matches.get_many::<String>(flag.id).unwrap_or_default() {
            service.push((*key, value.clone(), text.push(&flag.brief(), value)));
        }
    }
    if matches.get_count("daemon") > 0 {
        service.push(("daemon", "on".to_owned(), text.push("-d", "")));
    }
    let source = document.sources.add("command line", text.text);
    for (key, value, place) in service {
        document.service.properties.push(property(key, value, source, place));
    }
    let mut open: Option<Open> = None;
    for (id, value, place) in places {
        let span = Span::new(source, place.0, place.1);
        match id {
            "match" | "tag" | "prop" => add(open.as_mut(), id, value, span, problems),
            kind => {
                close(open.take(), document);
                let mut section = Section::new(kind, span);
                section.properties.push(property("name", value, source, place));
                open = Some(Open { kind, section });
            }
        }
    }
    close(open, document);
}

/// The flags that build sections, in the order in which they were given.
pub fn ordered(matches: &ArgMatches) -> Vec<(usize, &'static Flag, String)> {
    let mut all = Vec::new();
    for flag in &SECTIONS {
        let values = matches.get_many::<String>(flag.id).unwrap_or_default();
        let indices = matches.indices_of(flag.id).into_iter().flatten();
        all.extend(indices.zip(values).map(|(index, value)| (index, flag, value.clone())));
    }
    all.sort_unstable_by_key(|(index, ..)| *index);
    all
}

/// A section that flags still add to.
struct Open {
    kind: &'static str,
    section: Section,
}

fn add(open: Option<&mut Open>, id: &str, value: String, span: Span, problems: &mut Problems) {
    let Some(open) = open else {
        let problem = Problem::error(span, format!("`{value}` stands before any plugin"));
        problems.push(problem.with_help("begin with `-i`, `-F` or `-o`"));
        return;
    };
    let place = (span.start as usize, span.end as usize);
    let property = match id {
        // As in Fluent Bit: inputs have no match.
        "match" if matches!(open.kind, "input" | "custom") => {
            problems.push(Problem::warning(span, "`-m` after an input has no effect"));
            return;
        }
        "prop" => match value.split_once('=') {
            Some((key, value)) => property(key.trim(), value.trim().to_owned(), span.source, place),
            None => {
                let message = format!("`-p {value}` has no `=` and no effect");
                problems.push(Problem::warning(span, message).with_help("write `-p KEY=VALUE`"));
                return;
            }
        },
        key => property(key, value, span.source, place),
    };
    open.section.properties.push(property);
}

fn close(open: Option<Open>, document: &mut Document) {
    let Some(Open { kind, section }) = open else { return };
    match kind {
        "input" => document.inputs.push(section),
        "filter" => document.filters.push(section),
        "output" => document.outputs.push(section),
        _ => document.customs.push(section),
    }
}

fn property(key: &str, value: String, source: SourceId, (start, end): (usize, usize)) -> Property {
    let span = Span::new(source, start, end);
    Property { key: key.to_owned(), value, key_span: span, value_span: span }
}

/// The command line as a text.
#[derive(Default)]
struct CommandText {
    text: String,
}

impl CommandText {
    /// Adds a flag; returns where its value stands, or the flag where it has none.
    fn push(&mut self, flag: &str, value: &str) -> (usize, usize) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        let mut start = self.text.len();
        self.text += flag;
        if !value.is_empty() {
            self.text.push(' ');
            start = self.text.len();
            self.text += value;
        }
        (start, self.text.len())
    }
}
