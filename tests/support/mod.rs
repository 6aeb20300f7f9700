//! What the tests of the whole program share: a process under watch, and plugins built once.
//!
//! Nothing here sleeps to be right: every wait is for a line, a condition or an exit, and ends the test with the
//! log of the process when it takes longer than [`DEADLINE`]. A process never outlives its test.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub mod clients;
pub mod events;
pub mod frames;
pub mod peer;
pub mod plugins;

/// How long anything may take before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The program under test, fresh from this build.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_dataplane");

/// A folder that is gone after the test.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("the temporary directory is writable")
}

/// A start being prepared.
pub struct Dataplane {
    command: Command,
    stdin: Stdio,
    stdout: Option<Stdio>,
    folder: tempfile::TempDir,
}

impl Dataplane {
    /// Without arguments.
    pub fn new() -> Dataplane {
        let mut command = Command::new(PROGRAM);
        command.env_remove("FLB_LOG_LEVEL").env("TZ", "UTC");
        Dataplane { command, stdin: Stdio::null(), stdout: None, folder: folder() }
    }

    /// Without arguments, started by another program: that, its arguments, and then this one or a copy of it.
    pub fn started_by(launcher: &Path, arguments: &[&str], program: &Path) -> Dataplane {
        let mut dataplane = Dataplane::new();
        let mut command = Command::new(launcher);
        command.env_remove("FLB_LOG_LEVEL").env("TZ", "UTC").args(arguments).arg(program);
        dataplane.command = command;
        dataplane
    }

