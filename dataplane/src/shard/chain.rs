//! The filter chain: one pass over a batch, every filter of the chain sees a record while it is in L1.
//!
//! Records that no filter changes or drops are copied to the chunk as one run. A changed one is written once, straight
//! into the chunk. A re-tagged one enters again under its new tag when the batch is through, a bounded number of
//! times. Nothing here allocates once the buffers have grown.

use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use crate::chunk::InputId;
use crate::event::reader::{Event, EventKind, Events};
use crate::event::record::{NO_GROUP, Record, Workspace};
use crate::limits::{RETAGGED_BYTES_MAX, RETAGS_MAX};
use crate::plugin::filter::{Filter, Original, Verdict};
use crate::route::table::FilterId;
use crate::shard::Shard;
use crate::shard::ledger::InputLedger;
use crate::tag::Tag;

/// What a filter did, for the account at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterCounters {
    /// Records it dropped.
    pub dropped_records: u64,
    /// Records it re-tagged; the original went on too where it was kept.
    pub retagged_records: u64,
    /// Records it added: re-tagged ones whose original was kept, and what one was split into, but for the first.
    pub added_records: u64,
    /// Records it failed on; they went on as they came.
    pub failed_records: u64,
    /// Records it would have re-tagged once too often, or when too many waited; they went on as they were.
    pub refused_retags: u64,
}

impl FilterCounters {
    /// Adds another shard's.
    pub fn add(&mut self, other: &FilterCounters) {
        self.dropped_records += other.dropped_records;
        self.retagged_records += other.retagged_records;
        self.added_records += other.added_records;
        self.failed_records += other.failed_records;
        self.refused_retags += other.refused_retags;
    }
}

/// `dropped 3 records, re-tagged 2, added 1, failed on 4`
impl fmt::Display for FilterCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "dropped {} records, re-tagged {}, added {}",
            self.dropped_records, self.retagged_records, self.added_records
        )?;
        match self.failed_records {
            0 => Ok(()),
            count => write!(f, ", failed on {count}"),
        }
    }
}

/// The filters of a shard, and the buffers they need.
#[derive(Default)]
pub struct Chain {
    filters: Vec<Box<dyn Filter>>,
    counters: Vec<FilterCounters>,
    /// Records while they are changed.
    work: Workspace,
    /// Re-tagged records that wait, and those being worked on.
    waiting: Retagged,
    entering: Retagged,
    /// Buffers for events that replace records, one for each filter at work that splits.
    spares: Vec<Vec<u8>>,
}

impl Chain {
    /// With a shard's part of each filter, by `FilterId`.
    pub fn new(filters: Vec<Box<dyn Filter>>) -> Chain {
        let counters = vec![FilterCounters::default(); filters.len()];
        Chain { filters, counters, ..Chain::default() }
    }

    /// What each filter did so far.
    pub fn counters(&self) -> &[FilterCounters] {
        &self.counters
    }
}

/// Records on their way back to the start under other tags, in order; neighbours of one tag are one batch.
#[derive(Default)]
struct Retagged {
    tags: Vec<u8>,
    bytes: Vec<u8>,
    batches: Vec<RetaggedBatch>,
}

struct RetaggedBatch {
    tag: Range<usize>,
    bytes: Range<usize>,
}

/// What the buffer keeps between batches: one flood must not hold its memory for ever.
const RETAGGED_BYTES_KEPT: usize = 1 << 20;

impl Retagged {
    fn push(&mut self, record: &mut Record<'_>) {
        let start = self.bytes.len();
        record.write(&mut self.bytes);
        let end = self.bytes.len();
        let tag = record.tag_buffer();
        match self.batches.last_mut() {
            Some(last) if self.tags[last.tag.clone()] == **tag => last.bytes.end = end,
            _ => {
                let tag_start = self.tags.len();
                self.tags.extend_from_slice(tag);
                let tag = tag_start..self.tags.len();
                self.batches.push(RetaggedBatch { tag, bytes: start..end });
            }
        }
    }

    fn clear(&mut self) {
        self.tags.clear();
        self.bytes.clear();
        self.bytes.shrink_to(RETAGGED_BYTES_KEPT);
        self.batches.clear();
    }
}

