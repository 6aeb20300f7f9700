//! Filters alone, for their unit tests: settings as text, records as JSON.

use std::sync::Arc;

use config::{Document, Problems, Property, Section, SourceMap, Span};

use crate::codec::json::encode_value;
use crate::codec::json_text::{JsonOptions, put_json};
use crate::event::encoder::event_header;
use crate::event::reader::Events;
use crate::event::record::{Record, Workspace};
use crate::event::time::{Clock, EventTime};
use crate::log::Log;
use crate::plugin::descriptor::{BuildContext, FilterPlugin};
use crate::plugin::filter::{Filter, FilterCounters, FilterDefinition, FilterPlace, Verdict};
use crate::plugin::parser::Parsers;

/// The tag of the records.
pub(crate) const TAG: &[u8] = b"app.web.one";

fn build(
    plugin: &FilterPlugin,
    keys: &[(&str, &str)],
) -> (Option<Arc<dyn FilterDefinition>>, Vec<String>) {
    let mut sources = SourceMap::default();
    let span = Span::new(sources.add("t", ""), 0, 0);
    let mut section = Section::new("FILTER", span);
    for (key, value) in [("name", plugin.name)].iter().chain(keys) {
        let (key, value) = ((*key).to_owned(), (*value).to_owned());
        section.properties.push(Property { key, value, key_span: span, value_span: span });
    }
    let mut problems = Problems::default();
    let context = BuildContext {
        instance: "test.0",
        engine_keys: &[crate::filters::testing::NAME],
        shard_count: 1,
        flush_interval: std::time::Duration::from_secs(1),
        json: JsonOptions::default(),
        parsers: &parsers(),
        multiline: crate::plugin::testing::context().multiline,
        variables: &[("FOO".to_owned(), "bar".to_owned())],
        directory: std::path::Path::new(""),
    };
    let definition = (plugin.build)(&section, &context, &mut problems);
    (definition, problems.iter().map(|problem| problem.message.clone()).collect())
}

/// The parsers `json` and `pair` (`key=value`).
fn parsers() -> Parsers {
    let mut document = Document::empty();
    let mut sources = SourceMap::default();
    let span = Span::new(sources.add("parsers", ""), 0, 0);
    let pair = [("name", "pair"), ("format", "regex"), ("regex", "^(?<b>[^=]*)=(?<d>.*)$")];
    for keys in [&[("name", "json"), ("format", "json")][..], &pair] {
        let mut section = Section::new("PARSER", span);
        for (key, value) in keys {
            let (key, value) = ((*key).to_owned(), (*value).to_owned());
            section.properties.push(Property { key, value, key_span: span, value_span: span });
        }
        document.parsers.push(section);
    }
    crate::parsers::compile(&document, &mut Problems::default())
}

const NAME: &[config::KeySpec] = &[config::KeySpec {
    name: "name",
    type_name: "text",
    default: None,
    help: "",
    required: true,
    repeat: false,
    later: false,
}];

/// Builds a filter that must be right.
pub(crate) fn definition(
    plugin: &FilterPlugin,
    keys: &[(&str, &str)],
) -> Arc<dyn FilterDefinition> {
    let (definition, errors) = build(plugin, keys);
    definition.unwrap_or_else(|| panic!("{keys:?}: {errors:?}"))
}

/// One shard's part of a filter that must be right.
pub(crate) fn open(plugin: &FilterPlugin, keys: &[(&str, &str)]) -> Box<dyn Filter> {
    definition(plugin, keys).open(&FilterPlace {
        shard: 0,
        shard_count: 1,
        log: Log::discard(),
        fail: Arc::new(|| {}),
    })
}

/// What is wrong with settings.
pub(crate) fn errors(plugin: &FilterPlugin, keys: &[(&str, &str)]) -> Vec<String> {
    let (definition, errors) = build(plugin, keys);
    assert!(definition.is_none(), "{keys:?} was taken");
    errors
}

/// What a filter makes of one record; `None` when it drops it.
pub(crate) fn run(plugin: &FilterPlugin, keys: &[(&str, &str)], record: &str) -> Option<String> {
    let (verdict, text) = apply(&mut *open(plugin, keys), record);
    (verdict == Verdict::Keep).then_some(text)
}

/// What a filter says of one record, and what it is then.
pub(crate) fn apply(filter: &mut dyn Filter, record: &str) -> (Verdict, String) {
    apply_at(filter, Clock::default(), record)
}

/// The same at a time.
pub(crate) fn apply_at(filter: &mut dyn Filter, clock: Clock, record: &str) -> (Verdict, String) {
    let mut bytes = Vec::new();
    event_header(&mut bytes, EventTime { secs: 1, nanos: 2 });
    encode_value(record.as_bytes(), &mut bytes).expect("a record of the test is JSON");
    let event = Events::new(&bytes).next().expect("an event").expect("an event");
    let mut work = Workspace::default();
    let mut record = Record::new(TAG, event, &mut work).expect("a map");
    filter.begin_batch(clock);
    let verdict = filter.apply(&mut record);
    filter.end_batch(&mut FilterCounters::default());
    let mut out = Vec::new();
    record.write(&mut out);
    assert!(out.len() <= record.room_bytes());
    let event = Events::new(&out).next().expect("an event").expect("an event");
    assert_eq!((event.time, event.bytes.len()), (EventTime { secs: 1, nanos: 2 }, out.len()));
    let mut json = Vec::new();
    put_json(event.body, JsonOptions::default(), &mut json).expect("not deep");
    (verdict, String::from_utf8(json).expect("JSON is UTF-8"))
}
