//! How a block of a file divides: whole lines within the limit, then what stops them.

/// What follows the whole lines of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remainder {
    /// The start of a line that may still end within the limit.
    Unfinished,
    /// A line that is longer than the limit.
    TooLong,
}

/// Bytes of whole lines at the front of `block`, and what follows. A line with its newline may have `limit`
/// bytes. Jumps from limit to limit, so it costs a search back to one newline for each.
pub fn divide(block: &[u8], limit: usize) -> (usize, Remainder) {
    let mut at = 0;
    loop {
        let window = &block[at..block.len().min(at + limit)];
        match memchr::memrchr(b'\n', window) {
            Some(newline) => at += newline + 1,
            None if window.len() == limit => return (at, Remainder::TooLong),
            None => return (at, Remainder::Unfinished),
        }
    }
}

/// Zero bytes at the front.
pub fn leading_zeros(block: &[u8]) -> usize {
    block.iter().position(|byte| *byte != 0).unwrap_or(block.len())
}

/// The longest front of `text` that does not end inside a UTF-8 character. Text that is no UTF-8 stays whole.
pub fn whole_characters(text: &[u8]) -> &[u8] {
    let is_inside = |byte: &u8| byte & 0xc0 == 0x80;
    let inside_count = text.iter().rev().take(3).take_while(|byte| is_inside(byte)).count();
    let Some(start) = text.len().checked_sub(inside_count + 1) else { return text };
    let expected = match text[start] {
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf8 => 4,
        _ => return text,
    };
    if inside_count + 1 < expected { &text[..start] } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn divide_slowly(block: &[u8], limit: usize) -> (usize, Remainder) {
        let mut at = 0;
        for line in block.split_inclusive(|byte| *byte == b'\n') {
            if line.len() > limit || line.len() == limit && !line.ends_with(b"\n") {
                return (at, Remainder::TooLong);
            }
            if line.ends_with(b"\n") {
                at += line.len();
            }
        }
        (at, Remainder::Unfinished)
    }

    proptest! {
        #[test]
        fn jumping_finds_what_looking_at_each_line_finds(
            block in proptest::collection::vec(prop_oneof![1 => Just(b'\n'), 4 => Just(b'x')], 0..300),
            limit in 1usize..12,
        ) {
            prop_assert_eq!(divide(&block, limit), divide_slowly(&block, limit));
        }
    }

    #[test]
    fn a_cut_leaves_no_half_character() {
        let text = "aäb€c🦀".as_bytes();
        for length in 0..=text.len() {
            let cut = whole_characters(&text[..length]);
            assert!(std::str::from_utf8(cut).is_ok() && cut.len() + 3 >= length, "{length}");
        }
        assert_eq!(whole_characters(b"a\xff\x80\x80\x80\x80"), b"a\xff\x80\x80\x80\x80");
        assert_eq!(whole_characters(b""), b"");
        assert_eq!((leading_zeros(b"\0\0a\0"), leading_zeros(b"\0")), (2, 1));
    }
}