/// Runs the chain of a tag over the scratch buffer and puts what is left into chunks.
pub(super) fn run(shard: &mut Shard, input: InputId, tag_index: u32, record_count: u32) {
    let mut batch = std::mem::take(&mut shard.scratch);
    let mut chain = std::mem::take(&mut shard.chain);
    let ledger = &mut shard.ledgers[usize::from(input.0)];
    ledger.in_records += u64::from(record_count);
    ledger.in_bytes += batch.len() as u64;
    run_batch(shard, &mut chain, input, tag_index, &batch, Retags::Welcome);
    for round in 1..=RETAGS_MAX {
        if chain.waiting.batches.is_empty() {
            break;
        }
        let retags = if round == RETAGS_MAX { Retags::Refused } else { Retags::Welcome };
        std::mem::swap(&mut chain.waiting, &mut chain.entering);
        let entering = std::mem::take(&mut chain.entering);
        for batch in &entering.batches {
            let tag_index = shard.tags.index(&entering.tags[batch.tag.clone()]);
            let bytes = &entering.bytes[batch.bytes.clone()];
            run_batch(shard, &mut chain, input, tag_index, bytes, retags);
        }
        chain.entering = entering;
        chain.entering.clear();
    }
    batch.clear();
    shard.scratch = batch;
    shard.chain = chain;
}

/// Whether a record may be re-tagged once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retags {
    Welcome,
    /// It has been round too often.
    Refused,
}

fn run_batch(
    shard: &mut Shard,
    chain: &mut Chain,
    input: InputId,
    tag_index: u32,
    batch: &[u8],
    retags: Retags,
) {
    let entry = shard.tags.entry(tag_index);
    let (routes, tag): (_, Tag) = (Rc::clone(&entry.routes), entry.tag.clone());
    for id in &routes.filters {
        chain.filters[usize::from(id.0)].begin_batch();
    }
    let is_routed = !routes.outputs.is_empty();
    let mut target = Target { shard, input, tag_index, is_routed, batch, run: Run::default() };
    let mut at = 0;
    let mut place = Place { tag: tag.as_bytes(), group: NO_GROUP, retags };
    for event in Events::new(batch) {
        let event = event.expect("inputs append whole v2 events");
        let start = at;
        at += event.bytes.len();
        match event.kind {
            EventKind::Log => {}
            EventKind::GroupStart => place.group = event.body,
            EventKind::GroupEnd => place.group = NO_GROUP,
        }
        match chain.pass(&routes.filters, place, event, &mut target) {
            Fate::Untouched => target.extend_run(start..at),
            Fate::Placed | Fate::Gone => {}
        }
    }
    target.copy_run();
    for id in &routes.filters {
        chain.filters[usize::from(id.0)].end_batch();
    }
}

/// What is the same for neighbours.
#[derive(Clone, Copy)]
struct Place<'a> {
    tag: &'a [u8],
    /// What the group of records has in common.
    group: &'a [u8],
    retags: Retags,
}

/// What became of one record.
enum Fate {
    /// No filter changed or dropped it.
    Untouched,
    /// It was changed, and written.
    Placed,
    /// It was dropped, or left under another tag.
    Gone,
}

impl Chain {
    /// Lets the filters see one event. Markers of groups, and bodies that are no map, pass as they are.
    fn pass(
        &mut self,
        filters: &[FilterId],
        place: Place<'_>,
        event: Event<'_>,
        target: &mut Target<'_>,
    ) -> Fate {
        if event.kind != EventKind::Log {
            return Fate::Untouched;
        }
        let Some(mut record) = Record::new(place.tag, event, &mut self.work) else {
            return Fate::Untouched;
        };
        record.set_group(place.group);
        for (position, id) in filters.iter().enumerate() {
            let index = usize::from(id.0);
            let counters = &mut self.counters[index];
            match self.filters[index].apply(&mut record) {
                Verdict::Keep => {}
                Verdict::Fail => counters.failed_records += 1,
                Verdict::Replace(count) if count > 0 => {
                    let added = u64::from(count) - 1;
                    counters.added_records += added;
                    target.ledger().added_records += added;
                    let spare = self.spares.pop().unwrap_or_default();
                    let events = std::mem::replace(record.replacement(), spare);
                    self.pass_all(&filters[position + 1..], place, (&events, count), target);
                    self.keep_spare(events);
                    return Fate::Gone;
                }
                Verdict::Drop | Verdict::Replace(_) => {
                    counters.dropped_records += 1;
                    target.ledger().filtered_records += 1;
                    return Fate::Gone;
                }
                Verdict::Retag(_)
                    if place.retags == Retags::Refused
                        || self.waiting.bytes.len() >= RETAGGED_BYTES_MAX =>
                {
                    counters.refused_retags += 1;
                }
                Verdict::Retag(original) => {
                    counters.retagged_records += 1;
                    self.waiting.push(&mut record);
                    if original == Original::Dropped {
                        return Fate::Gone;
                    }
                    counters.added_records += 1;
                    target.ledger().added_records += 1;
                }
            }
        }
        if !record.is_changed() {
            return Fate::Untouched;
        }
        target.write(&record);
        Fate::Placed
    }

