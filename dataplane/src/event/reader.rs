//! Walks the events of a chunk, in the stored form or the legacy one.

use crate::event::encoder::HEADER_BYTES;
use crate::event::msgpack::{Head, read_head, take_value};
use crate::event::time::EventTime;

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A log record.
    Log,
    /// The start of a group of records (seconds -1).
    GroupStart,
    /// Its end (seconds -2).
    GroupEnd,
}

/// One event, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Record or group marker.
    pub kind: EventKind,
    /// Its time.
    pub time: EventTime,
    /// A msgpack map; empty for legacy events.
    pub metadata: &'a [u8],
    /// A msgpack value, nearly always a map.
    pub body: &'a [u8],
    /// All of it.
    pub bytes: &'a [u8],
}

/// Bytes that are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnEvent;

/// The events of a chunk, one after another. Ends after the first error.
pub struct Events<'a> {
    rest: &'a [u8],
}

impl<'a> Events<'a> {
    /// Over the bytes of a chunk.
    pub fn new(bytes: &'a [u8]) -> Events<'a> {
        Events { rest: bytes }
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<Event<'a>, NotAnEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let whole = self.rest;
        match read_event(&mut self.rest) {
            Some(mut event) => {
                event.bytes = &whole[..whole.len() - self.rest.len()];
                Some(Ok(event))
            }
            None => {
                self.rest = &[];
                Some(Err(NotAnEvent))
            }
        }
    }
}

const NO_METADATA: &[u8] = &[0x80];

fn read_event<'a>(rest: &mut &'a [u8]) -> Option<Event<'a>> {
    let EventHead { kind, time, metadata } = read_event_head(rest)?;
    let body = take_value(rest)?;
    Some(Event { kind, time, metadata, body, bytes: &[] })
}

/// What stands before the body of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHead<'a> {
    /// Record or group marker.
    pub kind: EventKind,
    /// Its time.
    pub time: EventTime,
    /// A msgpack map; empty for legacy events.
    pub metadata: &'a [u8],
}

/// Takes the head of an event off `rest`, so that its body comes next.
#[inline]
pub fn read_event_head<'a>(rest: &mut &'a [u8]) -> Option<EventHead<'a>> {
    // Nearly all have the form that this program writes.
    let (time, metadata) = match rest.split_at_checked(HEADER_BYTES) {
        Some(([0x92, 0x92, 0xd7, 0, time @ .., 0x80], body)) => {
            *rest = body;
            (EventTime::from_bytes(time.try_into().ok()?), NO_METADATA)
        }
        _ => read_any_head(rest)?,
    };
    let kind = match time.secs {
        0xffff_ffff => EventKind::GroupStart,
        0xffff_fffe => EventKind::GroupEnd,
        _ => EventKind::Log,
    };
    Some(EventHead { kind, time, metadata })
}

fn read_any_head<'a>(rest: &mut &'a [u8]) -> Option<(EventTime, &'a [u8])> {
    let Head::Array(2) = read_head(rest)? else { return None };
    match read_head(rest)? {
        Head::Array(2) => {
            let time = read_time(read_head(rest)?)?;
            Some((time, take_value(rest)?))
        }
        head => Some((read_time(head)?, NO_METADATA)),
    }
}

/// A time in any of its forms: EventTime, whole seconds, seconds with a fraction.
pub fn read_time(head: Head<'_>) -> Option<EventTime> {
    match head {
        Head::Ext(0, bytes) => Some(EventTime::from_bytes(bytes.try_into().ok()?)),
        Head::Uint(secs) => Some(EventTime { secs: u32::try_from(secs).ok()?, nanos: 0 }),
        Head::Int(-1) => Some(EventTime { secs: u32::MAX, nanos: 0 }),
        Head::Int(-2) => Some(EventTime { secs: u32::MAX - 1, nanos: 0 }),
        Head::Float(seconds) => Some(EventTime::from_f64(seconds)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::encoder::{event_header, put_map_len};

    #[test]
    fn stored_and_legacy_events_are_read() {
        let mut bytes = Vec::new();
        event_header(&mut bytes, EventTime { secs: 5, nanos: 6 });
        put_map_len(&mut bytes, 0);
        let first = bytes.len();
        bytes.extend_from_slice(&[0x92, 7, 0x81, 0xa1, b'k', 1]);
        bytes.extend_from_slice(&[0x92, 0x92, 0xff, 0x80, 0x80]);
        let events: Vec<_> = Events::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(events[0].time, EventTime { secs: 5, nanos: 6 });
        assert_eq!((events[0].bytes.len(), events[0].body), (first, &[0x80][..]));
        assert_eq!(events[1].time, EventTime { secs: 7, nanos: 0 });
        assert_eq!((events[1].metadata, events[1].body), (NO_METADATA, &[0x81, 0xa1, b'k', 1][..]));
        assert_eq!(events[2].kind, EventKind::GroupStart);
    }

    #[test]
    fn bytes_that_are_no_event_end_the_walk_with_an_error() {
        let results: Vec<_> = Events::new(&[0x92, 7, 0x80, 0x93, 1, 2, 3]).collect();
        assert_eq!(results.len(), 2);
        assert!(results[0].is_ok() && results[1].is_err());
    }
}
