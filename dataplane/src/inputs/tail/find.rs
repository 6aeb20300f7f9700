//! Meets paths: those that a walk finds, that a directory tells, and that follow a rotated file.
//!
//! What is a regular file, not excluded and not too old is opened once in the process and given to a shard.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use crate::inputs::tail::TailPlan;
use crate::inputs::tail::pattern::{Spot, Walk};
use crate::inputs::tail::spread::{Choice, Found, Need, Refusal};
use crate::log::Log;
use crate::reactor::file::{FileKind, FileState, OpenFile, state_at};
use crate::reactor::monotonic_ns;

/// Shortest time between two walks; longer where a walk itself takes long.
const WALK_PAUSE_MIN_NS: u64 = 10_000_000;
/// A walk may take one part in so many of the time.
const WALK_SHARE: u64 = 20;
/// When to try again after running out of descriptors.
const DESCRIPTOR_PAUSE: Duration = Duration::from_secs(1);

/// Whether a path led to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Met {
    /// To nothing.
    Missing,
    /// To a directory or something else that cannot be tailed.
    NoFile,
    /// To a file, if only one that cannot be read.
    Exists,
}

struct Running {
    walk: Walk,
    began_ns: u64,
    worked_ns: u64,
    /// The best that the paths of each pattern led to.
    met: Vec<Met>,
}

/// Finds files for one shard.
pub struct Finder {
    plan: Arc<TailPlan>,
    shard: usize,
    log: Log,
    running: Option<Running>,
    suggested: VecDeque<PathBuf>,
    /// `u64::MAX` while a walk is under way and no other was asked for.
    next_walk_ns: u64,
    /// Before this no walk begins, so that a directory in turmoil does not take the shard.
    walk_allowed_ns: u64,
    walks_done: u64,
    is_out_of_descriptors: Descriptors,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Descriptors {
    Enough,
    UsedUp,
}

impl Finder {
    /// A finder whose first walk is due at once.
    pub fn new(plan: Arc<TailPlan>, shard: usize, log: Log) -> Finder {
        Finder {
            plan,
            shard,
            log,
            running: None,
            suggested: VecDeque::new(),
            next_walk_ns: 0,
            walk_allowed_ns: 0,
            walks_done: 0,
            is_out_of_descriptors: Descriptors::Enough,
        }
    }

    /// A name that matches the patterns has appeared.
    pub fn suggest(&mut self, path: PathBuf) {
        self.suggested.push_back(path);
    }

    /// Something on the way to files has changed.
    pub fn walk_soon(&mut self) {
        self.next_walk_ns = self.next_walk_ns.min(self.walk_allowed_ns);
    }

    /// Whether there is work at once.
    pub fn is_busy(&self) -> bool {
        self.running.is_some() || !self.suggested.is_empty()
    }

    /// Whether a walk over everything has been finished.
    pub fn has_walked(&self) -> bool {
        self.walks_done > 0
    }

    /// When the next walk is due, monotonic.
    pub fn next_walk_ns(&self) -> u64 {
        self.next_walk_ns
    }

    /// Meets at most `path_count` paths. When a walk ends: the directories to watch.
    pub fn step(&mut self, path_count: usize, now_ns: u64) -> Option<Vec<Spot>> {
        let mut left = path_count;
        while left > 0
            && let Some(path) = self.suggested.pop_front()
        {
            self.meet(path, Choice::Least, now_ns);
            left -= 1;
        }
        if self.running.is_none() && now_ns >= self.next_walk_ns {
            self.next_walk_ns = u64::MAX;
            let walk = Walk::new(&self.plan.patterns);
            let met = vec![Met::Missing; self.plan.patterns.len()];
            self.running = Some(Running { walk, began_ns: now_ns, worked_ns: 0, met });
        }
        let mut running = self.running.take()?;
        let began_ns = monotonic_ns();
        let mut is_done = false;
        for _ in 0..left {
            let Some(path) = running.walk.next() else {
                is_done = true;
                break;
            };
            let met = self.meet(path, Choice::Least, now_ns);
            let best = &mut running.met[running.walk.pattern_index()];
            *best = (*best).max(met);
        }
        let ended_ns = monotonic_ns();
        running.worked_ns += ended_ns.saturating_sub(began_ns);
        if !is_done {
            self.running = Some(running);
            return None;
        }
        if self.walks_done == 0 && self.shard == 0 {
            self.say_what_leads_nowhere(&running.met);
        }
        self.walks_done += 1;
        self.plan.spread.walked(running.began_ns);
        self.walk_allowed_ns = ended_ns + WALK_PAUSE_MIN_NS.max(running.worked_ns * WALK_SHARE);
        let pause = match std::mem::replace(&mut self.is_out_of_descriptors, Descriptors::Enough) {
            Descriptors::Enough => self.plan.refresh_interval,
            Descriptors::UsedUp => self.plan.refresh_interval.min(DESCRIPTOR_PAUSE),
        };
        let regular_ns = ended_ns + pause.as_nanos() as u64;
        // A change during the walk asked for another one.
        let asked_ns = if self.next_walk_ns == u64::MAX { u64::MAX } else { self.walk_allowed_ns };
        self.next_walk_ns = regular_ns.min(asked_ns);
        Some(running.walk.into_spots())
    }

