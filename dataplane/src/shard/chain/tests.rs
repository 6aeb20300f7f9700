//! The fused chain against filters run one by one, and the bounds of what filters may multiply.

use std::sync::Arc;

use proptest::prelude::*;

use crate::chunk::InputId;
use crate::codec::json::encode_value;
use crate::codec::json_text::{JsonOptions, put_json};
use crate::event::encoder::event_header;
use crate::event::reader::Events;
use crate::event::record::{Record, Workspace};
use crate::event::time::EventTime;
use crate::filters::FILTERS;
use crate::filters::testing::open;
use crate::flush::retry::{Backoff, RetryLimit};
use crate::flush::scheduler::LanePolicy;
use crate::flush::watermark::Meter;
use crate::limits::{RETAGGED_BYTES_MAX, RETAGS_MAX};
use crate::plugin::filter::{Filter, Original, Verdict};
use crate::plugin::input::EventSink;
use crate::route::mask::OutputId;
use crate::route::pattern::TagPattern;
use crate::route::table::RouteTable;
use crate::shard::{Shard, ShardPlan};

type Configured = (&'static str, &'static [(&'static str, &'static str)]);

/// Filters that look at, change and drop what the records of the test have.
const CONFIGURED: [Configured; 15] = [
    ("modify", &[("set", "a x"), ("rename", "b c")]),
    ("modify", &[("condition", "key_exists c"), ("hard_copy", "c a"), ("remove", "b")]),
    ("modify", &[("move_to_start", "c"), ("add", "d 5")]),
    ("record_modifier", &[("record", "r s"), ("remove_key", "a")]),
    ("record_modifier", &[("allowlist_key", "a"), ("allowlist_key", "c")]),
    ("nest", &[("operation", "nest"), ("wildcard", "*"), ("nest_under", "c")]),
    ("nest", &[("operation", "lift"), ("nested_under", "c"), ("add_prefix", "b")]),
    ("grep", &[("regex", "a x")]),
    ("grep", &[("exclude", "$c['a'] x")]),
    ("type_converter", &[("int_key", "a b string")]),
    ("expect", &[("action", "result_key"), ("key_exists", "c")]),
    (
        "parser",
        &[("key_name", "c"), ("parser", "json"), ("parser", "pair"), ("reserve_data", "on")],
    ),
    ("parser", &[("key_name", "$c['a']"), ("parser", "json"), ("reserve_data", "on")]),
    ("parser", &[("key_name", "d"), ("parser", "json"), ("preserve_key", "on")]),
    ("modify", &[("condition", "key_exists nope"), ("set", "a y")]),
];

fn filters(picked: &[usize]) -> Vec<Box<dyn Filter>> {
    let open = |index: &usize| {
        let (name, keys) = CONFIGURED[*index];
        let plugin = FILTERS.iter().find(|plugin| plugin.name == name).unwrap();
        open(plugin, keys)
    };
    picked.iter().map(open).collect()
}

fn events(records: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, record) in records.iter().enumerate() {
        event_header(&mut bytes, EventTime { secs: number as u32, nanos: 0 });
        encode_value(record.as_bytes(), &mut bytes).unwrap();
    }
    bytes
}

fn one_by_one(mut batch: Vec<u8>, filters: &mut [Box<dyn Filter>]) -> Vec<u8> {
    for filter in filters {
        let mut out = Vec::new();
        for event in Events::new(&batch) {
            let mut work = Workspace::default();
            let mut record = Record::new(b"t", event.unwrap(), &mut work).unwrap();
            if filter.apply(&mut record) == Verdict::Keep {
                record.write(&mut out);
            }
        }
        batch = out;
    }
    batch
}

pub(super) fn shard(filters: Vec<Box<dyn Filter>>) -> Shard {
    limited_shard(filters, 1 << 30).0
}

