//! Lines that are JSON objects to msgpack in one pass over a block: where a line ends shows when its object does.
//!
//! It takes what nearly all lines are made of: plain strings, numbers of some digits, `true`, `false` and `null`,
//! objects and arrays. A scalar that is none of these is put by the caller ([`Hooks::put_scalar`]), and of a line that
//! is anything else nothing is taken ([`Stop::Other`]): the plain encoder, which is its twin, reads it then.
//!
//! JUSTIFICATION of the raw reads and writes: one load of 32 bytes finds the end of a string and is stored as its
//! copy. A line of 13 keys and 327 bytes costs half the instructions of the plain encoder behind a search for the
//! newline (2,160 for 4,350, and 168 ns for 299 with the copy of the block), though its time is read as well.

//! Why reads stay inside: [`WholeLines`] knows of a newline with [`MARGIN`] bytes behind it, every step stops at a
//! newline, and none looks further than [`MARGIN`] bytes from its place.

mod keys;
#[cfg(target_arch = "x86_64")]
mod numbers;
#[cfg(target_arch = "x86_64")]
mod pass;

use crate::kernel::json_lines::keys::KnownKeys;

/// Bytes behind the last newline of a line that is taken here.
const MARGIN: usize = 64;

/// Lines, each with its newline.
#[derive(Clone, Copy, Debug)]
pub struct WholeLines<'a> {
    bytes: &'a [u8],
    /// A newline stands before this place, and [`MARGIN`] bytes behind it.
    safe_end: usize,
}

impl<'a> WholeLines<'a> {
    /// Of a text; what follows its last newline is no line.
    pub fn new(bytes: &'a [u8]) -> WholeLines<'a> {
        let before = bytes.len().saturating_sub(MARGIN);
        let safe_end = memchr::memrchr(b'\n', &bytes[..before]).map_or(0, |newline| newline + 1);
        WholeLines { bytes, safe_end }
    }

    /// All of them.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// What the pass leaves to its caller.
pub trait Hooks {
    /// Appends the scalar that `text` begins with, at most 9 bytes more than it takes of the text, and returns those.
    /// `text` ends with the line. `None` where there is no scalar.
    fn put_scalar(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<usize>;

    /// Takes the value of the key that is watched: a string, at the first of such keys of the outermost object.
    fn take(&mut self, text: &[u8]) -> Taken;
}

/// What becomes of the entry that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It stays.
    Keep,
    /// It is left out.
    Remove,
}

/// Why a line was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// There was no room for its event.
    Room,
    /// It is for the plain encoder.
    Other,
}

/// What is remembered from line to line.
#[derive(Debug)]
pub struct ObjectLines {
    known: KnownKeys,
    watched: Option<Vec<u8>>,
    has_vectors: bool,
}

impl Default for ObjectLines {
    /// For one stream; no key is watched.
    fn default() -> ObjectLines {
        #[cfg(target_arch = "x86_64")]
        let has_vectors = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1");
        #[cfg(not(target_arch = "x86_64"))]
        let has_vectors = false;
        ObjectLines { known: KnownKeys::new(), watched: None, has_vectors }
    }
}

impl ObjectLines {
    /// With this key watched.
    #[inline]
    pub fn watching(&mut self, key: Option<&[u8]>) -> &mut ObjectLines {
        if self.watched.as_deref() != key {
            self.watched = key.map(<[u8]>::to_vec);
            self.known = KnownKeys::new();
        }
        self
    }

