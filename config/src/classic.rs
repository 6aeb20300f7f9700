//! The classic dialect: `[SECTION]` headers and indented `Key value` lines.
//!
//! The rules are Fluent Bit's, with what hurts its users made better: a byte order mark, blank lines of any
//! width and a tab between key and value are fine, and a key at column 0 is told what it lacks.

use crate::document::{Property, Section};
use crate::error::{Problem, Problems};
use crate::span::{SourceId, Span};

/// One statement of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// `[NAME]` and its properties up to here; properties after an `@INCLUDE` follow as [`Item::More`].
    Section(Section),
    /// Properties that still belong to the section before.
    More(Vec<Property>),
    /// `@INCLUDE path`.
    Include(String, Span),
    /// `@SET name=value`.
    Set(String, String),
}

/// Parses a text that was kept as `source`.
pub fn parse(text: &str, source: SourceId, problems: &mut Problems) -> Vec<Item> {
    let mut parser =
        Parser { source, indent: None, items: Vec::new(), in_section: false, problems };
    let mut at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    for line in text[at..].split_inclusive('\n') {
        let content = line.strip_suffix('\n').unwrap_or(line);
        let content = content.strip_suffix('\r').unwrap_or(content);
        parser.line(content, at);
        at += line.len();
    }
    parser.items
}

struct Parser<'a> {
    source: SourceId,
    /// The blanks that the first indented line of the file begins with.
    indent: Option<String>,
    items: Vec<Item>,
    in_section: bool,
    problems: &'a mut Problems,
}

impl Parser<'_> {
    fn line(&mut self, line: &str, at: usize) {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            return;
        }
        let span = Span::new(self.source, at, at + line.len());
        match line.as_bytes()[0] {
            b'@' => self.command(line, span),
            b'[' => self.header(line, at),
            b' ' | b'\t' => self.indented(line, at),
            _ => {
                let key = line.split([' ', '\t']).next().unwrap_or(line);
                self.error(span, "a property must be indented").help(format!(
                    "put blanks before `{key}`, as many as before the other properties"
                ));
            }
        }
    }

    fn command(&mut self, line: &str, span: Span) {
        let (name, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let rest = rest.trim();
        if name.eq_ignore_ascii_case("@include") {
            if rest.is_empty() {
                self.error(span, "`@INCLUDE` needs a path");
                return;
            }
            self.items.push(Item::Include(rest.to_owned(), span));
        } else if name.eq_ignore_ascii_case("@set") {
            match rest.split_once('=') {
                Some((name, value)) => self.items.push(Item::Set(name.into(), value.into())),
                None => {
                    self.error(span, "`@SET` needs `NAME=value`");
                }
            }
        } else {
            let message = format!("unknown command `{name}`");
            self.problems
                .push(Problem::warning(span, message).with_help("`@INCLUDE` and `@SET` exist"));
        }
    }

    fn header(&mut self, line: &str, at: usize) {
        let Some(end) = line.find(']') else {
            let span = Span::new(self.source, at, at + line.len());
            self.error(span, "bad header definition").help("close it with `]`");
            return;
        };
        let span = Span::new(self.source, at, at + end + 1);
        self.items.push(Item::Section(Section::new(&line[1..end], span)));
        self.in_section = true;
    }

    fn indented(&mut self, line: &str, at: usize) {
        let content = line.trim_start_matches([' ', '\t']);
        let blanks = &line[..line.len() - content.len()];
        if !self.check_indent(blanks, at) {
            return;
        }
        let start = at + blanks.len();
        let content_span = Span::new(self.source, start, at + line.trim_end().len());
        if content.starts_with('[') {
            // A group header of nested blocks; nothing in the classic dialect consumes groups.
            self.problems
                .push(Problem::warning(content_span, "groups in a section have no effect"));
            return;
        }
        let (key, rest) = content.split_once([' ', '\t']).unwrap_or((content.trim_end(), ""));
        let value = rest.trim();
        if value.is_empty() {
            let message = format!("`{key}` has no value");
            self.error(content_span, &message).help("write a value after it, or remove the line");
            return;
        }
        if !self.in_section {
            self.error(content_span, "a property stands before any section")
                .help("begin a section first, such as `[SERVICE]`");
            return;
        }
        let value_start = start + content.find(value).unwrap_or(0).max(key.len() + 1);
        let property = Property {
            key: key.to_owned(),
            value: value.to_owned(),
            key_span: Span::new(self.source, start, start + key.len()),
            value_span: Span::new(self.source, value_start, value_start + value.len()),
        };
        match self.items.last_mut() {
            Some(Item::Section(section)) => section.properties.push(property),
            Some(Item::More(properties)) => properties.push(property),
            _ => self.items.push(Item::More(vec![property])),
        }
    }

    /// The first indented line of a file sets its indent; later ones must begin with the same bytes and
    /// may be indented exactly twice.
    fn check_indent(&mut self, blanks: &str, at: usize) -> bool {
        let indent = self.indent.get_or_insert_with(|| blanks.to_owned()).clone();
        let span = Span::new(self.source, at, at + blanks.len());
        let Some(extra) = blanks.strip_prefix(indent.as_str()) else {
            if blanks.len() >= indent.len() {
                self.error(span, "inconsistent use of tab and space")
                    .help("indent as the first property of the file is indented");
            } else {
                self.error(span, "indentation level is too low").help(format!(
                    "the first property of the file is indented by {} blanks",
                    indent.len()
                ));
            }
            return false;
        };
        if !extra.is_empty() && extra.len() != indent.len() {
            self.error(span, "extra indentation level found").help(format!(
                "the first property of the file is indented by {} blanks",
                indent.len()
            ));
            return false;
        }
        true
    }

    fn error(&mut self, span: Span, message: &str) -> Pushed<'_> {
        Pushed { problem: Some(Problem::error(span, message)), problems: self.problems }
    }
}

