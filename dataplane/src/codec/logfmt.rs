//! logfmt: `key=value key="quoted \"value\"" bare`, as Fluent Bit reads it.

use crate::codec::cursor::Cursor;

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogfmtValue<'a> {
    /// No `=`.
    Bare,
    /// Behind `=`, up to the next blank, `=` or quote; may be empty.
    Plain(&'a [u8]),
    /// Between quotes.
    Quoted {
        /// As it is written.
        text: &'a [u8],
        /// Whether a backslash is in it.
        has_escapes: bool,
    },
}

impl<'a> LogfmtValue<'a> {
    /// Its bytes as they are written.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            LogfmtValue::Bare => &[],
            LogfmtValue::Plain(text) | LogfmtValue::Quoted { text, .. } => text,
        }
    }
}

/// The pairs of a line. A line ends where a pair is followed by its end; before a pair, line ends are blanks.
pub struct Pairs<'a> {
    cursor: Cursor<'a>,
    is_over: bool,
}

impl<'a> Pairs<'a> {
    /// Of the line that `text` begins with.
    pub fn new(text: &'a [u8]) -> Pairs<'a> {
        Pairs { cursor: Cursor::new(text), is_over: false }
    }

    /// Bytes consumed so far, the end of the line included.
    pub fn consumed(&self) -> usize {
        self.cursor.at()
    }

    fn quoted(&mut self) -> LogfmtValue<'a> {
        let start = self.cursor.at();
        let mut has_escapes = false;
        loop {
            self.cursor.run(|byte| !matches!(byte, b'"' | b'\\'));
            if self.cursor.peek() != Some(b'\\') {
                break;
            }
            has_escapes = true;
            self.cursor.advance(2);
        }
        let text = self.cursor.since(start);
        self.cursor.skip(b'"');
        LogfmtValue::Quoted { text, has_escapes }
    }
}

fn is_key(byte: u8) -> bool {
    byte > b' ' && !matches!(byte, b'=' | b'"')
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], LogfmtValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        self.cursor.run(|byte| !is_key(byte));
        let key = self.cursor.run(is_key);
        if key.is_empty() {
            self.is_over = true;
            return None;
        }
        let value = if !self.cursor.skip(b'=') {
            LogfmtValue::Bare
        } else if self.cursor.skip(b'"') {
            self.quoted()
        } else {
            LogfmtValue::Plain(self.cursor.run(is_key))
        };
        let returns = self.cursor.skip(b'\r');
        self.is_over = self.cursor.skip(b'\n') || returns;
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> (String, usize) {
        let mut pairs = Pairs::new(text.as_bytes());
        let mut shown = String::new();
        for (key, value) in pairs.by_ref() {
            let text = String::from_utf8_lossy(value.bytes());
            let mark = match value {
                LogfmtValue::Bare => "",
                LogfmtValue::Plain(_) => "=",
                LogfmtValue::Quoted { has_escapes: false, .. } => "=q:",
                LogfmtValue::Quoted { has_escapes: true, .. } => "=e:",
            };
            shown += &format!("<{}{mark}{text}>", String::from_utf8_lossy(key));
        }
        (shown, pairs.consumed())
    }

    #[test]
    fn a_line_is_divided_as_in_fluent_bit() {
        let table = [
            ("a=1 b=\"x y\" c", "<a=1><b=q:x y><c>", 13),
            ("a= b=\"\" =x", "<a=><b=q:><x>", 10),
            (r#"a="q\"r\\" b=2"#, r#"<a=e:q\"r\\><b=2>"#, 14),
            ("a=1\nb=2", "<a=1>", 4),
            ("a=1\r\nb=2", "<a=1>", 5),
            ("a=1 \nb=2", "<a=1><b=2>", 8),
            ("\n\na=1", "<a=1>", 5),
            ("a=\"half", "<a=q:half>", 7),
            ("a=\"half\\", "<a=e:half\\>", 8),
            ("a=b=c", "<a=b><c>", 5),
            ("é=ü", "<é=ü>", 5),
            (" \"= ", "", 4),
        ];
        for (text, expected, consumed) in table {
            assert_eq!(pairs(text), (expected.to_owned(), consumed), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn plain_lines_are_what_splits_make_of_them(
            pairs_in in proptest::collection::vec(("[a-z.]{1,5}", "[a-z0-9:/]{0,5}"), 0..6)
        ) {
            let line: Vec<String> = pairs_in.iter().map(|(a, b)| format!("{a}={b}")).collect();
            let line = line.join(" ");
            let naive: String = line
                .split(' ')
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| format!("<{key}={value}>"))
                .collect();
            prop_assert_eq!(pairs(&line), (naive, line.len()));
        }

        #[test]
        fn any_text_is_walked_to_an_end(text in "[ab=\" \\\\\r\n]{0,40}") {
            let (_, consumed) = pairs(&text);
            prop_assert!(consumed <= text.len());
        }
    }
}
