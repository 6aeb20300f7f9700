//! One tag pattern: Fluent Bit's `match` with `*`, or a `match_regex`.

use crate::codec::regex::Regex;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub enum TagPattern {
    /// Matches every tag.
    Any,
    /// No star: the tag itself.
    Exact(Vec<u8>),
    /// The literals between stars; each star matches any run of bytes, dots included.
    Glob(Vec<Vec<u8>>),
    /// `match_regex`, from the start of the tag.
    Regex(Regex),
    /// Both were given: either will do.
    Either(Box<[TagPattern; 2]>),
    /// Neither `match` nor `match_regex` was given.
    Nothing,
}

impl TagPattern {
    /// Compiles a `match` value. A value of any text is a pattern.
    pub fn glob(text: &str) -> TagPattern {
        if !text.contains('*') {
            return TagPattern::Exact(text.as_bytes().to_vec());
        }
        if text.bytes().all(|byte| byte == b'*') {
            return TagPattern::Any;
        }
        TagPattern::Glob(text.split('*').map(|part| part.as_bytes().to_vec()).collect())
    }

    /// Compiles a `match_regex` value. It must match at the start of the tag, and may end before the tag does, as in
    /// Fluent Bit.
    ///
    /// # Errors
    /// What is wrong with the expression.
    pub fn regex(text: &str) -> Result<TagPattern, String> {
        match Regex::new(text) {
            Ok(regex) => Ok(TagPattern::Regex(regex)),
            Err(error) => Err(format!("`{text}` is no regular expression: {error}")),
        }
    }

    /// Whether the tag matches.
    pub fn matches(&self, tag: &[u8]) -> bool {
        match self {
            TagPattern::Any => true,
            TagPattern::Exact(text) => text == tag,
            TagPattern::Glob(parts) => glob_matches(parts, tag),
            // A match of nothing counts as none.
            TagPattern::Regex(regex) => regex.match_start(tag).is_some_and(|length| length > 0),
            TagPattern::Either(both) => both.iter().any(|pattern| pattern.matches(tag)),
            TagPattern::Nothing => false,
        }
    }
}

/// The first part is anchored at the start and the last at the end; those between are found leftmost,
/// which is enough because a star may take anything.
fn glob_matches(parts: &[Vec<u8>], tag: &[u8]) -> bool {
    let [first, middle @ .., last] = parts else { return false };
    let Some(mut rest) = tag.strip_prefix(first.as_slice()) else { return false };
    for part in middle {
        let Some(at) = memchr::memmem::find(rest, part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_in_fluent_bit() {
        let table = [
            ("*", "anything.at.all", true),
            ("kube.*", "kube.a.b", true),
            ("kube.*", "kube", false),
            ("*.log", "a.b.log", true),
            ("*.log", "a.log.gz", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("ab*ba", "aba", false),
            ("", "", true),
            ("", "x", false),
        ];
        for (pattern, tag, expected) in table {
            assert_eq!(
                TagPattern::glob(pattern).matches(tag.as_bytes()),
                expected,
                "{pattern} {tag}"
            );
        }
        assert!(TagPattern::regex("^(app|db)\\.").unwrap().matches(b"db.one"));
        assert!(TagPattern::regex("(").is_err());
    }

    #[test]
    fn a_regex_matches_from_the_start_of_the_tag() {
        let table = [
            ("kube", "kube.var.log", true),
            ("var", "kube.var.log", false),
            (".*var", "kube.var.log", true),
            ("a|kube", "kube.x", true),
            ("/KUBE\\./i", "kube.x", true),
            ("/KUBE\\./", "kube.x", false),
            ("(?!db)\\h+", "abc", true),
            ("(?!db)\\h+", "db", false),
            ("x*", "kube", false),
            ("", "kube", false),
        ];
        for (regex, tag, expected) in table {
            let pattern = TagPattern::regex(regex).unwrap();
            assert_eq!(pattern.matches(tag.as_bytes()), expected, "{regex} {tag}");
        }
        let both = [TagPattern::regex("a").unwrap(), TagPattern::glob("b.*")];
        let both = TagPattern::Either(Box::new(both));
        assert!(both.matches(b"abc") && both.matches(b"b.c") && !both.matches(b"c"));
    }

    fn naive(pattern: &[u8], tag: &[u8]) -> bool {
        match pattern.split_first() {
            None => tag.is_empty(),
            Some((b'*', rest)) => (0..=tag.len()).any(|at| naive(rest, &tag[at..])),
            Some((byte, rest)) => tag.first() == Some(byte) && naive(rest, &tag[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_glob_equals_the_naive_matcher(pattern in "[ab.*]{0,8}", tag in "[ab.]{0,10}") {
            let matched = TagPattern::glob(&pattern).matches(tag.as_bytes());
            prop_assert_eq!(matched, naive(pattern.as_bytes(), tag.as_bytes()));
        }
    }
}
