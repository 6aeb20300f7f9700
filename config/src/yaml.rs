//! The YAML dialect: a tree of scalars, lists and maps with places, from which sections are read.
//!
//! Scalars are their source text (`true`, `5`, `null` stay words), a list is its key repeated, camelCase keys
//! mean snake_case, as in Fluent Bit.

use saphyr_parser::{Event, Parser, ScalarStyle, Span as YamlSpan};

use crate::document::{Block, Property, Section};
use crate::error::{Problem, Problems};
use crate::span::{SourceId, Span};

/// A node of a YAML text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A scalar as it is written.
    Scalar(String, Span),
    /// A sequence.
    List(Vec<Node>, Span),
    /// A mapping, in order, repeats kept.
    Map(Vec<(String, Span, Node)>, Span),
}

impl Node {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Node::Scalar(_, span) | Node::List(_, span) | Node::Map(_, span) => *span,
        }
    }

    /// Whether nothing is written there.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Node::Scalar(text, _) if text.is_empty())
    }
}

/// Levels of nesting a text may have.
const DEPTH_MAX: usize = 64;

/// Parses a text into the roots of its documents; nothing for an empty text.
pub fn parse(text: &str, source: SourceId, problems: &mut Problems) -> Vec<Node> {
    let offsets = Offsets::new(text, source);
    let mut events = Vec::new();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => events.push((event, offsets.span(&span))),
            Err(error) => {
                let at = error.marker().index();
                let span = Span::new(source, offsets.byte(at), offsets.byte(at + 1));
                problems.push(Problem::error(span, format!("invalid YAML: {}", error.info())));
                return Vec::new();
            }
        }
    }
    let mut builder = Builder { events: events.into_iter(), problems };
    let mut roots = Vec::new();
    while let Some((event, span)) = builder.events.next() {
        if let Event::DocumentStart(_) = event
            && let Some(node) = builder.next_node(span, 0)
            && !node.is_nothing()
        {
            roots.push(node);
        }
    }
    roots
}

struct Builder<'a, 'i> {
    events: std::vec::IntoIter<(Event<'i>, Span)>,
    problems: &'a mut Problems,
}

impl Builder<'_, '_> {
    fn next_node(&mut self, around: Span, depth: usize) -> Option<Node> {
        let (event, span) = self.events.next()?;
        if depth > DEPTH_MAX {
            self.problems.push(Problem::error(around, "nested too deeply"));
            return None;
        }
        match event {
            Event::Scalar(text, style, ..) => {
                let mut text = text.into_owned();
                // Fluent Bit takes the line end off a block of text.
                let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                if is_block && text.ends_with('\n') {
                    text.pop();
                }
                Some(Node::Scalar(text, span))
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                while !matches!(
                    self.events.as_slice().first(),
                    Some((Event::SequenceEnd, _)) | None
                ) {
                    items.push(self.next_node(span, depth + 1)?);
                }
                self.events.next();
                Some(Node::List(items, span))
            }
            Event::MappingStart(..) => {
                let mut entries = Vec::new();
                while !matches!(self.events.as_slice().first(), Some((Event::MappingEnd, _)) | None)
                {
                    let key = self.next_node(span, depth + 1)?;
                    let value = self.next_node(span, depth + 1)?;
                    match key {
                        Node::Scalar(text, key_span) => entries.push((text, key_span, value)),
                        other => {
                            self.problems.push(Problem::error(other.span(), "a key must be a word"))
                        }
                    }
                }
                self.events.next();
                Some(Node::Map(entries, span))
            }
            Event::Alias(_) => {
                let problem = Problem::error(span, "aliases are not supported");
                self.problems.push(problem.with_help("write the value out"));
                Some(Node::Scalar(String::new(), span))
            }
            _ => None,
        }
    }
}

/// Character positions, which the parser counts in, to bytes.
struct Offsets {
    source: SourceId,
    length: usize,
    /// Byte of each character; empty when every character is one byte.
    bytes: Vec<u32>,
}

impl Offsets {
    fn new(text: &str, source: SourceId) -> Offsets {
        let bytes = match text.is_ascii() {
            true => Vec::new(),
            false => text.char_indices().map(|(at, _)| at as u32).collect(),
        };
        Offsets { source, length: text.len(), bytes }
    }

    fn byte(&self, index: usize) -> usize {
        if self.bytes.is_empty() {
            return index.min(self.length);
        }
        self.bytes.get(index).map_or(self.length, |at| *at as usize)
    }

