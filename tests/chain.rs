//! The fused chain equals filters that run one by one, each on decoded records: every built-in filter, in any order,
//! behind any patterns, with records that enter again under other tags.

#![allow(clippy::unwrap_used, reason = "a failure of any step fails the test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use config::{Document, Problems, Property, Section};
use dataplane::chunk::InputId;
use dataplane::codec::json::encode_value;
use dataplane::event::encoder::event_header;
use dataplane::event::reader::{EventKind, Events};
use dataplane::event::record::{Record, Workspace};
use dataplane::event::time::EventTime;
use dataplane::filters::FILTERS;
use dataplane::flush::retry::{Backoff, RetryLimit};
use dataplane::flush::scheduler::LanePolicy;
use dataplane::flush::watermark::Meter;
use dataplane::limits::RETAGS_MAX;
use dataplane::log::Log;
use dataplane::plugin::descriptor::BuildContext;
use dataplane::plugin::filter::{Filter, FilterPlace, Original, Verdict};
use dataplane::plugin::input::EventSink;
use dataplane::plugin::parser::Parsers;
use dataplane::plugin::testing::{context, section};
use dataplane::route::mask::OutputId;
use dataplane::route::pattern::TagPattern;
use dataplane::route::table::RouteTable;
use dataplane::shard::{Shard, ShardPlan};
use proptest::prelude::*;

type Configured = (&'static str, &'static [(&'static str, &'static str)]);

/// Filters that look at, change, drop and re-tag what the records of the test have.
const CONFIGURED: [Configured; 27] = [
    ("expect", &[("action", "result_key"), ("key_exists", "$c['a']")]),
    ("grep", &[("regex", "a x")]),
    ("grep", &[("exclude", "$c['a'] x")]),
    ("grep", &[("logical_op", "or"), ("regex", "a x"), ("regex", "b 7")]),
    ("lua", &[("call", "f"), ("code", "function f(t, s, r) return 1, s, {a = r.b, b = 'x'} end")]),
    (
        "lua",
        &[("call", "f"), ("code", "function f(t, s, r) if r.b then return -1 end return 0 end")],
    ),
    ("modify", &[("set", "a x"), ("rename", "b c")]),
    ("modify", &[("condition", "key_exists c"), ("hard_copy", "c a"), ("remove", "b")]),
    ("modify", &[("move_to_start", "c"), ("add", "d 5")]),
    ("modify", &[("condition", "key_value_equals a x"), ("set", "a y")]),
    (
        "modify",
        &[("condition", "no_key_matches ^z"), ("remove_wildcard", "d"), ("move_to_end", "a")],
    ),
    ("nest", &[("operation", "nest"), ("wildcard", "*"), ("nest_under", "c")]),
    (
        "nest",
        &[("operation", "nest"), ("wildcard", "b*"), ("nest_under", "a"), ("remove_prefix", "b")],
    ),
    ("nest", &[("operation", "lift"), ("nested_under", "c"), ("add_prefix", "b")]),
    ("parser", &[("key_name", "a"), ("parser", "word")]),
    (
        "parser",
        &[("key_name", "e"), ("parser", "word"), ("reserve_data", "on"), ("preserve_key", "on")],
    ),
    ("record_modifier", &[("record", "r s"), ("remove_key", "a")]),
    ("record_modifier", &[("allowlist_key", "a"), ("allowlist_key", "c")]),
    ("rewrite_tag", &[("rule", "$a ^x u.a false")]),
    ("rewrite_tag", &[("rule", "$c['a'] (x) u.$1 false"), ("rule", "$c z $TAG.z false")]),
    ("rewrite_tag", &[("rule", "$a ^y v true")]),
    ("rewrite_tag", &[("rule", "$a . t false")]),
    ("throttle", &[("rate", "1000000")]),
    ("type_converter", &[("int_key", "b s string")]),
    ("type_converter", &[("str_key", "a a float"), ("int_key", "b b string")]),
    ("multiline", &[]),
    ("stdout", &[]),
];

