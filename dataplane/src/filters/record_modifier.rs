//! `record_modifier`: removes keys, or all but some, and adds fields and a UUID.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use config::{Problem, Problems, Section, Settings};

use crate::event::record::{Field, Record};
use crate::filters::key_pattern::KeyPattern;
use crate::filters::words::{Pair, encoded_str};
use crate::plugin::descriptor::{BuildContext, FilterPlugin};
use crate::plugin::filter::{Filter, FilterDefinition, FilterPlace, Verdict};

/// The `record_modifier` filter.
pub static PLUGIN: FilterPlugin = FilterPlugin {
    name: "record_modifier",
    summary: "removes keys, or all but some, and adds fields",
    keys: RecordModifierSettings::KEYS,
    build,
};

config::config_map! {
    /// What `record_modifier` is told.
    pub struct RecordModifierSettings {
        /// A field to append: its key and its value. A key that is there already stays too.
        "record" => record: Pair, repeat;
        /// A key to remove, in letters of either case; with `*` at its end, all that begin so.
        "remove_key" => remove_key: String, repeat;
        /// A key to keep; all others are removed.
        "allowlist_key" => allowlist_key: String, repeat;
        /// Old name of allowlist_key.
        "whitelist_key" => whitelist_key: String, repeat;
        /// Key under which a random UUID is appended.
        "uuid_key" => uuid_key: String, optional;
    }
}

/// What every shard does with a record.
#[derive(Clone, Debug)]
struct RecordModifier {
    keys: Keys,
    /// Fields as msgpack: key and value.
    added: Arc<[(Vec<u8>, Vec<u8>)]>,
    uuid_key: Option<Arc<[u8]>>,
}

#[derive(Clone, Debug)]
enum Keys {
    All,
    AllBut(Arc<[KeyPattern]>),
    Only(Arc<[KeyPattern]>),
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn FilterDefinition>> {
    let settings = RecordModifierSettings::read(section, context.engine_keys, problems)?;
    let patterns =
        |names: &[String]| names.iter().map(|name| KeyPattern::parse(name)).collect::<Vec<_>>();
    let removed = patterns(&settings.remove_key);
    let mut allowed = patterns(&settings.allowlist_key);
    allowed.extend(patterns(&settings.whitelist_key));
    let keys = match (removed.is_empty(), allowed.is_empty()) {
        (true, true) => Keys::All,
        (false, true) => Keys::AllBut(removed.into()),
        (true, false) => Keys::Only(allowed.into()),
        (false, false) => {
            let message = "`remove_key` and `allowlist_key` exclude each other";
            let problem = Problem::error(section.span, message);
            problems.push(problem.with_help("remove one of the two"));
            return None;
        }
    };
    let added = settings.record.iter();
    let added = added.map(|Pair(key, value)| (encoded_str(key), encoded_str(value))).collect();
    let uuid_key = settings.uuid_key.map(|key| encoded_str(&key).into());
    Some(Arc::new(RecordModifier { keys, added, uuid_key }))
}

impl FilterDefinition for RecordModifier {
    fn open(&self, _place: &FilterPlace) -> Box<dyn Filter> {
        Box::new(RecordModifierFilter { plan: self.clone(), uuids: Uuids::new() })
    }
}

struct RecordModifierFilter {
    plan: RecordModifier,
    uuids: Uuids,
}

impl Filter for RecordModifierFilter {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        match &self.plan.keys {
            Keys::All => {}
            Keys::AllBut(removed) => {
                retain(record, |key| !removed.iter().any(|name| name.matches_any_case(key)));
            }
            Keys::Only(allowed) => {
                retain(record, |key| allowed.iter().any(|name| name.matches_any_case(key)));
            }
        }
        for (key, value) in self.plan.added.iter() {
            record.push_encoded(key, value);
        }
        if let Some(key) = &self.plan.uuid_key {
            let uuid = self.uuids.next();
            let key = record.store(|out| out.extend_from_slice(key));
            let value = record.store_str(&uuid);
            record.push(Field { key, value });
        }
        match record.is_empty() {
            true => Verdict::Drop,
            false => Verdict::Keep,
        }
    }
}

/// Looks before it indexes: most records of a stream that was filtered before have nothing to lose.
fn retain(record: &mut Record<'_>, keeps: impl Fn(&[u8]) -> bool) {
    if !record.entries().all(|(key, _)| keeps(key)) {
        record.retain(|key, _| keeps(key));
    }
}

/// Random UUIDs (version 4). The generator is SplitMix64, with a seed of the system's: good enough for names, and
/// no system call a record.
struct Uuids(u64);

impl Uuids {
    fn new() -> Uuids {
        Uuids(RandomState::new().hash_one("uuid"))
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn next(&mut self) -> [u8; 36] {
        let random = u128::from(self.word()) << 64 | u128::from(self.word());
        // The digits that say version and variant.
        let number = random & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
        let mut text = [b'-'; 36];
        let mut digits = (0..32).rev().map(|digit| (number >> (4 * digit) & 15) as usize);
        for (at, letter) in text.iter_mut().enumerate() {
            if ![8, 13, 18, 23].contains(&at)
                && let Some(digit) = digits.next()
            {
                *letter = b"0123456789abcdef"[digit];
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::testing::{errors, run};

    type Keys = &'static [(&'static str, &'static str)];

    #[test]
    fn keys_go_and_fields_come() {
        let record = r#"{"A":1,"ab":2,"b":3,"c":4}"#;
        let table: [(Keys, Option<&str>); 6] = [
            (&[("remove_key", "a")], Some(r#"{"ab":2,"b":3,"c":4}"#)),
            (&[("remove_key", "a*"), ("remove_key", "x")], Some(r#"{"b":3,"c":4}"#)),
            (&[("allowlist_key", "AB"), ("whitelist_key", "C")], Some(r#"{"ab":2,"c":4}"#)),
            (&[("allowlist_key", "x")], None),
            (
                &[("allowlist_key", "x"), ("record", "k v"), ("record", "k \"w x\"")],
                // The JSON writer keeps the last of repeated keys.
                Some(r#"{"k":"w x"}"#),
            ),
            (&[("remove_key", "z")], Some(record)),
        ];
        for (keys, expected) in table {
            assert_eq!(run(&PLUGIN, keys, record).as_deref(), expected, "{keys:?}");
        }
        assert_eq!(errors(&PLUGIN, &[("remove_key", "a"), ("allowlist_key", "b")]).len(), 1);
        assert_eq!(errors(&PLUGIN, &[("record", "k v w")]).len(), 1);
        assert_eq!(errors(&PLUGIN, &[("record", "k")]).len(), 1);
    }

    #[test]
    fn uuids_are_of_version_4_and_differ() {
        let mut uuids = Uuids::new();
        let (a, b) = (uuids.next(), uuids.next());
        assert_ne!(a, b);
        for uuid in [a, b] {
            assert_eq!((uuid[8], uuid[14], uuid[23]), (b'-', b'4', b'-'));
            assert!(b"89ab".contains(&uuid[19]));
            assert!(uuid.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-'));
        }
        let printed = run(&PLUGIN, &[("uuid_key", "id")], "{}").unwrap();
        assert_eq!(printed.len(), r#"{"id":""}"#.len() + 36);
    }
}
