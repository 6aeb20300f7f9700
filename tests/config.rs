//! Golden configurations: what the texts in `tests/golden/config` become, and what is said of the wrong ones.
//!
//! `documents/<case>/` holds a configuration and the `Document` it becomes. `errors/<case>/` holds a configuration
//! or a command line (`args`, one word a line), what the program says of it, and in `fluent-bit` the exit statuses
//! that Fluent Bit 5.1.1 ends with on the same files. `DATAPLANE_RECORD=1` writes the `expected` files anew.

mod support;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use config::{Document, Problems};
use support::{Dataplane, tests_path};

/// Errors on which Fluent Bit ends with another status or runs, and why this program does not.
const DIFFERENT: [(&str, &str); 16] = [
    ("features-to-come", "what does not exist yet is refused, not ignored"),
    ("file-is-a-directory", "Fluent Bit runs idle"),
    ("flag-to-come", "what does not exist yet is refused, not ignored"),
    ("multiline-first-line", "a dry run finds parsers"),
    ("multiline-parser-unknown", "a dry run finds parsers"),
    ("multiline-timeout-short", "a dry run checks values"),
    ("net-on-a-sampler", "Fluent Bit crashes"),
    ("property-before-plugin", "Fluent Bit crashes"),
    ("regex-wrong", "Fluent Bit ignores the expression, and the output gets nothing"),
    ("storage-sync-wrong", "the value is checked before the start, by a dry run too"),
    ("storage-without-path", "storage on disk does not exist yet, and is refused by a dry run too"),
    ("strict", "Fluent Bit has no such flag"),
    ("variable-unset", "an empty tag is no tag; Fluent Bit calls the property unknown"),
    ("wrong-boolean", "a dry run checks values"),
    ("wrong-number", "Fluent Bit reads it as 0"),
    ("yaml-processors", "what does not exist yet is refused, not ignored"),
];

fn cases(folder: &str) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(tests_path("golden/config").join(folder)).expect("a folder of cases");
    let resolved = |entry: fs::DirEntry| entry.path().canonicalize().expect("an entry");
    let mut paths: Vec<PathBuf> = entries.map(|entry| resolved(entry.expect("an entry"))).collect();
    paths.sort();
    assert!(paths.len() > 5, "{folder} has only {} cases", paths.len());
    paths
}

fn name_of(case: &Path) -> String {
    case.file_name().expect("a case has a name").to_string_lossy().into_owned()
}

/// Compares with `expected`, or writes it.
fn compare(case: &Path, actual: &str, wrong: &mut Vec<String>) {
    let path = case.join("expected");
    if std::env::var_os("DATAPLANE_RECORD").is_some() {
        fs::write(&path, actual).expect("the expectation is written");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if expected != actual {
        wrong.push(format!("== {}\n-- expected\n{expected}\n-- actual\n{actual}", name_of(case)));
    }
}

fn main_file(case: &Path) -> PathBuf {
    let yaml = case.join("main.yaml");
    if yaml.exists() { yaml } else { case.join("main.conf") }
}

#[test]
fn texts_become_the_documents_that_are_expected() {
    let mut wrong = Vec::new();
    for case in cases("documents") {
        let mut document = Document::empty();
        let mut problems = Problems::default();
        let environment = |name: &str| match name {
            "FROM_ENVIRONMENT" => Some("of the process".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        config::load(&mut document, Some(&main_file(&case)), &environment, &mut problems);
        let text = document.dump() + "\n" + &problems.render(&document.sources);
        let here = format!("{}/", case.display());
        compare(&case, &text.replace(&here, ""), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the program does with a case.
struct Outcome {
    /// Its exit status; none when it runs.
    status: Option<i32>,
    said: String,
}

impl Outcome {
    fn shown(&self) -> String {
        self.status.map_or("runs".to_owned(), |status| status.to_string())
    }
}

fn arguments(case: &Path) -> Vec<String> {
    match fs::read_to_string(case.join("args")) {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(_) => vec!["-c".to_owned(), name_of(&main_file(case))],
    }
}

fn outcome(case: &Path, more: &[&str]) -> Outcome {
    let run = Dataplane::new().current_dir(case).args(more).args(arguments(case)).start();
    match run.started_or_ended() {
        support::Fate::Runs(run) => {
            let said = run.stop().log;
            Outcome { status: None, said }
        }
        support::Fate::Ended(ended) => Outcome { status: Some(ended.code()), said: ended.log },
    }
}

#[test]
fn wrong_configurations_are_told_all_that_is_wrong() {
    let mut wrong = Vec::new();
    for case in cases("errors") {
        let name = name_of(&case);
        let dry = outcome(&case, &["--dry-run"]);
        let run = outcome(&case, &[]);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "dry run {}\nrun {}\n\n{}", dry.shown(), run.shown(), dry.said);
        compare(&case, &text, &mut wrong);
        let theirs = fs::read_to_string(case.join("fluent-bit")).expect("Fluent Bit's statuses");
        let is_same = text.starts_with(&theirs);
        let is_listed = DIFFERENT.iter().any(|(case, _)| *case == name);
        if is_same == is_listed {
            wrong.push(format!("== {name}\n-- Fluent Bit\n{theirs}-- dataplane\n{text}"));
        }
        if run.status.is_some() && dry.status == run.status && dry.said != run.said {
            wrong
                .push(format!("== {name}: a dry run says\n{}\na run says\n{}", dry.said, run.said));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
