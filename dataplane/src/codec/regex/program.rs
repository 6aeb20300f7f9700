//! A tree compiled to the program of the span machine.
//!
//! What makes it fast is decided here, by the bytes that may come next: a run whose bytes cannot begin what follows
//! it never gives anything back, and a choice that the next byte decides leaves no state to come back to.

use memchr::memmem::Finder;

use crate::codec::regex::oniguruma::NO_CHARACTER;
use crate::codec::regex::syntax::{Greed, Look, Node, Set, Tree, UNBOUNDED};
use crate::kernel::span::ByteSet;

/// One instruction. Sets, branches and literals are indices into the program's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Byte(u8),
    Literal(u16),
    /// One character.
    One(u16),
    /// As many characters as there are, none given back.
    Run {
        set: u16,
        min: u32,
        max: u32,
    },
    /// Two bytes.
    Pair([u8; 2]),
    /// A run without a maximum, of one character at least where `min` is 1; a group, unless `group`, its first slot,
    /// is [`NO_GROUP`]; and the byte behind it.
    Span {
        set: u16,
        min: u16,
        group: u16,
        place: Place,
        then: Option<u8>,
    },
    /// As many as there are; given back one by one, down to where `follow` allows.
    Greedy {
        set: u16,
        follow: u16,
        min: u32,
        max: u32,
    },
    /// As few as possible: `skip` are the members with which what follows cannot begin.
    Lazy {
        set: u16,
        skip: u16,
        min: u32,
        max: u32,
    },
    /// The position goes into a slot.
    Save(u16),
    /// As `Save`, and what was there comes back when the machine steps back.
    SaveBack(u16),
    Branch(u16),
    Jump(u16),
    Look(Look),
    Match,
}

/// Which of up to eight ways may be taken, by the next byte; of those the first is preferred.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    /// A bit for each way, by byte; at [`TEXT_END`] where there is none.
    pub(super) ways: Box<[u8; 257]>,
    pub(super) targets: Vec<u16>,
    /// The byte that alone opens a way, where it is one of ASCII.
    pub(super) only: Option<u8>,
}

/// Stands for the slot of a run that is no group.
pub(super) const NO_GROUP: u16 = u16::MAX;
/// Index for the end of the text in tables by byte.
pub(super) const TEXT_END: usize = 256;

const WAYS_MAX: usize = 8;
/// Longer programs are left to Oniguruma.
const OPS_MAX: usize = 2000;

/// Where matches may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Starts {
    /// At the start of the text only.
    Text,
    /// At starts of lines; a failure at one speaks for the rest of its line.
    Lines,
    /// Anywhere.
    Anywhere,
}

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) ops: Vec<Op>,
    pub(super) sets: Vec<ByteSet>,
    pub(super) branches: Vec<Branch>,
    pub(super) literals: Vec<Box<[u8]>>,
    /// Two for each group, the whole match first.
    pub(super) slot_count: usize,
    pub(super) starts: Starts,
    /// Sets of the first bytes of any match, up to three.
    pub(super) prefix: Vec<ByteSet>,
    /// What every match begins with.
    pub(super) lead: Option<Finder<'static>>,
    /// What stands somewhere in every match.
    pub(super) needed: Option<Finder<'static>>,
    pub(super) is_for_ascii: bool,
    /// Whether it finds in any bytes what it finds in their UTF-8 copy.
    pub(super) takes_any_bytes: bool,
    /// Where the last way that is known so far goes on.
    last_target: usize,
}

/// What may come next.
#[derive(Clone, Copy, Debug)]
struct First {
    set: Set,
    /// The end of the text.
    has_end: bool,
    /// Whatever comes, the match is complete.
    accepts: bool,
}

impl First {
    const ACCEPT: First = First { set: Set::ALL, has_end: true, accepts: true };

    fn of(set: Set) -> First {
        First { set, has_end: false, accepts: false }
    }

    fn or(self, other: First) -> First {
        let has_end = self.has_end || other.has_end;
        First { set: self.set.or(other.set), has_end, accepts: false }
    }
}

