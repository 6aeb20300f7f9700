//! Ruby's expressions as a tree, for the constructs on the list of the span machine; anything else has no tree.
//!
//! What is on the list means here what Oniguruma makes of it; where the two might differ in silence (classes within
//! classes, `&&`, `a{1,2}+`, a repeat of a repeat, lookaround, references, options within), the answer is `None`.

/// A set of characters: ASCII ones, and all others together or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) ascii: u128,
    pub(super) has_high: bool,
}

impl Set {
    pub(super) const NONE: Set = Set { ascii: 0, has_high: false };
    pub(super) const ALL: Set = Set { ascii: u128::MAX, has_high: true };

    pub(super) const fn of(byte: u8) -> Set {
        Set { ascii: 1 << byte, has_high: false }
    }

    fn range(first: u8, last: u8) -> Set {
        Set { ascii: (first..=last).fold(0, |bits, byte| bits | 1 << byte), has_high: false }
    }

    fn bytes(bytes: &[u8]) -> Set {
        Set { ascii: bytes.iter().fold(0, |bits, byte| bits | 1 << byte), has_high: false }
    }

    pub(super) const fn negated(self) -> Set {
        Set { ascii: !self.ascii, has_high: !self.has_high }
    }

    pub(super) const fn or(self, other: Set) -> Set {
        Set { ascii: self.ascii | other.ascii, has_high: self.has_high || other.has_high }
    }

    pub(super) const fn and(self, other: Set) -> Set {
        Set { ascii: self.ascii & other.ascii, has_high: self.has_high && other.has_high }
    }

    pub(super) fn is_empty(self) -> bool {
        self == Set::NONE
    }

    /// With the other case of each letter.
    fn folded(self) -> Set {
        let upper = Set::range(b'A', b'Z').ascii;
        let ascii = self.ascii | (self.ascii & upper) << 32 | (self.ascii >> 32 & upper);
        Set { ascii, ..self }
    }
}

/// A place between characters that a construct asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// `^`
    LineStart,
    /// `$`
    LineEnd,
    /// `\A`
    TextStart,
    /// `\z`
    TextEnd,
    /// `\Z`
    LastLineEnd,
    /// `\b`
    WordEdge,
    /// `\B`
    NoWordEdge,
}

/// How often a repeat would like to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greed {
    Greedy,
    Lazy,
    Possessive,
}

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// These bytes: one character or several.
    Literal(Vec<u8>),
    /// One character of a set.
    Set(Set),
    Look(Look),
    /// A group that captures, by its number.
    Group(usize, Box<Node>),
    Concat(Vec<Node>),
    Alternate(Vec<Node>),
    Repeat {
        node: Box<Node>,
        min: u32,
        /// [`UNBOUNDED`] where there is none.
        max: u32,
        greed: Greed,
    },
}

/// As many as there are.
pub(super) const UNBOUNDED: u32 = u32::MAX;

/// What stands in `/…/imx` behind the expression, as far as it is on the list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    pub(super) ignores_case: bool,
    pub(super) dot_takes_newlines: bool,
}

/// An expression on the list.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: Node,
    /// Groups that capture, without the whole match.
    pub(super) group_count: usize,
    /// Whether the tree says what the expression means for text that is ASCII only.
    pub(super) is_for_ascii: bool,
}

const WORD: Set = Set { ascii: 0x07ff_fffe_87ff_fffe_03ff_0000_0000_0000, has_high: false };
const DIGIT: Set = Set { ascii: 0x03ff << 48, has_high: false };
const SPACE: Set = Set { ascii: 1 << 32 | 0x1f << 9, has_high: false };
const HEX: Set = Set { ascii: DIGIT.ascii | 0x7e << 64 | 0x7e << 96, has_high: false };

