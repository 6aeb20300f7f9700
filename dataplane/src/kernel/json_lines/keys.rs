//! The keys that records of a stream have: text and msgpack form of each, in the order of the last records.
//!
//! Lines of a log repeat their keys. One compare of 32 bytes with the key that came next last time finds the end of
//! the key, its msgpack form and the place of its value at once; without it each of these waits for the one before.

/// Longest text of a key with what stands around it, and longest msgpack form.
pub(super) const KEY_BYTES: usize = 32;
/// Keys that are remembered.
const KEYS_MAX: usize = 64;
/// So often the memory may overflow before it is left alone: keys that never come again cost more than they save.
const OVERFLOWS_MAX: u32 = 8;
/// Lines after which it is tried again.
const PAUSE_LINES: u32 = 1 << 16;

/// Where in its object a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    First,
    Later,
}

/// A key with what stands between the value before it and its own: `,"key": `.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(super) struct KnownKey {
    pub(super) text: [u8; KEY_BYTES],
    pub(super) encoded: [u8; KEY_BYTES],
    /// A bit for each byte of `text` behind its end.
    pub(super) beyond: u32,
    pub(super) text_bytes: u8,
    pub(super) encoded_bytes: u8,
    pub(super) rank: Rank,
    /// Whether it is the key of the time.
    pub(super) is_watched: bool,
}

/// The memory of one stream.
#[derive(Debug)]
pub(super) struct KnownKeys {
    pub(super) keys: Vec<KnownKey>,
    /// The one that is expected.
    pub(super) next: usize,
    overflows: u32,
    pause_lines: u32,
}

impl KnownKeys {
    pub(super) fn new() -> KnownKeys {
        KnownKeys { keys: Vec::new(), next: 0, overflows: 0, pause_lines: 0 }
    }

    /// A line begins.
    #[inline]
    pub(super) fn begin_line(&mut self) {
        self.next = 0;
        self.pause_lines = self.pause_lines.saturating_sub(1);
    }

    /// Remembers a key that is in no place yet, at the one that is expected.
    #[cold]
    pub(super) fn learn(&mut self, text: &[u8], encoded: &[u8], rank: Rank, is_watched: bool) {
        if text.len() > KEY_BYTES || encoded.len() > KEY_BYTES || self.pause_lines > 0 {
            return;
        }
        if self.keys.len() == KEYS_MAX {
            self.keys.clear();
            self.next = 0;
            self.overflows += 1;
            if self.overflows == OVERFLOWS_MAX {
                (self.overflows, self.pause_lines) = (0, PAUSE_LINES);
                return;
            }
        }
        let padded = |bytes: &[u8]| {
            let mut padded = [0; KEY_BYTES];
            padded[..bytes.len()].copy_from_slice(bytes);
            padded
        };
        let key = KnownKey {
            text: padded(text),
            encoded: padded(encoded),
            beyond: u32::MAX.checked_shl(text.len() as u32).unwrap_or(0),
            text_bytes: text.len() as u8,
            encoded_bytes: encoded.len() as u8,
            rank,
            is_watched,
        };
        let place = self.next.min(self.keys.len());
        self.keys.insert(place, key);
        self.next = place + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(keys: &KnownKeys) -> Vec<u8> {
        keys.keys.iter().map(|key| key.text[0]).collect()
    }

    #[test]
    fn new_keys_take_the_place_that_is_expected() {
        let mut keys = KnownKeys::new();
        for text in [b"a", b"c"] {
            keys.learn(text, b"x", Rank::First, false);
        }
        keys.begin_line();
        keys.next = 1;
        keys.learn(b"b", b"x", Rank::Later, false);
        assert_eq!((known(&keys), keys.next), (b"abc".to_vec(), 2));
    }

    #[test]
    fn keys_that_never_come_again_are_left_alone() {
        let mut keys = KnownKeys::new();
        for number in 0..10_000u32 {
            keys.learn(&number.to_be_bytes(), b"x", Rank::Later, false);
        }
        assert!(keys.keys.is_empty());
        for _ in 0..PAUSE_LINES {
            keys.begin_line();
        }
        keys.learn(b"a", b"x", Rank::First, false);
        assert_eq!(known(&keys), b"a");
    }
}
