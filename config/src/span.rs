//! Places in the texts that were read.

/// Which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(u32);

/// A range of bytes in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The text.
    pub source: SourceId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// A range of bytes; texts are bounded far below 4 GiB.
    pub fn new(source: SourceId, start: usize, end: usize) -> Span {
        Span { source, start: start as u32, end: end as u32 }
    }
}

/// Names and contents of all texts: files, and the command line as a text of its own.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    sources: Vec<(String, String)>,
}

impl SourceMap {
    /// Keeps a text.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> SourceId {
        self.sources.push((name.into(), text.into()));
        SourceId(self.sources.len() as u32 - 1)
    }

    /// Name of a text, as it is shown.
    pub fn name(&self, id: SourceId) -> &str {
        &self.sources[id.0 as usize].0
    }

    /// A text.
    pub fn text(&self, id: SourceId) -> &str {
        &self.sources[id.0 as usize].1
    }

    /// File, line and column of the start of a span; lines and columns count from 1, columns in characters.
    pub fn position(&self, span: Span) -> (&str, usize, usize) {
        let text = self.text(span.source);
        let before = &text.as_bytes()[..(span.start as usize).min(text.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        (self.name(span.source), line, column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let mut map = SourceMap::default();
        let id = map.add("a.conf", "one\nzwöi x\n");
        assert_eq!(map.position(Span::new(id, 0, 1)), ("a.conf", 1, 1));
        let x = "one\nzwöi ".len();
        assert_eq!(map.position(Span::new(id, x, x + 1)), ("a.conf", 2, 6));
    }
}
