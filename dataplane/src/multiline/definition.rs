//! What a multiline parser is, and those of a configuration by name.

use std::sync::Arc;
use std::time::Duration;

use config::{Problem, Problems, Section, nearest};

use crate::multiline::builtin;
use crate::multiline::rules::Rules;
use crate::multiline::stamp::StampFormat;
use crate::plugin::parser::Parser;

/// How long a record waits for more where nothing says it.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(4);

/// A compiled multiline parser: immutable, shared by all shards.
#[derive(Debug)]
pub(super) struct MultilineParser {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The key of the content of a record.
    pub(super) content_key: Option<Vec<u8>>,
    /// The key whose value is compared, instead of the content.
    pub(super) pattern_key: Option<Vec<u8>>,
    /// Records with different strings under this key are not mixed.
    pub(super) group_key: Option<Vec<u8>>,
    /// What makes a record of a line first.
    pub(super) form: Option<LineForm>,
    pub(super) flush_timeout: Duration,
}

/// What says that a record is complete.
#[derive(Debug)]
pub(super) enum Kind {
    /// A state machine; lines are joined by line feeds.
    Regex(Rules),
    /// The end of the content; parts are joined without anything between.
    EndsWith(Text),
    /// The value of a key; parts are joined without anything between.
    Equal(Text),
    /// `multiline on` of `tail`: a record begins with a line that the first parser takes.
    FirstLine(FirstLine),
}

/// The parsers of `multiline on`.
#[derive(Debug)]
pub(super) struct FirstLine {
    pub(super) first: Arc<dyn Parser>,
    /// Parsers of further lines: what they make of one is added to the record.
    pub(super) others: Vec<Arc<dyn Parser>>,
}

/// A text to compare with.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) text: Vec<u8>,
    /// Whether a record is complete when it does not compare.
    pub(super) is_negated: bool,
}

/// What lines are.
#[derive(Debug)]
pub(super) enum LineForm {
    /// `<time> <stdout|stderr> <F|P> <text>`
    Cri(StampFormat),
    /// JSON as Docker's `json-file` writes it.
    Docker(StampFormat),
    /// What a `[PARSER]` reads.
    Section(Arc<dyn Parser>),
}

/// The multiline parsers of a configuration, by name in any case: the built-in ones and those of its sections.
#[derive(Debug)]
pub struct MultilineParsers {
    parsers: Vec<Arc<MultilineParser>>,
    /// Names of those that have an error, which was told.
    wrong: Vec<String>,
    /// `multiline_buffer_limit`.
    buffer_bytes_max: usize,
}

impl MultilineParsers {
    /// The built-in ones, with the limit of what is in the making, in bytes.
    pub fn new(buffer_bytes_max: usize) -> MultilineParsers {
        MultilineParsers { parsers: builtin::all(), wrong: Vec::new(), buffer_bytes_max }
    }

    /// Adds one; the first of a name counts.
    pub(super) fn add(&mut self, parser: MultilineParser) {
        self.parsers.push(Arc::new(parser));
    }

    /// Knows the name of one that has an error.
    pub(super) fn add_wrong(&mut self, name: &str) {
        self.wrong.push(name.to_owned());
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<MultilineParser>> {
        self.parsers.iter().find(|parser| parser.name.eq_ignore_ascii_case(name))
    }

    /// The parsers that a key of a section names, which may stand there several times and hold lists between commas.
    /// Pushes an error for each that does not exist. The outer `None` is that error, the inner one a key that is not set.
    pub fn of_key(
        &self,
        section: &Section,
        key: &str,
        problems: &mut Problems,
    ) -> Option<Option<Multiline>> {
        let mut parsers = Vec::new();
        let mut is_whole = true;
        for property in section.all(key) {
            let names = property.value.split(',').map(str::trim).filter(|name| !name.is_empty());
            for name in names {
                if let Some(parser) = self.get(name) {
                    parsers.push(Arc::clone(parser));
                    continue;
                }
                is_whole = false;
                if self.wrong.iter().any(|wrong| wrong.eq_ignore_ascii_case(name)) {
                    continue;
                }
                let message = format!("`{key}`: no multiline parser is named `{name}`");
                let problem = Problem::error(property.value_span, message);
                let known = self.parsers.iter().map(|parser| parser.name.as_str());
                problems.push(match nearest(name, known) {
                    Some(near) => problem.with_help(format!("did you mean `{near}`?")),
                    None => problem.with_help(
                        "define it as `[MULTILINE_PARSER]` in a file that `parsers_file` of `[SERVICE]` names",
                    ),
                });
            }
        }
        if !is_whole {
            return None;
        }
        let buffer_bytes_max = self.buffer_bytes_max;
        Some((!parsers.is_empty()).then_some(Multiline {
            parsers,
            content_key: None,
            buffer_bytes_max,
        }))
    }
}

/// What an instance joins by: its parsers in the order of the configuration.
#[derive(Clone, Debug)]
pub struct Multiline {
    pub(super) parsers: Vec<Arc<MultilineParser>>,
    /// `multiline.key_content` of a filter.
    pub(super) content_key: Option<Vec<u8>>,
    pub(super) buffer_bytes_max: usize,
}

impl Multiline {
    /// Joins by a parser of the first line, as `multiline on` of `tail` does: further lines are added to the last string of
    /// the record, or, where one of the other parsers takes them, as further keys. Lines before the first are
    /// records with this key.
    pub fn by_first_line(
        first: Arc<dyn Parser>,
        others: Vec<Arc<dyn Parser>>,
        key: &str,
        flush_timeout: Duration,
        all: &MultilineParsers,
    ) -> Multiline {
        let parser = MultilineParser {
            name: String::new(),
            kind: Kind::FirstLine(FirstLine { first, others }),
            content_key: Some(key.as_bytes().to_vec()),
            pattern_key: None,
            group_key: None,
            form: None,
            flush_timeout,
        };
        let parsers = vec![Arc::new(parser)];
        Multiline { parsers, content_key: None, buffer_bytes_max: all.buffer_bytes_max }
    }

    /// The same, with another key of the content of records.
    pub fn with_content_key(self, key: Option<&str>) -> Multiline {
        Multiline { content_key: key.map(|key| key.as_bytes().to_vec()), ..self }
    }

    /// How long a record waits for more: the longest time of its parsers.
    pub fn flush_timeout(&self) -> Duration {
        self.parsers.iter().map(|parser| parser.flush_timeout).max().unwrap_or(FLUSH_TIMEOUT)
    }

    /// Names of parsers that take no record, because nothing says where its content is.
    pub fn unfit_for_records(&self) -> impl Iterator<Item = &str> {
        let parsers = self.parsers.iter().filter(|_| self.content_key.is_none());
        let unfit = parsers.filter(|parser| parser.content_key.is_none());
        unfit.map(|parser| parser.name.as_str())
    }

    /// Names of parsers that take records only, so that lines of text pass them: those that compare texts
    /// without a parser of lines.
    pub fn unfit_for_lines(&self) -> impl Iterator<Item = &str> {
        let is_unfit = |parser: &&Arc<MultilineParser>| match (&parser.form, &parser.kind) {
            (Some(_), _) => parser.content_key.is_none(),
            (None, Kind::Regex(_)) => parser.content_key.is_some(),
            (None, Kind::EndsWith(_) | Kind::Equal(_)) => true,
            (None, Kind::FirstLine(_)) => false,
        };
        self.parsers.iter().filter(is_unfit).map(|parser| parser.name.as_str())
    }
}
