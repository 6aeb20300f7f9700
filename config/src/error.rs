//! Problems are collected, not thrown one by one, and shown with the line and the place under it.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::span::{SourceMap, Span};

/// Whether a problem ends the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does under `--strict`: what Fluent Bit would ignore in silence.
    Warning,
}

/// When Fluent Bit would notice a problem: the exit status differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// While the configuration is read.
    Load,
    /// When plugins are initialised.
    Start,
}

/// Something to be changed in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it ends the start.
    pub severity: Severity,
    /// When Fluent Bit would notice it.
    pub stage: Stage,
    /// Where it is, if it is anywhere.
    pub span: Option<Span>,
    /// What is wrong.
    pub message: String,
    /// What to do, if that is not plain from the message.
    pub help: Option<String>,
}

impl Problem {
    /// A problem that ends the start.
    pub fn error(span: impl Into<Option<Span>>, message: impl Into<String>) -> Problem {
        let message = message.into();
        Problem {
            severity: Severity::Error,
            stage: Stage::Load,
            span: span.into(),
            message,
            help: None,
        }
    }

    /// A problem that `--strict` makes an error.
    pub fn warning(span: impl Into<Option<Span>>, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(span, message) }
    }

    /// Says what to do.
    #[must_use]
    pub fn with_help(self, help: impl Into<String>) -> Problem {
        Problem { help: Some(help.into()), ..self }
    }
}

/// All problems found so far.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Number of all.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Those after the first `count` are noticed by Fluent Bit when it initialises plugins.
    pub fn stage_after(&mut self, count: usize, stage: Stage) {
        for problem in self.0.iter_mut().skip(count) {
            problem.stage = stage;
        }
    }

    /// Number of those that end the start.
    pub fn error_count(&self) -> usize {
        self.0.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// Whether any ends the start.
    pub fn has_errors(&self) -> bool {
        self.error_count() > 0
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Makes every warning an error, for `--strict`.
    pub fn make_strict(&mut self) {
        for problem in &mut self.0 {
            problem.severity = Severity::Error;
        }
    }

    /// All of them as text, each with file, line, column and the line itself, from the top of each file down; no
    /// colour.
    pub fn render(&self, sources: &SourceMap) -> String {
        let renderer = Renderer::plain();
        let mut text = String::new();
        let mut sorted: Vec<&Problem> = self.0.iter().collect();
        sorted.sort_by_key(|problem| problem.span.map(|span| (span.source, span.start)));
        for problem in sorted {
            let level = match problem.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
            };
            let title = level.primary_title(problem.message.as_str());
            let mut report = Group::with_title(title);
            if let Some(span) = problem.span {
                let source = sources.text(span.source);
                let end = floor_boundary(source, span.end as usize);
                let start = floor_boundary(source, span.start as usize).min(end);
                // One line says where; a whole block of YAML would bury it.
                let end = source[start..end].find('\n').map_or(end, |length| start + length);
                let place = AnnotationKind::Primary.span(start..end);
                let name = sources.name(span.source);
                report = report.element(Snippet::source(source).path(name).annotation(place));
            }
            if let Some(help) = &problem.help {
                report = report.element(Level::HELP.message(help.as_str()));
            }
            text += &renderer.render(&[report]);
            text += "\n\n";
        }
        text
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The known word nearest to a misspelt one, if one is near: at most a third of its letters differ.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let allowed = (word.len() / 3).max(1);
    let (distance, best) = known
        .into_iter()
        .map(|candidate| (edit_distance(word.as_bytes(), candidate.as_bytes()), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= allowed).then_some(best)
}

/// Levenshtein distance; swapped neighbours count one.
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let change = row[j] + usize::from(!a[i].eq_ignore_ascii_case(&b[j]));
            next[j + 1] = change.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                next[j + 1] = next[j + 1].min(before[j - 1] + 1);
            }
        }
        before = row;
        row = next;
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let known = ["read_from_head", "refresh_interval", "path"];
        assert_eq!(nearest("read_form_head", known), Some("read_from_head"));
        assert_eq!(nearest("Paht", known), Some("path"));
        assert_eq!(nearest("completely_else", known), None);
    }

    #[test]
    fn a_problem_shows_its_line_and_the_place_under_it() {
        let mut sources = SourceMap::default();
        let id = sources.add("a.conf", "[INPUT]\n    Name tial\n");
        let mut problems = Problems::default();
        let span = Span::new(id, 17, 21);
        problems
            .push(Problem::error(span, "unknown input `tial`").with_help("did you mean `tail`?"));
        let text = problems.render(&sources);
        assert!(text.contains("error: unknown input `tial`"), "{text}");
        assert!(text.contains("a.conf:2:10"), "{text}");
        assert!(text.contains("    Name tial\n"), "{text}");
        assert!(text.contains("^^^^"), "{text}");
        assert!(text.contains("help: did you mean `tail`?"), "{text}");
    }
}
