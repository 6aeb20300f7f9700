//! Starts under odd conditions: no io_uring, little memory to lock, an ordinary user, few cores.
//!
//! A start either works or ends with one line that says what to change.

mod support;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use support::plugins::{c_plugin, c_program};
use support::{Dataplane, Ended, PROGRAM, Run, folder, say_skipped, wait_until};
use tempfile::TempDir;

const DUMMY: [&str; 8] = ["-f", "0.1", "-i", "dummy", "-p", "rate=100", "-o", "stdout"];
/// The user `nobody` of every system.
const NOBODY: &str = "65534";

fn launched(conditions: &[&str]) -> Dataplane {
    Dataplane::started_by(&c_program("launcher"), conditions, Path::new(PROGRAM))
}

/// The program where an ordinary user may run it; the build folder may be closed to others.
fn open_copy() -> (TempDir, PathBuf) {
    let open = folder();
    fs::set_permissions(open.path(), Permissions::from_mode(0o755)).expect("our own folder");
    let copy = open.path().join("dataplane");
    fs::copy(PROGRAM, &copy).expect("the program is copied");
    (open, copy)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Whether this test must be left out, as only root may set its conditions up.
fn is_skipped(test: &str) -> bool {
    if !is_root() {
        say_skipped(&format!("only root can set it up: {test}"));
    }
    !is_root()
}

/// The only line of a start that failed, and its status is that of an engine that cannot start.
fn only_line(ended: &Ended) -> &str {
    assert_eq!(ended.code(), 255, "{}", ended.log);
    let lines: Vec<&str> = ended.log.lines().collect();
    assert_eq!(lines.len(), 1, "one line is enough:\n{}", ended.log);
    lines[0]
}

/// Waits until events flow, stops, and holds the account to it.
fn assert_works(run: Run) {
    run.wait_for_stdout(|text| text.contains("\"message\"=>\"dummy\""));
    let law = run.stop().law();
    assert!(law.delivered > 0 && law.left == 0 && law.dropped == 0, "{}", law.line);
}

#[test]
fn io_uring_denied_by_a_sandbox_is_named() {
    for error in ["1", "38"] {
        let ended = launched(&["--deny-io-uring", error]).args(DUMMY).end();
        let line = only_line(&ended);
        assert!(line.starts_with("error: ") && line.contains("io_uring"), "{line}");
        let remedy = if error == "1" { "seccomp" } else { "Linux 5.8" };
        assert!(line.contains(remedy), "{line}");
    }
}

#[test]
fn a_low_memlock_limit_is_raised_where_that_is_allowed() {
    assert_works(launched(&["--memlock-now", "65536"]).args(DUMMY).start());
}

#[test]
fn a_low_memlock_limit_is_named_where_it_cannot_be_raised() {
    if is_skipped("a low memlock limit is named") {
        return;
    }
    let (_open, program) = open_copy();
    let conditions = ["--memlock", "65536", "--user", NOBODY];
    let nobody = Dataplane::started_by(&c_program("launcher"), &conditions, &program);
    let ended = nobody.args(DUMMY).end();
    let line = only_line(&ended);
    for part in ["locked memory is 64 KiB", "needs 512 KiB", "ulimit -l 512", "LimitMEMLOCK=512K"] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn a_memlock_limit_that_is_low_for_the_shards_is_named() {
    if is_skipped("a memlock limit that is low for the shards is named") {
        return;
    }
    let (_open, program) = open_copy();
    let conditions = ["--memlock", "1048576", "--user", NOBODY];
    for background in [&[][..], &["-d"]] {
        let nobody = Dataplane::started_by(&c_program("launcher"), &conditions, &program);
        let ended = nobody.args(DUMMY).args(["--shards", "64"]).args(background).end();
        assert_eq!(ended.code(), 255, "{}", ended.log);
        let line = ended.log.lines().find(|line| line.starts_with("error: ")).expect("an error");
        for part in ["locked memory is too low for 64 shards", "ulimit -l 16384", "--shards"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(!ended.log.contains("shards started"), "{}", ended.log);
    }
}

#[test]
fn a_start_that_fails_in_a_shard_says_why_and_ends_the_plugins() {
    let own = folder();
    let calls = own.path().join("calls");
    let plugin = c_plugin("probe");
    let dataplane = launched(&["--files", "60"]).env("PROBE_CALLS", &calls);
    let dataplane = dataplane.args(["-e".as_ref(), plugin.as_os_str()]);
    let ended = dataplane.args(["--shards", "32", "-i", "dummy", "-o", "probe"]).end();
    assert_eq!(ended.code(), 255, "{}", ended.log);
    let errors: Vec<&str> = ended.log.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains("`ulimit -n`"), "{}", ended.log);
    assert!(!ended.log.contains("shards started"), "{}", ended.log);
    let calls = fs::read_to_string(calls).expect("the plugin wrote its calls down");
    assert!(calls.contains("\nexit ") && calls.contains("\nunregister"), "{calls}");
    assert!(!calls.contains("\nflush "), "{calls}");
}

#[test]
fn an_ordinary_user_may_start_it() {
    if is_skipped("an ordinary user may start it") {
        return;
    }
    let (_open, program) = open_copy();
    let nobody = Dataplane::started_by(&c_program("launcher"), &["--user", NOBODY], &program);
    assert_works(nobody.args(DUMMY).args(["--shards", "1"]).start());
}

/// Name and cores of each thread that belongs to a shard: its own, and those its executor keeps for blocking calls.
fn shard_threads(run: &Run) -> BTreeSet<(String, String)> {
    let mut threads = BTreeSet::new();
    let tasks = fs::read_dir(format!("/proc/{}/task", run.pid())).expect("the process is there");
    for task in tasks {
        let task = task.expect("a thread").path();
        // Threads may end while they are listed.
        let Ok(name) = fs::read_to_string(task.join("comm")) else { continue };
        let name = name.trim().to_owned();
        if !name.starts_with("shard-") {
            continue;
        }
        let status = fs::read_to_string(task.join("status")).expect("the thread is there");
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        threads.insert((name, line.expect("a line of the status").trim().to_owned()));
    }
    threads
}

/// Waits until shard N runs on the Nth of these cores, and nowhere else.
fn wait_for_shards_on(run: &Run, cores: &[usize]) {
    let names = cores.iter().enumerate();
    let expected: BTreeSet<(String, String)> =
        names.map(|(index, core)| (format!("shard-{index}"), core.to_string())).collect();
    wait_until(&format!("{expected:?} run"), || shard_threads(run) == expected);
}

/// The cores this test may use.
fn own_cores() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").expect("the status of this process");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let mut cores = Vec::new();
    for range in list.expect("a line of the status").trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) =
            (first.parse().expect("a core"), last.parse().expect("a core"));
        cores.extend(first..=last);
    }
    cores
}

#[test]
fn an_inherited_mask_of_one_core_means_one_shard_on_it() {
    let core = *own_cores().last().expect("a core");
    let run = launched(&["--cpu", &core.to_string()]).args(DUMMY).start();
    assert!(run.wait_for_log("shards started").contains(" 1 shards started"));
    wait_for_shards_on(&run, &[core]);
    assert_works(run);
}

#[test]
fn two_shards_work_on_one_core() {
    let core = *own_cores().last().expect("a core");
    let run = launched(&["--cpu", &core.to_string()]).args(DUMMY).args(["--shards", "2"]).start();
    assert!(run.wait_for_log("shards started").contains(" 2 shards started"));
    wait_for_shards_on(&run, &[core, core]);
    assert_works(run);
}

#[test]
fn each_shard_has_a_core_of_its_own_where_there_are_enough() {
    let cores = own_cores();
    let run = Dataplane::new().args(DUMMY).start();
    let line = run.wait_for_log("shards started");
    assert!(line.contains(&format!(" {} shards started", cores.len())), "{line}");
    wait_for_shards_on(&run, &cores);
    assert_works(run);
}
