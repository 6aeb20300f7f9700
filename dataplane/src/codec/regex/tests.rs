//! What expressions mean, whichever tier runs them.

#![allow(clippy::unwrap_used, reason = "a failure of any step fails the test")]

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
        let expected = expected.map(|texts| texts.iter().map(|text| text.to_string()).collect());
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
        let expected = expected.map(|texts| texts.iter().map(|text| text.to_string()).collect());
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
