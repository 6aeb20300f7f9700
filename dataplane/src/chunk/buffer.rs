//! All open chunks of a shard, by slot. The tag table knows which slot belongs to which input and tag.

use crate::chunk::InputId;
use crate::chunk::open::OpenChunk;

/// Place of an open chunk in its [`ChunkBuffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotId(u32);

/// An open chunk and whose it is.
#[derive(Debug)]
pub struct Slot {
    /// The input that fills it.
    pub input: InputId,
    /// The tag, as the index its table gave it.
    pub tag_index: u32,
    /// The chunk.
    pub chunk: OpenChunk,
}

/// The open chunks of one shard.
#[derive(Debug, Default)]
pub struct ChunkBuffer {
    slots: Vec<Slot>,
}

impl ChunkBuffer {
    /// Opens an empty chunk.
    pub fn open(&mut self, input: InputId, tag_index: u32) -> SlotId {
        let id = SlotId(self.slots.len() as u32);
        self.slots.push(Slot { input, tag_index, chunk: OpenChunk::default() });
        id
    }

    /// The slot. Ids are valid until the next [`drain`](Self::drain).
    pub fn slot_mut(&mut self, id: SlotId) -> &mut Slot {
        &mut self.slots[id.0 as usize]
    }

    /// Takes every slot out, oldest first. All ids become invalid.
    pub fn drain(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.slots)
    }

    /// Gives the vector of a drain back, for its capacity.
    pub fn restore(&mut self, mut drained: Vec<Slot>) {
        debug_assert!(self.slots.is_empty());
        drained.clear();
        self.slots = drained;
    }

    /// Open chunks.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no chunk is open.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}
