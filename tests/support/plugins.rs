//! Foreign plugins, built once per build folder whichever test comes first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{build_folder, tests_path};

/// Builds `tests/plugins/c/<name>.c` with the C compiler and returns the shared object.
pub fn c_plugin(name: &str) -> PathBuf {
    c_variant(name, name, &[])
}

/// The same with more flags for the compiler, as `<variant>.so`.
pub fn c_variant(name: &str, variant: &str, flags: &[&str]) -> PathBuf {
    let source = tests_path(&format!("plugins/c/{name}.c"));
    let built = build_folder("c").join(format!("{variant}.so"));
    once(&built, &[&source], |target| {
        let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-pthread", "-o"]);
        command.arg(target).args(flags).arg(&source);
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

/// The generations of fluent-bit-go that the module proxy offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// 2019-06-14: contexts are indices, the first one null; blind to events with metadata.
    Of2019,
    /// 2020-04-20: contexts are addresses in an unlocked map; blind to events with metadata.
    Of2020,
    /// 2023-07-31: reads events with metadata.
    Of2023,
}

impl Sdk {
    /// All of them.
    pub const ALL: [Sdk; 3] = [Sdk::Of2019, Sdk::Of2020, Sdk::Of2023];

    /// The name under which its plugins register: all of them fit into one process.
    pub fn plugin_name(self) -> &'static str {
        match self {
            Sdk::Of2019 => "go2019",
            Sdk::Of2020 => "go2020",
            Sdk::Of2023 => "go2023",
        }
    }

    fn modfile(self) -> &'static str {
        match self {
            Sdk::Of2019 => "go-2019.mod",
            Sdk::Of2020 => "go-2020.mod",
            Sdk::Of2023 => "go.mod",
        }
    }
}

/// Builds `tests/plugins/go/<name>` against an SDK. `None` when no Go is installed, unless the environment says
/// `DATAPLANE_TEST_GO=required`: then the test fails.
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
pub fn go_plugin(name: &str, sdk: Sdk) -> Option<PathBuf> {
    let go = Command::new("go").arg("version").output();
    if !go.is_ok_and(|output| output.status.success()) {
        let is_required = std::env::var_os("DATAPLANE_TEST_GO").is_some_and(|it| it == "required");
        assert!(!is_required, "DATAPLANE_TEST_GO=required, and there is no `go`");
        eprintln!("skipped: no `go` is installed");
        return None;
    }
    let folder = tests_path(&format!("plugins/go/{name}"));
    let built = build_folder("go").join(format!("{name}-{sdk:?}.so"));
    let sources: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    let sources: Vec<&Path> = sources.iter().map(PathBuf::as_path).collect();
    once(&built, &sources, |target| {
        let mut command = Command::new("go");
        command.current_dir(&folder);
        command.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=mod").env("CGO_ENABLED", "1");
        command.args(["build", "-buildvcs=false", "-buildmode=c-shared", "-modfile"]);
        command.arg(sdk.modfile()).arg("-ldflags");
        command.arg(format!("-X main.name={}", sdk.plugin_name()));
        command.arg("-o").arg(target).arg(".");
        command
    });
    Some(built)
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
