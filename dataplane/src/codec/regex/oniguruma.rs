//! Oniguruma, which runs every expression, and whose captures are the measure of the faster tiers.
//!
//! Fluent Bit runs Onigmo, a fork; what differs is translated or bounded here:
//! - `\w`, `\d` and `\s` are ASCII in Onigmo and Unicode in Oniguruma, so they are written out as classes
//!   (`[A-Za-z0-9_]`), which mean the same inside other classes; `\b` and `[[:alpha:]]` are Unicode in both.
//! - Onigmo takes a byte that is no UTF-8 for one character; Oniguruma trusts its upper bits and would swallow the
//!   quote behind a Latin-1 letter. Text that is not UTF-8 is searched in a copy in which each such byte is a
//!   control character ([`as_utf8`]); offsets stay what they are.

use std::borrow::Cow;

use onig::{MatchParam, RegexOptions, Region, SearchOptions, Syntax};

use crate::codec::regex::{Found, NamedGroup};
use crate::limits::{REGEX_RETRIES_MIN, REGEX_STACK_MAX};

/// An expression as Oniguruma compiles it.
#[derive(Debug)]
pub(super) struct Engine(onig::Regex);

impl Engine {
    /// Compiles an expression. The error is what is wrong with it.
    pub(super) fn new(expression: &str, options: RegexOptions) -> Result<Engine, String> {
        onig::Regex::with_options(&translated(expression), options, Syntax::ruby())
            .map(Engine)
            .map_err(|error| error.description().to_owned())
    }

    /// The named groups, in the order in which they first open.
    pub(super) fn groups(&self) -> Vec<NamedGroup> {
        let mut groups = Vec::new();
        self.0.foreach_name(|name, numbers| {
            let mut numbers: Vec<usize> = numbers.iter().map(|number| *number as usize).collect();
            numbers.sort_unstable();
            groups.push(NamedGroup { name: name.to_owned(), numbers });
            true
        });
        // Oniguruma hands them out in the order of a hash table.
        groups.sort_by_key(|group| group.numbers.first().copied());
        groups
    }

    pub(super) fn group_count(&self) -> usize {
        self.0.captures_len()
    }

    /// Searches for the first match; `region` says where it is.
    pub(super) fn search(&self, text: &str, region: Option<&mut Region>) -> Found {
        let options = SearchOptions::SEARCH_OPTION_NONE;
        found(self.0.search_with_param(text, 0, text.len(), options, region, bounds(text)))
    }

    /// Bytes of the match that begins with the text.
    pub(super) fn match_start(&self, text: &str) -> Option<usize> {
        let options = SearchOptions::SEARCH_OPTION_NONE;
        self.0.match_with_param(text, 0, options, None, bounds(text)).unwrap_or(None)
    }
}

/// An error while matching is always a bound: the expression was compiled, the text is UTF-8.
fn found(result: Result<Option<usize>, onig::Error>) -> Found {
    match result {
        Ok(Some(_)) => Found::Match,
        Ok(None) => Found::Nothing,
        Err(_) => Found::CutOff,
    }
}

/// The bounds of one attempt to match. Its length is granted sixteen times, so that an honest `.*` fits any text.
///
/// The crate takes them by value and allocates them for each search: 20 ns of some 1,000.
fn bounds(text: &str) -> MatchParam {
    let retries = text.len().saturating_mul(16).saturating_add(REGEX_RETRIES_MIN);
    let mut bounds = MatchParam::default();
    bounds.set_retry_limit_in_match(u32::try_from(retries).unwrap_or(u32::MAX));
    bounds.set_match_stack_limit(REGEX_STACK_MAX);
    bounds
}

/// Stands for a byte that is no UTF-8: one byte, no letter, no space, and nothing that patterns look for.
pub(super) const NO_CHARACTER: u8 = 0x1a;

/// `text` itself where it is UTF-8, else a copy of the same length in `cleaned`.
pub(super) fn as_utf8<'a>(text: &'a [u8], cleaned: &'a mut Vec<u8>) -> &'a str {
    if let Ok(text) = std::str::from_utf8(text) {
        return text;
    }
    cleaned.clear();
    for chunk in text.utf8_chunks() {
        cleaned.extend_from_slice(chunk.valid().as_bytes());
        cleaned.resize(cleaned.len() + chunk.invalid().len(), NO_CHARACTER);
    }
    std::str::from_utf8(cleaned).expect("only UTF-8 was put together")
}

/// `expression` with the classes that are ASCII in Ruby written out.
fn translated(expression: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = expression;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let Some(letter) = after.chars().next() else {
            rest = "\\";
            break;
        };
        match letter {
            'w' => out.push_str("[A-Za-z0-9_]"),
            'W' => out.push_str("[^A-Za-z0-9_]"),
            'd' => out.push_str("[0-9]"),
            'D' => out.push_str("[^0-9]"),
            's' => out.push_str(r"[\t\n\v\f\r ]"),
            'S' => out.push_str(r"[^\t\n\v\f\r ]"),
            letter => out.extend(['\\', letter]),
        }
        rest = &after[letter.len_utf8()..];
    }
    if out.is_empty() {
        return Cow::Borrowed(expression);
    }
    out.push_str(rest);
    Cow::Owned(out)
}
