//! The multiline parsers that are always there.

use std::sync::Arc;

use crate::codec::regex::Regex;
use crate::multiline::definition::{FLUSH_TIMEOUT, Kind, LineForm, MultilineParser, Text};
use crate::multiline::rules::{Rule, Rules};
use crate::multiline::stamp::{StampFormat, Zone};

/// States, expression, next state.
type RuleText = (&'static [&'static str], &'static str, &'static str);

/// Traces of Java, C# and V8.
const JAVA: &[RuleText] = &[
    (
        &["start_state", "named"],
        r".(?:Exception|Error|Throwable|V8 errors stack trace)[:\r\n]",
        "thrown",
    ),
    (&["thrown"], r"^[ \t]*nested exception is:", "named"),
    (&["thrown"], r"^[\r\n]*$", "thrown"),
    (&["thrown", "frames"], r"^[ \t]+(?:eval )?at ", "frames"),
    (&["thrown", "frames"], r"^[ \t]+--- End of inner exception stack trace ---$", "frames"),
    (
        &["thrown", "frames"],
        r"^--- End of stack trace from previous location where exception was thrown ---$",
        "frames",
    ),
    (&["thrown", "frames"], r"^[ \t]*(?:Caused by|Suppressed):", "thrown"),
    (&["thrown", "frames"], r"^[ \t]*.{3} \d+ (?:more|common frames omitted)", "frames"),
];

/// Panics of Go.
const GO: &[RuleText] = &[
    (&["start_state"], r"\bpanic: ", "panic"),
    (&["start_state"], r"http: panic serving", "goroutine"),
    (&["panic"], r"^\[signal ", "signal"),
    (&["panic", "signal", "function"], r"^$", "goroutine"),
    (&["goroutine"], r"^goroutine \d+ \[[^\]]+\]:$", "function"),
    (&["function"], r"^(?:created by |[^\s:(]+(?:\(\*?[^\s:()]+\)[^\s:(]*)?\()", "place"),
    (&["place"], r"^\s", "function"),
];

/// Traces of Python.
const PYTHON: &[RuleText] = &[
    (&["start_state"], r"^Traceback \(most recent call last\):$", "trace"),
    (&["trace"], r"^[ \t]+File ", "code"),
    (&["code"], r"[^ \t]", "trace"),
    (&["trace"], r"^[^\s.():]+(?:\.[^\s.():]+)*:", "start_state"),
];

/// Traces of Ruby.
const RUBY: &[RuleText] = &[
    (&["start_state"], r"^.+:\d+:in\s+.*", "trace"),
    (&["trace"], r"^\s+from\s+.*:\d+:in\s+.*", "trace"),
];

pub(super) fn all() -> Vec<Arc<MultilineParser>> {
    let texts = [("go", GO), ("java", JAVA), ("python", PYTHON), ("ruby", RUBY)];
    let texts = texts.into_iter().map(|(name, rules)| of_texts(name, rules));
    [cri(), docker()].into_iter().chain(texts).map(Arc::new).collect()
}

fn of_texts(name: &str, rules: &[RuleText]) -> MultilineParser {
    let rules = rules.iter().map(|(from, regex, next)| Rule {
        from: from.iter().map(|state| (*state).to_owned()).collect(),
        regex: Regex::new(regex).expect("the built-in expressions compile: a test says so"),
        next: (*next).to_owned(),
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
