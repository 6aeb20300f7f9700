//! What multiline parsers make of lines, against what Fluent Bit 5.1.1 made of the same lines by the same
//! configuration.
//!
//! Each `golden/multiline/<case>.conf` reads a log of `golden/multiline/logs` and stands beside its `.expected`: time,
//! metadata and body of each record. `DATAPLANE_RECORD_WITH=<fluent-bit>` records them anew: without `exit_on_eof`, as
//! Fluent Bit crashes when something is in the making at its end, and for long enough that it flushes that before.

mod support;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use support::{Dataplane, Run, folder, tests_path, wait_until};

/// Twice the longest flush timeout, and a little more: Fluent Bit looks once in a timeout.
const RECORDED_SECONDS: &str = "9";

fn cases() -> Vec<PathBuf> {
    let all = fs::read_dir(tests_path("golden/multiline")).expect("the cases");
    let mut cases: Vec<PathBuf> = all
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .filter(|path| path.file_name().is_some_and(|name| name != "parsers.conf"))
        .collect();
    cases.sort();
    assert!(cases.len() > 20, "only {cases:?}");
    cases
}

/// `[0] t: [[1700000000.000000000, {}], {"log"=>"x"}]` without its number, and with `now` for a time near the clock's.
fn comparable(stdout: &[u8]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let text = String::from_utf8_lossy(stdout);
    let mut records = String::new();
    for line in text.split('\n') {
        let record = line.starts_with('[').then(|| line.split_once("] t: [[")).flatten();
        let Some((_, rest)) = record else {
            // Values may hold line feeds.
            records += "\\n";
            records += line;
            continue;
        };
        let (time, rest) = rest.split_once(", ").expect("metadata follows the time");
        let secs: u64 = time.split('.').next().and_then(|secs| secs.parse().ok()).expect("a time");
        let time = if secs.abs_diff(now) < 3600 { "now" } else { time };
        // Writing to a String cannot fail.
        let _ = write!(records, "\n{time} {rest}");
    }
    let records = records.trim_start().trim_end_matches("\\n").replace('\r', "\\r");
    records + "\n"
}

