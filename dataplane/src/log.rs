//! The log: a bounded queue that never blocks a shard, and one thread that writes it.
//!
//! Lines have Fluent Bit's shape, `[2026/01/31 12:00:00.000000000] [ info] [engine] text`, because
//! operators grep for it. It stands in layer 0, below the design's sketch, because every layer may log.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crate::limits::LOG_LINES_MAX;

/// How important a line is; a handle writes its own level and all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing is written.
    Off,
    /// Something was lost or refused.
    Error,
    /// The operator should look.
    Warn,
    /// Normal events of a run.
    Info,
    /// For looking into a case.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    fn column(self) -> &'static str {
        match self {
            Level::Off => "  off",
            Level::Error => "error",
            Level::Warn => " warn",
            Level::Info => " info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }

    /// The next more verbose level, for one more `-v`.
    pub fn louder(self) -> Level {
        match self {
            Level::Off => Level::Error,
            Level::Error => Level::Warn,
            Level::Warn => Level::Info,
            Level::Info => Level::Debug,
            Level::Debug | Level::Trace => Level::Trace,
        }
    }
}

enum Entry {
    Line { at: SystemTime, level: Level, component: Arc<str>, text: String },
    Flush(SyncSender<()>),
}

struct Queue {
    entries: Option<SyncSender<Entry>>,
    dropped: AtomicU64,
}

/// A handle that writes lines of one component. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    level: Level,
    component: Arc<str>,
    queue: Arc<Queue>,
}

impl Log {
    /// A handle whose lines go nowhere, for tests and for tools.
    pub fn discard() -> Log {
        let queue = Arc::new(Queue { entries: None, dropped: AtomicU64::new(0) });
        Log { level: Level::Off, component: "".into(), queue }
    }

    /// The same log under another component, `engine` or `input:tail:tail.0`.
    #[must_use]
    pub fn component(&self, component: &str) -> Log {
        Log { level: self.level, component: component.into(), queue: Arc::clone(&self.queue) }
    }

    /// The same log at another level (an instance's `log_level`).
    #[must_use]
    pub fn at_level(&self, level: Level) -> Log {
        Log { level, ..self.clone() }
    }

    /// Whether lines of this level are written; ask before costly work for a line.
    pub fn writes(&self, level: Level) -> bool {
        level <= self.level
    }

    /// Something was lost or refused.
    pub fn error(&self, text: impl fmt::Display) {
        self.write(Level::Error, text);
    }

    /// The operator should look.
    pub fn warn(&self, text: impl fmt::Display) {
        self.write(Level::Warn, text);
    }

    /// A normal event of a run.
    pub fn info(&self, text: impl fmt::Display) {
        self.write(Level::Info, text);
    }

    /// For looking into a case.
    pub fn debug(&self, text: impl fmt::Display) {
        self.write(Level::Debug, text);
    }

    /// Everything.
    pub fn trace(&self, text: impl fmt::Display) {
        self.write(Level::Trace, text);
    }

    /// Writes a line of the given level.
    pub fn write(&self, level: Level, text: impl fmt::Display) {
        let Some(entries) = &self.queue.entries else { return };
        if level == Level::Off || !self.writes(level) {
            return;
        }
        let line = Entry::Line {
            at: SystemTime::now(),
            level,
            component: Arc::clone(&self.component),
            text: text.to_string(),
        };
        if entries.try_send(line).is_err() {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was logged before is written, or the time is over.
    pub fn flush(&self, wait: Duration) {
        let Some(entries) = &self.queue.entries else { return };
        let (done, is_done) = sync_channel(1);
        if entries.try_send(Entry::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(wait);
        }
    }
}

/// Starts the thread that writes the log, to a file or to standard error.
///
/// # Errors
/// When the file cannot be opened or the thread cannot start.
pub fn start(level: Level, file: Option<&Path>) -> io::Result<(Log, JoinHandle<()>)> {
    let target: Box<dyn Write + Send> = match file {
        Some(path) => Box::new(open_append(path)?),
        None => Box::new(io::stderr()),
    };
    let (sender, receiver) = sync_channel(LOG_LINES_MAX);
    let queue = Arc::new(Queue { entries: Some(sender), dropped: AtomicU64::new(0) });
    let weak = Arc::downgrade(&queue);
    let thread = std::thread::Builder::new().name("log".into()).spawn(move || {
        let dropped = move || match weak.upgrade() {
            Some(queue) => queue.dropped.swap(0, Ordering::Relaxed),
            None => 0,
        };
        write_entries(&receiver, target, &dropped);
    })?;
    Ok((Log { level, component: "engine".into(), queue }, thread))
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_entries(
    entries: &Receiver<Entry>,
    mut target: Box<dyn Write + Send>,
    dropped: &dyn Fn() -> u64,
) {
    let mut text = String::new();
    loop {
        let entry = match entries.recv_timeout(Duration::from_secs(1)) {
            Ok(entry) => Some(entry),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        text.clear();
        let lost = dropped();
        if lost > 0 {
            let note = format!("{lost} log lines were dropped: the log's reader is too slow");
            push_line(&mut text, SystemTime::now(), Level::Warn, "log", &note);
        }
        let mut flushed = None;
        match entry {
            Some(Entry::Line { at, level, component, text: line }) => {
                push_line(&mut text, at, level, &component, &line);
            }
            Some(Entry::Flush(done)) => flushed = Some(done),
            None => {}
        }
        // A log that cannot be written has nowhere to say so.
        let _ = target.write_all(text.as_bytes());
        if let Some(done) = flushed {
            let _ = target.flush();
            let _ = done.try_send(());
        }
    }
}

fn push_line(out: &mut String, at: SystemTime, level: Level, component: &str, text: &str) {
    let stamp = jiff::Timestamp::try_from(at).unwrap_or_default();
    let stamp = stamp.to_zoned_datetime(jiff::tz::TimeZone::system());
    let date = stamp.strftime("%Y/%m/%d %H:%M:%S");
    let nanos = stamp.subsec_nanosecond();
    let level = level.column();
    *out += &format!("[{date}.{nanos:09}] [{level}] [{component}] {text}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_fluent_bits_shape() {
        let mut out = String::new();
        push_line(&mut out, SystemTime::UNIX_EPOCH, Level::Info, "engine", "hello");
        let tail = out.find("] [ info] [engine] hello\n").expect("level and component follow");
        assert!(out[1..tail].ends_with(".000000000"), "{out}");
        assert_eq!(out[1..tail].len(), "2026/01/31 12:00:00.000000000".len());
    }

    #[test]
    fn lines_below_the_level_are_not_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (log, thread) = start(Level::Warn, Some(file.path())).unwrap();
        log.info("quiet");
        log.component("input:tail:tail.0").warn("loud");
        log.flush(Duration::from_secs(5));
        drop(log);
        thread.join().unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(text.ends_with("[ warn] [input:tail:tail.0] loud\n"), "{text}");
        assert!(!text.contains("quiet"));
    }
}
