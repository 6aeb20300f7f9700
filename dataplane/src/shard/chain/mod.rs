//! The filter chain: one pass over a batch, every filter of the chain sees a record while it is in L1.
//!
//! Records that no filter changes or drops are copied to the chunk as one run. A changed one is written once, straight
//! into the chunk. A re-tagged one enters again under its new tag when the batch is through, a bounded number of
//! times. A filter that holds records ends a stage: what its stream gives back, and what it lets pass, is the batch of
//! the next stage, at once or when it is due. Nothing here allocates once the buffers have grown.

#[cfg(test)]
mod holding_tests;
mod retagged;
mod streams;
mod target;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::rc::Rc;

use crate::chunk::InputId;
use crate::event::reader::{Event, EventKind};
use crate::event::record::{NO_GROUP, Record, Workspace};
use crate::event::time::Clock;
use crate::flush::watermark::Change;
use crate::limits::{RETAGGED_BYTES_MAX, RETAGS_MAX};
use crate::plugin::filter::{Filter, FilterCounters, Given, Original, Verdict};
use crate::plugin::input::Unparsed;
use crate::route::table::FilterId;
use crate::shard::chain::retagged::{Origin, Retagged};
use crate::shard::chain::streams::{Stream, StreamId, Streams};
use crate::shard::chain::target::{Run, Target};
use crate::shard::ledger::InputLedger;
use crate::shard::{LimitChange, Shard};
use crate::tag::Tag;

/// The filters of a shard, and the buffers they need.
#[derive(Default)]
pub struct Chain {
    filters: Vec<Box<dyn Filter>>,
    /// Whether each holds records.
    holds: Vec<bool>,
    counters: Vec<FilterCounters>,
    /// Records while they are changed.
    work: Workspace,
    /// Re-tagged records that wait, and those being worked on.
    waiting: Retagged,
    entering: Retagged,
    /// Of each filter, by `FilterId`.
    streams: Vec<Streams>,
    /// Buffers of stages that are over.
    spare: Vec<Given>,
    /// Buffers for events that replace records, one for each filter at work that splits.
    replacements: Vec<Vec<u8>>,
}

impl Chain {
    /// With a shard's part of each filter, by `FilterId`.
    pub fn new(filters: Vec<Box<dyn Filter>>) -> Chain {
        let counters = vec![FilterCounters::default(); filters.len()];
        let holds = filters.iter().map(|filter| filter.open_stream().is_some()).collect();
        let streams = filters.iter().map(|_| Streams::default()).collect();
        Chain { filters, holds, counters, streams, ..Chain::default() }
    }

    /// What each filter did so far.
    pub fn counters(&self) -> &[FilterCounters] {
        &self.counters
    }

    /// Whether any filter holds records.
    pub fn may_hold(&self) -> bool {
        self.holds.contains(&true)
    }

    /// When the first held record is due, on the monotonic clock.
    pub fn due_ns(&self) -> Option<u64> {
        self.streams.iter().filter_map(Streams::due_ns).min()
    }
}

/// Runs the chain of a tag over the scratch buffer and puts what is left into chunks.
pub(super) fn run(shard: &mut Shard, input: InputId, tag_index: u32, record_count: u32) {
    let mut bytes = std::mem::take(&mut shard.scratch);
    let mut chain = std::mem::take(&mut shard.chain);
    let ledger = &mut shard.ledgers[usize::from(input.0)];
    ledger.in_records += u64::from(record_count);
    ledger.in_bytes += bytes.len() as u64;
    let origin = Origin { input, round: 0 };
    chain.run_batch(shard, &Batch { origin, tag_index, bytes: &bytes, from: 0 });
    chain.run_retagged(shard);
    bytes.clear();
    shard.scratch = bytes;
    shard.chain = chain;
}

/// Which held records go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// Those that are due.
    Due,
    /// All.
    All,
}

