//! Filters that hold records, against a plain model of them: order, times, room for streams, memory, and the account.

use proptest::prelude::*;

use crate::chunk::InputId;
use crate::event::encoder::{event_header, put_array_len, put_map_len, put_str, put_uint};
use crate::event::msgpack::{Head, map_get, read_head};
use crate::event::reader::Events;
use crate::event::record::Record;
use crate::event::time::{Clock, EventTime};
use crate::limits::{HELD_STREAMS_MAX, RETAGS_MAX};
use crate::plugin::filter::{Filter, FilterCounters, FilterStream, Given, Held, Original, Verdict};
use crate::plugin::input::{EventSink, Flow};
use crate::route::mask::OutputId;
use crate::shard::Shard;
use crate::shard::chain::tests::{limited_shard, shard};

const SECOND: u64 = 1_000_000_000;

/// Joins the numbers of so many records, or of those of one second. A record whose first number is a multiple of 7
/// passes at once, behind what was held.
struct Joiner(usize);

struct Joined {
    most: usize,
    numbers: Vec<u64>,
    due_ns: u64,
}

impl Filter for Joiner {
    fn open_stream(&self) -> Option<Box<dyn FilterStream>> {
        Some(Box::new(Joined { most: self.0, numbers: Vec::new(), due_ns: 0 }))
    }
}

impl FilterStream for Joined {
    fn apply(&mut self, record: &mut Record<'_>, clock: Clock, given: &mut Given) -> Verdict {
        let numbers = numbers_of(record.get(b"n").unwrap());
        if numbers[0].is_multiple_of(7) {
            self.give_all(given);
            return Verdict::Keep;
        }
        if self.numbers.is_empty() {
            self.due_ns = clock.monotonic_ns + SECOND;
        }
        self.numbers.extend(numbers);
        if self.numbers.len() >= self.most {
            self.give_all(given);
        }
        Verdict::Held
    }

    fn give_due(&mut self, clock: Clock, given: &mut Given) {
        if self.due_ns <= clock.monotonic_ns {
            self.give_all(given);
        }
    }

    fn give_all(&mut self, given: &mut Given) {
        if !self.numbers.is_empty() {
            given.push(EventTime::default(), &[0x80], |out| put_body(&self.numbers, out));
            self.numbers.clear();
        }
    }

    fn held(&self) -> Held {
        let due_ns = (!self.numbers.is_empty()).then_some(self.due_ns);
        Held { bytes: 100 * self.numbers.len() as u64, due_ns }
    }
}

/// Drops records whose first number is a multiple of 5.
struct Fifth;

impl Filter for Fifth {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        match numbers_of(record.get(b"n").unwrap())[0].is_multiple_of(5) {
            true => Verdict::Drop,
            false => Verdict::Keep,
        }
    }
}

/// Re-tags everything to where it came from.
struct Again;

impl Filter for Again {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        record.new_tag().extend_from_slice(b"t");
        Verdict::Retag(Original::Dropped)
    }
}

fn put_body(numbers: &[u64], out: &mut Vec<u8>) {
    put_map_len(out, 1);
    put_str(out, b"n");
    put_array_len(out, numbers.len());
    numbers.iter().for_each(|number| put_uint(out, *number));
}

fn numbers_of(mut value: &[u8]) -> Vec<u64> {
    let Some(Head::Array(count)) = read_head(&mut value) else { panic!("no numbers") };
    let mut number = || match read_head(&mut value) {
        Some(Head::Uint(number)) => number,
        other => panic!("{other:?} is no number"),
    };
    (0..count).map(|_| number()).collect()
}

fn append(shard: &mut Shard, tag: &[u8], numbers: impl Iterator<Item = u64>) -> Flow {
    let mut sink = shard.sink(InputId(0));
    let bytes = sink.open(tag, 0).bytes;
    let mut count = 0;
    for number in numbers {
        event_header(bytes, EventTime::default());
        put_body(&[number], bytes);
        count += 1;
    }
    sink.commit(count)
}

/// Seals and takes what the output got, in order.
fn take(shard: &mut Shard) -> Vec<Vec<u64>> {
    shard.seal_all();
    let mut records = Vec::new();
    while let Some(task) = shard.next_task(OutputId(0)) {
        let events = Events::new(task.chunk.bytes()).map(Result::unwrap);
        records.extend(events.map(|event| numbers_of(map_get(event.body, b"n").unwrap())));
        shard.complete(task, crate::flush::task::FlushStatus::Ok, 0);
    }
    records
}

/// What passes a filter of the model.
#[derive(Clone, Debug)]
enum Item {
    Record(Vec<u64>),
    /// It is so late now.
    Time(u64),
    /// What is due goes on.
    Look,
}

fn joined_by_model(most: usize, items: Vec<Item>) -> Vec<Item> {
    let (mut out, mut held, mut due, mut now) = (Vec::new(), Vec::new(), 0, 0);
    for item in items {
        match &item {
            Item::Record(numbers) if numbers[0].is_multiple_of(7) => {
                out.extend((!held.is_empty()).then(|| Item::Record(std::mem::take(&mut held))));
                out.push(item);
            }
            Item::Record(numbers) => {
                if held.is_empty() {
                    due = now + SECOND;
                }
                held.extend(numbers);
                if held.len() >= most {
                    out.push(Item::Record(std::mem::take(&mut held)));
                }
            }
            Item::Time(then) => {
                now = *then;
                out.push(item);
            }
            Item::Look => {
                if !held.is_empty() && due <= now {
                    out.push(Item::Record(std::mem::take(&mut held)));
                }
                out.push(item);
            }
        }
    }
    out.extend((!held.is_empty()).then_some(Item::Record(held)));
    out
}

