//! The span machine: runs a program over text that is UTF-8, first way first, and steps back where it fails.

use memchr::{memchr, memrchr};

use crate::codec::regex::program::{NO_GROUP, Op, Place, Program, Starts, TEXT_END};
use crate::codec::regex::syntax::{Look, UNBOUNDED, is_word};
use crate::kernel::span::{ByteSet, Vectored, find_prefix, span, vectored};
use crate::limits::{REGEX_RETRIES_MIN, REGEX_STACK_MAX};

/// A slot that holds no place.
pub(super) const NO_PLACE: u32 = u32::MAX;

/// What the machine writes; kept over searches.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Start and end of each group.
    pub(super) slots: Vec<u32>,
    /// Steps that the last search took.
    pub(super) steps: usize,
    states: Vec<State>,
}

/// Where to go on after a failure, or a slot to put back.
#[derive(Clone, Copy, Debug)]
struct State {
    /// Index of the instruction, or of a slot with [`SLOT`].
    index: u32,
    /// Where the text goes on; what a slot held.
    at: u32,
    /// Of a branch: the ways left. Of a run: how far it may give back, or go on.
    bound: u32,
}

const SLOT: u32 = 1 << 31;
/// States whose memory is kept between searches.
const STATES_KEPT: usize = 1 << 16;

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Match,
    Nothing,
    /// It took more steps or memory than it was granted.
    Exhausted,
}

impl Program {
    /// Searches for the first match. The text must be UTF-8, where the program does not take any bytes.
    pub(super) fn search(&self, text: &[u8], memory: &mut Memory) -> Outcome {
        let mut run = Run::new(self, text, memory);
        let granted = run.steps_left;
        let outcome = run.search();
        memory.steps = granted - run.steps_left;
        memory.states.shrink_to(STATES_KEPT);
        outcome
    }

    /// Looks for a match that begins with the text.
    pub(super) fn match_start(&self, text: &[u8], memory: &mut Memory) -> Outcome {
        let mut run = Run::new(self, text, memory);
        let outcome = run.attempt(0);
        memory.states.shrink_to(STATES_KEPT);
        outcome
    }
}

/// An attempt, to be compiled for the vector instructions that the runs in it use.
struct Attempt<'s, 'a>(&'s mut Run<'a>, usize);

impl Vectored for Attempt<'_, '_> {
    type Output = Outcome;

    #[inline(always)]
    fn run(self) -> Outcome {
        self.0.attempt_inlined(self.1)
    }
}

/// One search.
struct Run<'a> {
    program: &'a Program,
    text: &'a [u8],
    memory: &'a mut Memory,
    steps_left: usize,
    /// Whether slots hold places of an attempt that failed.
    is_stale: bool,
}

