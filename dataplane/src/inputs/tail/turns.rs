//! The part of `tail` that one shard runs: finds files, takes changes, and reads ready files in turn.
//!
//! A turn is bounded: so many bytes, files and paths. Files that have something to read stand in one queue and
//! get one block each, so a thousand busy files share a shard fairly.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::event::time::EventTime;
use crate::inputs::tail::TailPlan;
use crate::inputs::tail::file::{TailedFile, Visit, Visited};
use crate::inputs::tail::find::{Finder, Met};
use crate::inputs::tail::joined::LineJoiner;
use crate::inputs::tail::parsed::LineParser;
use crate::inputs::tail::pattern::{Appearance, Spot};
use crate::inputs::tail::spread::{Age, AllAtEnd, Choice, Given};
use crate::inputs::tail::sweep::{POLL, Sweep, SweepKind};
use crate::inputs::tail::tag::TagMaker;
use crate::limits::READ_BYTES;
use crate::log::Log;
use crate::plugin::input::{EventSink, Flow, Turn, TurnInput};
use crate::reactor::file::{OpenFile, state_at};
use crate::reactor::inotify::{Change, More, WatchId, Watcher};
use crate::reactor::monotonic_ns;

/// Files visited in one turn.
const VISITS_PER_TURN: usize = 64;
/// Bytes read in one turn: about a third of a millisecond.
const BYTES_PER_TURN: usize = 1024 * 1024;
/// Paths looked at in one turn.
const PATHS_PER_TURN: usize = 64;
/// Wait for a page that is on its way from the disk.
const COLD_PAUSE: Duration = Duration::from_millis(1);
/// Names a file for as long as it is open; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileKey(u64);

/// A file and what the queue knows of it.
pub(super) struct Slot {
    pub(super) tailed: TailedFile,
    pub(super) watch: Option<WatchId>,
    pub(super) queue: Queue,
    /// Since when its name leads elsewhere or nowhere, monotonic.
    pub(super) nameless_since_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Waiting,
    Ready,
}

/// What a watch is for.
pub(super) enum Target {
    File(FileKey),
    Directory(Vec<Spot>),
}

/// A name that a rotated file has left and that nothing bears yet.
struct Vacancy {
    path: PathBuf,
    look_ns: u64,
    pause_ns: u64,
    until_ns: u64,
}

/// `tail` on one shard.
pub struct TailTurns {
    pub(super) plan: Arc<TailPlan>,
    shard: usize,
    pub(super) log: Log,
    tags: TagMaker,
    pub(super) finder: Finder,
    pub(super) watcher: Option<Watcher>,
    pub(super) targets: HashMap<WatchId, Target>,
    pub(super) files: HashMap<FileKey, Slot>,
    next_key: u64,
    ready: VecDeque<FileKey>,
    cold: Vec<FileKey>,
    vacancies: Vec<Vacancy>,
    pub(super) sweep: Sweep,
    /// Files of the start that have not been read to their end, where that ends the process.
    pub(super) unread_initial: HashSet<FileKey>,
    has_reported_end: Reported,
    pub(super) watch_complaint: Reported,
    pub(super) buffer: Vec<u8>,
    pub(super) parser: Option<LineParser>,
    pub(super) joiner: Option<LineJoiner>,
    /// Files that were changed and renamed, while changes are taken.
    changed: Changed,
}

#[derive(Default)]
struct Changed {
    woken: Vec<FileKey>,
    moved: Vec<FileKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reported {
    No,
    Yes,
}

impl TailTurns {
    /// Starts on a shard.
    pub fn new(plan: Arc<TailPlan>, shard: usize, log: Log, tags: TagMaker) -> TailTurns {
        let watcher = match plan.uses_inotify {
            true => Watcher::new()
                .map_err(|error| {
                    log.warn(format_args!(
                        "cannot watch files, looking every {} ms instead: {error}; raise \
                         `fs.inotify.max_user_instances`",
                        POLL.as_millis()
                    ));
                })
                .ok(),
            false => None,
        };
        TailTurns {
            finder: Finder::new(Arc::clone(&plan), shard, log.clone()),
            parser: plan.parser.clone().map(LineParser::new),
            joiner: plan.multiline.clone().map(LineJoiner::new),
            plan,
            shard,
            log,
            tags,
            watcher,
            targets: HashMap::new(),
            files: HashMap::new(),
            next_key: 0,
            ready: VecDeque::new(),
            cold: Vec::new(),
            vacancies: Vec::new(),
            sweep: Sweep::default(),
            unread_initial: HashSet::new(),
            has_reported_end: Reported::No,
            watch_complaint: Reported::No,
            buffer: vec![0; READ_BYTES],
            changed: Changed::default(),
        }
    }

