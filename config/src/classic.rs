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
    /// `[NAME]` and its properties, those after an `@INCLUDE` in it among them.
    Section(Section),
    /// `@INCLUDE path`.
    Include(String, Span),
    /// `@SET name=value`.
    Set(String, String, Span),
}

/// Parses a text that was kept as `source`.
pub fn parse(text: &str, source: SourceId, problems: &mut Problems) -> Vec<Item> {
    let mut parser = Parser {
        source,
        indents: Vec::new(),
        has_key_indent: false,
        items: Vec::new(),
        section: None,
        in_group: false,
        problems,
    };
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
    /// Indents a line may have: that of the first property, and before it that of the first indented
    /// comment or blank line, which is the one Fluent Bit goes by.
    indents: Vec<String>,
    has_key_indent: bool,
    items: Vec<Item>,
    /// The item that is the open section.
    section: Option<usize>,
    /// Whether a `[group]` is open in it.
    in_group: bool,
    problems: &'a mut Problems,
}

impl Parser<'_> {
    fn line(&mut self, line: &str, at: usize) {
        let trimmed = line.trim_ascii();
        let blanks = &line[..line.len() - line.trim_ascii_start().len()];
        if trimmed.is_empty() || trimmed.starts_with('#') {
            if !blanks.is_empty() && self.indents.is_empty() {
                self.indents.push(blanks.to_owned());
            }
            return;
        }
        let span = Span::new(self.source, at, at + line.len());
        match line.as_bytes()[0] {
            b'@' => self.command(line, span),
            b'[' => self.header(line, at),
            b' ' | b'\t' => self.indented(line, blanks, at),
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
        let rest = rest.trim_ascii();
        if rest.is_empty() {
            self.error(span, &format!("`{name}` needs a value"))
                .help("write `@INCLUDE path` or `@SET NAME=value`");
        } else if name.eq_ignore_ascii_case("@include") {
            self.items.push(Item::Include(rest.to_owned(), span));
        } else if name.eq_ignore_ascii_case("@set") {
            match rest.split_once('=') {
                Some((name, value)) => self.items.push(Item::Set(name.into(), value.into(), span)),
                None => {
                    let message = "`@SET` without `=` has no effect";
                    self.warn(span, message, "write `@SET NAME=value`");
                }
            }
        } else {
            let message = format!("unknown command `{name}` is ignored");
            self.warn(span, &message, "`@INCLUDE` and `@SET` exist");
        }
    }

    fn header(&mut self, line: &str, at: usize) {
        let Some(end) = line.find(']') else {
            let span = Span::new(self.source, at, at + line.len());
            self.error(span, "bad header definition").help("close it with `]`");
            return;
        };
        let span = Span::new(self.source, at, at + end + 1);
        self.section = Some(self.items.len());
        self.in_group = false;
        self.items.push(Item::Section(Section::new(&line[1..end], span)));
    }

    fn indented(&mut self, line: &str, blanks: &str, at: usize) {
        let content = line[blanks.len()..].trim_ascii_end();
        let start = at + blanks.len();
        let content_span = Span::new(self.source, start, start + content.len());
        if content.starts_with('[') && !content.contains(' ') {
            self.error(content_span, "a section must begin at the start of its line")
                .help("take the blanks before it away");
            return;
        }
        let Some(is_double) = self.check_indent(blanks, at) else { return };
        if content.starts_with('[') {
            let message = "a group in a section has no effect";
            self.warn(content_span, message, "only YAML knows blocks in a section");
            self.in_group = true;
            return;
        }
        self.in_group &= is_double;
        if self.in_group {
            return;
        }
        let (key, rest) = content.split_once([' ', '\t']).unwrap_or((content, ""));
        let value = rest.trim_ascii();
        if value.is_empty() {
            let message = format!("`{key}` has no value");
            self.error(content_span, &message).help("write a value after it, or remove the line");
            return;
        }
        if key.eq_ignore_ascii_case("@include") || key.eq_ignore_ascii_case("@set") {
            let message = format!("an indented `{key}` is a property, not a command");
            self.warn(content_span, &message, "begin its line with it");
        }
        let value_start = start + content.len() - value.len();
        let property = Property {
            key: key.to_owned(),
            value: value.to_owned(),
            key_span: Span::new(self.source, start, start + key.len()),
            value_span: Span::new(self.source, value_start, value_start + value.len()),
        };
        match self.section.and_then(|index| self.items.get_mut(index)) {
            Some(Item::Section(section)) => section.properties.push(property),
            _ => self
                .error(content_span, "a property stands before any section")
                .help("begin a section first, such as `[SERVICE]`"),
        }
    }

    /// A property must begin with the indent of the file and may be indented exactly twice. Says which.
    fn check_indent(&mut self, blanks: &str, at: usize) -> Option<bool> {
        if !self.has_key_indent {
            self.has_key_indent = true;
            self.indents.push(blanks.to_owned());
        }
        for indent in &self.indents {
            match blanks.strip_prefix(indent.as_str()).map(str::len) {
                Some(0) => return Some(false),
                Some(extra) if extra == indent.len() => return Some(true),
                _ => {}
            }
        }
        let indent = self.indents.last().cloned().unwrap_or_default();
        let span = Span::new(self.source, at, at + blanks.len());
        let differs = indent.bytes().zip(blanks.bytes()).any(|(a, b)| a != b);
        let message = match (differs, blanks.len() < indent.len()) {
            (true, _) => "inconsistent use of tab and space",
            (false, true) => "indentation level is too low",
            (false, false) => "extra indentation level found",
        };
        self.error(span, message).help(match differs {
            true => "indent as the first property of the file is indented".to_owned(),
            false => {
                format!("the first property of the file is indented by {}", count(&indent))
            }
        });
        None
    }

    fn error(&mut self, span: Span, message: &str) -> Pushed<'_> {
        Pushed { problem: Some(Problem::error(span, message)), problems: self.problems }
    }

    fn warn(&mut self, span: Span, message: &str, help: &str) {
        self.problems.push(Problem::warning(span, message).with_help(help));
    }
}

