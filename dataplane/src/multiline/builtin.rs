//! The multiline parsers that are always there.

use std::sync::Arc;

use crate::codec::regex::Regex;
use crate::multiline::definition::{FLUSH_TIMEOUT, Kind, LineForm, MultilineParser, Text};
use crate::multiline::plain;
use crate::multiline::rules::{Matcher, Plain, Rule, Rules};
use crate::multiline::stamp::{StampFormat, Zone};

/// States, expression, the same by hand, next state.
type RuleText = (&'static [&'static str], &'static str, Plain, &'static str);

/// Traces of Java, C# and V8.
const JAVA: &[RuleText] = &[
    (
        &["start_state", "named"],
        r".(?:Exception|Error|Throwable|V8 errors stack trace)[:\r\n]",
        plain::thrown,
        "thrown",
    ),
    (&["thrown"], r"^[ \t]*nested exception is:", plain::nested, "named"),
    (&["thrown"], r"^[\r\n]*$", plain::blank, "thrown"),
    (&["thrown", "frames"], r"^[ \t]+(?:eval )?at ", plain::at, "frames"),
    (
        &["thrown", "frames"],
        r"^[ \t]+--- End of inner exception stack trace ---$",
        plain::end_of_inner,
        "frames",
    ),
    (
        &["thrown", "frames"],
        r"^--- End of stack trace from previous location where exception was thrown ---$",
        plain::end_of_previous,
        "frames",
    ),
    (&["thrown", "frames"], r"^[ \t]*(?:Caused by|Suppressed):", plain::caused, "thrown"),
    (
        &["thrown", "frames"],
        r"^[ \t]*.{3} \d+ (?:more|common frames omitted)",
        plain::more,
        "frames",
    ),
];

/// Panics of Go.
const GO: &[RuleText] = &[
    (&["start_state"], r"\bpanic: ", plain::panic, "panic"),
    (&["start_state"], r"http: panic serving", plain::panic_serving, "goroutine"),
    (&["panic"], r"^\[signal ", plain::signal, "signal"),
    (&["panic", "signal", "function"], r"^$", plain::empty, "goroutine"),
    (&["goroutine"], r"^goroutine \d+ \[[^\]]+\]:$", plain::goroutine, "function"),
    (&["function"], r"^(?:created by |[^\s:(]+\()", plain::function, "place"),
    (&["place"], r"^\s", plain::indented, "function"),
];

/// Traces of Python.
const PYTHON: &[RuleText] = &[
    (&["start_state"], r"^Traceback \(most recent call last\):$", plain::traceback, "trace"),
    (&["trace"], r"^[ \t]+File ", plain::file, "code"),
    (&["code"], r"[^ \t]", plain::code, "trace"),
    (&["trace"], r"^[^\s.():]+(?:\.[^\s.():]+)*:", plain::named, "start_state"),
];

/// Traces of Ruby.
const RUBY: &[RuleText] = &[
    (&["start_state"], r"^.+:\d+:in\s+.*", plain::raised, "trace"),
    (&["trace"], r"^\s+from\s+.*:\d+:in\s+.*", plain::raised_from, "trace"),
];

pub(super) fn all() -> Vec<Arc<MultilineParser>> {
    let texts = [("go", GO), ("java", JAVA), ("python", PYTHON), ("ruby", RUBY)];
    let texts = texts.into_iter().map(|(name, rules)| of_texts(name, rules));
    [cri(), docker()].into_iter().chain(texts).map(Arc::new).collect()
}

fn of_texts(name: &str, rules: &[RuleText]) -> MultilineParser {
    let rules = rules.iter().map(|(from, regex, plain, next)| {
        let regex = Regex::new(regex).expect("the built-in expressions compile: a test says so");
        Rule {
            from: from.iter().map(|state| (*state).to_owned()).collect(),
            matcher: Matcher::new(regex, Some(*plain)),
            next: (*next).to_owned(),
        }
    });
    MultilineParser {
        name: name.to_owned(),
        kind: Kind::Regex(Rules::new(rules.collect())),
        content_key: None,
        pattern_key: None,
        group_key: None,
        form: None,
        flush_timeout: FLUSH_TIMEOUT,
    }
}

fn cri() -> MultilineParser {
    MultilineParser {
        name: "cri".to_owned(),
        kind: Kind::Equal(Text { text: b"F".to_vec(), is_negated: false }),
        content_key: Some(b"log".to_vec()),
        pattern_key: Some(b"_p".to_vec()),
        group_key: Some(b"stream".to_vec()),
        form: Some(LineForm::Cri(StampFormat::new("%Y-%m-%dT%H:%M:%S.%L%z", Zone::Written))),
        flush_timeout: FLUSH_TIMEOUT,
    }
}

fn docker() -> MultilineParser {
    MultilineParser {
        name: "docker".to_owned(),
        kind: Kind::EndsWith(Text { text: b"\n".to_vec(), is_negated: false }),
        content_key: Some(b"log".to_vec()),
        pattern_key: None,
        group_key: Some(b"stream".to_vec()),
        form: Some(LineForm::Docker(StampFormat::new("%Y-%m-%dT%H:%M:%S.%L", Zone::Utc))),
        flush_timeout: FLUSH_TIMEOUT,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::regex::{Captures, Found};

    /// What the expressions are made of, and what comes near it.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        let words = [
            " ",
            " ",
            "  ",
            "\t",
            "\r",
            ".",
            ":",
            "(",
            ")",
            "*",
            "1",
            "23",
            "x",
            "é",
            "...",
            "…",
            "_",
            "[",
            "]",
            "at ",
            "eval ",
            "File ",
            "from ",
            "panic: ",
            "http: panic serving",
            "[signal ",
            "goroutine ",
            "created by ",
            "Exception",
            "Error",
            "Throwable",
            "V8 errors stack trace",
            "nested exception is:",
            "Caused by",
            "Suppressed:",
            "--- End of inner exception stack trace ---",
            ":in",
            ":in ",
            ":7:in",
            " more",
            "common frames omitted",
            "--- End of stack trace from previous location where exception was thrown ---",
            "main.f",
            "net/http.(*conn)",
            "Traceback (most recent call last):",
        ];
        let word = prop_oneof![
            30 => prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
            1 => Just(vec![0xe4]),
        ];
        proptest::collection::vec(word, 0..7).prop_map(|words| words.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn by_hand_is_what_the_expressions_say(line in line()) {
            let mut captures = Captures::default();
            for (_, expression, plain, _) in JAVA.iter().chain(GO).chain(PYTHON).chain(RUBY) {
                let regex = Regex::new(expression).unwrap();
                let expected = regex.search(&line, &mut captures) == Found::Match;
                let found = plain(&line).unwrap_or(expected);
                let text = String::from_utf8_lossy(&line);
                prop_assert_eq!(found, expected, "{} on {:?}", expression, text);
            }
        }
    }
}