/// Lets held records go on.
pub(super) fn release(shard: &mut Shard, which: Release) {
    let mut chain = std::mem::take(&mut shard.chain);
    let until_ns = match which {
        Release::Due => shard.clock.monotonic_ns,
        Release::All => u64::MAX,
    };
    loop {
        // What one filter gives back may be held by the next, which comes after it.
        for filter in (0..chain.streams.len()).map(|index| FilterId(index as u16)) {
            let mut at = 0;
            while let Some(id) = chain.streams_of(filter).next_due(at, until_ns) {
                at = id.next();
                chain.release_stream(shard, filter, id, which);
            }
        }
        chain.run_retagged(shard);
        // What was re-tagged may be held again, and gets on by one round with each turn.
        if which == Release::Due || chain.due_ns().is_none() {
            break;
        }
    }
    shard.chain = chain;
}

/// Events of one tag on their way through the chain.
struct Batch<'b> {
    origin: Origin,
    tag_index: u32,
    bytes: &'b [u8],
    /// Position of the first filter.
    from: usize,
}

/// A stream that is worked on, and the buffer of its stage.
struct Holding {
    id: StreamId,
    stream: Stream,
    given: Given,
}

impl Chain {
    /// Lets re-tagged records enter under their new tags, those they are re-tagged to again too.
    fn run_retagged(&mut self, shard: &mut Shard) {
        while !self.waiting.batches.is_empty() {
            std::mem::swap(&mut self.waiting, &mut self.entering);
            let entering = std::mem::take(&mut self.entering);
            for batch in &entering.batches {
                let tag_index = shard.tags.index(&entering.tags[batch.tag.clone()]);
                let bytes = &entering.bytes[batch.bytes.clone()];
                self.run_batch(shard, &Batch { origin: batch.origin, tag_index, bytes, from: 0 });
            }
            self.entering = entering;
            self.entering.clear();
        }
    }

    fn run_batch(&mut self, shard: &mut Shard, batch: &Batch<'_>) {
        if batch.bytes.is_empty() {
            return;
        }
        let entry = shard.tags.entry(batch.tag_index);
        let (routes, tag): (_, Tag) = (Rc::clone(&entry.routes), entry.tag.clone());
        let filters = &routes.filters[batch.from..];
        let holder = filters.iter().position(|id| self.holds[usize::from(id.0)]);
        let filters = &filters[..holder.unwrap_or(filters.len())];
        let mut holding = holder.map(|offset| {
            let position = batch.from + offset;
            self.take_stream(shard, routes.filters[position], position, batch.origin, &tag)
        });
        for id in filters {
            self.filters[usize::from(id.0)].begin_batch(shard.clock);
        }
        let clock = shard.clock;
        let input = batch.origin.input;
        let mut target = Target {
            shard,
            input,
            tag_index: batch.tag_index,
            is_routed: !routes.outputs.is_empty(),
            batch: batch.bytes,
            run: Run::default(),
            tail: None,
        };
        let (tag, origin) = (tag.as_bytes(), batch.origin);
        let mut stage = Stage { filters, tag, group: NO_GROUP, origin, clock };
        let mut at = 0;
        while at < batch.bytes.len() {
            let event = self.work.read_event(&batch.bytes[at..]);
            let event = event.expect("inputs append whole v2 events");
            let start = at;
            at += event.bytes.len();
            match event.kind {
                EventKind::Log => {}
                EventKind::GroupStart => stage.group = event.body,
                EventKind::GroupEnd => stage.group = NO_GROUP,
            }
            match self.pass(&stage, event, &mut target, holding.as_mut()) {
                Fate::Untouched => target.extend_run(start..at),
                Fate::Placed | Fate::Gone => {}
            }
        }
        target.finish();
        for id in filters {
            self.end_batch(*id, shard, input);
        }
        if let Some(mut holding) = holding {
            holding.stream.state.end_batch(clock, &mut holding.given);
            self.hand_on(shard, batch.tag_index, holding);
        }
    }

    fn end_batch(&mut self, id: FilterId, shard: &mut Shard, input: InputId) {
        let index = usize::from(id.0);
        let counters = &mut self.counters[index];
        let before = counters.unparsed;
        self.filters[index].end_batch(counters);
        let ledger = &mut shard.ledgers[usize::from(input.0)];
        for why in Unparsed::ALL {
            let index = why as usize;
            ledger.unparsed[index] += counters.unparsed[index] - before[index];
        }
    }

