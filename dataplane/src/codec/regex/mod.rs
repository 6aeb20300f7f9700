//! Regular expressions with Ruby's meaning, as Fluent Bit writes them: `expression`, `/expression/` or
//! `/expression/imx`.
//!
//! Three tiers run them, each what it understands: a plain search for text that is nothing but text; a machine that
//! takes runs between delimiters in whole strides ([`machine`], from a [`program`] compiled of a [`syntax`] tree);
//! and [`oniguruma`], which understands everything. Whichever runs, the captures are Oniguruma's: an expression is
//! tried against it when it is compiled ([`trial`]), and text or searches that are beyond a fast tier go to it.
//!
//! None ends by itself on `(a|aa)+$`: [`Found::CutOff`] says that the bound on retries was met.

#[cfg(test)]
mod differential;
mod machine;
mod oniguruma;
mod program;
mod syntax;
#[cfg(test)]
mod tests;
mod trial;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use memchr::memmem::Finder;
use onig::{RegexOptions, Region};

use crate::codec::regex::machine::{Memory, NO_PLACE, Outcome};
use crate::codec::regex::oniguruma::{Engine, as_utf8};
use crate::codec::regex::program::Program;
use crate::codec::regex::syntax::{Flags, Node};

/// A compiled expression; a clone is another handle.
#[derive(Clone, Debug)]
pub struct Regex(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    fast: Fast,
    engine: Engine,
    groups: Vec<NamedGroup>,
    group_count: usize,
}

/// What runs before Oniguruma does.
#[derive(Debug)]
enum Fast {
    Literal(Box<Finder<'static>>),
    Span(Box<Program>),
    Nothing,
}

/// What runs an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// A search for its text.
    Literal,
    /// The span machine; Oniguruma for what it cannot tell.
    Span,
    /// Oniguruma.
    Oniguruma,
}

/// A named group. The same name may stand at several groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedGroup {
    /// Its name.
    pub name: String,
    /// Numbers of the groups that bear it, ascending.
    pub numbers: Vec<usize>,
}

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The expression matches; the captures say where.
    Match,
    /// It does not.
    Nothing,
    /// The search was ended by its bound, without an answer.
    CutOff,
}

/// Where the groups of the last match are. Kept over searches, so that they need no memory of their own.
#[derive(Debug, Default)]
pub struct Captures {
    memory: Memory,
    region: Region,
    cleaned: Vec<u8>,
}

impl Captures {
    /// Bytes of a group; group 0 is the whole match. `None` for a group that took no part.
    #[inline]
    pub fn get(&self, group: usize) -> Option<Range<usize>> {
        let place = self.memory.slots.get(2 * group..2 * group + 2)?;
        let is_set = place[0] != NO_PLACE && place[1] != NO_PLACE;
        is_set.then_some(place[0] as usize..place[1] as usize)
    }

    /// Bytes of the first group of that name that took part.
    pub fn named(&self, group: &NamedGroup) -> Option<Range<usize>> {
        group.numbers.iter().find_map(|number| self.get(*number))
    }
}

thread_local! {
    /// For searches whose captures nobody asks for.
    static UNASKED: RefCell<Captures> = RefCell::default();
}

impl Regex {
    /// Compiles an expression as Fluent Bit spells it.
    ///
    /// # Errors
    /// What is wrong with it, to be put after its text.
    pub fn new(text: &str) -> Result<Regex, String> {
        let (expression, options) = literal(text);
        let engine = Engine::new(expression, options)?;
        let (groups, group_count) = (engine.groups(), engine.group_count());
        let fast = fast(expression, options, &engine);
        Ok(Regex(Arc::new(Compiled { fast, engine, groups, group_count })))
    }

    /// What runs it.
    pub fn tier(&self) -> Tier {
        match self.0.fast {
            Fast::Literal(_) => Tier::Literal,
            Fast::Span(_) => Tier::Span,
            Fast::Nothing => Tier::Oniguruma,
        }
    }

    /// The named groups, in the order in which they first open.
    pub fn groups(&self) -> &[NamedGroup] {
        &self.0.groups
    }

    /// How many groups capture: the named ones where there are any, else the plain ones.
    pub fn group_count(&self) -> usize {
        self.0.group_count
    }

