//! A record on its way through filters: a lazy view of one event, and what was changed of it.
//!
//! A lookup scans the bytes of the event. The first change builds an index of its fields: where key and value lie,
//! in the event or, if they are new, in a scratch arena. The record is written once, after the last filter, and
//! neighbours that nobody touched are copied as one run. Index and arena are kept from record to record, so a
//! record costs no allocation.

use crate::event::encoder::{event_header_with_metadata, put_map_len, put_str, put_str_len};
use crate::event::msgpack::{Head, map_entries, read_head};
use crate::event::reader::Event;
use crate::event::time::EventTime;

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

/// One event while filters see it. Its body is a map.
pub struct Record<'a> {
    tag: &'a [u8],
    event: Event<'a>,
    group: &'a [u8],
    time: EventTime,
    /// The map that holds where there is no index.
    body: Piece,
    work: &'a mut Workspace,
    is_indexed: bool,
    is_changed: bool,
}

impl<'a> Record<'a> {
    /// The record of an event; `None` when its body is no map: filters have no say in it.
    pub fn new(tag: &'a [u8], event: Event<'a>, work: &'a mut Workspace) -> Option<Record<'a>> {
        if !matches!(event.body.first(), Some(0x80..=0x8f | 0xde | 0xdf)) {
            return None;
        }
        work.fields.clear();
        work.arena.clear();
        work.arena.shrink_to(ARENA_BYTES_KEPT);
        let body = Piece { start: 0, end: event.body.len() as u32, home: Home::Body };
        let (group, time) = (NO_GROUP, event.time);
        let (is_indexed, is_changed) = (false, false);
        Some(Record { tag, event, group, time, body, work, is_indexed, is_changed })
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
        self.work.fields.clear();
        self.body = map;
        self.is_indexed = false;
        self.is_changed = true;
    }

    /// Its keys and values, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let untouched = if self.is_indexed { &[0x80] } else { self.bytes(self.body) };
        let fields = self.work.fields.iter();
        let fields = fields.map(|field| (self.bytes(field.key), self.bytes(field.value)));
        map_entries(untouched).chain(fields)
    }