    fn span(&self, span: &YamlSpan) -> Span {
        Span::new(self.source, self.byte(span.start.index()), self.byte(span.end.index()))
    }
}

/// A map as a section: scalars are properties, lists repeat their key, maps are kept as blocks. Fluent Bit trims
/// values even where they are quoted.
pub fn section(name: &str, entries: &[(String, Span, Node)], span: Span) -> Section {
    let mut section = Section::new(name, span);
    for (key, key_span, node) in entries {
        match node {
            Node::Scalar(value, value_span) => section.properties.push(Property {
                key: key.clone(),
                value: value.trim_ascii().to_owned(),
                key_span: *key_span,
                value_span: *value_span,
            }),
            Node::List(items, _) if items.iter().all(|item| matches!(item, Node::Scalar(..))) => {
                for item in items {
                    if let Node::Scalar(value, value_span) = item {
                        section.properties.push(Property {
                            key: key.clone(),
                            value: value.trim_ascii().to_owned(),
                            key_span: *key_span,
                            value_span: *value_span,
                        });
                    }
                }
            }
            Node::Map(entries, _) if entries.is_empty() => {}
            Node::List(..) | Node::Map(..) => {
                section.blocks.push(Block { name: key.clone(), span: *key_span });
            }
        }
    }
    section
}

/// Fluent Bit's reading of a YAML key: one that begins with a lower-case letter and has no `_` goes from
/// camelCase to snake_case.
pub fn snake_case(key: &str) -> String {
    let starts_lower = key.starts_with(|letter: char| letter.is_ascii_lowercase());
    if !starts_lower {
        return key.to_owned();
    }
    if key.contains('_') {
        return key.to_ascii_lowercase();
    }
    let mut out = String::with_capacity(key.len() + 4);
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::span::SourceMap;

    fn roots(text: &str) -> (Vec<Node>, Vec<String>) {
        let mut sources = SourceMap::default();
        let id = sources.add("t.yaml", text);
        let mut problems = Problems::default();
        let nodes = parse(text, id, &mut problems);
        (nodes, problems.iter().map(|problem| problem.message.clone()).collect())
    }

    #[test]
    fn scalars_keep_their_text_and_lists_repeat_their_key() {
        let (nodes, problems) =
            roots("a: true\nb: [1, 'x']\nc: {d: null}\nö: \"q\"\ne: {}\nf: []\n");
        assert_eq!(problems, [""; 0]);
        let [Node::Map(entries, span)] = nodes.as_slice() else { panic!("{nodes:?}") };
        let section = section("s", entries, *span);
        let pairs: Vec<_> =
            section.properties.iter().map(|p| (p.key.as_str(), p.value.as_str())).collect();
        assert_eq!(pairs, [("a", "true"), ("b", "1"), ("b", "x"), ("ö", "q")]);
        assert_eq!(section.blocks[0].name, "c");
    }

    #[test]
    fn a_block_of_text_loses_its_last_line_end() {
        let (nodes, _) = roots("a: |\n  one\n  two\nb: >\n  x\n  y\n");
        let [Node::Map(entries, _)] = nodes.as_slice() else { panic!("{nodes:?}") };
        assert!(matches!(&entries[0].2, Node::Scalar(text, _) if text == "one\ntwo"));
        assert!(matches!(&entries[1].2, Node::Scalar(text, _) if text == "x y"));
    }

    #[test]
    fn camel_case_keys_mean_snake_case() {
        let table = [
            ("intervalSec", "interval_sec"),
            ("Interval_Sec", "Interval_Sec"),
            ("read_From", "read_from"),
            ("tag", "tag"),
        ];
        for (key, expected) in table {
            assert_eq!(snake_case(key), expected);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_or_the_report_panic(text in "[-a:\\[\\]{}'\"&*|># \n\u{e4}\u{1f600}]{0,80}") {
            let mut sources = SourceMap::default();
            let id = sources.add("t.yaml", text.as_str());
            let mut problems = Problems::default();
            for node in parse(&text, id, &mut problems) {
                problems.push(Problem::error(node.span(), "here"));
            }
            problems.render(&sources);
        }
    }

    #[test]
    fn broken_yaml_is_an_error_and_empty_yaml_is_not() {
        assert_eq!(roots("").0, []);
        assert_eq!(roots("# only a comment\n").0, []);
        assert_eq!(roots("a: [1\nb: 2\n").1.len(), 1);
        assert_eq!(roots("a: *x\n").1.len(), 1);
    }

    #[test]
    fn the_place_of_broken_yaml_is_a_whole_letter() {
        let text = "[a] \u{e9}\n";
        let mut sources = SourceMap::default();
        let id = sources.add("t.yaml", text);
        let mut problems = Problems::default();
        parse(text, id, &mut problems);
        let span = problems.iter().next().and_then(|problem| problem.span).unwrap();
        assert_eq!(text.get(span.start as usize..span.end as usize), Some("\u{e9}"));
    }
}
