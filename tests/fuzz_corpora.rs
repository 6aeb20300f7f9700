//! The kept corpora of the fuzz targets, run through the bodies of the targets: what was once found stays found, and
//! no target can rot. `tests/fuzz/` says how they are made.

#![allow(clippy::unwrap_used, reason = "a failure of any step fails the test")]
#![allow(clippy::print_stderr, reason = "a test names its input")]

#[path = "fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use targets::TARGETS;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz")
}

/// Names the input in hand when a check panics.
struct InHand<'a>(&'a Path);

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input is {}", self.0.display());
        }
    }
}

fn replay(target: &str) {
    let (_, check) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let folder = fuzz_folder().join("corpora").join(target);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "{} has {} inputs", folder.display(), paths.len());
    for path in &paths {
        let _in_hand = InHand(path);
        check(&fs::read(path).unwrap());
    }
}

#[test]
fn config_text() {
    replay("config_text");
}

#[test]
fn forward() {
    replay("forward");
}

#[test]
fn json() {
    replay("json");
}

#[test]
fn logfmt_ltsv() {
    replay("logfmt_ltsv");
}

#[test]
fn msgpack() {
    replay("msgpack");
}

#[test]
fn regex_time() {
    replay("regex_time");
}

#[test]
fn every_target_has_a_program_and_a_corpus_and_nothing_else_does() {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    for (folder, suffix) in [("fuzz_targets", ".rs"), ("corpora", "")] {
        let entries = fs::read_dir(fuzz_folder().join(folder)).unwrap();
        let mut found: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| name.strip_suffix(suffix).unwrap().to_owned())
            .collect();
        found.sort();
        assert_eq!(found, names, "{folder}");
    }
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    for name in &names {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
}