/// Whether a failure may be answered by a way that does not come by here again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Every match comes by.
    Always,
    /// Some do.
    Sometimes,
}

/// Compiles a tree; `None` where it has what the machine cannot do.
pub(super) fn compile(tree: &Tree) -> Option<Program> {
    let mut program = Program {
        ops: Vec::new(),
        sets: Vec::new(),
        branches: Vec::new(),
        literals: Vec::new(),
        slot_count: 2 * (tree.group_count + 1),
        starts: starts(&tree.root),
        prefix: Vec::new(),
        lead: None,
        needed: None,
        is_for_ascii: tree.is_for_ascii,
        takes_any_bytes: false,
        last_target: 0,
    };
    program.emit(&tree.root, First::ACCEPT, Place::Always)?;
    program.ops.push(Op::Match);
    let mut sets = Vec::new();
    prefix(&tree.root, &mut sets);
    program.prefix = sets.into_iter().map(byte_set).collect();
    match &tree.root {
        Node::Literal(text) => program.lead = Some(Finder::new(text).into_owned()),
        Node::Concat(nodes) => {
            if let Some(Node::Literal(text)) = nodes.first() {
                program.lead = (text.len() > 1).then(|| Finder::new(text).into_owned());
            }
            let texts = nodes.iter().filter_map(|node| match node {
                Node::Literal(text) => Some(text),
                _ => None,
            });
            let longest = texts.max_by_key(|text| text.len()).filter(|text| text.len() > 2);
            program.needed = longest.map(|text| Finder::new(text).into_owned());
        }
        _ => {}
    }
    program.takes_any_bytes = program.takes_any_bytes();
    Some(program)
}

fn byte_set(set: Set) -> ByteSet {
    ByteSet::new(set.ascii, set.has_high)
}

fn is_nullable(node: &Node) -> bool {
    match node {
        Node::Literal(text) => text.is_empty(),
        Node::Set(_) => false,
        Node::Look(_) => true,
        Node::Group(_, inner) => is_nullable(inner),
        Node::Concat(nodes) => nodes.iter().all(is_nullable),
        Node::Alternate(nodes) => nodes.iter().any(is_nullable),
        Node::Repeat { node, min, .. } => *min == 0 || is_nullable(node),
    }
}

fn first_of_byte(byte: u8) -> Set {
    if byte < 0x80 { Set::of(byte) } else { Set { ascii: 0, has_high: true } }
}

/// What `node`, followed by `follow`, may begin with.
fn first(node: &Node, follow: First) -> First {
    match node {
        Node::Literal(text) => text.first().map_or(follow, |byte| First::of(first_of_byte(*byte))),
        Node::Set(set) => First::of(*set),
        Node::Look(Look::LineEnd | Look::LastLineEnd) => {
            First { has_end: true, ..First::of(Set::of(b'\n')) }
        }
        Node::Look(Look::TextEnd) => First { has_end: true, ..First::of(Set::NONE) },
        Node::Look(_) => First { accepts: false, ..follow },
        Node::Group(_, inner) => first(inner, follow),
        Node::Concat(nodes) => nodes.iter().rfold(follow, |follow, node| first(node, follow)),
        Node::Alternate(nodes) => {
            let firsts = nodes.iter().map(|node| first(node, follow));
            firsts.reduce(First::or).unwrap_or(follow)
        }
        Node::Repeat { node, min: 0, .. } => first(node, follow).or(follow),
        Node::Repeat { node, .. } => first(node, follow),
    }
}

/// The set of an expression of one character that is one byte or a set.
fn one_set(node: &Node) -> Option<Set> {
    match node {
        Node::Set(set) => Some(*set),
        Node::Literal(text) => match text.as_slice() {
            [byte @ 0..=0x7f] => Some(Set::of(*byte)),
            _ => None,
        },
        _ => None,
    }
}