pub(super) fn limited_shard(filters: Vec<Box<dyn Filter>>, limit: u64) -> (Shard, Arc<Meter>) {
    let meter = Arc::new(Meter::new(limit));
    let patterns = filters.iter().map(|_| TagPattern::Any).collect();
    let policy = LanePolicy { in_flight_max: 9, retry_limit: RetryLimit::None };
    let shard = Shard::new(ShardPlan {
        routes: Arc::new(RouteTable::new(patterns, vec![TagPattern::Any])),
        meters: vec![Arc::clone(&meter)],
        policies: vec![policy],
        filters,
        backoff: Backoff { base_s: 5, cap_s: 60 },
        seed: 1,
    });
    (shard, meter)
}

fn fused(batch: &[u8], count: u32, filters: Vec<Box<dyn Filter>>) -> Vec<u8> {
    let mut shard = shard(filters);
    let mut sink = shard.sink(InputId(0));
    sink.open(b"t", batch.len()).bytes.extend_from_slice(batch);
    sink.commit(count);
    shard.seal_all();
    let mut out = Vec::new();
    while let Some(task) = shard.next_task(OutputId(0)) {
        out.extend_from_slice(task.chunk.bytes());
    }
    let ledger = shard.ledger(InputId(0));
    let left = Events::new(&out).count() as u64;
    assert_eq!(
        (ledger.in_records, ledger.filtered_records),
        (count.into(), u64::from(count) - left)
    );
    out
}

/// Re-tags everything and keeps it too.
struct Doubler;

impl Filter for Doubler {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        record.new_tag().extend_from_slice(b"t");
        Verdict::Retag(Original::Kept)
    }
}

#[test]
fn filters_that_multiply_records_are_bounded() {
    let records: Vec<String> =
        (0..64).map(|_| format!("{{\"a\":\"{}\"}}", "x".repeat(4096))).collect();
    let batch = events(&records);
    let filters: Vec<Box<dyn Filter>> =
        (0..4).map(|_| Box::new(Doubler) as Box<dyn Filter>).collect();
    let mut shard = shard(filters);
    let mut sink = shard.sink(InputId(0));
    sink.open(b"t", batch.len()).bytes.extend_from_slice(&batch);
    sink.commit(64);
    let added = shard.ledger(InputId(0)).added_records as usize;
    let bound = RETAGS_MAX as usize * (RETAGGED_BYTES_MAX / 4096 + 1);
    assert!(added > 64 * 4 && added <= bound, "{added} of {bound}");
    let refused: u64 = shard.filter_counters().iter().map(|done| done.refused_retags).sum();
    assert!(refused > 0);
    assert!(shard.close()[0].holds());
}

/// Replaces a record by so many of its own, numbered under a key; where the number is missing it fails.
struct Splitter(&'static str, Option<u32>);

impl Filter for Splitter {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let Splitter(key, Some(count)) = *self else { return Verdict::Fail };
        for number in 0..count {
            let mut body = vec![0x82, 0xa1, b'k'];
            body.extend_from_slice(record.get(b"k").unwrap_or(&[0xc0]));
            body.extend_from_slice(&[0xa1, key.as_bytes()[0], number as u8]);
            let time = record.time();
            event_header(record.replacement(), time);
            record.replacement().extend_from_slice(&body);
        }
        Verdict::Replace(count)
    }
}