    /// Lets the filters behind one that replaced a record see what it made of it.
    fn pass_all(
        &mut self,
        filters: &[FilterId],
        place: Place<'_>,
        (events, count): (&[u8], u32),
        target: &mut Target<'_>,
    ) {
        if filters.is_empty() {
            return target.place_apart(events, count);
        }
        for event in Events::new(events) {
            let event = event.expect("filters make whole v2 events");
            if let Fate::Untouched = self.pass(filters, place, event, target) {
                target.place_apart(event.bytes, 1);
            }
        }
    }

    fn keep_spare(&mut self, mut events: Vec<u8>) {
        events.clear();
        events.shrink_to(REPLACEMENT_BYTES_KEPT);
        self.spares.push(events);
    }
}

/// What a buffer of replacements keeps between records.
const REPLACEMENT_BYTES_KEPT: usize = 1 << 20;

/// Bytes of a batch that go on as they are and have not been copied yet.
#[derive(Default)]
struct Run {
    start: usize,
    end: usize,
    record_count: u32,
}

/// A longer run is copied in parts, so that chunks fill well.
const RUN_BYTES_MAX: usize = 64 * 1024;

/// Where the records of a batch go.
struct Target<'s> {
    shard: &'s mut Shard,
    input: InputId,
    tag_index: u32,
    is_routed: bool,
    batch: &'s [u8],
    run: Run,
}

impl Target<'_> {
    fn ledger(&mut self) -> &mut InputLedger {
        &mut self.shard.ledgers[usize::from(self.input.0)]
    }

    fn extend_run(&mut self, record: Range<usize>) {
        let is_full = record.end - self.run.start > RUN_BYTES_MAX;
        if self.run.record_count > 0 && (is_full || self.run.end != record.start) {
            self.copy_run();
        }
        if self.run.record_count == 0 {
            self.run.start = record.start;
        }
        self.run.end = record.end;
        self.run.record_count += 1;
    }

    fn copy_run(&mut self) {
        let Run { start, end, record_count } = std::mem::take(&mut self.run);
        let bytes = &self.batch[start..end];
        self.place(record_count, bytes.len(), |out| out.extend_from_slice(bytes));
    }

    fn write(&mut self, record: &Record<'_>) {
        self.copy_run();
        self.place(1, record.room_bytes(), |out| record.write(out));
    }

    /// Copies events that are no part of the batch.
    fn place_apart(&mut self, events: &[u8], record_count: u32) {
        self.copy_run();
        self.place(record_count, events.len(), |out| out.extend_from_slice(events));
    }

    fn place(&mut self, record_count: u32, room_bytes: usize, put: impl FnOnce(&mut Vec<u8>)) {
        if record_count == 0 {
            return;
        }
        if !self.is_routed {
            self.ledger().unrouted_records += u64::from(record_count);
            return;
        }
        let (slot, _) = self.shard.slot_with_room(self.input, self.tag_index, room_bytes);
        put(&mut self.shard.buffer.slot_mut(slot).chunk.bytes);
        self.shard.commit_slot(self.input, slot, record_count);
    }
}

#[cfg(test)]
mod tests {
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

    fn shard(filters: Vec<Box<dyn Filter>>) -> Shard {
        let patterns = filters.iter().map(|_| TagPattern::Any).collect();
        let policy = LanePolicy { in_flight_max: 9, retry_limit: RetryLimit::None };
        Shard::new(ShardPlan {
            routes: Arc::new(RouteTable::new(patterns, vec![TagPattern::Any])),
            meters: vec![Arc::new(Meter::new(1 << 30))],
            policies: vec![policy],
            filters,
            backoff: Backoff { base_s: 5, cap_s: 60 },
            seed: 1,
        })
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
        let open = |name: &str, keys| {
            open(FILTERS.iter().find(|plugin| plugin.name == name).unwrap(), keys)
        };
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

    fn shard_of_nothing() -> Shard {
        shard(vec![Box::new(Splitter("n", Some(0)))])
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
}
