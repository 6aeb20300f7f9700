//! The filter chain: one pass over a batch, every filter of the chain sees a record while it is in L1.
//!
//! A record that no filter changes is copied once, from the scratch buffer to the chunk. A re-tagged
//! record enters again under its new tag, a bounded number of times.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::chunk::InputId;
use crate::event::reader::{Event, Events};
use crate::limits::RETAGS_MAX;
use crate::plugin::filter::{Original, Verdict};
use crate::route::table::Routes;
use crate::shard::Shard;

/// A record on its way back to the start under another tag.
struct Retagged {
    tag: Vec<u8>,
    bytes: Vec<u8>,
    retags: u32,
}

/// Runs the chain of a tag over the scratch buffer and puts what is left into chunks.
pub(super) fn run(shard: &mut Shard, input: InputId, tag_index: u32, record_count: u32) {
    let batch = std::mem::take(&mut shard.scratch);
    let ledger = &mut shard.ledgers[usize::from(input.0)];
    ledger.in_records += u64::from(record_count);
    ledger.in_bytes += batch.len() as u64;
    let mut again = VecDeque::new();
    run_batch(shard, input, tag_index, &batch, 0, &mut again);
    while let Some(Retagged { tag, bytes, retags }) = again.pop_front() {
        let tag_index = shard.tags.index(&tag);
        run_batch(shard, input, tag_index, &bytes, retags, &mut again);
    }
    shard.scratch = batch;
    shard.scratch.clear();
}

fn run_batch(
    shard: &mut Shard,
    input: InputId,
    tag_index: u32,
    batch: &[u8],
    retags: u32,
    again: &mut VecDeque<Retagged>,
) {
    let routes = Rc::clone(&shard.tags.entry(tag_index).routes);
    for event in Events::new(batch) {
        let event = event.expect("inputs append whole v2 events");
        let mut filters = std::mem::take(&mut shard.filters);
        let tag = shard.tags.entry(tag_index).tag.clone();
        let mut chain = Chain { routes: &routes, tag: tag.as_bytes(), retags, again };
        let fate = chain.apply(&mut filters, &event);
        shard.filters = filters;
        let ledger = &mut shard.ledgers[usize::from(input.0)];
        ledger.added_records += u64::from(fate.added);
        match fate.bytes {
            Some(_) if routes.outputs.is_empty() => ledger.unrouted_records += 1,
            Some(bytes) => {
                let (slot, _) = shard.slot_with_room(input, tag_index, bytes.len());
                shard.buffer.slot_mut(slot).chunk.bytes.extend_from_slice(&bytes);
                shard.commit_slot(input, slot, 1);
            }
            None => ledger.filtered_records += u64::from(fate.dropped),
        }
    }
}

/// What became of one record.
struct Fate<'a> {
    bytes: Option<std::borrow::Cow<'a, [u8]>>,
    /// 1 when a filter dropped it, 0 when it left under another tag.
    dropped: u32,
    /// Copies that re-tagging added.
    added: u32,
}

struct Chain<'a> {
    routes: &'a Routes,
    tag: &'a [u8],
    retags: u32,
    again: &'a mut VecDeque<Retagged>,
}

impl Chain<'_> {
    fn apply<'e>(
        &mut self,
        filters: &mut [Box<dyn crate::plugin::filter::Filter>],
        event: &Event<'e>,
    ) -> Fate<'e> {
        let mut current = std::borrow::Cow::Borrowed(event.bytes);
        let mut added = 0;
        for id in &self.routes.filters {
            let mut scratch = Vec::new();
            let verdict = {
                let Some(Ok(event)) = Events::new(&current).next() else { break };
                filters[usize::from(id.0)].apply(self.tag, &event, &mut scratch)
            };
            match verdict {
                Verdict::Keep => {}
                Verdict::Replace => current = std::borrow::Cow::Owned(scratch),
                Verdict::Drop => return Fate { bytes: None, dropped: 1, added },
                Verdict::Retag { .. } if self.retags >= RETAGS_MAX => {}
                Verdict::Retag { tag, original } => {
                    let bytes = current.to_vec();
                    self.again.push_back(Retagged { tag, bytes, retags: self.retags + 1 });
                    match original {
                        Original::Kept => added += 1,
                        Original::Dropped => return Fate { bytes: None, dropped: 0, added },
                    }
                }
            }
        }
        Fate { bytes: Some(current), dropped: 0, added }
    }
}
