//! What filters make of records, against what Fluent Bit 5.1.1 made of the same records by the same configuration.
//!
//! Each `golden/filters/<filter>/<case>.conf` reads standard input, the records of `<case>.json`, else of
//! `records.json` beside it or above, and stands beside its `.expected`: what standard output got, without numbers and
//! times. `DATAPLANE_RECORD_WITH=<fluent-bit>` records them anew.

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Dataplane, tests_path};

fn cases() -> Vec<PathBuf> {
    let mut cases = Vec::new();
    for folder in fs::read_dir(tests_path("golden/filters")).expect("the cases") {
        let folder = folder.expect("a readable folder").path();
        if folder.is_dir() {
            let files = fs::read_dir(&folder).expect("a readable folder");
            cases.extend(files.map(|entry| entry.expect("a readable folder").path()));
        }
    }
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    cases.sort();
    assert!(cases.len() > 40, "only {cases:?}");
    cases
}

fn records(case: &Path) -> File {
    let paths = [
        case.with_extension("json"),
        case.with_file_name("records.json"),
        tests_path("golden/filters/records.json"),
    ];
    let path = paths.iter().find(|path| path.exists()).expect("the records of all cases");
    File::open(path).expect("the records of the case")
}

/// Without the number in the chunk and the time. Tags have no order among themselves, and neither have the
/// filter and the output that print, so lines that show tags are sorted.
fn comparable(stdout: &[u8]) -> String {
    let text = std::str::from_utf8(stdout).expect("the records are UTF-8");
    let mut lines: Vec<String> = text.lines().map(without_time).collect();
    if lines.iter().zip(text.lines()).any(|(line, whole)| line != whole) {
        lines.sort();
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// `[0] tag: [[1.2, {}], {...}]`, as the output prints it, and `[0] tag: [1.2, {}, {...}]`, as the filter does.
fn without_time(line: &str) -> String {
    let Some((number, rest)) = line.split_once("] ") else { return line.to_owned() };
    let is_number = number.strip_prefix('[').is_some_and(|number| number.parse::<u32>().is_ok());
    let time = rest.find(": [").map(|at| at + 3);
    match time.and_then(|time| Some((time, time + rest[time..].find(", ")?))) {
        Some((time, end)) if is_number => format!("{}{}", &rest[..time], &rest[end..]),
        _ => line.to_owned(),
    }
}

#[test]
fn records_are_those_of_fluent_bit() {
    if let Some(program) = std::env::var_os("DATAPLANE_RECORD_WITH") {
        return record(Path::new(&program));
    }
    let mut failures = String::new();
    // A few at a time: each is a process with threads of its own.
    for cases in cases().chunks(8) {
        let runs = cases.iter().map(|case| {
            let arguments = [std::ffi::OsStr::new("-c"), case.as_os_str()];
            let run = Dataplane::new().args(["--shards", "2"]).args(arguments);
            (case, run.stdin_from(records(case)).start())
        });
        for (case, run) in runs.collect::<Vec<_>>() {
            let ended = run.wait();
            ended.law();
            let expected = case.with_extension("expected");
            let expected = fs::read_to_string(expected).expect("a recording");
            let printed = comparable(&ended.stdout);
            if printed != expected {
                let case = case.display();
                failures += &format!("{case}\n--- Fluent Bit\n{expected}--- dataplane\n{printed}");
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

fn record(program: &Path) {
    let start = |case: PathBuf| {
        // Fluent Bit takes no file for its standard input, and gives back what filters hold only while it runs.
        let mut pipe = Command::new("sh");
        pipe.args(["-c", "cat && sleep 6"]).stdin(records(&case)).stdout(Stdio::piped());
        let pipe = pipe.spawn().expect("a shell runs").stdout.expect("its output is piped");
        let mut command = Command::new("timeout");
        command.args(["-s", "INT", "12"]).arg(program).arg("-q").arg("-c").arg(&case).stdin(pipe);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        (case, child.expect("the recorder runs"))
    };
    for (case, child) in cases().into_iter().map(start).collect::<Vec<_>>() {
        let output = child.wait_with_output().expect("the recorder ends");
        let expected = comparable(&output.stdout);
        fs::write(case.with_extension("expected"), expected).expect("the recording is written");
    }
}

#[test]
fn a_failed_expectation_ends_the_process_with_255() {
    let config = "[INPUT]\n    name dummy\n    rate 10\n[FILTER]\n    name expect\n    match *\n    action exit\n    \
                  key_exists nope\n[OUTPUT]\n    name null\n    match *\n";
    let ended = Dataplane::with_config(config).end();
    assert_eq!(ended.code(), 255, "{}", ended.log);
    assert!(ended.log.contains("exception on rule #0 'key_exists', key 'nope' not found"));
}

#[test]
fn rules_that_loop_end_and_are_told_of() {
    let config = "[INPUT]\n    name stdin\n    tag a\n[FILTER]\n    name rewrite_tag\n    match *\n    \
                  rule $n . a.$n true\n[OUTPUT]\n    name null\n    match *\n";
    let folder = support::folder();
    let records = folder.path().join("records");
    fs::write(&records, "{\"n\":\"x\"}\n{\"m\":\"x\"}\n").expect("records are written");
    let records = File::open(records).expect("the records");
    let ended = Dataplane::with_config(config).args(["-v"]).stdin_from(records).end();
    let law = ended.law();
    // Kept in each round, and added again.
    assert_eq!((law.came_in, law.delivered), (10, 10), "{}", ended.log);
    assert!(ended.log.contains("its rules loop"), "{}", ended.log);
    assert!(ended.log.contains("filter rewrite_tag.0: dropped 0 records, re-tagged 8, added 8"));
}

#[test]
fn what_no_parser_can_take_is_counted_by_its_cause() {
    let folder = support::folder();
    let parsers = folder.path().join("parsers");
    fs::write(
        &parsers,
        "[PARSER]\n    name away\n    format regex\n    regex ^(?<x>(a|aa)+)$\n\
         [PARSER]\n    name j\n    format json\n",
    )
    .expect("parsers are written");
    let config = format!(
        "[SERVICE]\n    parsers_file {}\n[INPUT]\n    name stdin\n    tag a\n[FILTER]\n    name parser\n    match *\n    \
         key_name log\n    parser away\n    parser j\n[OUTPUT]\n    name null\n    match *\n",
        parsers.display()
    );
    let records = folder.path().join("records");
    let away = "a".repeat(60);
    let lines = format!(
        "{{\"log\":\"b\"}}\n{{\"log\":\"{away}b\"}}\n{{\"log\":\"aaa\"}}\n{{\"log\":\"{{}}\"}}\n{{\"log\":1}}\n{{}}\n"
    );
    fs::write(&records, lines).expect("records are written");
    let records = File::open(records).expect("the records");
    let ended = Dataplane::with_config(&config).args(["-v"]).stdin_from(records).end();
    let law = ended.law();
    assert_eq!((law.came_in, law.delivered), (6, 6), "{}", ended.log);
    assert!(law.line.ends_with("; unparsed 2 (runaway expressions 1)"), "{}", law.line);
    let account = "filter parser.0: dropped 0 records, re-tagged 0, added 0; unparsed 2 (runaway expressions 1)";
    assert!(ended.log.contains(account), "{}", ended.log);
}

#[test]
fn a_filter_of_the_command_line_and_of_yaml() {
    let flags = ["-i", "dummy", "-p", "samples=1", "-F", "grep", "-p", "exclude=message dummy"];
    let ended = Dataplane::new().args(flags).args(["-m", "*", "-o", "null", "--dry-run"]).end();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    let config = "pipeline:\n  inputs:\n    - name: stdin\n      tag: a\n  filters:\n    - name: modify\n      \
                  match: '*'\n      rename: a b\n      add:\n        - c d\n        - e f\n  outputs:\n    - name: \
                  stdout\n      match: '*'\n      format: json_lines\n      json_date_key: false\n";
    let folder = support::folder();
    let records = folder.path().join("records");
    fs::write(&records, "{\"a\":1}\n").expect("records are written");
    let records = File::open(records).expect("the records");
    let ended = Dataplane::with_config(config).stdin_from(records).end();
    assert_eq!(ended.text(), "{\"b\":1,\"c\":\"d\",\"e\":\"f\"}\n", "{}", ended.log);
    let help = Dataplane::new().args(["-h", "-F", "grep"]).end();
    assert!(help.text().contains("logical_op"), "{}", help.text());
}
