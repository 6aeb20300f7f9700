//! One run of a program: its cost in CPU time, and that it kept its promises.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest run before it counts as hung.
const RUN_MAX: Duration = Duration::from_secs(300);

/// A program under measurement.
pub struct Program {
    /// For the table.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Arguments before those of the scenario.
    pub arguments: Vec<String>,
    /// Whether it writes our account of records.
    pub is_ours: bool,
}

/// What a run cost.
#[derive(Clone, Debug)]
pub struct Cost {
    /// User and system time of the process.
    pub cpu: Duration,
    /// From start to end.
    pub wall: Duration,
    /// Most resident memory seen.
    pub resident_bytes_max: u64,
    /// Bytes it was fed.
    pub input_bytes: u64,
}

/// A running program.
pub struct Running {
    child: Child,
    log: PathBuf,
    started: Instant,
    cpu_before: Duration,
    resident_bytes_max: u64,
}

impl Program {
    /// Starts it with a configuration; its log goes to a file beside that.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, config: &Path, more: &[String]) -> Result<Running, String> {
        let log = config.with_extension("log");
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let cpu_before = children_cpu()?;
        let child = Command::new(&self.path)
            .args(&self.arguments)
            .args(more)
            .arg("-c")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.path.display()))?;
        Ok(Running { child, log, started: Instant::now(), cpu_before, resident_bytes_max: 0 })
    }
}

impl Running {
    /// Asks it to end.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn terminate(&self) -> Result<(), String> {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, Signal::SIGTERM).map_err(|error| format!("cannot signal {pid}: {error}"))
    }

    /// Waits for its end. `records` is what it must have delivered, if it says so.
    ///
    /// # Errors
    /// When it fails, hangs, or has not delivered every record.
    pub fn finish(mut self, input_bytes: u64, records: Option<u64>) -> Result<Cost, String> {
        let status = loop {
            self.sample_memory();
            match self.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None if self.started.elapsed() > RUN_MAX => {
                    return Err(format!("it hangs; its log is\n{}", self.log_text()));
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        let wall = self.started.elapsed();
        let cpu = children_cpu()?.saturating_sub(self.cpu_before);
        if !status.success() {
            return Err(format!("it ended with {status}; its log is\n{}", self.log_text()));
        }
        if let Some(records) = records {
            let law = format!("records: in {records} = delivered {records} + dropped 0 + left 0");
            if !self.log_text().contains(&law) {
                return Err(format!("no `{law}` in its log:\n{}", self.log_text()));
            }
        }
        Ok(Cost { cpu, wall, resident_bytes_max: self.resident_bytes_max, input_bytes })
    }

    fn sample_memory(&mut self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let peak = status.ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
        self.resident_bytes_max = self.resident_bytes_max.max(peak.unwrap_or(0) * 1024);
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended in every run that went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of all children that have ended and were waited for.
fn children_cpu() -> Result<Duration, String> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| error.to_string())?;
    let time = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000)
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
}
