//! Records of a filter, groups and limits: what no log of `tests/golden/multiline` can say.

use std::sync::Arc;
use std::time::Duration;

use config::Problems;

use crate::event::encoder::{put_map_len, put_str, put_uint};
use crate::event::msgpack::{Head, map_get, read_head};
use crate::event::time::EventTime;
use crate::limits::MULTILINE_GROUPS_MAX;
use crate::multiline::{Joiner, Length, Multiline, MultilineParsers, Record, RecordSink, Stream};
use crate::plugin::parser::{Parsed, Parser, ParserScratch};
use crate::plugin::testing::section;

/// Finished records.
#[derive(Default)]
struct Finished {
    records: Vec<One>,
}

struct One {
    time: EventTime,
    metadata: Vec<u8>,
    body: Vec<u8>,
    length: Option<Length>,
}

impl RecordSink for Finished {
    fn begin(&mut self, time: EventTime, metadata: &[u8]) -> &mut Vec<u8> {
        let metadata = metadata.to_vec();
        self.records.push(One { time, metadata, body: Vec::new(), length: None });
        &mut self.records.last_mut().unwrap().body
    }

    fn end(&mut self, length: Length) {
        let one = self.records.last_mut().unwrap();
        for map in [&one.metadata, &one.body] {
            rmpv::decode::read_value(&mut map.as_slice()).unwrap();
        }
        assert_eq!(one.length.replace(length), None);
    }
}

impl Finished {
    /// The content of each record.
    fn texts(&self, key: &str) -> Vec<String> {
        let text = |body: &[u8]| match map_get(body, key.as_bytes()).map(|mut v| read_head(&mut v))
        {
            Some(Some(Head::Str(text))) => String::from_utf8_lossy(text).into_owned(),
            other => format!("{other:?}"),
        };
        self.records.iter().map(|one| text(&one.body)).collect()
    }
}

struct Bench {
    joiner: Joiner,
    stream: Stream,
    finished: Finished,
}

impl Bench {
    fn new(parsers: &str, key: Option<&str>, bytes_max: usize) -> Bench {
        let all = MultilineParsers::new(bytes_max);
        let section = section(&[("multiline.parser", parsers)]);
        let plan = all.of_key(&section, "multiline.parser", &mut Problems::default());
        let plan = plan.unwrap().unwrap().with_content_key(key);
        let joiner = Joiner::new(plan.into());
        let stream = joiner.stream();
        Bench { joiner, stream, finished: Finished::default() }
    }

    fn record(&mut self, secs: u32, metadata: &[u8], pairs: &[(&str, &str)]) {
        let time = EventTime { secs, nanos: 0 };
        let body = map(pairs);
        let record = Record { time, metadata, body: &body };
        self.joiner.take_record(&mut self.stream, &record, time, &mut self.finished);
    }

    fn line(&mut self, secs: u32, line: &str) {
        let time = EventTime { secs, nanos: 0 };
        self.joiner.take_line(&mut self.stream, line.as_bytes(), time, &mut self.finished);
    }
}

fn map(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_map_len(&mut out, pairs.len());
    for (key, value) in pairs {
        put_str(&mut out, key.as_bytes());
        put_str(&mut out, value.as_bytes());
    }
    out
}

const NONE: &[u8] = &[0x80];

#[test]
fn records_are_joined_by_the_chosen_key_and_bear_all_metadata_once() {
    let mut bench = Bench::new("ruby,python", Some("text"), 1000);
    let metadata = [map(&[("a", "1")]), map(&[("b", "2"), ("a", "1")]), map(&[("a", "3")])];
    bench.record(
        5,
        &metadata[0],
        &[("k", "1"), ("text", "Traceback (most recent call last):"), ("l", "1")],
    );
    bench.record(6, &metadata[1], &[("k", "2"), ("text", "  File x")]);
    bench.record(7, &metadata[2], &[("text", "    code")]);
    assert!(bench.stream.is_pending() && bench.finished.records.is_empty());
    bench.record(8, NONE, &[("text", "other"), ("log", "Traceback (most recent call last):")]);
    bench.record(9, NONE, &[("log", "no text")]);
    let [joined, other, without] = bench.finished.records.as_slice() else { panic!() };
    let text = "Traceback (most recent call last):\n  File x\n    code";
    assert_eq!(joined.body, map(&[("k", "1"), ("text", text), ("l", "1")]));
    assert_eq!((joined.time.secs, joined.length), (5, Some(Length::Whole)));
    assert_eq!(joined.metadata, map(&[("a", "1"), ("b", "2"), ("a", "3")]));
    assert_eq!(
        other.body,
        map(&[("text", "other"), ("log", "Traceback (most recent call last):")])
    );
    assert_eq!(without.body, map(&[("log", "no text")]));
}

#[test]
fn the_content_of_a_record_may_be_a_line_of_a_runtime() {
    let mut bench = Bench::new("cri", Some("message"), 1000);
    bench.record(5, &map(&[("m", "1")]), &[("message", "2024-01-02T03:04:05.5Z stdout P a ")]);
    bench.record(6, NONE, &[("message", "never a time stdout F b")]);
    bench.record(7, NONE, &[("message", "never a time stdout F alone")]);
    assert_eq!(bench.finished.texts("log"), ["a b", "alone"]);
    let [joined, alone] = bench.finished.records.as_slice() else { panic!() };
    assert_eq!(joined.time, EventTime { secs: 1_704_164_645, nanos: 500_000_000 });
    assert_eq!(joined.metadata, map(&[("m", "1")]));
    assert_eq!(alone.time.secs, 7);
}