    /// Appends the msgpack form of the object that the line at `at` is, as far as `out` has capacity. Returns where
    /// the next line begins.
    ///
    /// # Errors
    /// Where the line was not taken; `out` is then as it was.
    #[inline]
    pub fn put<H: Hooks>(
        &mut self,
        lines: &WholeLines<'_>,
        at: usize,
        hooks: &mut H,
        out: &mut Vec<u8>,
    ) -> Result<usize, Stop> {
        if at >= lines.safe_end || !self.has_vectors {
            return Err(Stop::Other);
        }
        #[cfg(target_arch = "x86_64")]
        {
            // SAFETY: the processor has the features, and a newline follows `at` with the margin behind it.
            unsafe { pass::put_line(self, lines.bytes, at, hooks, out) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (hooks, out);
            Err(Stop::Other)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::json::{JsonKind, encode_scalar, encode_value};
    use crate::event::encoder::put_map_len;
    use crate::event::msgpack::{Head, map_entries, read_head};

    /// Keeps what it is shown, and may have it left out.
    struct Watch {
        seen: Option<Vec<u8>>,
        taken: Taken,
    }

    impl Hooks for Watch {
        fn put_scalar(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
            encode_scalar(text, out)
        }

        fn take(&mut self, text: &[u8]) -> Taken {
            assert!(self.seen.is_none(), "only the first is shown");
            self.seen = Some(text.to_vec());
            self.taken
        }
    }

    fn put(lines: &mut ObjectLines, text: &[u8], out: &mut Vec<u8>) -> Result<usize, Stop> {
        let mut padded = text.to_vec();
        padded.push(b'\n');
        padded.resize(padded.len() + MARGIN, b'"');
        let mut watch = Watch { seen: None, taken: Taken::Keep };
        lines.put(&WholeLines::new(&padded), 0, &mut watch, out)
    }

    #[test]
    fn plain_lines_are_taken_and_others_left() {
        if !ObjectLines::default().has_vectors {
            return;
        }
        let long = format!(r#"{{"a":"{}","b":"{}"}}"#, "x".repeat(70), "y".repeat(300));
        let wide = format!("{{\"a\":[{}1]}}", "1,".repeat(20));
        let taken = [
            "{}",
            " { } \r",
            r#"{"a":1,"b":[],"c":{},"d":[{"e":null},true,false]}"#,
            r#"{"a" : -1 , "b":	"x\ny","c":1.25e3,"d":12345678901234567890,"e":0.123456789}"#,
            r#"{"abcdefghijklmnopqrstuvwxyz0123456789":"abcdefghijklmnopqrstuvwxyz0123456789"}"#,
            &long,
            &wide,
        ];
        let mut lines = ObjectLines::default();
        for text in taken.iter().chain(&taken) {
            let mut out = Vec::with_capacity(2000);
            assert_eq!(put(&mut lines, text.as_bytes(), &mut out), Ok(text.len() + 1), "{text}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40));
        let left = [
            "",
            "1",
            "[1]",
            "{",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{,"a":1}"#,
            r#"{"a":1"b":2}"#,
            r#"{"a":01}"#,
            r#"{"a":1} x"#,
            r#"{"a":1}{"#,
            r#"{"a":"x"#,
            r#"{"a":"\x"}"#,
            r#"{"a":tru}"#,
            &deep,
        ];
        for text in left {
            let mut out = Vec::with_capacity(2000);
            assert_eq!(put(&mut lines, text.as_bytes(), &mut out), Err(Stop::Other), "{text}");
            assert!(out.is_empty());
        }
        let mut out = Vec::with_capacity(200);
        assert_eq!(put(&mut lines, long.as_bytes(), &mut out), Err(Stop::Room));
    }

    #[test]
    fn nothing_is_read_behind_the_margin() {
        for bytes in [&b""[..], b"{}", b"{}\n", b"\n{}\n{\"a\":\"b\"}\n"] {
            let (mut lines, mut out) = (ObjectLines::default(), Vec::with_capacity(1000));
            let mut watch = Watch { seen: None, taken: Taken::Keep };
            let put = lines.put(&WholeLines::new(bytes), 0, &mut watch, &mut out);
            assert_eq!(put, Err(Stop::Other));
        }
    }

    fn object() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            (any::<i64>(), 0u32..64).prop_map(|(number, shift)| (number >> shift).into()),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Into::into),
            (-100_000i64..100_000, 0u32..9)
                .prop_map(|(number, power)| (number as f64 / 10f64.powi(power as i32)).into()),
            "[a-z\u{e4}]{0,70}".prop_map(Into::into),
            ".{0,40}".prop_map(Into::into),
            "[a-z]{250,300}".prop_map(Into::into),
        ];
        let value = leaf.prop_recursive(3, 64, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Into::into),
                prop::collection::hash_map("[a-e]{0,2}", inner, 0..20)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        });
        let key = prop_oneof![5 => "[a-e]", 1 => "[a-z]{28,36}", 1 => ".{0,4}"];
        prop::collection::vec((key, value), 0..20)
            .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect()))
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        let change = (any::<prop::sample::Index>(), "[ -~\\t\\r\0]{0,2}");
        (object(), prop::collection::vec(change, 0..2), any::<bool>()).prop_map(
            |(object, changes, is_pretty)| {
                let mut text = match is_pretty {
                    true => serde_json::to_vec_pretty(&object).unwrap(),
                    false => serde_json::to_vec(&object).unwrap(),
                };
                text.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b'\t');
                for (at, bytes) in changes {
                    let at = at.index(text.len() + 1);
                    text.splice(at..(at + 1).min(text.len()), bytes.bytes());
                }
                text
            },
        )
    }

    proptest! {
        // Lines are slow to make in a build without optimisation.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_line_is_what_the_plain_encoder_makes_of_it(
            texts in prop::collection::vec(line(), 1..5), is_removed in any::<bool>(), room in 0usize..4000
        ) {
            let mut block = texts.join(&b'\n');
            block.push(b'\n');
            block.resize(block.len() + MARGIN, b'{');
            let whole = WholeLines::new(&block);
            let mut lines = ObjectLines::default();
            lines.watching(Some(b"a"));
            let taken = if is_removed { Taken::Remove } else { Taken::Keep };
            let mut at = 0;
            for text in &texts {
                let mut out = Vec::with_capacity(room);
                out.extend_from_slice(b"before");
                let capacity = out.capacity();
                let mut watch = Watch { seen: None, taken };
                let mut twin = Vec::new();
                let plain = encode_value(text, &mut twin);
                match lines.put(&whole, at, &mut watch, &mut out) {
                    Ok(next) => {
                        prop_assert_eq!(next, at + text.len() + 1);
                        prop_assert!(plain.is_ok_and(|value| value.kind == JsonKind::Object));
                        let mut entries: Vec<_> = map_entries(&twin).collect();
                        let first = entries.iter().position(|(key, _)| *key == b"\xa1a");
                        let value = first.and_then(|first| read_head(&mut &entries[first].1[..]));
                        if let Some(Head::Str(value)) = value {
                            prop_assert_eq!(watch.seen.as_deref(), Some(value));
                            if is_removed {
                                entries.remove(first.unwrap());
                            }
                        } else {
                            prop_assert!(watch.seen.is_none());
                        }
                        let mut bytes = b"before".to_vec();
                        put_map_len(&mut bytes, entries.len());
                        for (key, value) in entries {
                            bytes.extend_from_slice(key);
                            bytes.extend_from_slice(value);
                        }
                        prop_assert_eq!(&out, &bytes);
                    }
                    Err(_) => prop_assert_eq!(&out, b"before"),
                }
                prop_assert_eq!(out.capacity(), capacity);
                at += text.len() + 1;
            }
        }
    }
}
