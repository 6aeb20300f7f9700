//! Appends fields whose values lie in one text: a key that is msgpack already, and a part of the text as a string.
//!
//! JUSTIFICATION of the raw writes: a line of an access log is eleven fields of some fifteen bytes. Each part is copied
//! by whole registers where both sides have room behind it, instead of by two calls that find out its length: eight
//! fields take 25 ns, with safe appends 35.

/// Bytes that a copy may take and write more than it is asked for.
const OVERCOPY: usize = 32;

/// The longest header of a string.
const STR_HEADER_MAX: usize = 5;

/// A key as msgpack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldKey {
    /// Padded for whole registers.
    padded: Box<[u8]>,
    length: usize,
}

impl FieldKey {
    /// Of a key that is encoded.
    pub fn new(encoded: &[u8]) -> FieldKey {
        let mut padded = encoded.to_vec();
        padded.resize(encoded.len().max(1).next_multiple_of(OVERCOPY), 0);
        FieldKey { padded: padded.into(), length: encoded.len() }
    }

    /// Room that [`put_text_field`] asks for with a value so long; a number or a boolean needs less.
    #[inline]
    pub fn room_bytes(&self, value_bytes: usize) -> usize {
        self.padded.len() + STR_HEADER_MAX + value_bytes + 2 * OVERCOPY
    }

    /// The key.
    pub fn encoded(&self) -> &[u8] {
        &self.padded[..self.length]
    }
}

/// Appends the key, and `text[start..end]` as a string.
///
/// # Panics
/// Where the text does not have that part.
#[inline]
pub fn put_text_field(
    out: &mut Vec<u8>,
    key: &FieldKey,
    text: &[u8],
    (start, end): (usize, usize),
) {
    let value = &text[start..end];
    out.reserve(key.room_bytes(value.len()));
    let at = out.len();
    // SAFETY: the capacity reserved holds the padded key, or the key and the longest header, and behind them the
    // value rounded up. The padded key is readable in whole registers; of the text so much is read only where it
    // has as much behind `start`. All bytes up to the new length were written.
    unsafe {
        let to = out.as_mut_ptr().add(at);
        copy_over(key.padded.as_ptr(), to, key.length);
        let mut written = key.length;
        written += put_header(to.add(written), value.len());
        if text.len() - start >= value.len() + OVERCOPY {
            copy_over(value.as_ptr(), to.add(written), value.len());
        } else {
            std::ptr::copy_nonoverlapping(value.as_ptr(), to.add(written), value.len());
        }
        out.set_len(at + written + value.len());
    }
}

/// Copies `length` bytes in whole registers.
///
/// # Safety
/// `length` rounded up to [`OVERCOPY`] bytes, and one register at least, must be readable at `from` and writable at
/// `to`.
#[inline(always)]
unsafe fn copy_over(from: *const u8, to: *mut u8, length: usize) {
    let mut done = 0;
    loop {
        // SAFETY: `done` is below `length` rounded up, which the caller vouches for.
        unsafe { std::ptr::copy_nonoverlapping(from.add(done), to.add(done), OVERCOPY) };
        done += OVERCOPY;
        if done >= length {
            return;
        }
    }
}

/// Writes the header of a string and returns its length.
///
/// # Safety
/// [`STR_HEADER_MAX`] bytes must be writable at `to`.
#[inline(always)]
unsafe fn put_header(to: *mut u8, length: usize) -> usize {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    let (header, width) = match length {
        0..=31 => ([0xa0 | d, 0, 0, 0, 0], 1),
        32..=0xff => ([0xd9, d, 0, 0, 0], 2),
        0x100..=0xffff => ([0xda, c, d, 0, 0], 3),
        _ => ([0xdb, a, b, c, d], 5),
    };
    // SAFETY: five bytes are writable.
    unsafe { to.cast::<[u8; STR_HEADER_MAX]>().write_unaligned(header) };
    width
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::encoder::put_str;

    proptest! {
        #[test]
        fn fields_are_what_safe_appends_write(
            key in proptest::collection::vec(any::<u8>(), 0..80),
            text in proptest::collection::vec(any::<u8>(), 0..100),
            long in prop_oneof![9 => Just(0usize), 1 => 0usize..70_000],
            parts in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..8),
            before in 0usize..40,
        ) {
            let mut text = text;
            text.resize(text.len() + long, b'x');
            let mut encoded = Vec::new();
            put_str(&mut encoded, &key);
            let field_key = FieldKey::new(&encoded);
            prop_assert_eq!(field_key.encoded(), encoded.as_slice());
            let (mut fast, mut slow) = (vec![7; before], vec![7; before]);
            for (one, other) in parts {
                let (one, other) = (one.index(text.len() + 1), other.index(text.len() + 1));
                let (start, end) = (one.min(other), one.max(other));
                put_text_field(&mut fast, &field_key, &text, (start, end));
                slow.extend_from_slice(&encoded);
                put_str(&mut slow, &text[start..end]);
            }
            prop_assert_eq!(fast, slow);
        }
    }
}
