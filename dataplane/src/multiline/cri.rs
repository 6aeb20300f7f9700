//! The lines of container runtimes: `<time> <stdout|stderr> <F|P> <text>`.

use crate::event::encoder::put_str;

/// One line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CriLine<'a> {
    pub(super) time: &'a [u8],
    pub(super) stream: &'a [u8],
    pub(super) is_partial: bool,
    pub(super) text: &'a [u8],
}

/// Bytes of ` stdout F ` after its first blank.
const MARK_BYTES: usize = 9;

impl<'a> CriLine<'a> {
    /// Takes a line apart; `None` when it is none. The time is everything before the first place where the rest
    /// fits, so it may hold blanks.
    #[inline]
    pub(super) fn read(line: &'a [u8]) -> Option<CriLine<'a>> {
        let mut from = 1;
        loop {
            let blank = from + memchr::memchr(b' ', line.get(from..)?)?;
            let rest = &line[blank + 1..];
            let (mark, text) = rest.split_first_chunk::<MARK_BYTES>()?;
            let is_stream = matches!(&mark[..7], b"stdout " | b"stderr ");
            if is_stream && matches!(&mark[7..], b"F " | b"P ") {
                let (stream, is_partial) = (&rest[..6], mark[7] == b'P');
                return Some(CriLine { time: &line[..blank], stream, is_partial, text });
            }
            from = blank + 1;
        }
    }

    /// Appends the record up to the value of its last key, `log`.
    #[inline]
    pub(super) fn put_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\x84\xa4time");
        put_str(out, self.time);
        out.extend_from_slice(match (self.stream, self.is_partial) {
            (b"stdout", false) => b"\xa6stream\xa6stdout\xa2_p\xa1F\xa3log",
            (b"stdout", true) => b"\xa6stream\xa6stdout\xa2_p\xa1P\xa3log",
            (_, false) => b"\xa6stream\xa6stderr\xa2_p\xa1F\xa3log",
            (_, true) => b"\xa6stream\xa6stderr\xa2_p\xa1P\xa3log",
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::regex::{Captures, Found, Regex};

    proptest! {
        #[test]
        fn lines_are_those_of_the_expression(
            words in proptest::collection::vec(
                prop_oneof![
                    4 => Just(" "), 2 => Just("stdout"), 1 => Just("stderr"), 2 => Just("F"), 1 => Just("P"),
                    1 => Just("x"), 1 => Just("2024-01-02T03:04:05.1Z"), 1 => Just("é"), 1 => Just("\t"),
                ],
                0..12,
            ),
        ) {
            let line = words.concat();
            let regex = Regex::new("^(?<time>.+?) (?<stream>stdout|stderr) (?<_p>F|P) (?<log>.*)$").unwrap();
            let mut captures = Captures::default();
            let expected = (regex.search(line.as_bytes(), &mut captures) == Found::Match).then(|| {
                let group = |number: usize| &line.as_bytes()[captures.get(number).unwrap()];
                CriLine { time: group(1), stream: group(2), is_partial: group(3) == b"P", text: group(4) }
            });
            prop_assert_eq!(CriLine::read(line.as_bytes()), expected);
        }
    }
}
