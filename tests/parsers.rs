//! What parsers make of lines, against what Fluent Bit 5.1.1 made of the same lines by the same definitions.
//!
//! `golden/parsers/line.conf` reads one log with one parser. Each `logs/<parser>.log` goes through the parser of its
//! name, defined in `stock.conf` (the names and keys of the parsers that Fluent Bit ships) or `formats.conf`, and
//! stands beside `expected/<parser>`: time and body of each record. `DATAPLANE_RECORD_WITH=<fluent-bit>` records
//! them anew.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use support::{Dataplane, tests_path};

/// Parsers whose times bear no year: that of the clock stands for it.
const WITHOUT_YEAR: [&str; 4] =
    ["syslog-rfc3164", "syslog-rfc3164-local", "pacemaker", "regex-no-year"];

/// Zone of the machine, for the parser that asks for it.
const ZONE: &str = "America/New_York";

fn parsers() -> Vec<String> {
    let logs = fs::read_dir(tests_path("golden/parsers/logs")).expect("the logs");
    let mut names: Vec<String> = logs
        .map(|entry| entry.expect("a readable folder").path())
        .map(|path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() > 40, "only {names:?}");
    names
}

/// `[0] t: [[1700000000.000000000, {}], {"log"=>"x"}]` as `1700000000.000000000 {"log"=>"x"}`; a time near the clock's
/// is `now`, and of one without a year the day and time of the year stay.
fn comparable(stdout: &[u8], parser: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let text = String::from_utf8_lossy(stdout);
    // Values may hold line feeds.
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match lines.last_mut() {
            Some(last) if !line.contains("] t: [[") => *last += &format!("\\n{line}"),
            _ => lines.push(line.to_owned()),
        }
    }
    let mut records = String::new();
    for line in lines {
        let (_, rest) = line.split_once(": [[").unwrap_or_else(|| panic!("not a record: {line}"));
        let (time, body) = rest.split_once(", {}], ").expect("no metadata");
        let secs: u64 = time.split('.').next().and_then(|secs| secs.parse().ok()).expect("a time");
        let body = body.strip_suffix(']').expect("a record ends");
        let shown = match secs.abs_diff(now) < 3600 {
            true => "now".to_owned(),
            false if WITHOUT_YEAR.contains(&parser) => {
                let stamp = jiff::Timestamp::from_second(secs as i64).expect("a time");
                stamp.strftime("%m-%d %H:%M:%S").to_string()
            }
            false => time.to_owned(),
        };
        records += &format!("{shown} {body}\n");
    }
    records
}

/// The log and the configuration, as they are named: relative to the working directory.
fn configuration() -> PathBuf {
    tests_path("golden/parsers/line.conf")
}

fn expected_path(parser: &str) -> PathBuf {
    tests_path("golden/parsers/expected").join(parser)
}

#[test]
fn records_are_those_of_fluent_bit() {
    if let Some(program) = std::env::var_os("DATAPLANE_RECORD_WITH") {
        for parser in parsers() {
            record(Path::new(&program), &parser);
        }
        return;
    }
    let mut failures = String::new();
    for batch in parsers().chunks(8) {
        let runs: Vec<_> = batch
            .iter()
            .map(|parser| {
                let run = Dataplane::new()
                    .args(["--shards", "1", "-c"])
                    .args([configuration()])
                    .env("TZ", ZONE)
                    .env("PARSER", parser)
                    .env("LOG", format!("logs/{parser}.log"));
                (parser, run.current_dir(&tests_path("golden/parsers")).start())
            })
            .collect();
        for (parser, run) in runs {
            let expected = fs::read_to_string(expected_path(parser)).expect("a recording");
            let ended = run.wait();
            let law = ended.law();
            let printed = comparable(&ended.stdout, parser);
            if printed != expected {
                failures +=
                    &format!("{parser}\n--- Fluent Bit\n{expected}--- dataplane\n{printed}");
            }
            // What is not parsed bears path and offset first, and then the line.
            let is_unparsed =
                |line: &&str| line.starts_with("now {\"path\"=>") && line.contains(", \"log\"=>");
            let unparsed = expected.lines().filter(is_unparsed).count();
            let says = law.line.contains(&format!("; unparsed {unparsed}"));
            assert!(says || unparsed == 0, "{parser}: {unparsed} in {}", law.line);
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

fn record(program: &Path, parser: &str) {
    let mut command = Command::new(program);
    command.arg("-q").arg("-c").arg(configuration());
    command.current_dir(tests_path("golden/parsers"));
    command.env("TZ", ZONE).env("PARSER", parser).env("LOG", format!("logs/{parser}.log"));
    let output = command.output().expect("the recorder runs");
    fs::write(expected_path(parser), comparable(&output.stdout, parser)).expect("it is written");
}
