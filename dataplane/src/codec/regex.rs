//! Regular expressions with Ruby's meaning, as Fluent Bit writes them: `expression`, `/expression/` or
//! `/expression/imx`.
//!
//! Oniguruma runs them. Fluent Bit runs Onigmo, a fork; what differs is translated or bounded here:
//! - `\w`, `\d` and `\s` are ASCII in Onigmo and Unicode in Oniguruma, so they are written out as classes
//!   (`[A-Za-z0-9_]`), which mean the same inside other classes; `\b` and `[[:alpha:]]` are Unicode in both.
//! - Onigmo takes a byte that is no UTF-8 for one character; Oniguruma trusts its upper bits and would swallow the
//!   quote behind a Latin-1 letter. Text that is not UTF-8 is searched in a copy in which each such byte is a
//!   control character; offsets stay what they are.
//! - Neither ends by itself on `(a|aa)+$`: [`Found::CutOff`] says that the bound on retries was met.
//!
//! The types of the engine stay inside, so that a faster one may run the patterns it understands.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use onig::{MatchParam, RegexOptions, Region, SearchOptions, Syntax};

use crate::limits::{REGEX_RETRIES_MIN, REGEX_STACK_MAX};

/// A compiled expression; a clone is another handle.
#[derive(Clone, Debug)]
pub struct Regex(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    engine: onig::Regex,
    groups: Vec<NamedGroup>,
    group_count: usize,
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
    region: Region,
    cleaned: Vec<u8>,
}

impl Captures {
    /// Bytes of a group; group 0 is the whole match. `None` for a group that took no part.
    pub fn get(&self, group: usize) -> Option<Range<usize>> {
        self.region.pos(group).map(|(start, end)| start..end)
    }

    /// Bytes of the first group of that name that took part.
    pub fn named(&self, group: &NamedGroup) -> Option<Range<usize>> {
        group.numbers.iter().find_map(|number| self.get(*number))
    }
}

impl Regex {
    /// Compiles an expression as Fluent Bit spells it.
    ///
    /// # Errors
    /// What is wrong with it, to be put after its text.
    pub fn new(text: &str) -> Result<Regex, String> {
        let (expression, options) = literal(text);
        let engine = onig::Regex::with_options(&translated(expression), options, Syntax::ruby())
            .map_err(|error| error.description().to_owned())?;
        let mut groups = Vec::new();
        engine.foreach_name(|name, numbers| {
            let mut numbers: Vec<usize> = numbers.iter().map(|number| *number as usize).collect();
            numbers.sort_unstable();
            groups.push(NamedGroup { name: name.to_owned(), numbers });
            true
        });
        // Oniguruma hands them out in the order of a hash table.
        groups.sort_by_key(|group| group.numbers.first().copied());
        let group_count = engine.captures_len();
        Ok(Regex(Arc::new(Compiled { engine, groups, group_count })))
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
        let Captures { region, cleaned } = captures;
        let text = as_utf8(text, cleaned);
        let engine = &self.0.engine;
        found(engine.search_with_param(
            text,
            0,
            text.len(),
            SearchOptions::SEARCH_OPTION_NONE,
            Some(region),
            bounds(text),
        ))
    }

