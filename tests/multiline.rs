//! What multiline parsers make of lines, against what Fluent Bit 5.1.1 made of the same lines by the same
//! configuration.
//!
//! Each `golden/multiline/<case>.conf` reads a log of `golden/multiline/logs` and stands beside its `.expected`: time,
//! metadata and body of each record. `DATAPLANE_RECORD_WITH=<fluent-bit>` records them anew: without `exit_on_eof`, as
//! Fluent Bit crashes when something is in the making at its end, and for long enough that it flushes that before.

mod support;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use support::{Dataplane, tests_path};

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