fn fifths_dropped_by_model(mut items: Vec<Item>) -> Vec<Item> {
    items.retain(|item| !matches!(item, Item::Record(numbers) if numbers[0].is_multiple_of(5)));
    items
}

proptest! {
    #[test]
    fn held_records_go_on_in_order_and_when_they_are_due(
        steps in prop::collection::vec((0u64..12, 0u64..3, any::<bool>()), 0..40)
    ) {
        let filters: Vec<Box<dyn Filter>> =
            vec![Box::new(Joiner(3)), Box::new(Fifth), Box::new(Joiner(8)), Box::new(Joiner(2))];
        let mut shard = shard(filters);
        let (mut items, mut printed) = (Vec::new(), Vec::new());
        let (mut next, mut now_ns) = (1, 0);
        for (count, wait, is_sealed) in steps {
            append(&mut shard, b"t", next..next + count);
            items.extend((next..next + count).map(|number| Item::Record(vec![number])));
            next += count;
            now_ns += wait * SECOND * 2 / 3;
            shard.tell_time(Clock { now: EventTime::default(), monotonic_ns: now_ns });
            items.extend([Item::Time(now_ns), Item::Look]);
            shard.release_due();
            prop_assert!(shard.held_due_ns().is_none_or(|due| due > now_ns));
            if is_sealed {
                printed.extend(take(&mut shard));
            }
        }
        shard.release_all();
        prop_assert_eq!(shard.held_due_ns(), None);
        printed.extend(take(&mut shard));
        let items = fifths_dropped_by_model(joined_by_model(3, items));
        let items = joined_by_model(2, joined_by_model(8, items));
        let expected: Vec<Vec<u64>> = items
            .into_iter()
            .filter_map(|item| match item {
                Item::Record(numbers) => Some(numbers),
                Item::Time(_) | Item::Look => None,
            })
            .collect();
        prop_assert_eq!(printed, expected);
        let ledger = &shard.close()[0];
        prop_assert!(ledger.holds() && ledger.left_records == 0, "{}", ledger);
        prop_assert_eq!(ledger.in_records, next - 1);
    }
}

#[test]
fn the_oldest_streams_make_room_and_lose_nothing() {
    let mut shard = shard(vec![Box::new(Joiner(100)), Box::new(Joiner(200))]);
    let count = HELD_STREAMS_MAX as u64 * 3;
    for number in 0..count {
        append(&mut shard, format!("tag.{number}").as_bytes(), std::iter::once(number * 7 + 1));
        // One stream is used all the time, so it stays.
        if number.is_multiple_of(1000) {
            append(&mut shard, b"busy", std::iter::once(2));
        }
    }
    assert_eq!(shard.chain.streams[0].holding(), HELD_STREAMS_MAX);
    assert_eq!(shard.chain.streams[1].holding(), HELD_STREAMS_MAX);
    shard.release_all();
    let mut numbers = take(&mut shard);
    assert!(numbers.contains(&vec![2; 13]), "the busy stream was cut");
    numbers.retain(|numbers| numbers.len() == 1);
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq((0..count).map(|number| vec![number * 7 + 1])));
    assert!(shard.close()[0].holds());
}

#[test]
fn what_is_held_counts_for_the_limit_of_its_input() {
    let (mut shard, meter) = limited_shard(vec![Box::new(Joiner(1000))], 10_000);
    let numbers = (1..).filter(|number| number % 7 != 0);
    assert_eq!(append(&mut shard, b"t", numbers.clone().take(99)), Flow::Open);
    assert_eq!(meter.held_bytes(), 9_900);
    assert_eq!(append(&mut shard, b"t", numbers.take(1)), Flow::Paused);
    shard.tell_time(Clock { now: EventTime::default(), monotonic_ns: SECOND });
    shard.release_due();
    assert!(meter.held_bytes() < 1_000 && !meter.is_paused());
    assert_eq!(take(&mut shard).len(), 1);
    assert_eq!(meter.held_bytes(), 0);
    let counters = shard.filter_counters()[0];
    let expected = FilterCounters { held_records: 100, given_records: 1, ..Default::default() };
    assert_eq!(counters, expected);
    let ledger = shard.close()[0].clone();
    assert_eq!((ledger.joined_records(), ledger.delivered_records), (99, 1));
    assert!(ledger.holds());
}

#[test]
fn rules_that_loop_through_a_stream_end_too() {
    let mut shard = shard(vec![Box::new(Joiner(1000)), Box::new(Again)]);
    append(&mut shard, b"t", [1, 2, 3].into_iter());
    shard.release_all();
    assert_eq!(take(&mut shard), [[1, 2, 3]]);
    let counters = shard.filter_counters();
    assert_eq!(counters[1].retagged_records, u64::from(RETAGS_MAX));
    assert_eq!(counters[1].refused_retags, 1);
    assert!(shard.close()[0].holds());
}
