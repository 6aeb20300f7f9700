//! The span machine against Oniguruma, without the trial that would hide a difference: on generated expressions and
//! texts, and on the parsers that Fluent Bit ships over real lines. Says what tier each of those runs in.

#![allow(clippy::unwrap_used, reason = "a failure of any step fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

use onig::Region;
use proptest::prelude::*;

use super::machine::{Memory, Outcome};
use super::oniguruma::{Engine, as_utf8};
use super::program::Program;
use super::syntax::{self, Flags, Tree};
use super::trial::{Samples, agrees_on};
use super::{Found, Regex, Tier, literal, program};

/// The program of an expression, and what it is measured by.
struct Pair {
    tree: Tree,
    program: Program,
    engine: Engine,
}

impl Pair {
    fn new(text: &str) -> Option<Pair> {
        let (expression, options) = literal(text);
        let flags = Flags {
            ignores_case: options.contains(onig::RegexOptions::REGEX_OPTION_IGNORECASE),
            dot_takes_newlines: options.contains(onig::RegexOptions::REGEX_OPTION_MULTILINE),
        };
        let engine = Engine::new(expression, options).ok()?;
        let tree = syntax::parse(expression, flags)?;
        assert_eq!(tree.group_count, engine.group_count(), "{text}");
        let program = program::compile(&tree)?;
        Some(Pair { tree, program, engine })
    }

    /// Whether both find the same, at all places. Text that the program is not for goes to Oniguruma anyway.
    fn agrees(&self, text: &[u8], memory: &mut Memory, region: &mut Region) -> bool {
        let mut cleaned = Vec::new();
        let raw = text;
        let text = as_utf8(text, &mut cleaned);
        if self.program.takes_any_bytes {
            let outcome = self.program.search(raw, memory);
            let slots = memory.slots.clone();
            let is_same = self.program.search(text.as_bytes(), memory) == outcome;
            if !is_same || (outcome == Outcome::Match && memory.slots != slots) {
                return false;
            }
        }
        if self.tree.is_for_ascii && !text.is_ascii() {
            return true;
        }
        let starts = match self.program.match_start(text.as_bytes(), memory) {
            Outcome::Match => Some(Some(memory.slots[1] as usize)),
            Outcome::Nothing => Some(None),
            Outcome::Exhausted => None,
        };
        let is_cut_off = || self.engine.search(text, None) == Found::CutOff;
        starts.is_none_or(|start| start == self.engine.match_start(text) || is_cut_off())
            && agrees_on(&self.program, &self.engine, text, memory, region)
    }
}