    /// Takes what the kernel tells.
    fn take_changes(&mut self, now_ns: u64) -> More {
        let Some(watcher) = &self.watcher else { return More::None };
        let Changed { mut woken, mut moved } = std::mem::take(&mut self.changed);
        let mut is_overflow = false;
        let (targets, finder) = (&mut self.targets, &mut self.finder);
        let drained = watcher.drain(|change| match change {
            Change::Appeared(id, name) => {
                let Some(Target::Directory(spots)) = targets.get(&id) else { return };
                for spot in spots {
                    match spot.judge(name) {
                        Appearance::Foreign => {}
                        Appearance::File(path) => finder.suggest(path),
                        Appearance::Directory => finder.walk_soon(),
                    }
                }
            }
            Change::Modified(id) | Change::Moved(id) => {
                if let Some(Target::File(key)) = targets.get(&id) {
                    woken.push(*key);
                    if matches!(change, Change::Moved(_)) {
                        moved.push(*key);
                    }
                }
            }
            Change::Ended(id) => {
                if let Some(Target::Directory(_)) = targets.remove(&id) {
                    finder.walk_soon();
                }
            }
            Change::Overflow => is_overflow = true,
        });
        let more = drained.unwrap_or_else(|error| {
            self.log.error(format_args!("cannot take changes of files: {error}; looking instead"));
            self.watcher = None;
            More::None
        });
        for key in woken.drain(..) {
            self.wake(key);
        }
        for key in moved.drain(..) {
            self.check_name(key, now_ns);
        }
        self.changed = Changed { woken, moved };
        if is_overflow {
            self.log.warn("changes of files were lost, looking at all of them");
            self.finder.walk_soon();
            self.sweep.begin(&self.files, SweepKind::Names);
        }
        more
    }

    pub(super) fn wake(&mut self, key: FileKey) {
        if let Some(slot) = self.files.get_mut(&key)
            && slot.queue == Queue::Waiting
        {
            slot.queue = Queue::Ready;
            self.ready.push_back(key);
        }
    }

    /// Looks whether the name of a file still leads to it. If not, it was rotated or removed, and what follows
    /// under its name is read at once.
    pub(super) fn check_name(&mut self, key: FileKey, now_ns: u64) {
        let Some(slot) = self.files.get_mut(&key) else { return };
        let path = slot.tailed.path.clone();
        let successor = match state_at(&path) {
            Ok(state) if state.id == slot.tailed.id => {
                slot.nameless_since_ns = None;
                return;
            }
            Ok(_) => Met::Exists,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Met::Missing,
            // A directory that cannot be searched for a moment says nothing about the file.
            Err(_) => return,
        };
        if slot.nameless_since_ns.is_none() {
            slot.nameless_since_ns = Some(now_ns);
            self.log.debug(format_args!("`{}` was rotated or removed", path.display()));
            if successor == Met::Exists {
                self.finder.meet(path, Choice::Asker, now_ns);
            } else {
                let pause_ns = 1_000_000;
                let until_ns = now_ns + self.plan.rotate_wait.as_nanos() as u64;
                let look_ns = now_ns + pause_ns;
                self.vacancies.push(Vacancy { path, look_ns, pause_ns, until_ns });
            }
        }
    }

    /// Looks again for names that rotated files have left, at growing distances.
    fn look_at_vacancies(&mut self, now_ns: u64) {
        let finder = &mut self.finder;
        self.vacancies.retain_mut(|vacancy| {
            if vacancy.look_ns > now_ns {
                return true;
            }
            if finder.meet(vacancy.path.clone(), Choice::Asker, now_ns) == Met::Exists {
                return false;
            }
            vacancy.pause_ns *= 2;
            vacancy.look_ns = now_ns + vacancy.pause_ns;
            now_ns < vacancy.until_ns
        });
    }