/// Where matches of this may begin.
fn starts(node: &Node) -> Starts {
    match node {
        Node::Look(Look::TextStart) => Starts::Text,
        Node::Look(Look::LineStart) => Starts::Lines,
        Node::Group(_, inner) => starts(inner),
        Node::Concat(nodes) => nodes.first().map_or(Starts::Anywhere, starts),
        Node::Alternate(nodes) => {
            let mut all = nodes.iter().map(starts);
            let first = all.next().unwrap_or(Starts::Anywhere);
            if all.all(|other| other == first) { first } else { Starts::Anywhere }
        }
        // What `.*` does not find from the start of a line, it finds from no later place of that line.
        Node::Repeat { node, max: UNBOUNDED, greed: Greed::Greedy | Greed::Lazy, .. } => {
            match one_set(node) {
                Some(Set::ALL) => Starts::Text,
                Some(set) if set == Set::of(b'\n').negated() => Starts::Lines,
                _ => Starts::Anywhere,
            }
        }
        Node::Repeat { .. } | Node::Literal(_) | Node::Set(_) => Starts::Anywhere,
        Node::Look(_) => Starts::Anywhere,
    }
}

const PREFIX_MAX: usize = 3;

/// Appends the sets of the bytes that any match begins with. False where what follows says nothing more of it.
fn prefix(node: &Node, out: &mut Vec<Set>) -> bool {
    match node {
        Node::Literal(text) => {
            out.extend(text.iter().map(|byte| first_of_byte(*byte)));
            out.truncate(PREFIX_MAX);
            out.len() < PREFIX_MAX
        }
        Node::Set(set) => {
            out.push(*set);
            // Behind a character of several bytes stands who knows what.
            out.len() < PREFIX_MAX && !set.has_high
        }
        Node::Look(_) => true,
        Node::Group(_, inner) => prefix(inner, out),
        Node::Concat(nodes) => nodes.iter().all(|node| prefix(node, out)),
        Node::Alternate(nodes) => {
            let start = out.len();
            let mut union: Option<(Vec<Set>, bool)> = None;
            for node in nodes {
                let mut branch = out.clone();
                let goes_on = prefix(node, &mut branch);
                let branch = branch.split_off(start);
                union = Some(match union {
                    None => (branch, goes_on),
                    Some((sets, others_go_on)) => {
                        let goes_on = goes_on && others_go_on && sets.len() == branch.len();
                        let pairs = sets.iter().zip(&branch);
                        (pairs.map(|(one, other)| one.or(*other)).collect(), goes_on)
                    }
                });
            }
            let (sets, goes_on) = union.unwrap_or_default();
            out.extend(sets);
            goes_on && out.len() < PREFIX_MAX
        }
        Node::Repeat { node, min, max, .. } => {
            let goes_on = (0..*min).all(|_| prefix(node, out));
            goes_on && min == max
        }
    }
}

impl Program {
    /// A byte that is no UTF-8 is one character, and a control character in the copy. It makes no difference where
    /// runs take both alike, and nothing counts characters or stops within one.
    fn takes_any_bytes(&self) -> bool {
        let is_high = |set: u16| self.sets[usize::from(set)].has_high();
        let stops_high = |branch: u16| self.branches[usize::from(branch)].ways[0x80] != 0;
        let is_blind = |op: &Op| match *op {
            Op::One(set) => !is_high(set),
            Op::Run { set, .. } => !is_high(set),
            Op::Greedy { set, follow, min, max } => {
                !is_high(set) || (min <= 1 && max == UNBOUNDED && !stops_high(follow))
            }
            Op::Lazy { set, skip, min, max } => {
                !is_high(set) || (min == 0 && max == UNBOUNDED && is_high(skip))
            }
            _ => true,
        };
        let starts_apart = self.starts != Starts::Anywhere
            || self.prefix.first().is_some_and(|set| !set.has_high());
        let is_alike = |set: &ByteSet| set.contains(NO_CHARACTER) == set.has_high();
        !self.is_for_ascii
            && starts_apart
            && self.ops.iter().all(is_blind)
            && self.sets.iter().chain(&self.prefix).all(is_alike)
            && !self.literals.iter().any(|text| text.contains(&NO_CHARACTER))
            && !self.ops.iter().any(|op| match op {
                Op::Byte(byte) | Op::Span { then: Some(byte), .. } => *byte == NO_CHARACTER,
                Op::Pair(pair) => pair.contains(&NO_CHARACTER),
                _ => false,
            })
    }