#[test]
fn what_meets_the_limit_goes_on_in_another_record_and_says_so() {
    let mut bench = Bench::new("cri", None, 7);
    bench.line(1, "2024-01-02T03:04:05.1Z stdout P aaaa");
    bench.line(1, "2024-01-02T03:04:05.2Z stdout P bbéccccccc");
    bench.line(1, "2024-01-02T03:04:05.3Z stdout F d");
    // The character that does not fit is not cut in halves.
    assert_eq!(bench.finished.texts("log"), ["aaaabb", "éccccc", "ccd"]);
    let lengths: Vec<_> =
        bench.finished.records.iter().map(|record| record.length.unwrap()).collect();
    assert_eq!(lengths, [Length::Truncated, Length::Truncated, Length::Whole]);
    let cut = [&[0x81][..], b"\xb3multiline_truncated\xc3"].concat();
    assert_eq!(bench.finished.records[0].metadata, cut);
    assert_eq!(bench.finished.records[2].metadata, NONE);
    // One that is whole at once waits for nothing and meets no limit.
    bench.line(1, "2024-01-02T03:04:05.3Z stdout F far beyond the limit");
    assert_eq!(bench.finished.records[3].length, Some(Length::Whole));
}

#[test]
fn too_many_groups_end_the_quiet_one() {
    let mut bench = Bench::new("docker", None, 1000);
    let line = |stream: usize, log: &str| format!("{{\"log\":\"{log}\",\"stream\":\"s{stream}\"}}");
    for stream in 0..MULTILINE_GROUPS_MAX - 1 {
        bench.line(10 + stream as u32, &line(stream, "a"));
    }
    bench.line(100, &line(0, "b"));
    assert!(bench.finished.records.is_empty());
    bench.line(101, &line(99, "c"));
    assert_eq!(bench.finished.texts("stream"), ["s1"]);
    bench.line(102, &line(0, "d\\n"));
    bench.line(103, &line(99, "d\\n"));
    assert_eq!(bench.finished.texts("log"), ["a", "abd\n", "cd\n"]);
}

#[test]
fn only_what_is_idle_is_flushed() {
    let mut bench = Bench::new("cri", None, 1000);
    bench.line(10, "2024-01-02T03:04:05.1Z stdout P a");
    bench.line(12, "2024-01-02T03:04:05.1Z stderr P b");
    assert_eq!(bench.stream.oldest_ns(), Some(10_000_000_000));
    let idle = bench.joiner.flush_timeout();
    assert_eq!(idle.as_secs(), 4);
    for (secs, expected) in [(13, &[][..]), (14, &["a"]), (15, &["a"]), (16, &["a", "b"])] {
        let now = EventTime { secs, nanos: 0 };
        bench.joiner.flush_idle(&mut bench.stream, now, idle, &mut bench.finished);
        assert_eq!(bench.finished.texts("log"), expected, "{secs}");
    }
    assert!(!bench.stream.is_pending());
}

/// Takes `n=5` and `t=text`, separated by commas.
#[derive(Debug)]
struct Pairs;

impl Parser for Pairs {
    fn parse(
        &self,
        text: &[u8],
        _now: EventTime,
        _scratch: &mut ParserScratch,
        out: &mut Vec<u8>,
    ) -> Parsed {
        let text = std::str::from_utf8(text).unwrap();
        if text.starts_with('+') {
            return Parsed::Unparsed;
        }
        let Some(pairs) = text.split(',').map(|pair| pair.split_once('=')).collect() else {
            return Parsed::Unparsed;
        };
        let pairs: Vec<(&str, &str)> = pairs;
        put_map_len(out, pairs.len());
        for (key, value) in pairs {
            put_str(out, key.as_bytes());
            match value.parse() {
                Ok(number) => put_uint(out, number),
                Err(_) => put_str(out, value.as_bytes()),
            }
        }
        Parsed::Body { time: None, consumed: text.len() }
    }
}

/// Takes `+n=5`.
#[derive(Debug)]
struct MorePairs;

impl Parser for MorePairs {
    fn parse(
        &self,
        text: &[u8],
        now: EventTime,
        scratch: &mut ParserScratch,
        out: &mut Vec<u8>,
    ) -> Parsed {
        let Some(text) = text.strip_prefix(b"+") else { return Parsed::Unparsed };
        Pairs.parse(text, now, scratch, out)
    }
}

#[test]
fn by_the_first_line_no_line_is_lost() {
    let all = MultilineParsers::new(40);
    let (first, others): (Arc<dyn Parser>, _) = (Arc::new(Pairs), vec![Arc::new(MorePairs) as _]);
    let wait = Duration::from_secs(1);
    let plan = Multiline::by_first_line(first, others, "text", wait, &all);
    let joiner = Joiner::new(plan.into());
    let stream = joiner.stream();
    let mut bench = Bench { joiner, stream, finished: Finished::default() };
    let far = "x".repeat(60);
    for line in ["before", "", "t=a,n=1", "more", "+n=2", "", "still", "n=1", "none", "one"] {
        bench.line(1, line);
    }
    for line in ["n=1", "+m=2", "+s=a", "b", "t=a", &far, "alone"] {
        bench.line(2, line);
    }
    let texts: Vec<String> = (bench.finished.records.iter())
        .map(|one| rmpv::decode::read_value(&mut one.body.as_slice()).unwrap().to_string())
        .collect();
    let cut = format!(r#"{{"t": "a\n{}"}}"#, "x".repeat(38));
    let expected = [
        r#"{"text": "before"}"#,
        r#"{"text": ""}"#,
        r#"{"t": "a\nmore\n\nstill", "n": 1, "n": 2}"#,
        r#"{"n": 1, "text": "none\none"}"#,
        r#"{"n": 1, "m": 2, "s": "a\nb"}"#,
        &cut,
        r#"{"text": "alone"}"#,
    ];
    assert_eq!(texts, expected);
}