    /// Walks on, and opens what this shard was given.
    fn find(&mut self, now_ns: u64) {
        if let Some(spots) = self.finder.step(PATHS_PER_TURN, now_ns) {
            self.watch_directories(spots);
        }
        for given in self.plan.spread.take(self.shard) {
            self.adopt(given);
        }
    }

    fn adopt(&mut self, given: Given) {
        let key = FileKey(self.next_key);
        self.next_key += 1;
        let age = given.start.age;
        let (offset, path) = (given.start.place.offset, given.found.path.display());
        self.log.info(format_args!(
            "reading `{path}` from byte {offset}, inode={}",
            given.found.state.id.inode
        ));
        let watch = self.watch_file(key, &given.found.file);
        let tag = self.tags.tag(&given.found.path);
        let template = self.plan.template(&given.found.path);
        let tailed = TailedFile::new(given, tag, template);
        let slot = Slot { tailed, watch, queue: Queue::Waiting, nameless_since_ns: None };
        self.files.insert(key, slot);
        if age == Age::Initial {
            self.unread_initial.insert(key);
        }
        self.wake(key);
    }

    fn watch_file(&mut self, key: FileKey, file: &OpenFile) -> Option<WatchId> {
        match self.watcher.as_ref()?.watch_file(file) {
            Ok(id) => {
                self.targets.insert(id, Target::File(key));
                Some(id)
            }
            Err(error) => {
                self.complain_of_watch(&error);
                None
            }
        }
    }

    fn complain_of_watch(&mut self, error: &io::Error) {
        if self.watch_complaint == Reported::No {
            self.watch_complaint = Reported::Yes;
            self.log.warn(format_args!(
                "cannot watch everything, looking every {} ms instead: {error}; raise \
                 `fs.inotify.max_user_watches`",
                POLL.as_millis()
            ));
        }
    }

    /// Watches the directories that a finished walk has seen.
    fn watch_directories(&mut self, spots: Vec<Spot>) {
        let Some(watcher) = &self.watcher else { return };
        let mut seen: HashMap<WatchId, Vec<Spot>> = HashMap::new();
        let mut refused = None;
        for spot in spots {
            match watcher.watch_directory(&spot.directory) {
                Ok(id) => seen.entry(id).or_default().push(spot),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => refused = Some(error),
            }
        }
        let is_old = |(id, target): (&WatchId, &Target)| match target {
            Target::Directory(_) => (!seen.contains_key(id)).then_some(*id),
            Target::File(_) => None,
        };
        let old: Vec<WatchId> = self.targets.iter().filter_map(is_old).collect();
        for id in old {
            watcher.end(id);
            self.targets.remove(&id);
        }
        for (id, spots) in seen {
            if self.targets.insert(id, Target::Directory(spots)).is_none() {
                // What appeared between the walk and the watch was not told.
                self.finder.walk_soon();
            }
        }
        if let Some(error) = refused {
            self.complain_of_watch(&error);
        }
    }
}

impl TurnInput for TailTurns {
    fn turn(&mut self, now: EventTime, sink: &mut dyn EventSink) -> Turn {
        let now_ns = monotonic_ns();
        let more = self.take_changes(now_ns);
        self.look_at_vacancies(now_ns);
        self.find(now_ns);
        let mut stamp = now;
        self.sweep(now_ns, &mut stamp, sink);
        // Paused, files are only looked after: what has left its name by the end of the pause is open then.
        let flow = match sink.flow() {
            Flow::Open => {
                self.flush_idle(now_ns, now, sink);
                self.read_ready(now_ns, &mut stamp, sink)
            }
            Flow::Paused => Flow::Paused,
        };
        if let Some(turn) = self.end_of_process(now_ns, &mut stamp, sink) {
            return turn;
        }
        let is_busy = more == More::Perhaps
            || (flow == Flow::Open && !self.ready.is_empty())
            || self.finder.is_busy()
            || self.sweep.is_under_way()
            || self.plan.spread.has_given(self.shard);
        if is_busy {
            return Turn::Again;
        }
        self.sleep(now_ns)
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        self.watcher.as_ref().map(Watcher::descriptor)
    }

