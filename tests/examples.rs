//! Every configuration in `config/examples` runs, those that are added later too.
//!
//! One that needs a peer or a plugin is checked with `--dry-run`; every other runs until it has delivered something to
//! its standard output or to `OUT_DIR`, where examples write files.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{Dataplane, folder, tests_path, wait_until};

/// What delivers nothing by itself: it waits for a client, a server, a text on standard input.
const NEEDS_A_PEER: [&str; 3] = ["forward", "tcp", "stdin"];

fn examples() -> Vec<PathBuf> {
    let folder = tests_path("../config/examples");
    let entries = fs::read_dir(folder).expect("the examples are there");
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "conf" || end == "yaml"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 2, "{paths:?}");
    paths
}

/// Values of a key, in either dialect.
fn values<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("- "));
    let lines = lines.filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once([' ', ':']));
    let of_key = pairs.filter(|(name, _)| name.eq_ignore_ascii_case(key));
    of_key.map(|(_, value)| value.trim_start_matches([':', ' ']).trim()).collect()
}

/// Whether it loads plugins, which the reader builds.
fn loads_plugins(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.any(|line| line.contains(".so") || line.contains("plugins_file") || line == "plugins:")
}

/// Runs from the root of the project, where the comments of the examples say to run them.
fn start(example: &Path, out_dir: &Path) -> Dataplane {
    Dataplane::new()
        .args([Path::new("-c"), example])
        .args(["--shards", "2"])
        .env("OUT_DIR", out_dir)
        .current_dir(&tests_path(".."))
}

#[test]
fn every_example_runs() {
    for example in examples() {
        let text = fs::read_to_string(&example).expect("an example is text");
        let out_dir = folder();
        let name = example.display();
        if loads_plugins(&text) {
            let ended = start(&example, out_dir.path()).args(["--dry-run"]).end();
            // The plugin is the reader's; all that may be wrong is that it is not there.
            assert!(ended.code() == 0 || ended.log.contains(".so"), "{name}:\n{}", ended.log);
            continue;
        }
        let dry = start(&example, out_dir.path()).args(["--dry-run"]).end();
        assert_eq!(dry.code(), 0, "{name}:\n{}", dry.log);
        assert!(!dry.log.contains("warning"), "{name}:\n{}", dry.log);
        if values(&text, "name").iter().any(|name| NEEDS_A_PEER.contains(name)) {
            continue;
        }
        let run = start(&example, out_dir.path()).started();
        wait_until(&format!("{name} delivers"), || {
            let files = fs::read_dir(out_dir.path()).expect("a folder").count();
            files > 0 || !run.stdout().is_empty()
        });
        let law = run.stop().law();
        assert!(law.delivered > 0 && law.dropped == 0, "{name}: {}", law.line);
    }
}