/// Filters of the table that are left out: one holds records and gives them back by time, which `shard` tests against
/// a model of its own, one prints and changes nothing.
const LEFT_OUT: [&str; 2] = ["multiline", "stdout"];

/// The table without filters that do not exist.
fn configured() -> Vec<Configured> {
    let is_known = |name: &str| FILTERS.iter().any(|plugin| plugin.name == name);
    let mut known = CONFIGURED.to_vec();
    known.retain(|(name, _)| is_known(name) && !LEFT_OUT.contains(name));
    known
}

const PATTERNS: [&str; 4] = ["*", "t", "u.*", "*a"];

/// Places in [`configured`] and [`PATTERNS`].
type Picked = Vec<(prop::sample::Index, usize)>;

fn parsers() -> Parsers {
    let mut document = Document::empty();
    let mut word = section(&[]);
    for (key, value) in [("name", "word"), ("format", "regex"), ("regex", "^(?<b>[a-z])(?<f>.*)$")]
    {
        let (key, value) = (key.to_owned(), value.to_owned());
        let Section { span, .. } = word;
        word.properties.push(Property { key, value, key_span: span, value_span: span });
    }
    document.parsers.push(word);
    dataplane::parsers::compile(&document, &mut Problems::default())
}

/// Filters that nothing has passed yet, each with its pattern.
fn filters(picked: &Picked) -> Vec<(TagPattern, Box<dyn Filter>)> {
    let (configured, parsers) = (configured(), parsers());
    let open = |(index, pattern): &(prop::sample::Index, usize)| {
        let (name, keys) = configured[index.index(configured.len())];
        let plugin = FILTERS.iter().find(|plugin| plugin.name == name).unwrap();
        let keys: Vec<_> = [("name", name)].iter().chain(keys).copied().collect();
        let mut problems = Problems::default();
        let context = BuildContext { parsers: &parsers, ..context() };
        let definition = (plugin.build)(&section(&keys), &context, &mut problems);
        let messages: Vec<_> = problems.iter().map(|problem| &problem.message).collect();
        let definition = definition.unwrap_or_else(|| panic!("{keys:?}: {messages:?}"));
        let place = FilterPlace {
            shard: 0,
            shard_count: 1,
            log: Log::discard(),
            fail: Arc::new(|| panic!("nothing fails here")),
        };
        (TagPattern::glob(PATTERNS[*pattern]), definition.open(&place))
    };
    picked.iter().map(open).collect()
}

/// Every third event marks a group, the others are records.
fn events(records: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let secs = if number % 3 == 2 { u32::MAX } else { number as u32 };
        event_header(&mut bytes, EventTime { secs, nanos: 0 });
        encode_value(record.as_bytes(), &mut bytes).unwrap();
    }
    bytes
}

/// What filters did: dropped, re-tagged, added, refused to re-tag.
type Counts = [u64; 4];

/// Events by tag, in their order, and the counts of each filter.
type Outcome = (BTreeMap<Vec<u8>, Vec<u8>>, Vec<Counts>);

