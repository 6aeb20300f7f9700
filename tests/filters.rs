//! What filters make of records, against what Fluent Bit 5.1.1 made of the same records by the same configuration.
//!
//! Each `golden/filters/<filter>/<case>.conf` reads standard input, the records of `<case>.json`, else of
//! `records.json` beside it or above, and stands beside its `.expected`: what standard output got, without numbers and
//! times. `DATAPLANE_RECORD_WITH=<fluent-bit>` records them anew.

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
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
        // Fluent Bit takes no file for its standard input, and gives back what filters hold only while it runs. It
        // leaves all records of a read as they came where a script fails on one.
        let pace = if keeps_order(&case) { "cat" } else { PACED };
        let mut pipe = Command::new("sh");
        pipe.args(["-c", &format!("{pace}; sleep 6")]).stdin(records(&case)).stdout(Stdio::piped());
        let pipe = pipe.spawn().expect("a shell runs").stdout.expect("its output is piped");
        let mut command = Command::new("timeout");
        command.args(["-s", "INT", "12"]).arg(program).arg("-q").arg("-c").arg(&case).stdin(pipe);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        (case, child.expect("the recorder runs"))
    };
    for (case, child) in cases().into_iter().map(start).collect::<Vec<_>>() {
        let output = child.wait_with_output().expect("the recorder ends");
        let expected = comparable(&output.stdout, &case);
        fs::write(case.with_extension("expected"), expected).expect("the recording is written");
    }
}

/// The configurations of `multiline/pauses`, and their records: a blank line is a pause.
fn pauses() -> Vec<(PathBuf, Vec<String>)> {
    ["parser", "partial-message", "buffer-off"].map(paused).to_vec()
}

fn paused(name: &str) -> (PathBuf, Vec<String>) {
    let case = tests_path("golden/filters/multiline/pauses").join(name).with_extension("conf");
    let records = fs::read_to_string(case.with_extension("json")).expect("the records");
    let parts = records.split("\n\n").map(|part| format!("{}\n", part.trim_end())).collect();
    (case, parts)
}

#[test]
fn what_is_held_goes_on_after_a_pause() {
    if let Some(program) = std::env::var_os("DATAPLANE_RECORD_WITH") {
        return pauses().iter().for_each(|(case, parts)| record_paused(&program, case, parts));
    }
    for (case, parts) in pauses() {
        let expected = fs::read_to_string(case.with_extension("expected")).expect("a recording");
        let run = Dataplane::new().args(["--shards", "1", "-c"]).args([&case]).piped_stdin();
        let mut run = run.started();
        let mut stdin = run.stdin();
        let mut so_far = String::new();
        assert_eq!(expected.split("\n\n").count(), parts.len());
        for (part, expected) in parts.iter().zip(expected.split("\n\n")) {
            stdin.write_all(part.as_bytes()).expect("it reads");
            so_far += &format!("{}\n", expected.trim_end());
            run.wait_for_stdout(|text| text.len() >= so_far.trim_end().len());
            assert_eq!(run.stdout().trim_end(), so_far.trim_end(), "{}", case.display());
        }
        drop(stdin);
        let ended = run.wait();
        ended.law();
        assert_eq!(ended.text().trim_end(), so_far.trim_end(), "{}", case.display());
    }
}