    /// With a configuration, written to `test.conf`, or `test.yaml` if it begins as YAML does.
    pub fn with_config(text: &str) -> Dataplane {
        let is_yaml = text.trim_start().starts_with(|first: char| first.is_ascii_lowercase());
        let mut dataplane = Dataplane::new();
        let path = dataplane.folder.path().join(if is_yaml { "test.yaml" } else { "test.conf" });
        std::fs::write(&path, text).expect("the configuration is written");
        dataplane.command.arg("-c").arg(path);
        dataplane
    }

    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Dataplane {
        self.command.args(arguments);
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Dataplane {
        self.command.env(name, value);
        self
    }

    /// The working directory.
    pub fn current_dir(mut self, path: &Path) -> Dataplane {
        self.command.current_dir(path);
        self
    }

    /// A pipe for standard input: take it from [`Run::stdin`].
    pub fn piped_stdin(mut self) -> Dataplane {
        self.stdin = Stdio::piped();
        self
    }

    /// Standard input comes from there.
    pub fn stdin_from(mut self, stdin: impl Into<Stdio>) -> Dataplane {
        self.stdin = stdin.into();
        self
    }

    /// Standard output goes there instead of being kept.
    pub fn stdout_to(mut self, stdout: impl Into<Stdio>) -> Dataplane {
        self.stdout = Some(stdout.into());
        self
    }

    /// Changes of the command that have no method here.
    pub fn command(mut self, change: impl FnOnce(&mut Command)) -> Dataplane {
        change(&mut self.command);
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Run {
        self.command.stdin(self.stdin);
        self.command.stdout(self.stdout.unwrap_or_else(Stdio::piped));
        self.command.stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the program starts");
        let stdout = child.stdout.take().map(Captured::of);
        let stderr = Captured::of(child.stderr.take().expect("stderr is piped"));
        Run { child, stdout, stderr, _folder: self.folder }
    }

    /// Starts it and waits until its shards run.
    pub fn started(self) -> Run {
        let run = self.start();
        run.wait_for_log("shards started");
        run
    }

    /// Starts it and waits for its end.
    pub fn end(self) -> Ended {
        self.start().wait()
    }
}

/// A running process. It is killed when dropped.
pub struct Run {
    child: Child,
    stdout: Option<Captured>,
    stderr: Captured,
    _folder: tempfile::TempDir,
}

impl Run {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The pipe to its standard input.
    pub fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("`piped_stdin` was asked for")
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.stderr.text()
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.as_ref().expect("standard output is kept").text()
    }

    /// Waits for a line of the log and returns it.
    pub fn wait_for_log(&self, part: &str) -> String {
        let find = |text: &str| text.lines().find(|line| line.contains(part)).map(str::to_owned);
        self.stderr.wait_for(find).unwrap_or_else(|text| panic!("no `{part}` in the log:\n{text}"))
    }

    /// Waits until standard output satisfies `is_there`.
    pub fn wait_for_stdout(&self, is_there: impl Fn(&str) -> bool) -> String {
        let stdout = self.stdout.as_ref().expect("standard output is kept");
        let find = |text: &str| is_there(text).then(|| text.to_owned());
        stdout.wait_for(find).unwrap_or_else(|text| {
            let tail: String =
                text.chars().rev().take(2000).collect::<Vec<_>>().into_iter().rev().collect();
            panic!("standard output never had it; its end:\n{tail}\nlog:\n{}", self.log())
        })
    }

    /// The address on which an input (`forward.0`) listens; configure port 0.
    pub fn address(&self, instance: &str) -> SocketAddr {
        let find = |text: &str| {
            let line = text.lines().find(|line| {
                line.contains(&format!(":{instance}]")) && line.contains("listening on ")
            })?;
            line.rsplit("listening on ").next().map(str::to_owned)
        };
        let found = self.stderr.wait_for(find);
        let text = found.unwrap_or_else(|text| panic!("`{instance}` does not listen:\n{text}"));
        text.trim().parse().unwrap_or_else(|_| panic!("`{text}` is no address"))
    }

    /// Sends a signal, by the name `kill` knows it.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name} failed");
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Waits until a condition holds outside of the process, which must not end before.
    pub fn wait_until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !holds() {
            let is_running = self.is_running();
            if !is_running || begin.elapsed() > DEADLINE {
                let log = self.log();
                panic!("never came true (running: {is_running}): {what}; the log:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Resident memory now, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.status_kib("VmRSS:") * 1024
    }

    /// The most resident memory there has been, in bytes.
    pub fn resident_bytes_max(&self) -> u64 {
        self.status_kib("VmHWM:") * 1024
    }

    fn status_kib(&self, key: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let text = text.expect("the process is there");
        let line = text.lines().find(|line| line.starts_with(key)).expect("a line of the status");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
    }

    /// Waits until its shards run or it has ended.
    pub fn started_or_ended(mut self) -> Fate {
        let begin = Instant::now();
        loop {
            // Asked first: a process that has ended has said everything.
            let has_ended = !self.is_running();
            if has_ended {
                return Fate::Ended(self.wait());
            }
            if self.log().contains("shards started") {
                return Fate::Runs(self);
            }
            assert!(begin.elapsed() < DEADLINE, "neither runs nor ends:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGTERM, and the end.
    pub fn stop(self) -> Ended {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if begin.elapsed() > DEADLINE {
                panic!("the process does not end; its log:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let stdout = self.stdout.as_mut().map(Captured::end).unwrap_or_default();
        let log = String::from_utf8_lossy(&self.stderr.end()).into_owned();
        Ended { status, stdout, log }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What becomes of a start.
pub enum Fate {
    /// Its shards run.
    Runs(Run),
    /// It has ended.
    Ended(Ended),
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// Everything it printed.
    pub stdout: Vec<u8>,
    /// Everything it logged.
    pub log: String,
}

impl Ended {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its exit status; a signal fails the test.
    pub fn code(&self) -> i32 {
        match self.status.code() {
            Some(code) => code,
            None => panic!("killed by signal {:?}:\n{}", self.status.signal(), self.log),
        }
    }

    /// Its account of records, for a process that has ended well and whose account adds up.
    pub fn law(&self) -> Law {
        assert_eq!(self.code(), 0, "{}", self.log);
        let line = self.log.lines().find(|line| line.contains("records: in "));
        let line = line.unwrap_or_else(|| panic!("no account of records:\n{}", self.log));
        let number = |label: &str| {
            let rest = &line[line.find(label)? + label.len()..];
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        };
        let law = (|| {
            Some(Law {
                came_in: number("records: in ")?,
                delivered: number("= delivered ")?,
                joined: number("+ joined ").unwrap_or(0),
                dropped: number("+ dropped ")?,
                left: number("+ left ")?,
                line: line.to_owned(),
            })
        })();
        let law = law.unwrap_or_else(|| panic!("not an account: {line}"));
        let known = law.delivered + law.joined + law.dropped + law.left;
        assert_eq!(law.came_in, known, "{line}");
        law
    }
}

/// in = delivered + joined + dropped + left.
#[derive(Debug)]
pub struct Law {
    pub came_in: u64,
    pub delivered: u64,
    pub joined: u64,
    pub dropped: u64,
    pub left: u64,
    /// The line itself, with the causes.
    pub line: String,
}

/// A pipe that a thread reads as it fills.
struct Captured {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<(Vec<u8>, bool)>,
    grown: Condvar,
}

impl Captured {
    fn of(mut pipe: impl Read + Send + 'static) -> Captured {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let count = pipe.read(&mut buffer).unwrap_or(0);
                let mut state = theirs.state.lock().expect("no reader panics");
                state.0.extend_from_slice(&buffer[..count]);
                state.1 = count == 0;
                theirs.grown.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Captured { shared, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.state.lock().expect("no reader panics").0).into_owned()
    }

    /// What `find` finds, or the whole text when it never does.
    fn wait_for<T>(&self, find: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        let begin = Instant::now();
        let mut state = self.shared.state.lock().expect("no reader panics");
        loop {
            let text = String::from_utf8_lossy(&state.0);
            if let Some(found) = find(&text) {
                return Ok(found);
            }
            let left = DEADLINE.saturating_sub(begin.elapsed());
            if state.1 || left.is_zero() {
                return Err(text.into_owned());
            }
            drop(text);
            state = self.shared.grown.wait_timeout(state, left).expect("no reader panics").0;
        }
    }

    fn end(&mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no reader panics");
        }
        std::mem::take(&mut self.shared.state.lock().expect("no reader panics").0)
    }
}

/// Says that a test is left out, past the harness that keeps what tests print.
pub fn say_skipped(what: &str) {
    // Nobody to tell is no reason to fail.
    let _ = writeln!(std::io::stderr(), "skipped: {what}");
}

/// Waits until a condition of the outside world holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < DEADLINE, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A folder beside the build for what tests build once: plugins and caches.
pub fn build_folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&path).expect("the build folder is writable");
    path
}

/// A path in `tests/`.
pub fn tests_path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests").join(relative)
}