/// One event after another, through one filter after another, written and read again between them.
struct Model {
    filters: Vec<(TagPattern, Box<dyn Filter>)>,
    counts: Vec<Counts>,
    placed: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Tags and events that enter again.
    waiting: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Model {
    fn run(filters: Vec<(TagPattern, Box<dyn Filter>)>, batch: &[u8]) -> Outcome {
        let counts = vec![Counts::default(); filters.len()];
        let mut model = Model { filters, counts, placed: BTreeMap::new(), waiting: Vec::new() };
        let events = Events::new(batch).map(|event| event.unwrap().bytes.to_vec());
        let mut entering: Vec<_> = events.map(|event| (b"t".to_vec(), event)).collect();
        for round in 0..=RETAGS_MAX {
            for (tag, event) in entering {
                if let Some(event) = model.pass(&tag, event, round == RETAGS_MAX) {
                    model.placed.entry(tag).or_default().extend(event);
                }
            }
            entering = std::mem::take(&mut model.waiting);
        }
        assert!(entering.is_empty());
        (model.placed, model.counts)
    }

    /// The event as the filters leave it under its tag.
    fn pass(&mut self, tag: &[u8], mut bytes: Vec<u8>, is_last_round: bool) -> Option<Vec<u8>> {
        for ((pattern, filter), counts) in self.filters.iter_mut().zip(&mut self.counts) {
            let event = Events::new(&bytes).next().unwrap().unwrap();
            if event.kind != EventKind::Log || !pattern.matches(tag) {
                continue;
            }
            let mut work = Workspace::default();
            let mut record = Record::new(tag, event, &mut work).unwrap();
            let verdict = filter.apply(&mut record);
            let mut written = Vec::new();
            record.write(&mut written);
            match verdict {
                Verdict::Drop => {
                    counts[0] += 1;
                    return None;
                }
                Verdict::Retag(_) if is_last_round => counts[3] += 1,
                Verdict::Retag(original) => {
                    counts[1] += 1;
                    self.waiting.push((record.tag_buffer().clone(), written.clone()));
                    if original == Original::Dropped {
                        return None;
                    }
                    counts[2] += 1;
                }
                _ => {}
            }
            bytes = written;
        }
        Some(bytes)
    }
}

fn fused(filters: Vec<(TagPattern, Box<dyn Filter>)>, batch: &[u8], count: u32) -> Outcome {
    let (patterns, filters) = filters.into_iter().unzip();
    let policy = LanePolicy { in_flight_max: 999, retry_limit: RetryLimit::None };
    let mut shard = Shard::new(ShardPlan {
        routes: Arc::new(RouteTable::new(patterns, vec![TagPattern::Any])),
        meters: vec![Arc::new(Meter::new(1 << 30))],
        policies: vec![policy],
        filters,
        backoff: Backoff { base_s: 5, cap_s: 60 },
        seed: 1,
    });
    let mut sink = shard.sink(InputId(0));
    sink.open(b"t", batch.len()).bytes.extend_from_slice(batch);
    sink.commit(count);
    shard.seal_all();
    let mut placed: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut placed_count = 0;
    while let Some(task) = shard.next_task(OutputId(0)) {
        placed_count += u64::from(task.chunk.record_count());
        placed.entry(task.chunk.tag().to_vec()).or_default().extend(task.chunk.bytes());
    }
    let ledger = shard.ledger(InputId(0));
    let entered = ledger.in_records + ledger.added_records;
    assert_eq!(entered, placed_count + ledger.filtered_records);
    let counts = shard.filter_counters().iter().map(|done| {
        [done.dropped_records, done.retagged_records, done.added_records, done.refused_retags]
    });
    (placed, counts.collect())
}

#[test]
fn every_filter_is_in_the_table() {
    for plugin in FILTERS {
        assert!(CONFIGURED.iter().any(|(name, _)| *name == plugin.name), "{}", plugin.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_fused_chain_equals_filters_run_one_by_one(
        records in prop::collection::vec(
            (r#"\{("a":("x"|"y"|7),)?("b":[0-9],)?("c":(\{"a":"x"\}|"z"),)?"e":"q1"\}"#, 0usize..9), 0..20),
        picked in prop::collection::vec((any::<prop::sample::Index>(), 0..PATTERNS.len()), 1..8),
    ) {
        // Some records are long, so that runs are copied in parts.
        let records: Vec<String> = records
            .into_iter()
            .map(|(record, size)| match size {
                0 => record.replace("\"q1\"", &format!("\"{}\"", "y".repeat(9000))),
                _ => record,
            })
            .collect();
        let batch = events(&records);
        let expected = Model::run(filters(&picked), &batch);
        let seen = fused(filters(&picked), &batch, records.len() as u32);
        prop_assert_eq!(&seen.1, &expected.1);
        prop_assert!(seen.0 == expected.0, "{:?} is not {:?}", texts(&seen.0), texts(&expected.0));
    }
}

/// Tags and their events, to be looked at.
fn texts(placed: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<String> {
    let one = |(tag, bytes): (&Vec<u8>, &Vec<u8>)| {
        format!("{}: {}", tag.escape_ascii(), bytes.escape_ascii())
    };
    placed.iter().map(one).collect()
}
