//! Clients in Go, built once per build folder from `tests/clients/<name>`.

use std::path::PathBuf;
use std::process::Command;

use super::plugins::once;
use super::{build_folder, tests_path};

/// Builds a client and returns the program; `None`, said in a line, where there is no Go and the
/// environment does not insist on it (`DATAPLANE_TEST_GO=required`).
#[expect(clippy::print_stdout, reason = "the harness shows it beside the name of the test")]
pub fn go_client(name: &str) -> Option<PathBuf> {
    if Command::new("go").arg("version").output().is_err() {
        let is_required = std::env::var("DATAPLANE_TEST_GO").is_ok_and(|value| value == "required");
        assert!(!is_required, "DATAPLANE_TEST_GO=required, and there is no `go`");
        println!("skipped: `{name}` needs Go, and there is none");
        return None;
    }
    let folder = tests_path(&format!("clients/{name}"));
    let sources = ["main.go", "go.mod", "go.sum"].map(|file| folder.join(file));
    let built = build_folder("clients").join(name);
    let sources: Vec<_> = sources.iter().map(PathBuf::as_path).collect();
    once(&built, &sources, |target| {
        let mut command = Command::new("go");
        command.args(["build", "-o"]).arg(target).arg(".");
        command.current_dir(&folder).env("GOFLAGS", "-mod=readonly -buildvcs=false");
        command
    });
    Some(built)
}
