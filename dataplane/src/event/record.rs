//! A record on its way through filters: a lazy view of one event, and what was changed of it.
//!
//! The walk that finds its end makes an index of its fields: where key and value lie, in the event or, if they are
//! new, in a scratch arena. The record is written once, after the last filter, and neighbours that nobody touched are
//! copied as one run. Index and arena are kept from record to record, so a record costs no allocation.

#[cfg(test)]
mod tests;

use crate::event::encoder::{event_header_with_metadata, put_map_len, put_str, put_str_len};
use crate::event::msgpack::{Head, read_head};
use crate::event::reader::{Event, EventKind, read_event_head};
use crate::event::time::EventTime;
use crate::kernel::msgpack_skip::skip_value;

/// Where a key or a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    start: u32,
    end: u32,
    home: Home,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    /// The body of the event.
    Body,
    /// The arena.
    Arena,
}

/// A key and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The key, nearly always a string.
    pub key: Piece,
    /// The value.
    pub value: Piece,
}

/// What records need while they are changed; one a shard, used again and again.
#[derive(Debug, Default)]
pub struct Workspace {
    fields: Vec<Field>,
    arena: Vec<u8>,
    new_tag: Vec<u8>,
    replacement: Vec<u8>,
}

/// The most an arena keeps between records: one huge record must not hold its memory for ever.
const ARENA_BYTES_KEPT: usize = 1 << 20;

/// The group of records that stand alone.
pub const NO_GROUP: &[u8] = &[0x80];

impl Workspace {
    /// The event that the bytes begin with, its fields indexed where it is a record. `None` where they are no event.
    #[inline]
    pub fn read_event<'a>(&mut self, bytes: &'a [u8]) -> Option<Event<'a>> {
        self.fields.clear();
        let mut rest = bytes;
        let head = read_event_head(&mut rest)?;
        let head_bytes = bytes.len() - rest.len();
        let body_bytes = match head.kind {
            EventKind::Log if is_map(rest) => index_map(rest, (Home::Body, 0), &mut self.fields)?,
            _ => skip_value(rest).ok()?,
        };
        Some(Event {
            kind: head.kind,
            time: head.time,
            metadata: head.metadata,
            body: &rest[..body_bytes],
            bytes: &bytes[..head_bytes + body_bytes],
        })
    }
}

/// One event while filters see it. Its body is a map.
pub struct Record<'a> {
    tag: &'a [u8],
    event: Event<'a>,
    group: &'a [u8],
    time: EventTime,
    /// The map of which the index was made.
    body: Piece,
    work: &'a mut Workspace,
    /// Whether the fields are no longer those of the map.
    is_edited: bool,
    /// Whether anything is not as it came.
    is_changed: bool,
}

impl<'a> Record<'a> {
    /// The record of an event; `None` when its body is no map: filters have no say in it.
    pub fn new(tag: &'a [u8], event: Event<'a>, work: &'a mut Workspace) -> Option<Record<'a>> {
        work.fields.clear();
        if !is_map(event.body) {
            return None;
        }
        index_map(event.body, (Home::Body, 0), &mut work.fields)?;
        Record::of_indexed(tag, event, work)
    }

    /// The record of the event that [`Workspace::read_event`] gave last; `None` for a marker of a group, and when its
    /// body is no map.
    #[inline]
    pub fn of_indexed(
        tag: &'a [u8],
        event: Event<'a>,
        work: &'a mut Workspace,
    ) -> Option<Record<'a>> {
        if event.kind != EventKind::Log || !is_map(event.body) {
            return None;
        }
        work.arena.clear();
        work.arena.shrink_to(ARENA_BYTES_KEPT);
        let body = Piece { start: 0, end: event.body.len() as u32, home: Home::Body };
        let (group, time) = (NO_GROUP, event.time);
        let (is_edited, is_changed) = (false, false);
        Some(Record { tag, event, group, time, body, work, is_edited, is_changed })
    }

    /// Says what its group of records has in common: the body of the marker before it.
    pub fn set_group(&mut self, body: &'a [u8]) {
        self.group = body;
    }

