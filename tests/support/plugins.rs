//! Foreign plugins, built once per build folder whichever test comes first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{build_folder, tests_path};

/// Builds `tests/plugins/c/<name>.c` with the C compiler and returns the shared object.
pub fn c_plugin(name: &str) -> PathBuf {
    let source = tests_path(&format!("plugins/c/{name}.c"));
    let built = build_folder("c").join(format!("{name}.so"));
    once(&built, &[&source], |target| {
        let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-pthread", "-o"]);
        command.arg(target).arg(&source);
        command
    });
    built
}

/// Builds `tests/clients/<name>.c` with the C compiler and returns the program.
pub fn c_program(name: &str) -> PathBuf {
    let source = tests_path(&format!("clients/{name}.c"));
    let built = build_folder("c").join(name);
    once(&built, &[&source], |target| {
        let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        command.args(["-O1", "-Wall", "-Werror", "-o"]).arg(target).arg(&source);
        command
    });
    built
}

/// Runs a build unless its result is newer than its sources. Test programs run side by side, so a lock file
/// lets one build and the others wait.
pub fn once(built: &Path, sources: &[&Path], build: impl FnOnce(&Path) -> Command) {
    let lock = File::create(built.with_extension("lock")).expect("the build folder is writable");
    lock.lock().expect("a file can be locked");
    let time = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let newest = sources.iter().filter_map(|source| time(source)).max();
    if time(built).is_some_and(|built| newest.is_none_or(|newest| built > newest)) {
        return;
    }
    let target = built.with_extension("new");
    let mut command = build(&target);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?} failed:\n{said}");
    fs::rename(&target, built).expect("the result is moved into place");
}