fn record_paused(program: &std::ffi::OsStr, case: &Path, parts: &[String]) {
    let mut command = Command::new(program);
    command.arg("-q").arg("-c").arg(case).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().expect("the recorder runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut sections = Vec::new();
    for part in parts {
        stdin.write_all(part.as_bytes()).expect("it reads");
        // Fluent Bit looks for what is due twice in this time at least.
        std::thread::sleep(std::time::Duration::from_secs(4));
        let mut section = vec![0; 1 << 16];
        let count = stdout.read(&mut section).expect("it prints");
        sections.push(String::from_utf8_lossy(&section[..count]).trim_end().to_owned());
    }
    drop(stdin);
    child.wait().expect("the recorder ends");
    let text = sections.join("\n\n");
    fs::write(case.with_extension("expected"), text + "\n").expect("the recording is written");
}

/// A stack trace, then a message of one line, and the lines of the first one again.
const TRACES: &str = "{\"log\":\"java.lang.Error: one\"}\n{\"log\":\"\\tat a.A.a(A.java:1)\"}\n{\"log\":\"alone\"}\n\
                      {\"log\":\"java.lang.Error: two\"}\n{\"log\":\"\\tat b.B.b(B.java:1)\"}\n";

fn multiline(keys: &str, more: &str) -> String {
    format!(
        "[INPUT]\n    name stdin\n    tag a\n[FILTER]\n    name multiline\n    match *\n    flush_ms 3600000\n    \
         multiline.key_content log\n    {keys}\n{more}[OUTPUT]\n    name stdout\n    match *\n    format json_lines\n    \
         json_date_key false\n"
    )
}

#[test]
fn what_is_unfinished_at_the_stop_is_delivered() {
    let run = Dataplane::with_config(&multiline("multiline.parser java", ""));
    let mut run = run.args(["-v"]).piped_stdin().started();
    let mut stdin = run.stdin();
    stdin.write_all(TRACES.as_bytes()).expect("it reads");
    run.wait_for_stdout(|text| text.contains("alone"));
    assert!(!run.stdout().contains("two"));
    let ended = run.stop();
    let law = ended.law();
    assert_eq!((law.came_in, law.delivered, law.joined), (5, 3, 2), "{}", ended.log);
    let last = "{\"log\":\"java.lang.Error: two\\n\\tat b.B.b(B.java:1)\"}";
    assert_eq!(ended.text().lines().last(), Some(last));
    let account =
        "filter multiline.0: dropped 0 records, re-tagged 0, added 0, held 5, gave back 3";
    assert!(ended.log.contains(account), "{}", ended.log);
}

#[test]
fn what_one_filter_joined_the_next_joins_again() {
    let folder = support::folder();
    let records = folder.path().join("records");
    let lines: Vec<String> = ["a\\\\", "b;", "c;", "d\\\\", "e", "f;"]
        .iter()
        .map(|text| format!("{{\"log\":\"{text}\"}}\n"))
        .collect();
    fs::write(&records, lines.concat()).expect("records are written");
    let parsers = folder.path().join("parsers");
    fs::write(
        &parsers,
        "[MULTILINE_PARSER]\n    name until\n    type endswith\n    match_string ;\n    key_content log\n\
         [MULTILINE_PARSER]\n    name slash\n    type endswith\n    match_string \\\n    negate on\n",
    )
    .expect("parsers are written");
    let second = "[FILTER]\n    name multiline\n    match *\n    multiline.parser until\n    flush_ms 3600000\n";
    let config = format!(
        "[SERVICE]\n    parsers_file {}\n{}",
        parsers.display(),
        multiline("multiline.parser slash", second)
    );
    let run = Dataplane::with_config(&config).stdin_from(File::open(records).expect("the records"));
    let ended = run.end();
    assert_eq!(
        ended.text().trim_end(),
        "{\"log\":\"a\\\\b;\"}\n{\"log\":\"c;\"}\n{\"log\":\"d\\\\ef;\"}",
        "{}",
        ended.log
    );
    let law = ended.law();
    assert_eq!((law.came_in, law.delivered, law.joined), (6, 3, 3));
}

#[test]
fn a_record_without_end_is_cut_and_counted() {
    let folder = support::folder();
    let records = folder.path().join("records");
    let mut lines = String::from("{\"log\":\"java.lang.Error: one\"}\n");
    for number in 0..200 {
        lines += &format!("{{\"log\":\"\\tat a.A.a{number}(A.java:{})\"}}\n", "1".repeat(100));
    }
    fs::write(&records, lines).expect("records are written");
    let limit = "[SERVICE]\n    multiline_buffer_limit 4K\n";
    let config = format!("{limit}{}", multiline("multiline.parser java", ""));
    let run = Dataplane::with_config(&config).stdin_from(File::open(records).expect("the records"));
    let ended = run.args(["-v"]).end();
    let law = ended.law();
    assert_eq!(law.came_in, 201);
    let cut = law.line.split("; truncated ").nth(1).and_then(|count| count.parse::<u64>().ok());
    assert!(cut.is_some_and(|cut| cut > 0), "{}", ended.log);
    assert_eq!(ended.log.matches("multiline message truncated due to buffer limit").count(), 1);
    assert!(ended.log.contains("gave back ") && ended.log.matches("; truncated ").count() >= 3);
    assert!(ended.text().lines().all(|line| line.len() < 6_000));
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