#[test]
fn filters_behind_see_each_part_of_a_split_record() {
    let splitter = |key, count| Box::new(Splitter(key, count)) as Box<dyn Filter>;
    let open =
        |name: &str, keys| open(FILTERS.iter().find(|plugin| plugin.name == name).unwrap(), keys);
    let filters = vec![
        splitter("n", None),
        splitter("a", Some(3)),
        open("grep", &[("exclude", "k drop")]),
        open("modify", &[("add", "z 1")]),
        splitter("b", Some(2)),
        open("modify", &[("condition", "key_exists nope"), ("add", "y 1")]),
    ];
    let records = [r#"{"k":"x"}"#, r#"{"k":"drop"}"#, r#"{"k":"y"}"#].map(str::to_owned);
    let mut shard = shard(filters);
    let mut sink = shard.sink(InputId(0));
    let batch = events(&records);
    sink.open(b"t", batch.len()).bytes.extend_from_slice(&batch);
    sink.commit(3);
    shard.seal_all();
    let task = shard.next_task(OutputId(0)).unwrap();
    let bodies: Vec<String> = Events::new(task.chunk.bytes())
        .map(|event| {
            let mut json = Vec::new();
            put_json(event.unwrap().body, JsonOptions::default(), &mut json).unwrap();
            String::from_utf8(json).unwrap()
        })
        .collect();
    let expected = |key| [0, 1].map(|number| format!(r#"{{"k":"{key}","b":{number}}}"#));
    let both = |key| [expected(key), expected(key), expected(key)].concat();
    assert_eq!(bodies, [both("x"), both("y")].concat());
    assert_eq!(task.chunk.record_count(), 12);
    let ledger = shard.ledger(InputId(0));
    assert_eq!((ledger.added_records, ledger.filtered_records), (6 + 6, 3));
    let counters = shard.filter_counters();
    assert_eq!((counters[0].failed_records, counters[1].added_records), (3, 6));
    assert_eq!(counters[0].to_string(), "dropped 0 records, re-tagged 0, added 0, failed on 3");
    let mut none = shard_of_nothing();
    let mut sink = none.sink(InputId(0));
    sink.open(b"t", batch.len()).bytes.extend_from_slice(&batch);
    sink.commit(3);
    assert!(!none.has_open());
    assert_eq!(none.filter_counters()[0].dropped_records, 3);
    assert!(none.close()[0].holds());
}

/// Writes into a record what its group has in common.
struct GroupKey;

impl Filter for GroupKey {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let group = record.group();
        record.push_encoded(b"\xa1g", group);
        Verdict::Keep
    }
}

#[test]
fn records_know_their_group_and_markers_pass() {
    let mut batch = Vec::new();
    let mut push = |secs, body: &[u8]| {
        event_header(&mut batch, EventTime { secs, nanos: 0 });
        batch.extend_from_slice(body);
    };
    let one = |value| [0x81, 0xa1, b'k', value];
    push(1, &one(1));
    push(u32::MAX, &one(2));
    push(2, &one(3));
    push(u32::MAX - 1, &[0x80]);
    push(3, &one(4));
    let out = fused(&batch, 5, vec![Box::new(GroupKey)]);
    let bodies: Vec<&[u8]> = Events::new(&out).map(|event| event.unwrap().body).collect();
    let with = |value, group: &[u8]| [&[0x82, 0xa1, b'k', value, 0xa1, b'g'], group].concat();
    let expected =
        [with(1, &[0x80]), one(2).to_vec(), with(3, &one(2)), vec![0x80], with(4, &[0x80])];
    assert_eq!(bodies, expected);
}

fn shard_of_nothing() -> Shard {
    shard(vec![Box::new(Splitter("n", Some(0)))])
}

proptest! {
    #[test]
    fn the_fused_chain_equals_filters_run_one_by_one(
        records in prop::collection::vec(
            (r#"\{("a":("x"|7),)?("b":[0-9],)?("c":(\{"a":"x"\}|"z"|"x=\{\}"|"\{\\"a\\":\\"x\\"\}"|\{"a":"\{\\"d\\":1\}"\}),)?"e":1\}"#, 0usize..3), 0..40),
        picked in prop::collection::vec(0..CONFIGURED.len(), 1..6),
    ) {
        // Some records are long, so that runs are copied in parts.
        let records: Vec<String> = records
            .into_iter()
            .map(|(record, size)| record.replace("\"e\":1", &format!("\"e\":\"{}\"", "y".repeat(size * 9000))))
            .collect();
        let batch = events(&records);
        let expected = one_by_one(batch.clone(), &mut filters(&picked));
        prop_assert_eq!(fused(&batch, records.len() as u32, filters(&picked)), expected);
    }
}