/// Whether a byte is of a word, as `\b` sees it in ASCII.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Reads an expression; `None` where it has something that is not on the list.
pub(super) fn parse(expression: &str, flags: Flags) -> Option<Tree> {
    let mut parser = Parser {
        rest: expression,
        flags,
        named_groups: 0,
        plain_groups: 0,
        is_for_ascii: flags.ignores_case,
        depth: 0,
    };
    let mut root = parser.alternatives()?;
    if !parser.rest.is_empty() {
        return None;
    }
    let mut group_count = 0;
    let kept = if parser.named_groups > 0 { Plain::Ignored } else { Plain::Captured };
    number(&mut root, kept, &mut group_count);
    Some(Tree { root, group_count, is_for_ascii: parser.is_for_ascii })
}

/// What groups without a name are for: beside named ones they capture nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    Captured,
    Ignored,
}

/// Stands for the number of a group that has no name, and of one that has, until all are known.
const PLAIN: usize = usize::MAX;
const NAMED: usize = usize::MAX - 1;

/// Gives groups their numbers in the order in which they open.
fn number(node: &mut Node, plain: Plain, count: &mut usize) {
    match node {
        Node::Group(PLAIN, inner) if plain == Plain::Ignored => {
            number(inner, plain, count);
            let inner = std::mem::replace(inner.as_mut(), Node::Concat(Vec::new()));
            *node = inner;
        }
        Node::Group(index, inner) => {
            *count += 1;
            *index = *count;
            number(inner, plain, count);
        }
        Node::Concat(nodes) | Node::Alternate(nodes) => {
            nodes.iter_mut().for_each(|node| number(node, plain, count));
        }
        Node::Repeat { node, .. } => number(node, plain, count),
        Node::Literal(_) | Node::Set(_) | Node::Look(_) => {}
    }
}

/// Groups within groups; deeper ones are not on the list.
const DEPTH_MAX: usize = 50;

struct Parser<'a> {
    rest: &'a str,
    flags: Flags,
    named_groups: usize,
    plain_groups: usize,
    is_for_ascii: bool,
    depth: usize,
}