    /// The stream of a filter for a batch. Where there are too many, the oldest makes room, and what it held goes on.
    fn take_stream(
        &mut self,
        shard: &mut Shard,
        filter: FilterId,
        position: usize,
        origin: Origin,
        tag: &Tag,
    ) -> Holding {
        let found = self.streams_of(filter).find(origin, tag);
        let id = found.unwrap_or_else(|| {
            if self.streams_of(filter).is_full()
                && let Some(stream) = self.streams_of(filter).remove_oldest()
            {
                self.retire(shard, stream);
            }
            let state = self.filters[usize::from(filter.0)].open_stream();
            let state = state.expect("a filter that holds records always does");
            self.streams_of(filter).open(filter, position, origin, tag.clone(), state)
        });
        let stream = self.streams_of(filter).take(id).expect("it was found or opened");
        Holding { id, stream, given: self.spare.pop().unwrap_or_default() }
    }

    /// Lets what a stream held go on, which is no more.
    fn retire(&mut self, shard: &mut Shard, mut stream: Stream) {
        let mut given = self.spare.pop().unwrap_or_default();
        stream.state.give_all(&mut given);
        stream.assert_empty();
        self.account(shard, &mut stream, &given);
        let tag_index = shard.tags.index(stream.tag.as_bytes());
        let (origin, from) = (stream.origin, stream.position + 1);
        self.run_batch(shard, &Batch { origin, tag_index, bytes: given.bytes(), from });
        self.keep_spare(given);
    }

    fn release_stream(
        &mut self,
        shard: &mut Shard,
        filter: FilterId,
        id: StreamId,
        which: Release,
    ) {
        let Some(mut stream) = self.streams_of(filter).take(id) else { return };
        let mut given = self.spare.pop().unwrap_or_default();
        match which {
            Release::Due => stream.state.give_due(shard.clock, &mut given),
            Release::All => {
                stream.state.give_all(&mut given);
                stream.assert_empty();
            }
        }
        let tag_index = shard.tags.index(stream.tag.as_bytes());
        self.hand_on(shard, tag_index, Holding { id, stream, given });
    }

    /// Puts a stream back, and runs the next stage over what it gave.
    fn hand_on(&mut self, shard: &mut Shard, tag_index: u32, holding: Holding) {
        let Holding { id, mut stream, given } = holding;
        self.account(shard, &mut stream, &given);
        let (origin, from) = (stream.origin, stream.position + 1);
        self.streams_of(stream.filter).put_back(id, stream);
        self.run_batch(shard, &Batch { origin, tag_index, bytes: given.bytes(), from });
        self.keep_spare(given);
    }

    /// Counts what a stream gave back, and charges what it holds now to the meter of its input.
    fn account(&mut self, shard: &mut Shard, stream: &mut Stream, given: &Given) {
        let input = stream.origin.input;
        let counters = &mut self.counters[usize::from(stream.filter.0)];
        counters.given_records += given.record_count();
        counters.truncated_records += given.truncated_count();
        let at = usize::from(input.0);
        shard.ledgers[at].given_records += given.record_count();
        shard.ledgers[at].truncated_records += given.truncated_count();
        let before = std::mem::replace(&mut stream.held, stream.state.held());
        let change = match (before.bytes, stream.held.bytes) {
            (before, now) if now > before => shard.meters[at].add(now - before),
            (before, now) if now < before => shard.meters[at].sub(before - now),
            _ => Change::Same,
        };
        if change != Change::Same {
            shard.changes.push(LimitChange { input, change });
        }
    }

    fn streams_of(&mut self, filter: FilterId) -> &mut Streams {
        &mut self.streams[usize::from(filter.0)]
    }

    fn keep_spare(&mut self, mut given: Given) {
        given.clear();
        self.spare.push(given);
    }
}

/// What is the same for all records of a batch on their way to the next filter that holds, or to the end.
#[derive(Clone, Copy)]
struct Stage<'s> {
    filters: &'s [FilterId],
    tag: &'s [u8],
    /// What the group of the records has in common.
    group: &'s [u8],
    origin: Origin,
    clock: Clock,
}

/// What became of one record.
enum Fate {
    /// No filter changed or dropped it.
    Untouched,
    /// It was written.
    Placed,
    /// It was dropped, is held, or left under another tag.
    Gone,
}