impl<'a> Run<'a> {
    fn new(program: &'a Program, text: &'a [u8], memory: &'a mut Memory) -> Run<'a> {
        memory.slots.clear();
        memory.slots.resize(program.slot_count, NO_PLACE);
        let steps_left = text.len().saturating_mul(16).saturating_add(REGEX_RETRIES_MIN);
        Run { program, text, memory, steps_left, is_stale: false }
    }

    fn search(&mut self) -> Outcome {
        if self.text.len() >= SLOT as usize {
            return Outcome::Exhausted;
        }
        match self.program.starts {
            Starts::Text => self.attempt(0),
            Starts::Lines => self.search_lines(),
            Starts::Anywhere => self.search_anywhere(),
        }
    }

    fn search_lines(&mut self) -> Outcome {
        let mut start = 0;
        loop {
            let outcome = self.attempt(start);
            if outcome != Outcome::Nothing {
                return outcome;
            }
            match memchr(b'\n', &self.text[start..]) {
                Some(newline) => start += newline + 1,
                None => return Outcome::Nothing,
            }
        }
    }

    fn search_anywhere(&mut self) -> Outcome {
        let program = self.program;
        if let Some(needed) = &program.needed
            && program.lead.is_none()
            && needed.find(self.text).is_none()
        {
            return Outcome::Nothing;
        }
        let mut start = 0;
        loop {
            let next = match (&program.lead, program.prefix.as_slice()) {
                (Some(lead), _) => lead.find(&self.text[start..]).map(|index| start + index),
                (None, []) => Some(start).filter(|start| *start <= self.text.len()),
                (None, sets) => find_prefix(self.text, start, sets),
            };
            let Some(next) = next else { return Outcome::Nothing };
            if self.text.get(next).is_none_or(|byte| !is_continuation(*byte)) {
                let outcome = self.attempt(next);
                if outcome != Outcome::Nothing {
                    return outcome;
                }
            }
            start = next + 1;
            if start > self.text.len() {
                return Outcome::Nothing;
            }
        }
    }

    /// Tries to match from one place on.
    fn attempt(&mut self, start: usize) -> Outcome {
        vectored(Attempt(self, start))
    }

    #[inline(always)]
    fn attempt_inlined(&mut self, start: usize) -> Outcome {
        let program = self.program;
        if self.steps_left == 0 {
            return Outcome::Exhausted;
        }
        self.steps_left -= 1;
        self.memory.states.clear();
        if self.is_stale {
            self.memory.slots.fill(NO_PLACE);
            self.is_stale = false;
        }
        let (mut at, mut index) = (start, 0);
        loop {
            let Some(op) = program.ops.get(index) else { return Outcome::Exhausted };
            let next = match *op {
                Op::Match => {
                    self.memory.slots[0] = start as u32;
                    self.memory.slots[1] = at as u32;
                    return Outcome::Match;
                }
                Op::Jump(target) => {
                    index = usize::from(target);
                    continue;
                }
                Op::Branch(branch) => {
                    if self.memory.states.len() > REGEX_STACK_MAX as usize {
                        return Outcome::Exhausted;
                    }
                    let ways = program.branches[usize::from(branch)].ways[self.next_byte(at)];
                    match self.take_way(index, branch, at, ways) {
                        Some(target) => {
                            index = target;
                            continue;
                        }
                        None => None,
                    }
                }
                _ => self.step(op, index, at),
            };
            if let Some(next) = next {
                at = next;
                index += 1;
                continue;
            }
            match self.step_back() {
                Back::To(place, target) => (at, index) = (place, target),
                Back::Nowhere => return Outcome::Nothing,
                Back::Exhausted => return Outcome::Exhausted,
            }
        }
    }

    #[inline(always)]
    fn next_byte(&self, at: usize) -> usize {
        self.text.get(at).map_or(TEXT_END, |byte| usize::from(*byte))
    }

    #[inline(always)]
    fn set(&self, set: u16) -> &'a ByteSet {
        &self.program.sets[usize::from(set)]
    }

    /// Takes the first of some ways, and remembers the others.
    #[inline(always)]
    fn take_way(&mut self, index: usize, branch: u16, at: usize, ways: u8) -> Option<usize> {
        if ways == 0 {
            return None;
        }
        let others = ways & (ways - 1);
        if others != 0 {
            let bound = u32::from(others);
            self.memory.states.push(State { index: index as u32, at: at as u32, bound });
        }
        let way = ways.trailing_zeros() as usize;
        Some(usize::from(self.program.branches[usize::from(branch)].targets[way]))
    }

