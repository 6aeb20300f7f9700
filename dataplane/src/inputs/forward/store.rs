//! Appends the entries of a frame to the open chunk, in pieces that fit its room, each entry checked.

use crate::event::encoder::HEADER_BYTES;
use crate::event::validate::{Appended, REWRITE_GROWTH, Stop, append_event, append_events};
use crate::kernel::msgpack_skip::skip_value;
use crate::plugin::input::EventSink;

/// Bytes asked for at a time. More is used when the chunk has it; asking for more would seal chunks early.
const PIECE_BYTES: usize = 64 * 1024;

/// What became of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// Entries that were appended and committed.
    pub(super) record_count: u64,
    /// Whether all of the bytes were entries.
    pub(super) is_whole: bool,
}

/// Appends all entries up to the first that is none.
pub(super) fn store_entries(tag: &[u8], entries: &[u8], sink: &mut dyn EventSink) -> Stored {
    let mut rest = entries;
    let mut record_count = 0;
    let mut wanted = 0;
    while !rest.is_empty() {
        let room = rest.len().min(PIECE_BYTES).max(wanted) + REWRITE_GROWTH;
        let batch = sink.open(tag, room);
        let Appended { consumed, record_count: appended, stop } =
            append_events(rest, batch.bytes, batch.room_bytes);
        if appended > 0 {
            sink.commit(appended);
            record_count += u64::from(appended);
        }
        rest = &rest[consumed..];
        match stop {
            Stop::End => break,
            Stop::Invalid | Stop::Incomplete => return Stored { record_count, is_whole: false },
            // An entry larger than the room: the next room is made for it.
            Stop::Full if appended == 0 => {
                wanted = skip_value(rest).unwrap_or(rest.len());
            }
            Stop::Full => wanted = 0,
        }
    }
    Stored { record_count, is_whole: true }
}

/// Appends one event; says whether it was one.
pub(super) fn store_message(
    tag: &[u8],
    time: &[u8],
    metadata: Option<&[u8]>,
    body: &[u8],
    sink: &mut dyn EventSink,
) -> Stored {
    let room = HEADER_BYTES + metadata.map_or(0, <[u8]>::len) + body.len();
    let batch = sink.open(tag, room);
    let is_whole = append_event(time, metadata, body, batch.bytes).is_some();
    if is_whole {
        sink.commit(1);
    }
    Stored { record_count: u64::from(is_whole), is_whole }
}