/// An error that may still be given its help; pushed when dropped.
struct Pushed<'a> {
    problem: Option<Problem>,
    problems: &'a mut Problems,
}

impl Pushed<'_> {
    fn help(mut self, help: impl Into<String>) {
        self.problem = self.problem.take().map(|problem| problem.with_help(help));
    }
}

impl Drop for Pushed<'_> {
    fn drop(&mut self) {
        if let Some(problem) = self.problem.take() {
            self.problems.push(problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::span::SourceMap;

    fn parsed(text: &str) -> (Vec<Item>, Vec<String>) {
        let mut sources = SourceMap::default();
        let id = sources.add("t.conf", text);
        let mut problems = Problems::default();
        let items = parse(text, id, &mut problems);
        let shown = problems.iter().map(|problem| {
            let at = problem.span.map(|span| sources.position(span));
            let (_, line, column) = at.unwrap_or_default();
            format!("{line}:{column} {}", problem.message)
        });
        (items, shown.collect())
    }

    fn pairs(items: &[Item]) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for item in items {
            let properties = match item {
                Item::Section(section) => &section.properties,
                Item::More(properties) => properties,
                _ => continue,
            };
            out.extend(properties.iter().map(|p| (p.key.clone(), p.value.clone())));
        }
        out
    }

    #[test]
    fn keys_and_values_are_read_as_fluent_bit_reads_them() {
        let text = "\u{feff}# c\n[INPUT]\n    Name   tail\r\n    Path\t/a b # kept \n   \n  # odd comment\n        Tag  x\n";
        let (items, problems) = parsed(text);
        assert_eq!(problems, [""; 0]);
        let expected = [("Name", "tail"), ("Path", "/a b # kept"), ("Tag", "x")];
        assert_eq!(pairs(&items), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn every_mistake_is_found_at_its_place() {
        let text = "[INPUT]\n    Name a\n  Tag b\n      Match x\n\tPath z\nkey v\n    Alone\n[OPEN\n@SET x\n";
        let (_, problems) = parsed(text);
        assert_eq!(
            problems,
            [
                "3:1 indentation level is too low",
                "4:1 extra indentation level found",
                "5:1 indentation level is too low",
                "6:1 a property must be indented",
                "7:5 `Alone` has no value",
                "8:1 bad header definition",
                "9:1 `@SET` needs `NAME=value`",
            ]
        );
        assert_eq!(parsed("  a b\n").1, ["1:3 a property stands before any section"]);
    }

    #[test]
    fn properties_after_an_include_belong_to_the_open_section() {
        let (items, _) = parsed("[INPUT]\n  Name a\n@INCLUDE b.conf\n  Tag t\n@SET A = b\n");
        assert!(matches!(&items[1], Item::Include(path, _) if path == "b.conf"));
        assert!(matches!(&items[2], Item::More(more) if more[0].value == "t"));
        assert_eq!(items[3], Item::Set("A ".into(), " b".into()));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[\\[\\]@a-z \t\n=#\u{e4}]{0,200}") {
            parsed(&text);
        }
    }
}