    /// Looks at a path, and opens what must be read.
    pub fn meet(&mut self, path: PathBuf, choice: Choice, now_ns: u64) -> Met {
        let state = match state_at(&path) {
            Ok(state) => state,
            Err(error) => {
                if error.kind() == io::ErrorKind::NotFound {
                    return Met::Missing;
                }
                self.refuse(&path, &error);
                return Met::Exists;
            }
        };
        if state.kind != FileKind::Regular {
            return Met::NoFile;
        }
        if self.plan.exclude.contains(&path)
            || self.is_too_old(&state)
            || self.plan.spread.need(&state, now_ns) == Need::Nothing
        {
            return Met::Exists;
        }
        let bytes = path.as_os_str().as_encoded_bytes();
        if self.plan.tag_regex.as_ref().is_some_and(|regex| !regex.is_match(bytes)) {
            if self.plan.spread.refuse(&path) == Refusal::New {
                let shown = path.display();
                self.log
                    .error(format_args!("`{shown}` is not read: `tag_regex` does not match it"));
            }
            return Met::Exists;
        }
        let opened = OpenFile::open(&path).and_then(|file| Ok((file.state()?, file)));
        match opened {
            Ok((state, file)) if state.kind == FileKind::Regular => {
                self.plan.spread.accept(&path);
                self.plan.spread.give(Found { file, state, path }, self.shard, choice);
            }
            Ok(_) => {}
            Err(error) => self.refuse(&path, &error),
        }
        Met::Exists
    }

    /// Whether `ignore_older` leaves a file alone.
    pub fn is_too_old(&self, state: &FileState) -> bool {
        let Some(age_max) = self.plan.ignore_older else { return false };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let oldest = now.as_secs().saturating_sub(age_max.as_secs());
        u64::try_from(state.modified_secs).unwrap_or(0) < oldest
    }

    /// After the first walk: patterns without a file, in which there may be a mistake.
    fn say_what_leads_nowhere(&self, met: &[Met]) {
        for (pattern, met) in self.plan.patterns.iter().zip(met) {
            match met {
                Met::Exists => {}
                Met::NoFile => self.log.warn(format_args!(
                    "`{pattern}` leads to a directory or a device, not to a file: nothing in it is \
                     read; for the files of a directory add `/*`"
                )),
                Met::Missing => self
                    .log
                    .info(format_args!("no file matches `{pattern}` so far; what appears is read")),
            }
        }
    }

    fn refuse(&mut self, path: &Path, error: &io::Error) {
        let shown = path.display();
        let code = error.raw_os_error();
        if code == Some(Errno::MFILE.raw_os_error()) || code == Some(Errno::NFILE.raw_os_error()) {
            if self.is_out_of_descriptors == Descriptors::Enough {
                self.log.error(format_args!(
                    "cannot open `{shown}` and perhaps others: {error}; raise the limit of open files \
                     (`ulimit -n`, `LimitNOFILE`); trying again every second"
                ));
            }
            self.is_out_of_descriptors = Descriptors::UsedUp;
            if self.next_walk_ns != u64::MAX {
                let pause_ns = DESCRIPTOR_PAUSE.as_nanos() as u64;
                self.next_walk_ns = self.next_walk_ns.min(monotonic_ns() + pause_ns);
            }
        } else if self.plan.spread.refuse(path) == Refusal::New {
            self.log
                .error(format_args!("cannot read `{shown}`: {error}; trying again at each walk"));
        }
    }
}