#[test]
fn records_are_those_of_fluent_bit() {
    if let Some(program) = std::env::var_os("DATAPLANE_RECORD_WITH") {
        std::thread::scope(|scope| {
            for case in cases() {
                let program = Path::new(&program).to_owned();
                scope.spawn(move || record(&program, &case));
            }
        });
        return;
    }
    let mut failures = String::new();
    for batch in cases().chunks(8) {
        let runs: Vec<_> = batch
            .iter()
            .map(|case| {
                let run = Dataplane::new().args(["--shards", "1", "-c"]).args([case]);
                (case, run.current_dir(&tests_path("golden/multiline")).start())
            })
            .collect();
        for (case, run) in runs {
            let expected =
                fs::read_to_string(case.with_extension("expected")).expect("a recording");
            let ended = run.wait();
            ended.law();
            let printed = comparable(&ended.stdout);
            if printed != expected {
                let case = case.display();
                failures += &format!("{case}\n--- Fluent Bit\n{expected}--- dataplane\n{printed}");
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

fn record(program: &Path, case: &Path) {
    let configuration = fs::read_to_string(case).expect("a configuration");
    let lines = configuration.lines().filter(|line| !line.contains("exit_on_eof"));
    let endless = case.with_extension("endless");
    fs::write(&endless, lines.collect::<Vec<_>>().join("\n") + "\n").expect("it is written");
    let mut command = Command::new("timeout");
    command.args(["--foreground", "-s", "TERM", RECORDED_SECONDS]).arg(program);
    command.arg("-q").arg("-c").arg(&endless).current_dir(tests_path("golden/multiline"));
    let output = command.output().expect("the recorder runs");
    fs::remove_file(&endless).expect("it was written");
    fs::write(case.with_extension("expected"), comparable(&output.stdout)).expect("it is written");
}

/// Joins lines that begin with a letter and indented ones, and waits half a second for more.
const PARSERS: &str = "[MULTILINE_PARSER]\n name indented\n type regex\n flush_timeout 500\n \
    rule \"start_state\" \"/^[a-z]/\" \"more\"\n rule \"more\" \"/^ /\" \"more\"\n";

/// A folder with parsers, and `tail` of its `*.log` with a multiline parser on one shard.
fn start(parser: &str, more: &str, filter: &str) -> (Run, tempfile::TempDir) {
    let folder = folder();
    fs::write(folder.path().join("parsers.conf"), PARSERS).expect("a file");
    let at = folder.path().to_str().expect("a plain name");
    let config = format!(
        "[SERVICE]\n flush 0.05\n shards 1\n multiline_buffer_limit 256K\n parsers_file {at}/parsers.conf\n\
         [INPUT]\n name tail\n path {at}/*.log\n tag t\n read_from_head on\n multiline.parser {parser}\n{more}\n\
         {filter}\n[OUTPUT]\n name stdout\n match *\n format json_lines\n json_date_key false\n"
    );
    (Dataplane::with_config(&config).started(), folder)
}

fn append(folder: &tempfile::TempDir, name: &str, text: &str) {
    let file = File::options().create(true).append(true).open(folder.path().join(name));
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("the file is writable");
}

#[test]
fn what_waits_for_more_is_delivered_in_the_end_and_whole() {
    let (run, folder) = start("indented", "", "");
    append(&folder, "a.log", "one\n two\n");
    run.wait_for_stdout(|text| text == "{\"log\":\"one\\n two\\n\"}\n");
    // The rule stays, as in Fluent Bit: what comes too late is a record of its own.
    append(&folder, "a.log", " three\n");
    run.wait_for_stdout(|text| text.ends_with("{\"log\":\" three\\n\"}\n"));
    assert_eq!(run.stop().law().delivered, 2);
}

#[test]
fn a_part_is_delivered_though_the_other_stream_of_its_file_goes_on() {
    let (run, folder) = start("indented, cri", "", "");
    append(&folder, "a.log", "2024-01-02T03:04:05.1Z stderr P waits\n");
    // The flush timeout is the longest of both, four seconds; lines come all the time.
    let mut count = 0;
    wait_until("the part of stderr", || {
        append(&folder, "a.log", "2024-01-02T03:04:05.1Z stdout F goes on\n");
        count += 1;
        run.stdout().contains("waits")
    });
    assert_eq!(run.stop().law().delivered, count + 1);
}

#[test]
fn what_waits_at_the_stop_is_delivered() {
    let (run, folder) = start("cri", "", "");
    let text = "2024-01-02T03:04:05.1Z stdout F read\n2024-01-02T03:04:05.2Z stdout P held\n";
    append(&folder, "a.log", text);
    run.wait_for_stdout(|text| text.contains("read"));
    assert!(!run.stdout().contains("held"));
    let ended = run.stop();
    assert_eq!(ended.law().delivered, 2);
    assert!(ended.text().contains("\"log\":\"held\""));
}

#[test]
fn a_record_ends_with_its_file() {
    let (run, folder) = start("java", " rotate_wait 1", "");
    append(&folder, "a.log", "an.Error: old\n\tat old.place\n");
    run.wait_for_log("a.log` from byte 0");
    append(&folder, "b.log", "first\nan.Error: cut\n");
    let path = |name: &str| folder.path().join(name);
    fs::rename(path("a.log"), path("a.log.1")).expect("it is renamed");
    append(&folder, "a.log", "\tat new.place\n\tat other.place\nnothing\n");
    let text = run.wait_for_stdout(|text| text.contains("old") && text.contains("nothing"));
    assert!(text.contains("{\"log\":\"an.Error: old\\n\\tat old.place\\n\"}\n"), "{text}");
    assert!(text.contains("{\"log\":\"\\tat new.place\\n\"}\n"), "{text}");
    // Truncated, a file begins anew, and so does its record.
    run.wait_for_stdout(|text| text.contains("first"));
    fs::write(path("b.log"), "x\n").expect("it is written");
    run.wait_for_stdout(|text| {
        text.contains("{\"log\":\"an.Error: cut\\n\"}\n{\"log\":\"x\\n\"}\n")
    });
    assert_eq!(run.stop().law().delivered, 7);
}

#[test]
fn a_record_without_end_takes_no_more_memory_than_its_limit() {
    let (run, folder) = start("cri", "", "[FILTER]\n name grep\n match *\n regex log ^end$");
    let part = format!("2024-01-02T03:04:05.1Z stdout P {}\n", "x".repeat(16 * 1024));
    for _ in 0..6 {
        append(&folder, "a.log", &part.repeat(1024));
    }
    append(&folder, "a.log", "end\n");
    run.wait_for_stdout(|text| text.contains("end"));
    let resident_bytes = run.resident_bytes_max();
    assert!(resident_bytes < 64 << 20, "{resident_bytes} bytes");
    let ended = run.stop();
    // 96 MiB in records of 256 KiB, of which the last one met no limit.
    assert!(ended.law().line.ends_with("; truncated 383"), "{}", ended.law().line);
    assert!(ended.log.contains("met `multiline_buffer_limit`"), "{}", ended.log);
}