impl Chain {
    /// Lets the filters of a stage see one event. Markers of groups, and bodies that are no map, pass as they are.
    fn pass(
        &mut self,
        stage: &Stage<'_>,
        event: Event<'_>,
        target: &mut Target<'_>,
        holding: Option<&mut Holding>,
    ) -> Fate {
        let Some(mut record) = Record::of_indexed(stage.tag, event, &mut self.work) else {
            let Some(Holding { stream, given, .. }) = holding else { return Fate::Untouched };
            // What is held must not leave its group.
            stream.state.give_all(given);
            given.passing().extend_from_slice(event.bytes);
            return Fate::Placed;
        };
        record.set_group(stage.group);
        let (waiting, origin) = (&mut self.waiting, stage.origin);
        for (position, id) in stage.filters.iter().enumerate() {
            let verdict = self.filters[usize::from(id.0)].apply(&mut record);
            let counters = &mut self.counters[usize::from(id.0)];
            if let Verdict::Replace(count @ 1..) = verdict {
                counters.added_records += u64::from(count) - 1;
                target.ledger().added_records += u64::from(count) - 1;
                let buffer = self.replacements.pop().unwrap_or_default();
                let events = std::mem::replace(record.replacement(), buffer);
                let behind = Stage { filters: &stage.filters[position + 1..], ..*stage };
                self.pass_all(&behind, &events, count, target, holding);
                self.keep_replacement(events);
                return Fate::Gone;
            }
            if heed(verdict, counters, &mut record, waiting, origin, target.ledger()).is_break() {
                return Fate::Gone;
            }
        }
        if let Some(Holding { stream, given, .. }) = holding {
            let verdict = stream.state.apply(&mut record, stage.clock, given);
            let counters = &mut self.counters[usize::from(stream.filter.0)];
            if heed(verdict, counters, &mut record, waiting, origin, target.ledger()).is_break() {
                return Fate::Gone;
            }
            record.write(given.passing());
            return Fate::Placed;
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
        stage: &Stage<'_>,
        events: &[u8],
        count: u32,
        target: &mut Target<'_>,
        mut holding: Option<&mut Holding>,
    ) {
        if stage.filters.is_empty() && holding.is_none() {
            return target.place_apart(events, count);
        }
        let mut at = 0;
        while at < events.len() {
            let event = self.work.read_event(&events[at..]);
            let event = event.expect("filters make whole v2 events");
            at += event.bytes.len();
            if let Fate::Untouched = self.pass(stage, event, target, holding.as_deref_mut()) {
                target.place_apart(event.bytes, 1);
            }
        }
    }

    fn keep_replacement(&mut self, mut events: Vec<u8>) {
        events.clear();
        events.shrink_to(REPLACEMENT_BYTES_KEPT);
        self.replacements.push(events);
    }
}

/// What a buffer of replacements keeps between records.
const REPLACEMENT_BYTES_KEPT: usize = 1 << 20;

/// Counts what a filter said of a record, and says whether the record goes on.
fn heed(
    verdict: Verdict,
    counters: &mut FilterCounters,
    record: &mut Record<'_>,
    waiting: &mut Retagged,
    origin: Origin,
    ledger: &mut InputLedger,
) -> ControlFlow<()> {
    match verdict {
        Verdict::Keep => ControlFlow::Continue(()),
        Verdict::Fail => {
            counters.failed_records += 1;
            ControlFlow::Continue(())
        }
        // Nothing in its place is a drop.
        Verdict::Drop | Verdict::Replace(_) => {
            counters.dropped_records += 1;
            ledger.filtered_records += 1;
            ControlFlow::Break(())
        }
        Verdict::Held => {
            counters.held_records += 1;
            ledger.held_records += 1;
            ControlFlow::Break(())
        }
        Verdict::Retag(_)
            if origin.round == RETAGS_MAX || waiting.bytes.len() >= RETAGGED_BYTES_MAX =>
        {
            counters.refused_retags += 1;
            ControlFlow::Continue(())
        }
        Verdict::Retag(original) => {
            counters.retagged_records += 1;
            waiting.push(record, Origin { round: origin.round + 1, ..origin });
            if original == Original::Dropped {
                return ControlFlow::Break(());
            }
            counters.added_records += 1;
            ledger.added_records += 1;
            ControlFlow::Continue(())
        }
    }
}