    /// Whether the expression matches anywhere; a search that was cut off matches not.
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.search(text, &mut Captures::default()) == Found::Match
    }

    /// Bytes of the match that begins at the start of `text`, which may end before the text does.
    pub fn match_start(&self, text: &[u8]) -> Option<usize> {
        let mut cleaned = Vec::new();
        let text = as_utf8(text, &mut cleaned);
        let options = SearchOptions::SEARCH_OPTION_NONE;
        self.0.engine.match_with_param(text, 0, options, None, bounds(text)).unwrap_or(None)
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
const NO_CHARACTER: u8 = 0x1a;

/// `text` itself where it is UTF-8, else a copy of the same length in `cleaned`.
fn as_utf8<'a>(text: &'a [u8], cleaned: &'a mut Vec<u8>) -> &'a str {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Expected = Option<&'static [&'static str]>;

    /// Captures of the named groups, or of the whole match where there are none.
    fn captured(pattern: &str, text: &[u8]) -> Option<Vec<String>> {
        let regex = Regex::new(pattern).unwrap();
        let mut captures = Captures::default();
        if regex.search(text, &mut captures) != Found::Match {
            return None;
        }
        let show = |range: Option<Range<usize>>| {
            range.map_or("-".into(), |range| String::from_utf8_lossy(&text[range]).into_owned())
        };
        if regex.groups().is_empty() {
            return Some(vec![show(captures.get(0))]);
        }
        Some(regex.groups().iter().map(|group| show(captures.named(group))).collect())
    }

    #[test]
    fn expressions_mean_what_they_mean_in_ruby() {
        let table: [(&str, &str, Expected); 32] = [
            ("b+", "abbc", Some(&["bb"])),
            ("/b+/", "abbc", Some(&["bb"])),
            ("/B+/i", "abbc", Some(&["bb"])),
            ("/B+/", "abbc", None),
            ("/a.c/m", "a\nc", Some(&["a\nc"])),
            ("a.c", "a\nc", None),
            ("(?m)a.c", "a\nc", Some(&["a\nc"])),
            ("/a b # c/x", "ab", Some(&["ab"])),
            ("/a/o", "a", None),
            ("/a/o", "/a/o", Some(&["/a/o"])),
            ("/a/g", "x/a/g", Some(&["/a/g"])),
            ("/", "a/", Some(&["/"])),
            ("^b$", "a\nb\nc", Some(&["b"])),
            (r"\h+", "xyz0fF", Some(&["0fF"])),
            (r"\w+", "é1_", Some(&["1_"])),
            (r"\d+", "٣4", Some(&["4"])),
            (r"\s", "\u{a0}\u{b}", Some(&["\u{b}"])),
            (r"\S+", " \u{a0}", Some(&["\u{a0}"])),
            (r"[\w-]+", "é-a-é", Some(&["-a-"])),
            (r"[\w\-.]+", "é-a.é", Some(&["-a."])),
            (r"[\d-\w]+", "é1-a", Some(&["1-a"])),
            (r"[^\w\s]+", "a éé b", Some(&["éé"])),
            (r"[[:alpha:]]+", "1éa", Some(&["éa"])),
            (r"[a-z&&[^b]]+", "bac", Some(&["ac"])),
            (r"\\w", r"\w", Some(&[r"\w"])),
            (r"^\<(?<pri>[0-9]+)\>", "<13>", Some(&["13"])),
            ("(?<x>a)(b)", "ab", Some(&["a"])),
            ("(?<z>a)|(?<a>b)", "b", Some(&["-", "b"])),
            ("(?<x>a)|(?<x>b)", "b", Some(&["b"])),
            (r"(?<q>['`]).*\k<q>", "x'a`b'", Some(&["'"])),
            (r"(?<=\$)\u0031+", "$11", Some(&["11"])),
            ("(?<a>.)(?~b)b", "äccb", Some(&["ä"])),
        ];
        for (pattern, text, expected) in table {
            let expected =
                expected.map(|texts| texts.iter().map(|text| text.to_string()).collect());
            assert_eq!(captured(pattern, text.as_bytes()), expected, "{pattern} in {text:?}");
        }
    }

    #[test]
    fn a_byte_that_is_no_utf8_is_one_character() {
        let table: [(&str, &[u8], Expected); 5] = [
            ("\"(?<a>[^\"]*)\" (?<b>.)", b"\"\xe4\" x", Some(&["\u{fffd}", "x"])),
            ("^a(?<n>.{3})b", b"a\xf0\xff\xfeb", Some(&["\u{fffd}\u{fffd}\u{fffd}"])),
            (r"(?<n>\S+) .(?<m>\w+)", b"\xc3 \xc3\xa9a", Some(&["\u{fffd}", "a"])),
            ("é(?<n>x)", "\u{e9}x".as_bytes(), Some(&["x"])),
            (r"^\w", b"\xe4", None),
        ];
        for (pattern, text, expected) in table {
            let expected =
                expected.map(|texts| texts.iter().map(|text| text.to_string()).collect());
            assert_eq!(captured(pattern, text), expected, "{pattern}");
        }
    }

    #[test]
    fn a_runaway_is_cut_off_and_says_so() {
        let regex = Regex::new(r"^(a|b|ab)*\1c$").unwrap();
        let text = "ab".repeat(400) + "cd";
        let mut captures = Captures::default();
        assert_eq!(regex.search(text.as_bytes(), &mut captures), Found::CutOff);
        assert_eq!(regex.search(b"aac", &mut captures), Found::Match);
        assert!(!regex.is_match(text.as_bytes()));
        assert_eq!(regex.match_start(text.as_bytes()), None);
        let long = [b"x".repeat(400_000), b"y".repeat(400_000)].concat();
        assert_eq!(Regex::new("^.*y.*z?$").unwrap().search(&long, &mut captures), Found::Match);
    }

    #[test]
    fn a_match_at_the_start_has_a_length() {
        let table = [("a+", "aab", Some(2)), ("b", "ab", None), ("x*", "ab", Some(0))];
        for (pattern, text, expected) in table {
            assert_eq!(Regex::new(pattern).unwrap().match_start(text.as_bytes()), expected);
        }
    }

    #[test]
    fn what_cannot_be_compiled_is_named() {
        for (pattern, expected) in [
            ("(a", "end pattern with unmatched parenthesis"),
            ("[a", "premature end of char-class"),
            ("a\\", "end pattern at escape"),
            (r"\k<x>", "undefined name <x> reference"),
        ] {
            assert_eq!(Regex::new(pattern).unwrap_err(), expected, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_for_fields_takes_what_a_split_takes(
            fields in proptest::collection::vec("[^ \n]{0,12}", 3..4), tail in ".{0,20}"
        ) {
            let text = format!("{} {tail}", fields.join(" "));
            let pattern = "^(?<a>[^ ]*) (?<b>[^ ]*) (?<c>[^ ]*) (?<rest>.*)$";
            let expected: Vec<String> = text.splitn(4, ' ').map(str::to_owned).collect();
            // `.` stops at a line feed, and so may `$`.
            prop_assume!(!text.contains('\n'));
            prop_assert_eq!(captured(pattern, text.as_bytes()), Some(expected));
        }

        #[test]
        fn any_pattern_on_any_bytes_comes_to_an_end(
            pattern in r"[ab.*+?|()\[\]^$\\wd{}1,<>:-]{0,12}",
            text in proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xe4), any::<u8>()], 0..40),
        ) {
            if let Ok(regex) = Regex::new(&pattern) {
                let mut captures = Captures::default();
                if regex.search(&text, &mut captures) == Found::Match {
                    let whole = captures.get(0).unwrap();
                    prop_assert!(whole.end <= text.len());
                }
            }
        }
    }
}