impl Parser<'_> {
    fn take(&mut self) -> Option<char> {
        let taken = self.rest.chars().next()?;
        self.rest = &self.rest[taken.len_utf8()..];
        Some(taken)
    }

    fn take_if(&mut self, expected: &str) -> bool {
        let rest = self.rest.strip_prefix(expected);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn alternatives(&mut self) -> Option<Node> {
        let mut branches = vec![self.sequence()?];
        while self.take_if("|") {
            branches.push(self.sequence()?);
        }
        if branches.len() == 1 { branches.pop() } else { Some(Node::Alternate(branches)) }
    }

    fn sequence(&mut self) -> Option<Node> {
        let mut nodes = Vec::new();
        while !self.rest.is_empty() && !self.rest.starts_with(['|', ')']) {
            let atom = self.atom()?;
            let node = self.repeated(atom)?;
            match (nodes.last_mut(), node) {
                (Some(Node::Literal(text)), Node::Literal(more)) => text.extend(more),
                (_, node) => nodes.push(node),
            }
        }
        if nodes.len() == 1 { nodes.pop() } else { Some(Node::Concat(nodes)) }
    }

    fn atom(&mut self) -> Option<Node> {
        let first = self.take()?;
        Some(match first {
            '^' => Node::Look(Look::LineStart),
            '$' => Node::Look(Look::LineEnd),
            '.' if self.flags.dot_takes_newlines => Node::Set(Set::ALL),
            '.' => Node::Set(Set::of(b'\n').negated()),
            '[' => Node::Set(self.class()?),
            '(' => self.group()?,
            '\\' => self.escaped()?,
            '*' | '+' | '?' => return None,
            '{' if self.rest.starts_with(|next: char| next == ',' || next.is_ascii_digit()) => {
                return None;
            }
            other => self.character(other)?,
        })
    }

    fn character(&self, character: char) -> Option<Node> {
        if !self.flags.ignores_case {
            return Some(Node::Literal(character.to_string().into_bytes()));
        }
        let byte = u8::try_from(character).ok().filter(u8::is_ascii)?;
        match byte.is_ascii_alphabetic() {
            true => Some(Node::Set(Set::of(byte).folded())),
            false => Some(Node::Literal(vec![byte])),
        }
    }

    fn group(&mut self) -> Option<Node> {
        self.depth += 1;
        let number = if self.take_if("?:") {
            None
        } else if self.take_if("?<") {
            let (name, rest) = self.rest.split_once('>')?;
            let is_name = |c: char| c == '_' || c.is_alphanumeric();
            if name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_name) {
                return None;
            }
            self.rest = rest;
            self.named_groups += 1;
            Some(NAMED)
        } else if self.rest.starts_with('?') || self.depth > DEPTH_MAX {
            return None;
        } else {
            self.plain_groups += 1;
            Some(PLAIN)
        };
        let inner = self.alternatives()?;
        self.depth -= 1;
        if !self.take_if(")") {
            return None;
        }
        Some(match number {
            Some(number) => Node::Group(number, Box::new(inner)),
            None => inner,
        })
    }

    /// What stands behind a backslash outside of a class.
    fn escaped(&mut self) -> Option<Node> {
        let mut ahead = self.rest.chars();
        let letter = ahead.next()?;
        if let Some(set) = named_set(letter) {
            self.rest = ahead.as_str();
            return Some(Node::Set(set));
        }
        let look = match letter {
            'A' => Look::TextStart,
            'z' => Look::TextEnd,
            'Z' => Look::LastLineEnd,
            'b' => Look::WordEdge,
            'B' => Look::NoWordEdge,
            _ => {
                let character = self.escaped_character()?;
                return self.character(character);
            }
        };
        self.rest = ahead.as_str();
        self.is_for_ascii |= matches!(look, Look::WordEdge | Look::NoWordEdge);
        Some(Node::Look(look))
    }

    fn escaped_character(&mut self) -> Option<char> {
        let letter = self.take()?;
        Some(match letter {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'f' => '\x0c',
            'v' => '\x0b',
            'a' => '\x07',
            'e' => '\x1b',
            'u' => char::from_u32(self.digits(4)?)?,
            'x' => char::from_u32(self.digits(2)?).filter(char::is_ascii)?,
            other if other.is_ascii_punctuation() || other == ' ' => other,
            _ => return None,
        })
    }

    /// A number of exactly so many hexadecimal digits.
    fn digits(&mut self, count: usize) -> Option<u32> {
        let digits = self.rest.get(..count)?;
        let number = u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
        self.rest = &self.rest[count..];
        Some(number)
    }

    /// The atom, or what the repeat behind it makes of it. A second repeat is not on the list.
    fn repeated(&mut self, node: Node) -> Option<Node> {
        let (min, max, is_interval) = if self.take_if("*") {
            (0, UNBOUNDED, false)
        } else if self.take_if("+") {
            (1, UNBOUNDED, false)
        } else if self.take_if("?") {
            (0, 1, false)
        } else if self.rest.starts_with('{') {
            let (min, max) = self.interval()?;
            (min, max, true)
        } else {
            return Some(node);
        };
        let greed = match self.rest.bytes().next() {
            Some(b'?' | b'+') if is_interval => return None,
            Some(b'?') => Greed::Lazy,
            Some(b'+') => Greed::Possessive,
            _ => Greed::Greedy,
        };
        self.rest = &self.rest[usize::from(greed != Greed::Greedy)..];
        if self.rest.starts_with(['*', '+', '?', '{']) {
            return None;
        }
        if matches!(node, Node::Repeat { .. } | Node::Look(_)) {
            return None;
        }
        Some(Node::Repeat { node: Box::new(node), min, max, greed })
    }

    /// `{2}`, `{2,}`, `{,5}` or `{2,5}`.
    fn interval(&mut self) -> Option<(u32, u32)> {
        let (inner, rest) = self.rest.strip_prefix('{')?.split_once('}')?;
        let number = |text: &str| {
            let is_number = text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse::<u32>().ok()).flatten()
        };
        let (min, max) = match inner.split_once(',') {
            None => (number(inner)?, number(inner)?),
            Some(("", max)) => (0, number(max)?),
            Some((min, "")) => (number(min)?, UNBOUNDED),
            Some((min, max)) => (number(min)?, number(max)?),
        };
        self.rest = rest;
        (min <= max && max > 0).then_some((min, max))
    }

    /// What stands behind a `[`.
    fn class(&mut self) -> Option<Set> {
        let is_negated = self.take_if("^");
        if self.rest.starts_with(']') {
            return None;
        }
        let mut set = Set::NONE;
        let mut is_first = true;
        let mut has_brackets = false;
        loop {
            if self.take_if("]") {
                break;
            }
            if self.rest.starts_with("&&") {
                return None;
            }
            has_brackets |= self.rest.starts_with("[:");
            let is_dash = self.rest.starts_with('-');
            let Some(first) = self.class_item(&mut set)? else {
                // A `-` behind a set stands for itself at the end, and is anyone's guess elsewhere.
                if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                    return None;
                }
                is_first = false;
                continue;
            };
            let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            let is_at_edge = is_first || self.rest.starts_with(']');
            if is_dash && (is_range || !is_at_edge) {
                return None;
            }
            is_first = false;
            if !is_range {
                set = set.or(Set::of(first));
                continue;
            }
            self.rest = &self.rest[1..];
            let last = self.class_item(&mut { Set::NONE })?.filter(|last| *last >= first)?;
            set = set.or(Set::range(first, last));
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                return None;
            }
        }
        // Without regard to case `[[:alpha:]]` takes `SS` for one character, as `ß` is one.
        if self.flags.ignores_case && (set.has_high || has_brackets) {
            return None;
        }
        let set = if self.flags.ignores_case { set.folded() } else { set };
        Some(if is_negated { set.negated() } else { set })
    }

    /// One character of a class, or `Some(None)` where a set was put into `set`.
    fn class_item(&mut self, set: &mut Set) -> Option<Option<u8>> {
        if self.take_if("[:") {
            let (name, rest) = self.rest.split_once(":]")?;
            self.rest = rest;
            *set = set.or(bracket_set(name)?);
            self.is_for_ascii = true;
            return Some(None);
        }
        let character = match self.take()? {
            '[' => return None,
            '\\' => {
                let letter = self.rest.chars().next()?;
                if let Some(named) = named_set(letter) {
                    self.rest = &self.rest[1..];
                    *set = set.or(named);
                    return Some(None);
                }
                self.escaped_character()?
            }
            other => other,
        };
        Some(Some(u8::try_from(character).ok().filter(u8::is_ascii)?))
    }
}

/// `\d` and the like.
fn named_set(letter: char) -> Option<Set> {
    Some(match letter {
        'w' => WORD,
        'W' => WORD.negated(),
        'd' => DIGIT,
        'D' => DIGIT.negated(),
        's' => SPACE,
        'S' => SPACE.negated(),
        'h' => HEX,
        'H' => HEX.negated(),
        _ => return None,
    })
}

/// `[:alpha:]` and the like, of ASCII.
fn bracket_set(name: &str) -> Option<Set> {
    let digits = Set::range(b'0', b'9');
    let upper = Set::range(b'A', b'Z');
    let lower = Set::range(b'a', b'z');
    Some(match name {
        "alpha" => upper.or(lower),
        "digit" => digits,
        "alnum" => upper.or(lower).or(digits),
        "upper" => upper,
        "lower" => lower,
        "space" => SPACE,
        "blank" => Set::bytes(b" \t"),
        "xdigit" => HEX,
        _ => return None,
    })
}
