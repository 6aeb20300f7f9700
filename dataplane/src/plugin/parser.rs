//! The parser seam: text to the body of an event, for inputs and filters that name a parser.

use std::fmt;
use std::sync::Arc;

use config::{Problem, Problems, Property, Section, nearest};

use crate::codec::regex::Captures;
use crate::codec::strptime::TimeMemo;
use crate::event::time::EventTime;
use crate::kernel::json_lines::{ObjectLines, Stop, WholeLines};

/// A compiled parser: immutable, shared by all shards.
pub trait Parser: Send + Sync + fmt::Debug {
    /// Appends the body that `text` makes, a msgpack map, to `out`; nothing where it makes none.
    /// `now` gives the date of times without one.
    fn parse(
        &self,
        text: &[u8],
        now: EventTime,
        scratch: &mut ParserScratch,
        out: &mut Vec<u8>,
    ) -> Parsed;

    /// The room that [`parse`](Parser::parse) needs at most; `None` where the length of a text does not say it.
    fn body_room(&self) -> Option<BodyRoom> {
        None
    }

    /// Appends the body that the line at `at` makes, as far as `out` has capacity, without a search for its end.
    /// Only formats that show where a line ends can; a line they do not take is for [`parse`](Parser::parse).
    fn parse_line(
        &self,
        _lines: &WholeLines<'_>,
        _at: usize,
        _now: EventTime,
        _scratch: &mut ParserScratch,
        _out: &mut Vec<u8>,
    ) -> Result<ParsedLine, Stop> {
        Err(Stop::Other)
    }
}

/// Room for the body that a parser makes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyRoom {
    /// Bytes for any text.
    pub fixed_bytes: usize,
    /// Bytes for each byte of the text.
    pub bytes_per_byte: usize,
}

impl BodyRoom {
    /// Bytes for a text of this length.
    #[inline]
    pub fn bytes(&self, text_bytes: usize) -> usize {
        self.fixed_bytes + self.bytes_per_byte * text_bytes
    }
}

/// A line whose body was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedLine {
    /// Its time, where it bears one.
    pub time: Option<EventTime>,
    /// Where the next line begins.
    pub next: usize,
}

/// What a text came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A body was appended.
    Body {
        /// Its time, where it bears one.
        time: Option<EventTime>,
        /// Bytes of the text up to the last one used.
        consumed: usize,
    },
    /// The text is not of the parser's form.
    Unparsed,
    /// The search for its form was ended by the bound on runaways.
    CutOff,
}

/// Memory that parsing reuses; one for each place that parses.
#[derive(Debug, Default)]
pub struct ParserScratch {
    /// Of regular expressions.
    pub captures: Captures,
    /// Of times.
    pub time: TimeMemo,
    /// Of lines of JSON.
    pub object_lines: ObjectLines,
    /// Decoded text.
    pub text: Vec<u8>,
    /// A record that is put together anew.
    pub record: Vec<u8>,
    /// Entries that come last.
    pub extra: Vec<u8>,
}

/// The parsers of a configuration, by name.
#[derive(Clone, Debug, Default)]
pub struct Parsers(Vec<(String, Arc<dyn Parser>)>);

impl Parsers {
    /// None.
    pub const fn new() -> Parsers {
        Parsers(Vec::new())
    }

    /// Adds one; the first of a name counts.
    pub fn add(&mut self, name: &str, parser: Arc<dyn Parser>) {
        self.0.push((name.to_owned(), parser));
    }

    /// The parser of that name, case sensitive.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Parser>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, parser)| parser)
    }

    /// The parser that a key of a section names; pushes an error when there is none.
    /// The outer `None` is that error, the inner one a key that is not set.
    pub fn of_key(
        &self,
        section: &Section,
        key: &str,
        problems: &mut Problems,
    ) -> Option<Option<Arc<dyn Parser>>> {
        match section.get(key).filter(|property| !property.value.is_empty()) {
            Some(property) => self.named(property, problems).map(Some),
            None => Some(None),
        }
    }

    /// The parsers that a key names which may be given several times; pushes an error for each that is unknown.
    /// `None` when one is.
    pub fn of_repeated_key(
        &self,
        section: &Section,
        key: &str,
        problems: &mut Problems,
    ) -> Option<Vec<Arc<dyn Parser>>> {
        let named = section.all(key).filter(|property| !property.value.is_empty());
        // All of them are looked up, so that all unknown ones are told of.
        let parsers: Vec<_> = named.map(|property| self.named(property, problems)).collect();
        parsers.into_iter().collect()
    }

    fn named(&self, property: &Property, problems: &mut Problems) -> Option<Arc<dyn Parser>> {
        let name = property.value.as_str();
        if let Some(parser) = self.get(name) {
            return Some(Arc::clone(parser));
        }
        let message = format!("`{}`: no parser is named `{name}`", property.key);
        let problem = Problem::error(property.value_span, message);
        problems.push(match nearest(name, self.0.iter().map(|(known, _)| known.as_str())) {
            Some(near) => problem.with_help(format!("did you mean `{near}`?")),
            None => {
                problem.with_help("define it in a file that `parsers_file` of `[SERVICE]` names")
            }
        });
        None
    }
}