    /// One instruction that goes straight on: the place behind it, or `None` where it fails.
    #[inline(always)]
    fn step(&mut self, op: &Op, index: usize, at: usize) -> Option<usize> {
        let text = self.text;
        match *op {
            Op::Byte(byte) => (text.get(at) == Some(&byte)).then_some(at + 1),
            Op::Literal(literal) => {
                let literal = &self.program.literals[usize::from(literal)];
                let found = text.get(at..at + literal.len())?;
                // Most are two or three bytes, for which a call to compare memory is long.
                let is_same = match literal.len() {
                    0..=4 => found.iter().eq(literal.iter()),
                    _ => *found == **literal,
                };
                is_same.then_some(at + literal.len())
            }
            Op::One(set) => {
                let byte = *text.get(at)?;
                self.set(set).contains(byte).then_some(at + width(byte))
            }
            Op::Pair(pair) => {
                let found = text.get(at..at + 2)?;
                (found == pair).then_some(at + 2)
            }
            Op::Span { set, min, group, place, then } => {
                let end = self.run_end(at, set, UNBOUNDED);
                if end - at < usize::from(min) {
                    return None;
                }
                if group != NO_GROUP {
                    self.place_group((group, place), at, end);
                }
                match then {
                    None => Some(end),
                    Some(byte) => (text.get(end) == Some(&byte)).then_some(end + 1),
                }
            }
            Op::Run { set, min, max } => {
                let end = self.run_end(at, set, max);
                self.has_enough(at, end, set, min).then_some(end)
            }
            Op::Greedy { set, follow, min, max } => {
                let end = self.run_end(at, set, max);
                let floor = self.floor(at, end, set, min)?;
                // Where what follows cannot begin, there is no need to try it.
                let ways = &self.program.branches[usize::from(follow)].ways;
                let place = match ways[self.next_byte(end)] {
                    0 => self.give_back(follow, end, floor)?,
                    _ => end,
                };
                if place > floor {
                    self.push(index, place, floor);
                }
                Some(place)
            }
            Op::Lazy { set, skip, min, max } => {
                // The end of the run, where its length is bounded; else it is found on the way.
                let limit = if max == UNBOUNDED { text.len() } else { self.run_end(at, set, max) };
                let least = if min == 0 { at } else { self.run_end(at, set, min) };
                self.floor(at, least, set, min)?;
                Some(self.stop(index, (set, skip), least, limit))
            }
            Op::Save(slot) => {
                self.memory.slots[usize::from(slot)] = at as u32;
                Some(at)
            }
            Op::SaveBack(slot) => {
                self.hold(slot);
                self.memory.slots[usize::from(slot)] = at as u32;
                Some(at)
            }
            Op::Look(look) => self.sees(look, at).then_some(at),
            Op::Branch(_) | Op::Jump(_) | Op::Match => None,
        }
    }

    #[inline(always)]
    fn place_group(&mut self, (group, place): (u16, Place), start: usize, end: usize) {
        if place == Place::Sometimes {
            self.hold(group);
            self.hold(group + 1);
        }
        let slots = &mut self.memory.slots[usize::from(group)..];
        slots[..2].copy_from_slice(&[start as u32, end as u32]);
    }

    /// Remembers what a slot holds, to put it back.
    #[inline(always)]
    fn hold(&mut self, slot: u16) {
        // With nothing to come back to, the attempt succeeds or ends here.
        if self.memory.states.is_empty() {
            self.is_stale = true;
            return;
        }
        let at = self.memory.slots[usize::from(slot)];
        self.memory.states.push(State { index: SLOT | u32::from(slot), at, bound: 0 });
    }

    /// Where a lazy run stops first, from `at` on.
    fn stop(&mut self, index: usize, (set, skip): (u16, u16), at: usize, limit: usize) -> usize {
        let stop = self.spend(at, span(&self.text[..limit], at, self.set(skip)));
        let may_go_on = stop < limit && self.set(set).contains(self.text[stop]);
        if may_go_on {
            self.push(index, stop, limit);
        }
        stop
    }

    #[inline(always)]
    fn push(&mut self, index: usize, at: usize, bound: usize) {
        let state = State { index: index as u32, at: at as u32, bound: bound as u32 };
        self.memory.states.push(state);
    }

    /// Long runs are work too.
    #[inline(always)]
    fn spend(&mut self, from: usize, to: usize) -> usize {
        if to - from >= 256 {
            self.steps_left = self.steps_left.saturating_sub((to - from) / 256);
        }
        to
    }

    /// Where a run of at most `max` characters ends.
    #[inline(always)]
    fn run_end(&mut self, at: usize, set: u16, max: u32) -> usize {
        let text = self.text;
        let members = self.set(set);
        if max == UNBOUNDED {
            let end = span(text, at, members);
            return self.spend(at, end);
        }
        if !members.has_high() {
            let limit = text.len().min(at + max as usize);
            return span(&text[..limit], at, members);
        }
        let mut end = at;
        for _ in 0..max {
            match text.get(end) {
                Some(byte) if members.contains(*byte) => end += width(*byte),
                _ => break,
            }
        }
        end
    }