    /// Searches `text` for the first match, and fills `captures` with it.
    pub fn search(&self, text: &[u8], captures: &mut Captures) -> Found {
        let Captures { memory, region, cleaned } = captures;
        match &self.0.fast {
            Fast::Literal(literal) if text.len() < NO_PLACE as usize => {
                let Some(start) = literal.find(text) else { return Found::Nothing };
                memory.slots.clear();
                memory.slots.extend([start as u32, (start + literal.needle().len()) as u32]);
                return Found::Match;
            }
            Fast::Span(program) => {
                if let Some(text) = program.text(text, cleaned) {
                    match program.search(text, memory) {
                        Outcome::Match => return Found::Match,
                        Outcome::Nothing => return Found::Nothing,
                        Outcome::Exhausted => {}
                    }
                }
            }
            Fast::Literal(_) | Fast::Nothing => {}
        }
        let found = self.0.engine.search(as_utf8(text, cleaned), Some(region));
        if found == Found::Match {
            memory.slots.clear();
            memory.slots.extend((0..=self.0.group_count).flat_map(
                |group| match region.pos(group) {
                    Some((start, end)) => [start as u32, end as u32],
                    None => [NO_PLACE; 2],
                },
            ));
        }
        found
    }

    /// Whether the expression matches anywhere; a search that was cut off matches not.
    pub fn is_match(&self, text: &[u8]) -> bool {
        match &self.0.fast {
            Fast::Literal(literal) => literal.find(text).is_some(),
            Fast::Span(_) | Fast::Nothing => {
                UNASKED.with_borrow_mut(|captures| self.search(text, captures)) == Found::Match
            }
        }
    }

    /// Bytes of the match that begins at the start of `text`, which may end before the text does.
    pub fn match_start(&self, text: &[u8]) -> Option<usize> {
        UNASKED.with_borrow_mut(|Captures { memory, cleaned, .. }| {
            if let Fast::Span(program) = &self.0.fast
                && let Some(text) = program.text(text, cleaned)
            {
                match program.match_start(text, memory) {
                    Outcome::Match => return Some(memory.slots[1] as usize),
                    Outcome::Nothing => return None,
                    Outcome::Exhausted => {}
                }
            }
            self.0.engine.match_start(as_utf8(text, cleaned))
        })
    }
}

impl Program {
    /// The text as the machine takes it; `None` where it is for Oniguruma. Most text is ASCII, and that is soon seen.
    #[inline]
    fn text<'t>(&self, text: &'t [u8], cleaned: &'t mut Vec<u8>) -> Option<&'t [u8]> {
        match self.takes_any_bytes || text.is_ascii() {
            true => Some(text),
            false if self.is_for_ascii => None,
            false => Some(as_utf8(text, cleaned).as_bytes()),
        }
    }
}

/// The fastest tier that gives Oniguruma's captures.
fn fast(expression: &str, options: RegexOptions, engine: &Engine) -> Fast {
    if options.contains(RegexOptions::REGEX_OPTION_EXTEND) {
        return Fast::Nothing;
    }
    let flags = Flags {
        ignores_case: options.contains(RegexOptions::REGEX_OPTION_IGNORECASE),
        dot_takes_newlines: options.contains(RegexOptions::REGEX_OPTION_MULTILINE),
    };
    let tree = syntax::parse(expression, flags);
    let Some(tree) = tree.filter(|tree| tree.group_count == engine.group_count()) else {
        return Fast::Nothing;
    };
    if let Node::Literal(text) = &tree.root
        && !text.contains(&oniguruma::NO_CHARACTER)
    {
        return Fast::Literal(Box::new(Finder::new(text).into_owned()));
    }
    match program::compile(&tree) {
        Some(program) if trial::agrees(&program, &tree, engine) => Fast::Span(Box::new(program)),
        _ => Fast::Nothing,
    }
}

/// The expression and its options. Slashes and letters that are not exactly `/expression/imx` belong to the
/// expression, and so they do behind the flag `o` alone: Fluent Bit's rules.
fn literal(text: &str) -> (&str, RegexOptions) {
    let none = RegexOptions::REGEX_OPTION_NONE;
    let Some((expression, flags)) = text.strip_prefix('/').and_then(|inner| inner.rsplit_once('/'))
    else {
        return (text, none);
    };
    if flags.is_empty() {
        return (expression, none);
    }
    let options = flags.chars().try_fold(none, |options, flag| {
        Some(match flag {
            'm' => options | RegexOptions::REGEX_OPTION_MULTILINE,
            'i' => options | RegexOptions::REGEX_OPTION_IGNORECASE,
            'x' => options | RegexOptions::REGEX_OPTION_EXTEND,
            'o' => options,
            _ => return None,
        })
    });
    match options {
        Some(options) if !options.is_empty() => (expression, options),
        _ => (text, none),
    }
}
