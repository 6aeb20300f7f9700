//! The fused chain against filters run one by one, and the bounds of what filters may multiply.

use std::sync::Arc;

use proptest::prelude::*;

use crate::chunk::InputId;
use crate::codec::json::encode_value;
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
const CONFIGURED: [Configured; 12] = [
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

proptest! {
    #[test]
    fn the_fused_chain_equals_filters_run_one_by_one(
        records in prop::collection::vec(
            (r#"\{("a":("x"|7),)?("b":[0-9],)?("c":(\{"a":"x"\}|"z"),)?"e":1\}"#, 0usize..3), 0..40),
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