    /// The value of a string key; the last of repeated ones.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.entries().filter(|(key, _)| is_str(key, name)).map(|(_, value)| value).last()
    }

    /// Whether a string key is there.
    pub fn has(&self, name: &[u8]) -> bool {
        self.entries().any(|(key, _)| is_str(key, name))
    }

    /// The fields, to be looked at by position.
    pub fn fields(&mut self) -> &[Field] {
        self.index();
        &self.work.fields
    }

    /// Position of the last field with that string key.
    pub fn position(&mut self, name: &[u8]) -> Option<usize> {
        self.index();
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
        self.index();
        let mut fields = std::mem::take(&mut self.work.fields);
        let before = fields.len();
        fields.retain(|field| keeps(self.bytes(field.key), self.bytes(field.value)));
        let gone = before - fields.len();
        self.work.fields = fields;
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
        self.entries().next().is_none()
    }

    /// The fields, to be changed.
    pub fn edit(&mut self) -> &mut Vec<Field> {
        self.index();
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
        let whole = self.bytes(map);
        let base = whole.as_ptr() as usize;
        for (key, value) in map_entries(whole) {
            let piece = |part: &[u8]| {
                let start = map.start + (part.as_ptr() as usize - base) as u32;
                Piece { start, end: start + part.len() as u32, home: map.home }
            };
            fields.push(Field { key: piece(key), value: piece(value) });
        }
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

    /// Its body, a map, as it is now; written to `out` where it lies in pieces.
    pub fn body<'s>(&'s self, out: &'s mut Vec<u8>) -> &'s [u8] {
        if !self.is_indexed {
            return self.bytes(self.body);
        }
        self.write_body(out);
        out
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
        if !self.is_indexed {
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
        if !self.is_indexed {
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

    fn index(&mut self) {
        if self.is_indexed {
            return;
        }
        self.is_indexed = true;
        let mut fields = std::mem::take(&mut self.work.fields);
        self.fields_of(self.body, &mut fields);
        self.work.fields = fields;
    }

    fn copy_to_arena(&mut self, piece: Piece) {
        let range = piece.start as usize..piece.end as usize;
        match piece.home {
            Home::Body => self.work.arena.extend_from_slice(&self.event.body[range]),
            Home::Arena => self.work.arena.extend_from_within(range),
        }
    }
}

/// Whether a msgpack value is this string.
pub fn is_str(value: &[u8], text: &[u8]) -> bool {
    // The length first: nearly all keys differ in it.
    value.len() > text.len() && str_of(value) == Some(text)
}

/// The text of a msgpack string.
pub fn str_of(value: &[u8]) -> Option<&[u8]> {
    match read_head(&mut &value[..])? {
        Head::Str(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rmpv::Value;

    use super::*;
    use crate::event::encoder::event_header;
    use crate::event::reader::Events;

    fn encode(value: &Value, out: &mut Vec<u8>) {
        rmpv::encode::write_value(out, value).unwrap();
    }

    /// One change, on a record and on the same map decoded.
    #[derive(Clone, Debug)]
    enum Edit {
        Push(String, Value),
        Remove(String),
        Rename(String, String),
        Insert(prop::sample::Index, String),
        MoveFirst(prop::sample::Index),
        Nest(String, String),
        Lift(String),
        Replace(String, Value),
    }

    fn key() -> impl Strategy<Value = String> {
        "[abc]{1,2}|[abc]{31,33}"
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            ".{0,40}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 12, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((key().prop_map(Value::from), inner), 0..4)
                    .prop_map(Value::Map),
            ]
        })
    }

    fn edit() -> impl Strategy<Value = Edit> {
        prop_oneof![
            (key(), value()).prop_map(|(key, value)| Edit::Push(key, value)),
            key().prop_map(Edit::Remove),
            (key(), key()).prop_map(|(from, to)| Edit::Rename(from, to)),
            (any::<prop::sample::Index>(), key()).prop_map(|(at, key)| Edit::Insert(at, key)),
            any::<prop::sample::Index>().prop_map(Edit::MoveFirst),
            (key(), key()).prop_map(|(name, prefix)| Edit::Nest(name, prefix)),
            key().prop_map(Edit::Lift),
            (key(), value()).prop_map(|(key, value)| Edit::Replace(key, value)),
        ]
    }

    fn apply(edit: &Edit, record: &mut Record<'_>) {
        match edit {
            Edit::Push(key, value) => {
                let key = record.store_str(key.as_bytes());
                let value = record.store(|out| encode(value, out));
                record.push(Field { key, value });
            }
            Edit::Remove(name) => {
                record.retain(|key, _| !is_str(key, name.as_bytes()));
            }
            Edit::Rename(from, to) => {
                if let Some(index) = record.position(from.as_bytes()) {
                    let key = record.store_str(to.as_bytes());
                    record.edit()[index].key = key;
                }
            }
            Edit::Insert(at, key) => {
                let key = record.store_str(key.as_bytes());
                let at = at.index(record.fields().len() + 1);
                record.edit().insert(at, Field { key, value: key });
            }
            Edit::MoveFirst(at) => {
                if !record.fields().is_empty() {
                    let at = at.index(record.fields().len());
                    let field = record.edit().remove(at);
                    record.edit().insert(0, field);
                }
            }
            Edit::Nest(name, prefix) => {
                let Some(index) = record.position(name.as_bytes()) else { return };
                let field = record.fields()[index];
                let renamed = record.store_renamed(prefix.as_bytes(), field.key, 1);
                let inner = record.store_map(&[Field { key: renamed, ..field }, field]);
                record.edit()[index].value = inner;
            }
            Edit::Lift(name) => {
                let Some(index) = record.position(name.as_bytes()) else { return };
                let mut lifted = Vec::new();
                let value = record.fields()[index].value;
                record.fields_of(value, &mut lifted);
                record.edit().remove(index);
                record.edit().extend(lifted);
            }
            Edit::Replace(key, value) => {
                let map = Value::Map(vec![(key.as_str().into(), value.clone())]);
                let map = record.store(|out| encode(&map, out));
                record.replace_body(map);
            }
        }
    }

    fn apply_decoded(edit: &Edit, map: &mut Vec<(Value, Value)>) {
        let last = |map: &[(Value, Value)], name: &str| {
            map.iter().rposition(|(key, _)| key.as_str() == Some(name))
        };
        match edit {
            Edit::Push(key, value) => map.push((key.as_str().into(), value.clone())),
            Edit::Remove(name) => map.retain(|(key, _)| key.as_str() != Some(name)),
            Edit::Rename(from, to) => {
                if let Some(index) = last(map, from) {
                    map[index].0 = to.as_str().into();
                }
            }
            Edit::Insert(at, key) => {
                let key: Value = key.as_str().into();
                map.insert(at.index(map.len() + 1), (key.clone(), key));
            }
            Edit::MoveFirst(at) => {
                if !map.is_empty() {
                    let entry = map.remove(at.index(map.len()));
                    map.insert(0, entry);
                }
            }
            Edit::Nest(name, prefix) => {
                let Some(index) = last(map, name) else { return };
                let (key, value) = map[index].clone();
                let renamed = format!("{prefix}{}", &name[1..]);
                map[index].1 =
                    Value::Map(vec![(renamed.into(), value.clone()), (key.clone(), value)]);
            }
            Edit::Lift(name) => {
                let Some(index) = last(map, name) else { return };
                if let (_, Value::Map(inner)) = map.remove(index) {
                    map.extend(inner);
                }
            }
            Edit::Replace(key, value) => {
                *map = vec![(key.as_str().into(), value.clone())];
            }
        }
    }

    proptest! {
        #[test]
        fn the_editor_equals_decode_edit_encode(
            map in prop::collection::vec((key(), value()), 0..20),
            edits in prop::collection::vec(edit(), 0..8),
        ) {
            let mut map: Vec<(Value, Value)> =
                map.into_iter().map(|(key, value)| (key.into(), value)).collect();
            let time = EventTime { secs: 7, nanos: 8 };
            let mut bytes = Vec::new();
            event_header(&mut bytes, time);
            encode(&Value::Map(map.clone()), &mut bytes);
            let event = Events::new(&bytes).next().unwrap().unwrap();
            let mut work = Workspace::default();
            let mut record = Record::new(b"t", event, &mut work).unwrap();
            for edit in &edits {
                apply(edit, &mut record);
                apply_decoded(edit, &mut map);
            }
            let mut written = Vec::new();
            record.write(&mut written);
            prop_assert!(written.len() <= record.room_bytes());
            let mut expected = Vec::new();
            event_header(&mut expected, time);
            encode(&Value::Map(map.clone()), &mut expected);
            prop_assert_eq!(&written, &expected);
            for (name, _) in &map {
                let name = name.as_str().unwrap();
                let last = map.iter().rev().find(|(key, _)| key.as_str() == Some(name));
                let mut value = Vec::new();
                encode(&last.unwrap().1, &mut value);
                prop_assert_eq!(record.get(name.as_bytes()), Some(value.as_slice()));
            }
        }
    }

    #[test]
    fn time_changes_and_bodies_that_are_no_map_are_left_alone() {
        let mut bytes = Vec::new();
        event_header(&mut bytes, EventTime { secs: 7, nanos: 8 });
        bytes.extend_from_slice(&[0x81, 0xa1, b'a', 1]);
        let event = Events::new(&bytes).next().unwrap().unwrap();
        let mut work = Workspace::default();
        let mut record = Record::new(b"t", event, &mut work).unwrap();
        record.set_time(event.time);
        assert!(!record.is_changed());
        record.set_time(EventTime { secs: 9, nanos: 1 });
        let mut written = Vec::new();
        record.write(&mut written);
        let changed = Events::new(&written).next().unwrap().unwrap();
        assert_eq!((changed.time.secs, changed.body), (9, event.body));
        let event = Event { body: &[0x91, 1], ..event };
        assert!(Record::new(b"t", event, &mut work).is_none());
    }
}
