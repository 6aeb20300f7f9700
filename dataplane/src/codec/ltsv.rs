//! LTSV: `label:value` between tabs, as Fluent Bit reads it.

use crate::codec::cursor::Cursor;

/// The fields of a line. Ends at the end of the line, and at the first text that is no field.
pub struct Fields<'a> {
    cursor: Cursor<'a>,
    is_over: bool,
}

impl<'a> Fields<'a> {
    /// Of the line that `text` begins with.
    pub fn new(text: &'a [u8]) -> Fields<'a> {
        Fields { cursor: Cursor::new(text), is_over: false }
    }

    /// Bytes consumed so far, the end of the line included.
    pub fn consumed(&self) -> usize {
        self.cursor.at()
    }
}

fn is_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

fn is_value(byte: u8) -> bool {
    !matches!(byte, 0 | b'\t' | b'\n' | b'\r')
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            let label = self.cursor.run(is_label);
            if !self.cursor.skip(b':') {
                self.is_over = true;
                return None;
            }
            let value = self.cursor.run(is_value);
            self.cursor.skip(b'\t');
            let returns = self.cursor.skip(b'\r');
            if self.cursor.skip(b'\n') || returns || self.cursor.is_at_end() {
                self.is_over = true;
            }
            if !label.is_empty() {
                return Some((label, value));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Found = &'static [(&'static str, &'static str)];

    fn fields(text: &str) -> (Vec<(String, String)>, usize) {
        let mut fields = Fields::new(text.as_bytes());
        let own = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let found = fields.by_ref().map(|(label, value)| (own(label), own(value))).collect();
        (found, fields.consumed())
    }

    #[test]
    fn a_line_ends_where_fluent_bit_ends_it() {
        let table: [(&str, Found, usize); 9] = [
            ("a:1\tb.c-d:x y:z", &[("a", "1"), ("b.c-d", "x y:z")], 15),
            ("a:\tb:2", &[("a", ""), ("b", "2")], 6),
            ("a:1\r\nb:2", &[("a", "1")], 5),
            ("a:1\nb:2", &[("a", "1")], 4),
            ("a:1\t\nb:2", &[("a", "1")], 5),
            (":x\tb:2", &[("b", "2")], 6),
            ("a b:1", &[], 1),
            ("a:1\tno field\tb:2", &[("a", "1")], 6),
            ("a:1\0b:2", &[("a", "1")], 3),
        ];
        for (text, expected, consumed) in table {
            let expected = expected.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
            assert_eq!(fields(text), (expected, consumed), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn good_lines_are_what_two_splits_make_of_them(
            pairs in proptest::collection::vec(("[0-9A-Za-z_.-]{1,6}", "[^\0\t\r\n]{0,8}"), 0..6)
        ) {
            let line: Vec<String> = pairs.iter().map(|(a, b)| format!("{a}:{b}")).collect();
            let line = line.join("\t");
            let naive: Vec<_> = line
                .split('\t')
                .filter_map(|field| field.split_once(':'))
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .collect();
            prop_assert_eq!(fields(&line), (naive, line.len()));
        }

        #[test]
        fn any_bytes_are_walked_to_an_end(text in "[ab:\t\r\n\0 ]{0,40}") {
            let (_, consumed) = fields(&text);
            prop_assert!(consumed <= text.len());
        }
    }
}
