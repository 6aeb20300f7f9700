//! The state machine of a multiline parser of type `regex`.

use crate::codec::regex::{Captures, Found, Regex};

/// The state in which a record begins.
const START: &str = "start_state";

/// Says whether a line matches an expression; `None` leaves it to the expression.
pub(super) type Plain = fn(&[u8]) -> Option<bool>;

/// What a line is matched with.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    regex: Regex,
    /// The same by hand, for text of one line.
    plain: Option<Plain>,
}

impl Matcher {
    pub(super) fn new(regex: Regex, plain: Option<Plain>) -> Matcher {
        Matcher { regex, plain }
    }

    /// A search that is cut off matches not.
    fn matches(&self, text: &[u8], lines: Lines, captures: &mut Captures) -> bool {
        let plain = self.plain.filter(|_| lines == Lines::One);
        plain.and_then(|plain| plain(text)).unwrap_or_else(|| self.search(text, captures))
    }

    fn search(&self, text: &[u8], captures: &mut Captures) -> bool {
        self.regex.search(text, captures) == Found::Match
    }
}

/// How many lines a text has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    One,
    Many,
}

/// One rule: in these states, a line that matches leads to the next state.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) from: Vec<String>,
    pub(super) matcher: Matcher,
    /// Nothing where no rule follows.
    pub(super) next: String,
}

impl Rule {
    fn is_start(&self) -> bool {
        self.from.iter().any(|state| state == START)
    }
}

/// Compiled rules, in the order of the configuration.
#[derive(Debug)]
pub(super) struct Rules {
    matchers: Vec<Matcher>,
    /// Rules that begin a record.
    starts: Vec<usize>,
    /// For each rule, the rules that continue a record after it; those that begin one are not among them.
    continuations: Vec<Vec<usize>>,
    /// For each rule, whether a record may end with it: a start or nothing follows.
    ends: Vec<bool>,
}

/// What a line is to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The record goes on; the rule is now the current one.
    Continues(usize),
    /// Another begins.
    Begins(usize),
}

impl Rules {
    pub(super) fn new(rules: Vec<Rule>) -> Rules {
        let numbered = || rules.iter().enumerate();
        let starts = numbered().filter(|(_, rule)| rule.is_start()).map(|(number, _)| number);
        let follows = |rule: &Rule, other: &Rule| other.from.contains(&rule.next);
        let continuations = rules.iter().map(|rule| {
            let is_next = |(_, other): &(usize, &Rule)| follows(rule, other) && !other.is_start();
            numbered().filter(is_next).map(|(number, _)| number).collect()
        });
        let ends = rules.iter().map(|rule| {
            let mut next = rules.iter().filter(|other| follows(rule, other)).peekable();
            next.peek().is_none() || next.any(Rule::is_start)
        });
        Rules {
            starts: starts.collect(),
            continuations: continuations.collect(),
            ends: ends.collect(),
            matchers: rules.iter().map(|rule| rule.matcher.clone()).collect(),
        }
    }

    /// What a line is after the current rule, if there is one.
    pub(super) fn step(
        &self,
        current: Option<usize>,
        line: &[u8],
        captures: &mut Captures,
    ) -> Option<Step> {
        let lines = match memchr::memchr(b'\n', line) {
            Some(_) => Lines::Many,
            None => Lines::One,
        };
        let mut matches = |rule: &&usize| self.matchers[**rule].matches(line, lines, captures);
        let next = current.map(|rule| self.continuations[rule].as_slice()).unwrap_or_default();
        if let Some(rule) = next.iter().find(&mut matches) {
            return Some(Step::Continues(*rule));
        }
        self.starts.iter().find(&mut matches).map(|rule| Step::Begins(*rule))
    }

    /// Whether a record may end with this rule.
    pub(super) fn ends(&self, rule: usize) -> bool {
        self.ends[rule]
    }
}