    /// What its group of records has in common, a map; an empty one for records that stand alone.
    pub fn group(&self) -> &'a [u8] {
        self.group
    }

    /// Its tag.
    pub fn tag(&self) -> &'a [u8] {
        self.tag
    }

    /// Its time.
    pub fn time(&self) -> EventTime {
        self.time
    }

    /// Its metadata, a map.
    pub fn metadata(&self) -> &'a [u8] {
        self.event.metadata
    }

    /// Whether it must be written anew.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Gives it another time.
    pub fn set_time(&mut self, time: EventTime) {
        self.is_changed |= time != self.time;
        self.time = time;
    }

    /// Puts another map in the place of all its fields.
    pub fn replace_body(&mut self, map: Piece) {
        let Workspace { fields, arena, .. } = &mut *self.work;
        fields.clear();
        let home = match map.home {
            Home::Body => self.event.body,
            Home::Arena => arena.as_slice(),
        };
        let whole = &home[map.start as usize..map.end as usize];
        let length = index_map(whole, (map.home, map.start), fields);
        debug_assert_eq!(length, Some(whole.len()));
        self.body = map;
        self.is_edited = false;
        self.is_changed = true;
    }

    /// Its keys and values, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let fields = self.work.fields.iter();
        fields.map(|field| (self.bytes(field.key), self.bytes(field.value)))
    }

    /// The value of a string key; the last of repeated ones.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let mut fields = self.work.fields.iter().rev();
        let found = fields.find(|field| is_str(self.bytes(field.key), name))?;
        Some(self.bytes(found.value))
    }

    /// Whether a string key is there.
    pub fn has(&self, name: &[u8]) -> bool {
        self.entries().any(|(key, _)| is_str(key, name))
    }

    /// The fields, to be looked at by position.
    pub fn fields(&self) -> &[Field] {
        &self.work.fields
    }

    /// Position of the last field with that string key.
    pub fn position(&self, name: &[u8]) -> Option<usize> {
        self.work.fields.iter().rposition(|field| is_str(self.bytes(field.key), name))
    }

    /// The msgpack bytes of a piece.
    pub fn bytes(&self, piece: Piece) -> &[u8] {
        let home = match piece.home {
            Home::Body => self.event.body,
            Home::Arena => self.work.arena.as_slice(),
        };
        &home[piece.start as usize..piece.end as usize]
    }

    /// Keeps the fields for which `keeps` holds, given key and value. Returns how many are gone.
    pub fn retain(&mut self, mut keeps: impl FnMut(&[u8], &[u8]) -> bool) -> usize {
        let mut fields = std::mem::take(&mut self.work.fields);
        let before = fields.len();
        fields.retain(|field| keeps(self.bytes(field.key), self.bytes(field.value)));
        let gone = before - fields.len();
        self.work.fields = fields;
        self.is_edited |= gone > 0;
        self.is_changed |= gone > 0;
        gone
    }

    /// Appends a field.
    pub fn push(&mut self, field: Field) {
        self.edit().push(field);
    }

    /// Appends a field of two strings.
    pub fn push_str(&mut self, key: &[u8], value: &[u8]) {
        let key = self.store(|out| put_str(out, key));
        let value = self.store(|out| put_str(out, value));
        self.push(Field { key, value });
    }

    /// Appends a field that is msgpack already.
    pub fn push_encoded(&mut self, key: &[u8], value: &[u8]) {
        let key = self.store(|out| out.extend_from_slice(key));
        let value = self.store(|out| out.extend_from_slice(value));
        self.push(Field { key, value });
    }

    /// Whether it has no fields.
    pub fn is_empty(&self) -> bool {
        self.work.fields.is_empty()
    }

    /// The fields, to be changed.
    pub fn edit(&mut self) -> &mut Vec<Field> {
        self.is_edited = true;
        self.is_changed = true;
        &mut self.work.fields
    }

    /// Keeps a new key or value, which `put` appends as msgpack.
    pub fn store(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> Piece {
        let start = self.work.arena.len() as u32;
        put(&mut self.work.arena);
        Piece { start, end: self.work.arena.len() as u32, home: Home::Arena }
    }

    /// Keeps a string.
    pub fn store_str(&mut self, text: &[u8]) -> Piece {
        self.store(|out| put_str(out, text))
    }

    /// Keeps a string of three parts, of which the middle one is a part of a string that lies in the record: all
    /// of `text` but its first `skip` bytes.
    pub fn store_renamed(&mut self, front: &[u8], text: Piece, skip: usize) -> Piece {
        let mut rest = self.bytes(text);
        let length = match read_head(&mut rest) {
            Some(Head::Str(text) | Head::Bin(text)) => text.len(),
            _ => return text,
        };
        let skip = skip.min(length);
        let inner = Piece { start: text.end - (length - skip) as u32, ..text };
        let start = self.work.arena.len() as u32;
        put_str_len(&mut self.work.arena, front.len() + length - skip);
        self.work.arena.extend_from_slice(front);
        self.copy_to_arena(inner);
        Piece { start, end: self.work.arena.len() as u32, home: Home::Arena }
    }

    /// Keeps a map of fields that lie in the record.
    pub fn store_map(&mut self, fields: &[Field]) -> Piece {
        let start = self.work.arena.len() as u32;
        put_map_len(&mut self.work.arena, fields.len());
        for field in fields {
            self.copy_to_arena(field.key);
            self.copy_to_arena(field.value);
        }
        Piece { start, end: self.work.arena.len() as u32, home: Home::Arena }
    }

    /// The entries of a map that lies in the record, as fields.
    pub fn fields_of(&self, map: Piece, fields: &mut Vec<Field>) {
        index_map(self.bytes(map), (map.home, map.start), fields);
    }

    /// Begins the tag under which the record is to enter again.
    pub fn new_tag(&mut self) -> &mut Vec<u8> {
        self.work.new_tag.clear();
        &mut self.work.new_tag
    }

    /// The tag that [`new_tag`](Self::new_tag) was given, swapped with an empty buffer by whoever writes it.
    pub fn tag_buffer(&mut self) -> &mut Vec<u8> {
        &mut self.work.new_tag
    }

    /// Its body, a map, as it is now; `buffer` is where it is put together, if it must be.
    pub fn body<'b>(&'b self, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        if !self.is_edited {
            return self.bytes(self.body);
        }
        buffer.clear();
        self.write_body(buffer);
        buffer
    }

    /// Where a filter puts the events that replace the record. Whoever reads them empties it.
    pub fn replacement(&mut self) -> &mut Vec<u8> {
        &mut self.work.replacement
    }

    /// The bytes of the event as it came; what was changed is not in them.
    pub fn original(&self) -> &'a [u8] {
        self.event.bytes
    }

    /// An upper bound of what [`write`](Self::write) appends.
    pub fn room_bytes(&self) -> usize {
        if !self.is_changed {
            return self.event.bytes.len();
        }
        let head_bytes = self.event.bytes.len() - self.event.body.len();
        let size = |piece: Piece| (piece.end - piece.start) as usize;
        if !self.is_edited {
            return head_bytes + crate::event::encoder::HEADER_BYTES + size(self.body);
        }
        let fields = self.work.fields.iter();
        let fields: usize = fields.map(|field| size(field.key) + size(field.value)).sum();
        head_bytes + crate::event::encoder::HEADER_BYTES + 5 + fields
    }

    /// Appends the event in its stored form, with what was changed.
    pub fn write(&self, out: &mut Vec<u8>) {
        if !self.is_changed {
            out.extend_from_slice(self.event.bytes);
            return;
        }
        event_header_with_metadata(out, self.time, self.event.metadata);
        self.write_body(out);
    }

    /// Appends the body, with what was changed.
    pub fn write_body(&self, out: &mut Vec<u8>) {
        if !self.is_edited {
            out.extend_from_slice(self.bytes(self.body));
            return;
        }
        put_map_len(out, self.work.fields.len());
        let mut run: Option<Piece> = None;
        for field in &self.work.fields {
            for piece in [field.key, field.value] {
                match &mut run {
                    Some(run) if run.home == piece.home && run.end == piece.start => {
                        run.end = piece.end;
                    }
                    _ => {
                        if let Some(run) = run {
                            out.extend_from_slice(self.bytes(run));
                        }
                        run = Some(piece);
                    }
                }
            }
        }
        if let Some(run) = run {
            out.extend_from_slice(self.bytes(run));
        }
    }

    fn copy_to_arena(&mut self, piece: Piece) {
        let range = piece.start as usize..piece.end as usize;
        match piece.home {
            Home::Body => self.work.arena.extend_from_slice(&self.event.body[range]),
            Home::Arena => self.work.arena.extend_from_within(range),
        }
    }
}

