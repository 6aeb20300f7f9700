//! What filters make of records, against what Fluent Bit 5.1.1 made of the same records by the same configuration.
//!
//! Each `golden/filters/<filter>/<case>.conf` reads standard input, the records of `<case>.json` or else of
//! `golden/filters/records.json`, and stands beside its `.expected`: what standard output got, without numbers and
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
    let own = case.with_extension("json");
    let path = if own.exists() { own } else { tests_path("golden/filters/records.json") };
    File::open(path).expect("the records of the case")
}

/// Whether keys have an order: those of a Lua table have none.
fn keeps_order(case: &Path) -> bool {
    !case.parent().is_some_and(|folder| folder.ends_with("lua"))
}

/// Without the number in the chunk and the time. Tags have no order among themselves, and neither have the
/// filter and the output that print, so lines that show tags are sorted. Keys without an order are sorted too.
fn comparable(stdout: &[u8], case: &Path) -> String {
    let text = std::str::from_utf8(stdout).expect("the records are UTF-8");
    if !keeps_order(case) && text.starts_with('{') {
        // The map of the crate is sorted.
        let sorted = text.lines().map(|line| {
            let value: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            format!("{value}\n")
        });
        return sorted.collect();
    }
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
            let printed = comparable(&ended.stdout, case);
            if printed != expected {
                let case = case.display();
                failures += &format!("{case}\n--- Fluent Bit\n{expected}--- dataplane\n{printed}");
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// Line by line, each in a read of its own.
const PACED: &str = r#"while IFS= read -r line; do printf '%s\n' "$line"; sleep 0.1; done"#;

fn record(program: &Path) {
    let start = |case: PathBuf| {
        // Fluent Bit takes no file for its standard input. It leaves all records of a read as they came where a script
        // fails on one.
        let pace = if keeps_order(&case) { "cat" } else { PACED };
        let mut pipe = Command::new("sh");
        let pipe = pipe.args(["-c", pace]).stdin(records(&case)).stdout(Stdio::piped()).spawn();
        let pipe = pipe.expect("a shell runs").stdout.expect("its output is piped");
        let mut command = Command::new("timeout");
        command.args(["-s", "INT", "6"]).arg(program).arg("-q").arg("-c").arg(&case).stdin(pipe);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        (case, child.expect("the recorder runs"))
    };
    for (case, child) in cases().into_iter().map(start).collect::<Vec<_>>() {
        let output = child.wait_with_output().expect("the recorder ends");
        let expected = comparable(&output.stdout, &case);
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

fn one_record(config: &str) -> support::Ended {
    let folder = support::folder();
    let records = folder.path().join("records");
    fs::write(&records, "{\"a\":1}\n").expect("records are written");
    let records = File::open(records).expect("the records");
    Dataplane::with_config(config).stdin_from(records).end()
}

#[test]
fn a_lua_error_is_counted_or_ends_the_process_and_loses_nothing() {
    let config = |more: &str| {
        format!(
            "[INPUT]\n    name stdin\n    tag t\n[FILTER]\n    name lua\n    match *\n    call f\n    code function f() \
             error('boom') end\n{more}[OUTPUT]\n    name stdout\n    match *\n    format json_lines\n    \
             json_date_key false\n"
        )
    };
    for (more, code) in [("", 0), ("    protected_mode off\n", 255)] {
        let ended = one_record(&config(more));
        assert_eq!((ended.text().as_str(), ended.code()), ("{\"a\":1}\n", code), "{}", ended.log);
        let line = "[error] [filter:lua:lua.0] error code 2: [string \"fluentbit.lua\"]:1: boom";
        assert!(ended.log.contains(line), "{}", ended.log);
        assert!(ended.log.contains("filter lua.0: failed on 1 records"), "{}", ended.log);
        assert!(ended.log.contains("in 1 = delivered 1 + dropped 0 + left 0"), "{}", ended.log);
    }
}

#[test]
fn a_script_that_is_no_lua_is_refused_where_it_is_named() {
    let folder = support::folder();
    fs::write(folder.path().join("bad.lua"), "x = 1\nfunction f(\n").expect("a script is written");
    let config = "[INPUT]\n    name dummy\n[FILTER]\n    name lua\n    match *\n    script bad.lua\n    call f\n\
                  [OUTPUT]\n    name null\n    match *\n";
    fs::write(folder.path().join("main.conf"), config).expect("a configuration is written");
    for more in [&["--dry-run"][..], &[]] {
        let ended = Dataplane::new().args(["-c", "main.conf"]).args(more);
        let ended = ended.current_dir(folder.path()).end();
        assert_ne!(ended.code(), 0);
        for expected in ["main.conf:6:12", "`script`: bad.lua:3: "] {
            assert!(ended.log.contains(expected), "{}", ended.log);
        }
    }
}

#[test]
fn scripts_load_modules_that_are_written_in_c() {
    let module = support::plugins::c_plugin("lua_module");
    let folder = module.parent().expect("it lies in a folder").display();
    let config = format!(
        "@SET MODULES={folder}\n[INPUT]\n    name stdin\n    tag t\n[FILTER]\n    name lua\n    match *\n    call f\n    \
         code package.cpath = FLB_ENV.MODULES .. '/?.so' local half = require('lua_module') function f(tag, time, \
         record) record.half = half(record.a) return 2, time, record end\n[OUTPUT]\n    name stdout\n    match *\n    \
         format json_lines\n    json_date_key false\n"
    );
    let ended = one_record(&config);
    let record: serde_json::Value = serde_json::from_str(&ended.text()).expect("a record");
    assert_eq!(record, serde_json::json!({"a": 1, "half": 0.5}), "{}", ended.log);
}