    fn set(&mut self, set: Set) -> Option<u16> {
        let set = byte_set(set);
        let known = self.sets.iter().position(|known| *known == set);
        let index = known.unwrap_or_else(|| {
            self.sets.push(set);
            self.sets.len() - 1
        });
        u16::try_from(index).ok()
    }

    /// Where the next instruction will stand.
    fn here(&self) -> Option<u16> {
        (self.ops.len() < OPS_MAX).then_some(self.ops.len() as u16)
    }

    /// Where the next instruction will stand, to which a way goes.
    fn target(&mut self) -> Option<u16> {
        self.last_target = self.ops.len();
        self.here()
    }

    fn emit(&mut self, node: &Node, follow: First, place: Place) -> Option<()> {
        self.here()?;
        match node {
            Node::Literal(text) => self.emit_literal(text),
            Node::Set(set) => {
                let set = self.set(*set)?;
                self.ops.push(Op::One(set));
            }
            Node::Look(look) => self.ops.push(Op::Look(*look)),
            Node::Group(index, inner) => self.emit_group(*index, inner, follow, place)?,
            Node::Concat(nodes) => {
                let mut follows = vec![follow];
                for node in nodes.iter().skip(1).rev() {
                    follows.push(first(node, *follows.last()?));
                }
                for (node, follow) in nodes.iter().zip(follows.iter().rev()) {
                    self.emit(node, *follow, place)?;
                }
            }
            Node::Alternate(nodes) => self.emit_alternatives(nodes, follow)?,
            Node::Repeat { node, min, max, greed } => match one_set(node) {
                Some(set) => self.emit_run(set, (*min, *max), *greed, follow)?,
                None => self.emit_repeat(node, (*min, *max), *greed, follow)?,
            },
        }
        Some(())
    }

    fn emit_literal(&mut self, text: &[u8]) {
        let [byte, rest @ ..] = text else { return };
        // A run and the byte behind it are one instruction, unless a way goes on between them.
        let is_target = self.last_target == self.ops.len();
        if let Some(Op::Span { then: then @ None, .. }) = self.ops.last_mut().filter(|_| !is_target)
        {
            *then = Some(*byte);
            return self.emit_literal(rest);
        }
        match *text {
            [byte] => self.ops.push(Op::Byte(byte)),
            [first, second] => self.ops.push(Op::Pair([first, second])),
            _ => {
                self.ops.push(Op::Literal(self.literals.len() as u16));
                self.literals.push(text.into());
            }
        }
    }

    fn emit_group(
        &mut self,
        index: usize,
        inner: &Node,
        follow: First,
        place: Place,
    ) -> Option<()> {
        let slot = u16::try_from(2 * index).ok()?;
        let save = if place == Place::Always { Op::Save } else { Op::SaveBack };
        let start = self.ops.len();
        self.ops.push(save(slot));
        self.emit(inner, follow, place)?;
        match self.ops.as_slice()[start..] {
            [_, Op::Span { set, min, group: NO_GROUP, then: None, .. }] => {
                self.ops.truncate(start);
                self.ops.push(Op::Span { set, min, group: slot, place, then: None });
            }
            _ => self.ops.push(save(slot + 1)),
        }
        Some(())
    }

    fn emit_run(
        &mut self,
        set: Set,
        (min, max): (u32, u32),
        greed: Greed,
        follow: First,
    ) -> Option<()> {
        let gives_nothing_back = match greed {
            Greed::Possessive => true,
            Greed::Greedy => follow.accepts || set.and(follow.set).is_empty(),
            // Within the run nothing else can begin, so the first place to stop is its end.
            Greed::Lazy => set.and(follow.set).is_empty(),
        };
        let index = self.set(set)?;
        let op = if gives_nothing_back && min <= 1 && max == UNBOUNDED {
            let (group, place) = (NO_GROUP, Place::Always);
            Op::Span { set: index, min: min as u16, group, place, then: None }
        } else if gives_nothing_back || min == max {
            Op::Run { set: index, min, max }
        } else if greed == Greed::Lazy {
            let skip = self.set(set.and(follow.set.negated()))?;
            Op::Lazy { set: index, skip, min, max }
        } else {
            let follow = self.branch(&[follow])?;
            Op::Greedy { set: index, follow, min, max }
        };
        self.ops.push(op);
        Some(())
    }

