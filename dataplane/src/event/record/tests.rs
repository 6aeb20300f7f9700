//! The editor against decode, edit, encode.

#![allow(clippy::unwrap_used, reason = "a failure of any step fails the test")]

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
            prop::collection::vec((key().prop_map(Value::from), inner), 0..4).prop_map(Value::Map),
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
            map[index].1 = Value::Map(vec![(renamed.into(), value.clone()), (key.clone(), value)]);
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