fn count(indent: &str) -> String {
    match (indent.contains('\t'), indent.contains(' ')) {
        (false, _) if indent.len() == 1 => "1 space".to_owned(),
        (false, _) => format!("{} spaces", indent.len()),
        (true, false) if indent.len() == 1 => "1 tab".to_owned(),
        (true, false) => format!("{} tabs", indent.len()),
        (true, true) => format!("{} blanks", indent.len()),
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
            let Item::Section(section) = item else { continue };
            out.extend(section.properties.iter().map(|p| (p.key.clone(), p.value.clone())));
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
        let text = "[INPUT]\n    Name a\n  Tag b\n      Match x\n\tPath z\nkey v\n    Alone\n[OPEN\n@SET x\n@SET\n";
        let (_, problems) = parsed(text);
        assert_eq!(
            problems,
            [
                "3:1 indentation level is too low",
                "4:1 extra indentation level found",
                "5:1 inconsistent use of tab and space",
                "6:1 a property must be indented",
                "7:5 `Alone` has no value",
                "8:1 bad header definition",
                "9:1 `@SET` without `=` has no effect",
                "10:1 `@SET` needs a value",
            ]
        );
        assert_eq!(parsed("  a b\n").1, ["1:3 a property stands before any section"]);
    }

    #[test]
    fn properties_after_an_include_belong_to_the_open_section() {
        let (items, _) = parsed("[INPUT]\n  Name a\n@INCLUDE b.conf \n  Tag t\n@SET A = b\n");
        assert!(matches!(&items[1], Item::Include(path, _) if path == "b.conf"));
        assert_eq!(pairs(&items[..1]).last().unwrap().1, "t");
        assert!(matches!(&items[2], Item::Set(name, value, _) if name == "A " && value == " b"));
    }

    #[test]
    fn an_indented_comment_may_set_the_indent_as_in_fluent_bit() {
        let (items, problems) = parsed("[INPUT]\n  # two\n    Name a\n  Tag t\n        Key k\n");
        assert_eq!(problems, [""; 0]);
        assert_eq!(pairs(&items).len(), 3);
    }

    #[test]
    fn what_belongs_to_a_group_is_no_property_of_the_section() {
        let (items, problems) =
            parsed("[INPUT]\n  Name a\n  [some group]\n    key inside\n  Tag t\n    Key k\n");
        assert_eq!(problems, ["3:3 a group in a section has no effect"]);
        let keys: Vec<String> = pairs(&items).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["Name", "Tag", "Key"]);
    }

    #[test]
    fn an_indented_section_is_told_to_stand_at_column_0() {
        let (_, problems) = parsed(" [INPUT]\n    name a\n");
        let expected = [
            "1:2 a section must begin at the start of its line",
            "2:5 a property stands before any section",
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn a_command_that_is_indented_is_told_so() {
        let (_, problems) = parsed("[SERVICE]\n  @INCLUDE x.conf\n");
        assert_eq!(problems, ["2:3 an indented `@INCLUDE` is a property, not a command"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[\\[\\]@a-z \t\n=#\u{e4}]{0,200}") {
            parsed(&text);
        }
    }
}
