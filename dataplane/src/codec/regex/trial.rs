//! Each expression is tried against Oniguruma when it is compiled, on texts that are made of it.

use onig::Region;

use crate::codec::regex::Found;
use crate::codec::regex::machine::{Memory, NO_PLACE, Outcome};
use crate::codec::regex::oniguruma::{Engine, as_utf8};
use crate::codec::regex::program::Program;
use crate::codec::regex::syntax::{Node, Set, Tree, UNBOUNDED};

/// Texts that are tried, each as it is and with two changes. A start of a process compiles hundreds of expressions.
const SAMPLES: usize = 12;
const CHANGES: usize = 2;
/// Steps of the machine after which the trial ends: what takes many takes Oniguruma longer yet.
const STEPS_MAX: usize = 5_000;
/// Samples grow no longer than this.
const SAMPLE_BYTES_MAX: usize = 400;

/// Whether the program finds what Oniguruma finds in all samples.
pub(super) fn agrees(program: &Program, tree: &Tree, engine: &Engine) -> bool {
    let mut samples = Samples { state: 0x9e37_79b9_7f4a_7c15, text: Vec::new() };
    let (mut memory, mut region) = (Memory::default(), Region::new());
    let mut cleaned = Vec::new();
    let mut steps = 0;
    for _ in 0..SAMPLES {
        samples.text.clear();
        samples.put(&tree.root);
        for change in 0..=CHANGES {
            if change > 0 {
                samples.change();
            }
            let text = as_utf8(&samples.text, &mut cleaned);
            if (!tree.is_for_ascii || text.is_ascii())
                && !agrees_on(program, engine, text, &mut memory, &mut region)
            {
                return false;
            }
            steps += std::mem::take(&mut memory.steps);
            if steps > STEPS_MAX {
                return true;
            }
        }
    }
    true
}

/// Whether both find the same; where one gave up, they do not disagree.
pub(super) fn agrees_on(
    program: &Program,
    engine: &Engine,
    text: &str,
    memory: &mut Memory,
    region: &mut Region,
) -> bool {
    let outcome = program.search(text.as_bytes(), memory);
    match (outcome, engine.search(text, Some(region))) {
        (Outcome::Exhausted, _) | (_, Found::CutOff) => true,
        (Outcome::Nothing, found) => found == Found::Nothing,
        (Outcome::Match, found) => {
            found == Found::Match
                && memory.slots.chunks_exact(2).enumerate().all(|(group, place)| {
                    let taken = place[0] != NO_PLACE && place[1] != NO_PLACE;
                    let place = taken.then_some((place[0] as usize, place[1] as usize));
                    region.pos(group) == place
                })
        }
    }
}

/// Makes texts that an expression matches, nearly.
pub(super) struct Samples {
    pub(super) state: u64,
    pub(super) text: Vec<u8>,
}

impl Samples {
    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % bound
    }

    /// Appends what a node may match.
    pub(super) fn put(&mut self, node: &Node) {
        if self.text.len() > SAMPLE_BYTES_MAX {
            return;
        }
        match node {
            Node::Literal(text) => self.text.extend_from_slice(text),
            Node::Set(set) => self.put_member(*set),
            Node::Look(_) => {}
            Node::Group(_, inner) => self.put(inner),
            Node::Concat(nodes) => nodes.iter().for_each(|node| self.put(node)),
            Node::Alternate(nodes) => {
                let picked = self.below(nodes.len());
                self.put(&nodes[picked]);
            }
            Node::Repeat { node, min, max, .. } => {
                let more = (max - min).min(if *max == UNBOUNDED { 4 } else { 2 });
                for _ in 0..min + self.below(more as usize + 1) as u32 {
                    self.put(node);
                }
            }
        }
    }

    fn put_member(&mut self, set: Set) {
        const SHOWN: u128 = u128::MAX >> 1 & !0xffff_ffff;
        let shown = set.ascii & SHOWN;
        match self.below(12) {
            0 if set.has_high => return self.text.extend_from_slice("é".as_bytes()),
            1 if set.has_high => return self.text.push(0xe4),
            _ => {}
        }
        let members = if shown != 0 && self.below(8) > 0 { shown } else { set.ascii };
        if members == 0 {
            return;
        }
        let skipped = self.below(members.count_ones() as usize);
        let rest = (0..skipped).fold(members, |rest, _| rest & (rest - 1));
        self.text.push(rest.trailing_zeros() as u8);
    }

    /// Takes, doubles or puts something somewhere.
    pub(super) fn change(&mut self) {
        const PUT: [&[u8]; 10] =
            [b"\n", b" ", b"\"", b"]", b"-", b":", b"a", b"0", "\u{20ac}".as_bytes(), b"\xff"];
        let at = self.below(self.text.len() + 1);
        match self.below(5) {
            0 if at < self.text.len() => {
                self.text.remove(at);
            }
            1 if at < self.text.len() => self.text.insert(at, self.text[at]),
            2 => {
                let put = PUT[self.below(PUT.len())];
                self.text.splice(0..0, put.iter().copied());
            }
            3 => {
                let put = PUT[self.below(PUT.len())];
                self.text.extend_from_slice(put);
            }
            _ => {
                let put = PUT[self.below(PUT.len())];
                self.text.splice(at..at, put.iter().copied());
            }
        }
    }
}
