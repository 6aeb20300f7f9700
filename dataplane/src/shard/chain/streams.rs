//! The streams of a filter that holds records: found by input and tag, bounded in number.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::limits::HELD_STREAMS_MAX;
use crate::plugin::filter::{FilterStream, Held};
use crate::route::table::FilterId;
use crate::shard::chain::retagged::Origin;
use crate::tag::Tag;

/// One stream of one filter.
pub(super) struct Stream {
    pub(super) filter: FilterId,
    /// Of the filter in the chain of the tag.
    pub(super) position: usize,
    pub(super) origin: Origin,
    pub(super) tag: Tag,
    pub(super) state: Box<dyn FilterStream>,
    /// What it held when it was looked at last; its bytes are charged to the input's meter.
    pub(super) held: Held,
    /// Whether it had records since it was last passed over.
    is_used: bool,
}

/// Place of a stream; it may be another's once the stream has made room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamId(u32);

/// All streams of a filter on a shard.
#[derive(Default)]
pub(super) struct Streams {
    entries: Vec<Option<Stream>>,
    free: Vec<StreamId>,
    by_key: HashTable<StreamId>,
    /// Oldest first; those used again get a second chance.
    ages: VecDeque<StreamId>,
    /// Streams that hold something.
    holding: usize,
    hasher: RandomState,
}

impl Streams {
    /// The stream of an input and a tag, if it is open.
    pub(super) fn find(&mut self, origin: Origin, tag: &Tag) -> Option<StreamId> {
        let entries = &self.entries;
        let is_it = |id: &StreamId| {
            let stream = entries[id.0 as usize].as_ref();
            stream.is_some_and(|stream| stream.origin == origin && stream.tag == *tag)
        };
        let hash = self.hasher.hash_one((origin, tag.as_bytes()));
        let id = *self.by_key.find(hash, is_it)?;
        if let Some(stream) = &mut self.entries[id.0 as usize] {
            stream.is_used = true;
        }
        Some(id)
    }

    /// Opens a stream.
    pub(super) fn open(
        &mut self,
        filter: FilterId,
        position: usize,
        origin: Origin,
        tag: Tag,
        state: Box<dyn FilterStream>,
    ) -> StreamId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            StreamId(self.entries.len() as u32 - 1)
        });
        let hash = self.hasher.hash_one((origin, tag.as_bytes()));
        let held = Held::default();
        let stream = Stream { filter, position, origin, tag, state, held, is_used: false };
        self.entries[id.0 as usize] = Some(stream);
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.by_key.insert_unique(hash, id, |id| {
            // Streams that are worked on are put back before another is opened.
            let stream = entries[id.0 as usize].as_ref().expect("streams are in their places");
            hasher.hash_one((stream.origin, stream.tag.as_bytes()))
        });
        self.ages.push_back(id);
        id
    }

    /// Whether a stream must go before another is opened.
    pub(super) fn is_full(&self) -> bool {
        self.ages.len() >= HELD_STREAMS_MAX
    }

    /// Takes the oldest stream out, one that was used again only after all others.
    pub(super) fn remove_oldest(&mut self) -> Option<Stream> {
        loop {
            let id = self.ages.pop_front()?;
            let stream = self.entries[id.0 as usize].as_mut();
            let stream = stream.expect("streams are in their places");
            if std::mem::take(&mut stream.is_used) {
                self.ages.push_back(id);
                continue;
            }
            let hash = self.hasher.hash_one((stream.origin, stream.tag.as_bytes()));
            if let Ok(entry) = self.by_key.find_entry(hash, |known| *known == id) {
                entry.remove();
            }
            self.free.push(id);
            let stream = self.entries[id.0 as usize].take();
            self.holding -=
                usize::from(stream.as_ref().is_some_and(|stream| stream.held.due_ns.is_some()));
            return stream;
        }
    }

    /// Takes a stream out to work on it; it is put back before the table is used again.
    pub(super) fn take(&mut self, id: StreamId) -> Option<Stream> {
        let stream = self.entries.get_mut(id.0 as usize)?.take()?;
        self.holding -= usize::from(stream.held.due_ns.is_some());
        Some(stream)
    }

    /// Puts a stream back, with what it holds now.
    pub(super) fn put_back(&mut self, id: StreamId, stream: Stream) {
        self.holding += usize::from(stream.held.due_ns.is_some());
        self.entries[id.0 as usize] = Some(stream);
    }

    /// Streams that hold something.
    #[cfg(test)]
    pub(super) fn holding(&self) -> usize {
        self.holding
    }

    /// When the first held record is due.
    pub(super) fn due_ns(&self) -> Option<u64> {
        if self.holding == 0 {
            return None;
        }
        self.entries.iter().flatten().filter_map(|stream| stream.held.due_ns).min()
    }

    /// The first stream from `at` on that holds something that is due by then.
    pub(super) fn next_due(&self, at: usize, until_ns: u64) -> Option<StreamId> {
        let is_due = |stream: &Stream| stream.held.due_ns.is_some_and(|due| due <= until_ns);
        let found =
            self.entries.get(at..)?.iter().position(|entry| entry.as_ref().is_some_and(is_due));
        found.map(|offset| StreamId((at + offset) as u32))
    }
}

impl Stream {
    /// What a filter kept to itself now would be lost.
    pub(super) fn assert_empty(&self) {
        assert_eq!(self.state.held().due_ns, None, "a stream gave all back and holds more");
    }
}

impl StreamId {
    /// The place behind it.
    pub(super) fn next(self) -> usize {
        self.0 as usize + 1
    }
}
