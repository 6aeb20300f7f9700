//! The tags a shard has seen: their text, their routes, their open chunks. Hash once, index afterwards.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::chunk::InputId;
use crate::chunk::buffer::SlotId;
use crate::limits::{TAG_BYTES_MAX, TAGS_MAX};
use crate::route::table::{RouteTable, Routes};
use crate::tag::Tag;

/// What a shard knows of a tag.
pub struct TagEntry {
    /// The text.
    pub tag: Tag,
    /// Filters and outputs.
    pub routes: Rc<Routes>,
    /// The open chunk of each input that has one; nearly always one input.
    pub open: SmallVec<[(InputId, SlotId); 1]>,
}

/// All tags of a shard. Indexes are valid until [`forget_open`](Self::forget_open).
pub struct TagTable {
    routes: Arc<RouteTable>,
    entries: Vec<TagEntry>,
    by_text: HashTable<u32>,
    last: u32,
    hasher: std::hash::RandomState,
}

impl TagTable {
    /// An empty table.
    pub fn new(routes: Arc<RouteTable>) -> TagTable {
        let hasher = std::hash::RandomState::new();
        TagTable { routes, entries: Vec::new(), by_text: HashTable::new(), last: 0, hasher }
    }

    /// The index of a tag; its routes are computed when it is new. Consecutive batches of one tag cost a
    /// comparison and no hash.
    pub fn index(&mut self, text: &[u8]) -> u32 {
        let text = &text[..text.len().min(TAG_BYTES_MAX)];
        if let Some(entry) = self.entries.get(self.last as usize)
            && entry.tag.as_bytes() == text
        {
            return self.last;
        }
        let hash = self.hash(text);
        let entries = &self.entries;
        let found =
            self.by_text.find(hash, |index| entries[*index as usize].tag.as_bytes() == text);
        self.last = match found {
            Some(index) => *index,
            None => self.insert(text, hash),
        };
        self.last
    }

    /// The entry of an index.
    pub fn entry(&self, index: u32) -> &TagEntry {
        &self.entries[index as usize]
    }

    /// The entry of an index.
    pub fn entry_mut(&mut self, index: u32) -> &mut TagEntry {
        &mut self.entries[index as usize]
    }

    /// All open chunks were sealed: forget where they were, and under hostile numbers of tags forget the
    /// tags too, which only costs computing their routes again.
    pub fn forget_open(&mut self) {
        if self.entries.len() > TAGS_MAX {
            self.entries.clear();
            self.by_text.clear();
            return;
        }
        for entry in &mut self.entries {
            entry.open.clear();
        }
    }

    fn insert(&mut self, text: &[u8], hash: u64) -> u32 {
        let index = self.entries.len() as u32;
        let routes = Rc::new(self.routes.routes(text));
        self.entries.push(TagEntry { tag: Tag::new(text), routes, open: SmallVec::new() });
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.by_text.insert_unique(hash, index, |index| {
            std::hash::BuildHasher::hash_one(hasher, entries[*index as usize].tag.as_bytes())
        });
        index
    }

    /// Keyed, because tags come from the wire.
    fn hash(&self, text: &[u8]) -> u64 {
        std::hash::BuildHasher::hash_one(&self.hasher, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::pattern::TagPattern;

    #[test]
    fn a_tag_keeps_its_index_until_too_many_are_known() {
        let routes = RouteTable::new(Vec::new(), vec![TagPattern::glob("a*")]);
        let mut table = TagTable::new(Arc::new(routes));
        let a = table.index(b"a");
        let b = table.index(b"b");
        assert_ne!(a, b);
        assert_eq!((table.index(b"a"), table.index(b"a"), table.index(b"b")), (a, a, b));
        assert!(!table.entry(a).routes.outputs.is_empty());
        assert!(table.entry(b).routes.outputs.is_empty());
        table.forget_open();
        assert_eq!(table.index(b"b"), b);
        for number in 0..TAGS_MAX {
            table.index(format!("a{number}").as_bytes());
        }
        table.forget_open();
        assert!(table.entries.is_empty());
        let index = table.index(b"new");
        assert_eq!(table.entry(index).tag.as_bytes(), b"new");
    }
}