fn is_map(body: &[u8]) -> bool {
    matches!(body.first(), Some(0x80..=0x8f | 0xde | 0xdf))
}

/// Appends the fields of the map that the bytes begin with, which lie in `home`, the map itself from `start` on.
/// Returns its length; `None` where it is not whole, or no map.
#[inline]
fn index_map(bytes: &[u8], (home, start): (Home, u32), fields: &mut Vec<Field>) -> Option<usize> {
    let (count, mut at) = match *bytes {
        [marker @ 0x80..=0x8f, ..] => (u32::from(marker & 15), 1),
        [0xde, high, low, ..] => (u32::from_be_bytes([0, 0, high, low]), 3),
        [0xdf, a, b, c, d, ..] => (u32::from_be_bytes([a, b, c, d]), 5),
        _ => return None,
    };
    for _ in 0..count {
        let middle = at + skip_value(bytes.get(at..)?).ok()?;
        let end = middle + skip_value(bytes.get(middle..)?).ok()?;
        let piece = |from: usize, to: usize| Piece {
            start: start + from as u32,
            end: start + to as u32,
            home,
        };
        fields.push(Field { key: piece(at, middle), value: piece(middle, end) });
        at = end;
    }
    Some(at)
}

/// Whether a msgpack value is this string.
#[inline]
pub fn is_str(value: &[u8], text: &[u8]) -> bool {
    // The length first: nearly all keys differ in it.
    match value {
        [0xa0..=0xbf, rest @ ..] => rest == text,
        _ => value.len() > text.len() && str_of(value) == Some(text),
    }
}

/// The text of a msgpack string.
#[inline]
pub fn str_of(value: &[u8]) -> Option<&[u8]> {
    match value {
        [0xa0..=0xbf, text @ ..] => Some(text),
        _ => match read_head(&mut &value[..])? {
            Head::Str(text) => Some(text),
            _ => None,
        },
    }
}