fn expression() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        6 => prop::sample::select(vec![
            "a", "b", "c", " ", ":", "\"", "x", "é", "ab", "stdout", r"\[", r"\]", r"\.", r"\<", r"\u0041",
        ]),
        6 => prop::sample::select(vec![
            r"\d", r"\w", r"\s", r"\S", r"\W", r"\h", ".", "[^ ]", "[^\"]", r"[^\]]", "[a-c]", "[^b]", "[-a]",
            r"[\w.-]", "[[:alpha:]]", "[^\n:]", r"[^\w\s]", r"[a\-c]",
        ]),
        1 => prop::sample::select(vec!["^", "$", r"\A", r"\z", r"\Z", r"\b", r"\B"]),
    ]
    .prop_map(str::to_owned);
    let repeat = prop::sample::select(vec![
        "", "", "", "", "*", "+", "?", "*", "+", "*?", "+?", "??", "{2}", "{1,3}", "{,2}", "{2,}",
        "*+", "++",
    ]);
    atom.prop_recursive(4, 24, 4, move |inner| {
        let repeated = (inner.clone(), repeat.clone()).prop_map(|(node, repeat)| {
            let is_whole = node.chars().count() == 1
                || (node.starts_with('\\') && node.len() == 2)
                || (node.starts_with('[') && !node[1..].contains('[') && node.ends_with(']'));
            if is_whole { format!("{node}{repeat}") } else { format!("(?:{node}){repeat}") }
        });
        let grouped = (repeated.clone(), repeat.clone())
            .prop_map(|(node, repeat)| format!("({node}){repeat}"));
        prop_oneof![
            4 => repeated,
            3 => grouped,
            3 => prop::collection::vec(inner.clone(), 2..4).prop_map(|nodes| nodes.concat()),
            2 => prop::collection::vec(inner, 2..4)
                .prop_map(|nodes| format!("(?:{})", nodes.join("|"))),
        ]
    })
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"a"[..],
        b"b",
        b"c",
        b"ab",
        b" ",
        b":",
        b"\"",
        b"x",
        b"[",
        b"]",
        b".",
        b"<",
        b"A",
        b"B",
        b"0",
        b"9",
        b"_",
        b"-",
        b"\n",
        b"stdout",
        b"\xc3\xa9",
        b"\xe2\x82\xac",
        b"\xe4",
        b"\xff",
        b"\xf0\x9f",
        b"\x1a",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn generated_expressions_find_what_oniguruma_finds(
        body in prop::collection::vec(expression(), 1..6),
        frame in prop::sample::select(vec![("", ""), ("^", ""), ("", "$"), ("^", "$"), ("/", "/i"), ("/", "/m"), ("/^", "$/im")]),
        is_named in any::<bool>(),
        texts in prop::collection::vec(text(), 12),
        state in 1u64..,
    ) {
        let mut body = body.concat();
        if is_named {
            // Beside a named group the plain ones capture nothing.
            body = body.replacen("(a", "(?<n>a", 1).replacen("([", "(?<m>[", 1);
        }
        let pattern = format!("{}{body}{}", frame.0, frame.1);
        let pair = Pair::new(&pattern);
        prop_assume!(pair.is_some());
        let pair = pair.unwrap();
        let (mut memory, mut region) = (Memory::default(), Region::new());
        let mut samples = Samples { state, text: Vec::new() };
        for text in texts {
            prop_assert!(pair.agrees(&text, &mut memory, &mut region), "{pattern:?} in {:?}", text.as_slice().escape_ascii().to_string());
            samples.text.clear();
            samples.put(&pair.tree.root);
            for _ in 0..4 {
                prop_assert!(
                    pair.agrees(&samples.text, &mut memory, &mut region),
                    "{pattern:?} in {:?}", samples.text.escape_ascii().to_string()
                );
                samples.change();
            }
        }
    }
}

/// As many as fit into some seconds; more where the environment asks for them.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/parsers")
}

/// Name and expression of the regex parsers of Fluent Bit.
fn stock() -> Vec<(String, String)> {
    let text = fs::read_to_string(golden().join("stock.conf")).unwrap();
    let mut name = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        match line.trim().split_once(char::is_whitespace) {
            Some(("name", value)) => name = value.trim().to_owned(),
            Some(("regex", value)) => found.push((name.clone(), value.trim().to_owned())),
            _ => {}
        }
    }
    assert!(found.len() > 40, "only {}", found.len());
    found
}

/// The lines that the golden tests parse.
fn lines() -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(golden().join("logs")).unwrap() {
        let text = fs::read(entry.unwrap().path()).unwrap();
        lines.extend(text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
    }
    lines.sort();
    lines.dedup();
    assert!(lines.len() > 100, "only {}", lines.len());
    lines
}

#[test]
fn the_parsers_of_fluent_bit_find_what_oniguruma_finds() {
    let pairs: Vec<(String, Pair)> =
        stock().into_iter().filter_map(|(name, text)| Some((name, Pair::new(&text)?))).collect();
    let (mut memory, mut region) = (Memory::default(), Region::new());
    let mut samples = Samples { state: 88_172_645_463_325_252, text: Vec::new() };
    let mut checked = 0;
    let lines = lines();
    let mut round = 0;
    while checked < 100_000 {
        for line in &lines {
            samples.text.clone_from(line);
            for _ in 0..round.min(3) {
                samples.change();
            }
            for (name, pair) in &pairs {
                assert!(
                    pair.agrees(&samples.text, &mut memory, &mut region),
                    "{name} in {}",
                    samples.text.escape_ascii()
                );
                checked += 1;
            }
        }
        round += 1;
    }
}

#[test]
fn the_parsers_of_fluent_bit_run_in_the_fast_tiers() {
    let mut slow = Vec::new();
    for (name, text) in stock() {
        if Regex::new(&text).unwrap().tier() != Tier::Span {
            slow.push(name);
        }
    }
    assert_eq!(slow, Vec::<String>::new());
}
