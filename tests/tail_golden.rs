//! What `tail` makes of files, against what Fluent Bit 5.1.1 made of the same files by the same configuration.
//!
//! Each `golden/tail/<case>.conf` reads files of `golden/tail/logs` and stands beside its `.expected`: what
//! stdout printed, without number and time. `DATAPLANE_RECORD_WITH=<fluent-bit>` records them anew.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use support::{Dataplane, folder, tests_path};

/// The files, as they are named in the configurations: relative to the working directory.
fn lay_out() -> tempfile::TempDir {
    let folder = folder();
    copy(&tests_path("golden/tail/logs"), &folder.path().join("logs"));
    symlink("web_shop_front-01.log", folder.path().join("logs/link.log")).expect("a link");
    let old = fs::File::options().write(true).open(folder.path().join("logs/old.log"));
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    old.and_then(|file| file.set_modified(yesterday)).expect("a file gets its time");
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the files of the cases") {
        let path = entry.expect("a readable folder").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}

/// `[0] tag: [[1700000000.000000000, {}], {"log"=>"x"}]` without its number and time. Files have no order
/// among themselves, so where a configuration names several the lines are sorted.
fn comparable(stdout: &[u8], configuration: &str) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let text = String::from_utf8_lossy(line);
        assert!(text.starts_with('['), "not a record: {text}");
        let find = |what: &[u8], from: usize| {
            let found = line[from..].windows(what.len()).position(|window| window == what);
            found.map(|at| at + from).unwrap_or_else(|| panic!("not a record: {text}"))
        };
        let tag = find(b"] ", 0) + 2;
        let time = find(b": [[", tag) + 4;
        let metadata = find(b", ", time);
        lines.push([&line[tag..time], &line[metadata + 2..], b"\n"].concat());
    }
    let path = configuration.lines().find(|line| line.trim_start().starts_with("path "));
    if path.is_some_and(|path| path.contains([',', '*'])) {
        lines.sort();
    }
    lines.concat()
}

fn cases() -> Vec<PathBuf> {
    let all = fs::read_dir(tests_path("golden/tail")).expect("the cases");
    let mut cases: Vec<_> = all
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    cases.sort();
    assert!(cases.len() > 10, "only {cases:?}");
    cases
}

#[test]
fn records_are_those_of_fluent_bit() {
    let recorder = std::env::var_os("DATAPLANE_RECORD_WITH");
    let mut failures = String::new();
    let runs: Vec<_> = cases()
        .into_iter()
        .filter(|case| match &recorder {
            Some(program) => {
                record(Path::new(program), case);
                false
            }
            None => true,
        })
        .map(|case| {
            let folder = lay_out();
            let run = Dataplane::new().args(["--shards", "2", "-c"]).args([&case]);
            (case, run.current_dir(folder.path()).start(), folder)
        })
        .collect();
    for (case, run, _folder) in runs {
        let configuration = fs::read_to_string(&case).expect("a configuration");
        let expected = fs::read(case.with_extension("expected")).expect("a recording");
        let ended = run.wait();
        ended.law();
        let printed = comparable(&ended.stdout, &configuration);
        if printed != expected {
            failures += &format!(
                "{}\n--- Fluent Bit\n{}--- dataplane\n{}",
                case.display(),
                String::from_utf8_lossy(&expected),
                String::from_utf8_lossy(&printed)
            );
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

fn record(program: &Path, case: &Path) {
    let folder = lay_out();
    let mut command = Command::new(program);
    command.arg("-q").arg("-c").arg(case).current_dir(folder.path());
    let output = command.output().expect("the recorder runs");
    let configuration = fs::read_to_string(case).expect("a configuration");
    let expected = comparable(&output.stdout, &configuration);
    fs::write(case.with_extension("expected"), expected).expect("the recording is written");
}
