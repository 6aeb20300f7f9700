//! Names of keys as filters are given them: whole, or the front of one before a `*`.

use crate::event::msgpack::{Head, read_head};

/// Which keys are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyPattern {
    /// This one.
    Whole(Vec<u8>),
    /// Those that begin so.
    Front(Vec<u8>),
}

impl KeyPattern {
    /// From `key` or `front*`.
    pub(super) fn parse(text: &str) -> KeyPattern {
        match text.strip_suffix('*') {
            Some(front) => KeyPattern::Front(front.as_bytes().to_vec()),
            None => KeyPattern::Whole(text.as_bytes().to_vec()),
        }
    }

    /// Whether a key, as msgpack, is meant.
    pub(super) fn matches(&self, key: &[u8]) -> bool {
        let Some(text) = text_of(key) else { return false };
        match self {
            KeyPattern::Whole(name) => text == name.as_slice(),
            KeyPattern::Front(front) => text.starts_with(front),
        }
    }

    /// As [`matches`](Self::matches), with letters of either case alike.
    pub(super) fn matches_any_case(&self, key: &[u8]) -> bool {
        let Some(text) = text_of(key) else { return false };
        match self {
            KeyPattern::Whole(name) => text.eq_ignore_ascii_case(name),
            KeyPattern::Front(front) => {
                text.get(..front.len()).is_some_and(|start| start.eq_ignore_ascii_case(front))
            }
        }
    }
}

/// The text of a key: a string or bytes.
#[inline]
pub(super) fn text_of(key: &[u8]) -> Option<&[u8]> {
    // Nearly all are short strings.
    if let [0xa0..=0xbf, text @ ..] = key {
        return Some(text);
    }
    match read_head(&mut &key[..])? {
        Head::Str(text) | Head::Bin(text) => Some(text),
        _ => None,
    }
}