    /// Adds a branch whose ways begin so.
    fn branch(&mut self, firsts: &[First]) -> Option<u16> {
        let mut ways = Box::new([0; 257]);
        for (way, first) in firsts.iter().enumerate() {
            let set = byte_set(first.set);
            for byte in 0..=255u8 {
                ways[usize::from(byte)] |= u8::from(set.contains(byte)) << way;
            }
            ways[TEXT_END] |= u8::from(first.has_end) << way;
        }
        let mut open = (0..=255u8).filter(|byte| ways[usize::from(*byte)] != 0);
        let only = open.next().filter(|byte| byte.is_ascii() && open.next().is_none());
        self.branches.push(Branch { ways, targets: Vec::new(), only });
        u16::try_from(self.branches.len() - 1).ok()
    }

    fn emit_alternatives(&mut self, nodes: &[Node], follow: First) -> Option<()> {
        let (near, far) = match nodes.len() {
            0..=WAYS_MAX => (nodes, None),
            _ => (&nodes[..WAYS_MAX - 1], Some(&nodes[WAYS_MAX - 1..])),
        };
        let mut firsts: Vec<First> = near.iter().map(|node| first(node, follow)).collect();
        let far_firsts = far.into_iter().flatten().map(|node| first(node, follow));
        firsts.extend(far_firsts.reduce(First::or));
        let branch = self.branch(&firsts)?;
        self.ops.push(Op::Branch(branch));
        let mut jumps = Vec::new();
        let mut targets = Vec::new();
        for node in near {
            targets.push(self.here()?);
            self.emit(node, follow, Place::Sometimes)?;
            jumps.push(self.ops.len());
            self.ops.push(Op::Jump(0));
        }
        if let Some(far) = far {
            targets.push(self.here()?);
            self.emit_alternatives(far, follow)?;
        }
        self.branches[usize::from(branch)].targets = targets;
        let end = self.target()?;
        for jump in jumps {
            self.ops[jump] = Op::Jump(end);
        }
        Some(())
    }

    /// A repeat of more than single characters: the needed ones in a row, then the optional ones, or a loop.
    fn emit_repeat(
        &mut self,
        node: &Node,
        (min, max): (u32, u32),
        greed: Greed,
        follow: First,
    ) -> Option<()> {
        // What Oniguruma makes of these is its own affair.
        if matches!(node, Node::Repeat { .. }) || greed == Greed::Possessive {
            return None;
        }
        if max > 1 && is_nullable(node) {
            return None;
        }
        let again = first(node, follow);
        let either = again.or(follow);
        for done in 1..=min {
            let next = match () {
                () if done < min => again,
                () if max > min => either,
                () => follow,
            };
            self.emit(node, next, Place::Sometimes)?;
        }
        let option_count = if max == UNBOUNDED { 1 } else { max - min };
        let mut branches = Vec::new();
        for done in 1..=option_count {
            let is_loop = max == UNBOUNDED;
            let firsts = if greed == Greed::Lazy { [follow, again] } else { [again, follow] };
            let branch = self.branch(&firsts)?;
            let start = self.here()?;
            self.ops.push(Op::Branch(branch));
            let next = if is_loop || done < option_count { either } else { follow };
            branches.push((branch, self.here()?));
            self.emit(node, next, Place::Sometimes)?;
            if is_loop {
                self.ops.push(Op::Jump(start));
            }
        }
        let end = self.target()?;
        for (branch, body) in branches {
            let targets = if greed == Greed::Lazy { vec![end, body] } else { vec![body, end] };
            self.branches[usize::from(branch)].targets = targets;
        }
        Some(())
    }
}
