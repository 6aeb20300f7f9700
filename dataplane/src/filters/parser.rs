//! `parser`: puts in the place of a record what a parser makes of one of its values.

use std::sync::Arc;

use config::{Problem, Problems, Section, Settings};

use crate::event::accessor::Accessor;
use crate::event::encoder::close_map;
use crate::event::msgpack::{Head, read_head};
use crate::event::record::{Record, is_str};
use crate::event::time::{Clock, EventTime};
use crate::filters::key_pattern::text_of;
use crate::plugin::descriptor::{BuildContext, FilterPlugin};
use crate::plugin::filter::{Filter, FilterCounters, FilterDefinition, FilterPlace, Verdict};
use crate::plugin::input::Unparsed;
use crate::plugin::parser::{Parsed, Parser, ParserScratch};

/// The `parser` filter.
pub static PLUGIN: FilterPlugin = FilterPlugin {
    name: "parser",
    summary: "parses a value and puts the result in the place of the record",
    keys: ParserSettings::KEYS,
    build,
};

config::config_map! {
    /// What `parser` is told.
    pub struct ParserSettings {
        /// Key of the value, or the way to it: $a['b'].
        "key_name" => key_name: String, required;
        /// A parser to try; the first that can take the value counts.
        "parser" => parser: String, repeat;
        /// Keeps the other keys of the record, behind the parsed ones.
        "reserve_data" => reserve_data: bool, default "false";
        /// Keeps the key that was parsed, too.
        "preserve_key" => preserve_key: bool, default "false";
        /// Has no effect any more: parsers decode by `decode_field`.
        "unescape_key" => unescape_key: String, optional;
    }
}

#[derive(Clone, Debug)]
struct ParserFilter {
    key: Key,
    parsers: Vec<Arc<dyn Parser>>,
    kept: Kept,
}

/// Where the value is.
#[derive(Clone, Debug)]
enum Key {
    /// A key of the record itself.
    Top(Vec<u8>),
    /// A way to it.
    Path(Accessor),
}

/// What of the record is kept behind the parsed keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Nothing,
    /// The key that was parsed.
    Key,
    /// The others.
    Others,
    All,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn FilterDefinition>> {
    let settings = ParserSettings::read(section, context.engine_keys, problems);
    let parsers = context.parsers.of_repeated_key(section, "parser", problems);
    let (settings, parsers) = (settings?, parsers?);
    if let Some(property) = section.get("unescape_key") {
        let problem =
            Problem::warning(property.key_span, "`unescape_key` has no effect any more: remove it");
        problems.push(problem.with_help("`decode_field_as escaped KEY` of the parser does it"));
    }
    if parsers.is_empty() {
        let problem = Problem::error(section.span, "`parser` needs `parser`");
        problems.push(problem.with_help("name a parser that a `parsers_file` defines"));
        return None;
    }
    let key = match settings.key_name.starts_with('$') {
        false => Key::Top(settings.key_name.into_bytes()),
        true => match Accessor::parse(&settings.key_name) {
            Ok(path) => Key::Path(path),
            Err(reason) => {
                let span = section.get("key_name").map(|property| property.value_span);
                problems.push(Problem::error(span, format!("`key_name`: {reason}")));
                return None;
            }
        },
    };
    let kept = match (&key, settings.reserve_data, settings.preserve_key) {
        // What a way leads to belongs to a value that is kept or goes as a whole (rule: Fluent Bit's).
        (Key::Path(_), true, _) | (Key::Top(_), true, true) => Kept::All,
        (Key::Top(_), true, false) => Kept::Others,
        (Key::Top(_), false, true) => Kept::Key,
        (_, false, _) => Kept::Nothing,
    };
    Some(Arc::new(ParserFilter { key, parsers, kept }))
}

impl FilterDefinition for ParserFilter {
    fn open(&self, _place: &FilterPlace) -> Box<dyn Filter> {
        Box::new(RecordParser {
            definition: self.clone(),
            scratch: ParserScratch::default(),
            body: Vec::new(),
            now: EventTime::default(),
            unparsed: [0; 2],
        })
    }
}

struct RecordParser {
    definition: ParserFilter,
    scratch: ParserScratch,
    /// The body being made.
    body: Vec<u8>,
    now: EventTime,
    unparsed: [u64; Unparsed::ALL.len()],
}

/// The most a body keeps between batches: one huge value must not hold its memory for ever.
const BODY_BYTES_KEPT: usize = 1 << 20;

impl RecordParser {
    /// Parses a text into the body.
    fn parse(&mut self, text: &[u8]) -> Result<Option<EventTime>, Unparsed> {
        let mut why = Unparsed::OtherForm;
        for parser in &self.definition.parsers {
            self.body.clear();
            match parser.parse(text, self.now, &mut self.scratch, &mut self.body) {
                Parsed::Body { time, .. } => return Ok(time),
                Parsed::Unparsed => {}
                Parsed::CutOff => why = Unparsed::CutOff,
            }
        }
        Err(why)
    }

    /// Appends to the body what is kept of the record.
    fn keep(&mut self, record: &Record<'_>) {
        let ParserFilter { key, kept, .. } = &self.definition;
        let body = &mut self.body;
        let is_parsed = |(name, value): &(&[u8], &[u8])| {
            matches!(key, Key::Top(key) if is_str(name, key)) && text_of(value).is_some()
        };
        let mut count = 0;
        let mut put = |(name, value): (&[u8], &[u8])| {
            body.extend_from_slice(name);
            body.extend_from_slice(value);
            count += 1;
        };
        match kept {
            Kept::Nothing => {}
            Kept::Key => record.entries().filter(is_parsed).last().into_iter().for_each(&mut put),
            Kept::Others => {
                record.entries().filter(|entry| !is_parsed(entry)).for_each(&mut put);
            }
            Kept::All => record.entries().for_each(&mut put),
        }
        if count > 0 {
            let Some(Head::Map(parsed)) = read_head(&mut body.as_slice()) else { return };
            close_map(body, 0, parsed + count);
        }
    }
}

impl Filter for RecordParser {
    fn begin_batch(&mut self, clock: Clock) {
        self.now = clock.now;
    }

    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let text = match &self.definition.key {
            Key::Top(key) => {
                let named = record.entries().filter(|(name, _)| is_str(name, key));
                named.filter_map(|(_, value)| text_of(value)).last()
            }
            Key::Path(path) => path.get(record).and_then(text_of),
        };
        let Some(text) = text else { return Verdict::Keep };
        match self.parse(text) {
            Ok(time) => {
                self.keep(record);
                let map = record.store(|out| out.extend_from_slice(&self.body));
                record.replace_body(map);
                if let Some(time) = time {
                    record.set_time(time);
                }
            }
            Err(why) => self.unparsed[why as usize] += 1,
        }
        Verdict::Keep
    }

    fn end_batch(&mut self, counters: &mut FilterCounters) {
        for why in Unparsed::ALL {
            counters.unparsed[why as usize] += std::mem::take(&mut self.unparsed[why as usize]);
        }
        self.body.clear();
        self.body.shrink_to(BODY_BYTES_KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::testing::errors;

    #[test]
    fn settings_without_key_or_parser_are_refused() {
        assert_eq!(errors(&PLUGIN, &[("key_name", "log")]), ["`parser` needs `parser`"]);
        assert_eq!(
            errors(&PLUGIN, &[("key_name", "log"), ("parser", "a"), ("Parser", "b")]),
            ["`parser`: no parser is named `a`", "`Parser`: no parser is named `b`"]
        );
        assert_eq!(errors(&PLUGIN, &[("parser", "a")]).len(), 2);
    }
}