    fn finish(&mut self, _now: EventTime, sink: &mut dyn EventSink) {
        self.flush_joined(sink);
    }
}

impl TailTurns {
    /// Reads one block of each ready file, oldest first, within the bounds of a turn.
    fn read_ready(&mut self, now_ns: u64, stamp: &mut EventTime, sink: &mut dyn EventSink) -> Flow {
        for key in self.cold.drain(..) {
            self.ready.push_back(key);
        }
        let mut bytes_left = BYTES_PER_TURN.min(self.plan.turn_bytes_max);
        for _ in 0..VISITS_PER_TURN.min(self.ready.len()) {
            let Some(key) = self.ready.pop_front() else { break };
            let Some(slot) = self.files.get_mut(&key) else { continue };
            let visited = slot.tailed.visit(&mut Visit {
                buffer: &mut self.buffer,
                rules: &self.plan.rules,
                stamp,
                now_ns,
                sink,
                log: &self.log,
                parser: self.parser.as_mut(),
                joiner: self.joiner.as_mut(),
            });
            if let Some(joiner) = self.joiner.as_mut().filter(|_| slot.tailed.is_joining()) {
                joiner.wait_for(key, now_ns);
            }
            match visited {
                Visited::More(byte_count) => {
                    self.ready.push_back(key);
                    bytes_left = bytes_left.saturating_sub(byte_count);
                    if bytes_left == 0 {
                        break;
                    }
                }
                Visited::Cold => self.cold.push(key),
                Visited::AtEnd | Visited::Failed => {
                    slot.queue = Queue::Waiting;
                    self.unread_initial.remove(&key);
                }
                Visited::Paused => {
                    self.ready.push_back(key);
                    return Flow::Paused;
                }
            }
        }
        Flow::Open
    }

    /// With `exit_on_eof`: the end, when every shard has read what was there at the start.
    fn end_of_process(
        &mut self,
        now_ns: u64,
        stamp: &mut EventTime,
        sink: &mut dyn EventSink,
    ) -> Option<Turn> {
        if !self.plan.exits_at_end
            || self.has_reported_end == Reported::Yes
            || !self.finder.has_walked()
            || self.plan.spread.has_given(self.shard)
            || !self.unread_initial.is_empty()
        {
            return None;
        }
        self.has_reported_end = Reported::Yes;
        for slot in self.files.values_mut().filter(|slot| slot.tailed.unfinished_bytes() > 0) {
            slot.tailed.deliver_rest(&mut Visit {
                buffer: &mut self.buffer,
                rules: &self.plan.rules,
                stamp,
                now_ns,
                sink,
                log: &self.log,
                parser: self.parser.as_mut(),
                joiner: self.joiner.as_mut(),
            });
        }
        self.flush_joined(sink);
        match self.plan.spread.reached_end() {
            AllAtEnd::Yes => {
                self.log.info("all files are read to their end, stopping (`exit_on_eof`)");
                Some(Turn::StopProcess)
            }
            AllAtEnd::No => None,
        }
    }

    /// Sleeps until the next thing that is due by the clock.
    fn sleep(&self, now_ns: u64) -> Turn {
        if !self.cold.is_empty() {
            return Turn::Sleep(COLD_PAUSE);
        }
        let vacancies = self.vacancies.iter().map(|vacancy| vacancy.look_ns);
        let sweep = (!self.files.is_empty()).then(|| self.sweep.next_ns());
        // Without watches the other shards' gifts are only seen by looking.
        let poll = (self.sweep_pause() == POLL).then(|| now_ns + POLL.as_nanos() as u64);
        let joined = self.joiner.as_ref().and_then(LineJoiner::look_ns);
        let due_ns = vacancies.chain(sweep).chain(poll).chain(joined).min().unwrap_or(u64::MAX);
        let due_ns = due_ns.min(self.finder.next_walk_ns());
        Turn::Sleep(Duration::from_nanos(due_ns.saturating_sub(now_ns).max(100_000)))
    }
}