    /// Whether a run has `min` characters.
    #[inline(always)]
    fn has_enough(&self, at: usize, end: usize, set: u16, min: u32) -> bool {
        match min {
            0 => true,
            1 => end > at,
            min => self.floor(at, end, set, min).is_some(),
        }
    }

    /// The end of the first `min` characters of a run; `None` where it has fewer.
    #[inline(always)]
    fn floor(&self, at: usize, end: usize, set: u16, min: u32) -> Option<usize> {
        if min == 0 {
            return Some(at);
        }
        if !self.set(set).has_high() {
            return Some(at + min as usize).filter(|floor| *floor <= end);
        }
        let mut floor = at;
        for _ in 0..min {
            if floor >= end {
                return None;
            }
            floor += 1;
            // A byte that is no UTF-8 says nothing true of its length.
            while floor < end && is_continuation(self.text[floor]) {
                floor += 1;
            }
        }
        Some(floor)
    }

    fn sees(&self, look: Look, at: usize) -> bool {
        let text = self.text;
        let edge = || {
            let before = at.checked_sub(1).is_some_and(|before| is_word(text[before]));
            before != text.get(at).is_some_and(|byte| is_word(*byte))
        };
        match look {
            // Behind the last line feed no line begins.
            Look::LineStart => at == 0 || (at < text.len() && text[at - 1] == b'\n'),
            Look::LineEnd => text.get(at).is_none_or(|byte| *byte == b'\n'),
            Look::TextStart => at == 0,
            Look::TextEnd => at == text.len(),
            Look::LastLineEnd => matches!(&text[at..], b"" | b"\n"),
            Look::WordEdge => edge(),
            Look::NoWordEdge => !edge(),
        }
    }

    /// Takes the last state that has a way left, and puts the slots back that were written since.
    fn step_back(&mut self) -> Back {
        let program = self.program;
        while let Some(state) = self.memory.states.pop() {
            if state.index & SLOT != 0 {
                self.memory.slots[(state.index & !SLOT) as usize] = state.at;
                continue;
            }
            if self.steps_left == 0 {
                return Back::Exhausted;
            }
            self.steps_left -= 1;
            let (index, at) = (state.index as usize, state.at as usize);
            match program.ops[index] {
                Op::Branch(branch) => {
                    if let Some(target) = self.take_way(index, branch, at, state.bound as u8) {
                        return Back::To(at, target);
                    }
                }
                Op::Greedy { follow, .. } => {
                    if let Some(place) = self.give_back(follow, at, state.bound as usize) {
                        if place > state.bound as usize {
                            self.push(index, place, state.bound as usize);
                        }
                        return Back::To(place, index + 1);
                    }
                }
                Op::Lazy { set, skip, .. } => {
                    // Where characters of several bytes are skipped, so is the rest of one.
                    let is_skipped = self.set(skip).has_high();
                    let next = at + if is_skipped { 1 } else { width(self.text[at]) };
                    let place = self.stop(index, (set, skip), next, state.bound as usize);
                    return Back::To(place, index + 1);
                }
                _ => return Back::Exhausted,
            }
        }
        Back::Nowhere
    }

    /// The last place before `end`, down to `floor`, where what follows a run may begin.
    fn give_back(&mut self, follow: u16, end: usize, floor: usize) -> Option<usize> {
        let ways = &self.program.branches[usize::from(follow)];
        let given = &self.text[floor..end];
        let found = match ways.only {
            Some(byte) => memrchr(byte, given),
            None => given
                .iter()
                .rposition(|byte| ways.ways[usize::from(*byte)] != 0 && !is_continuation(*byte)),
        };
        self.spend(found.map_or(floor, |index| floor + index), end);
        found.map(|index| floor + index)
    }
}

/// Where the machine goes after a failure.
enum Back {
    /// To this place, with this instruction.
    To(usize, usize),
    Nowhere,
    Exhausted,
}

/// Whether a byte goes on with a character.
#[inline(always)]
fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// Bytes of the character that begins so.
#[inline(always)]
fn width(first: u8) -> usize {
    match first {
        0..=0x7f => 1,
        0x80..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xff => 4,
    }
}
