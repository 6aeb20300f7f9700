//! Looks at all open files by the clock: finds growth that was not told, names that lead elsewhere, files that
//! are over; and closes those.

use std::collections::HashMap;
use std::time::Duration;

use crate::event::time::EventTime;
use crate::inputs::tail::file::Visit;
use crate::inputs::tail::spread::Rest;
use crate::inputs::tail::turns::{FileKey, Queue, Reported, Slot, TailTurns};
use crate::plugin::input::EventSink;

/// Time between sweeps where changes are not told.
pub(super) const POLL: Duration = Duration::from_millis(250);
/// Files looked at in one turn.
const FILES_PER_TURN: usize = 256;

/// A sweep over all files, a slice a turn.
#[derive(Default)]
pub(super) struct Sweep {
    keys: Vec<FileKey>,
    kind: SweepKind,
    next_ns: u64,
    next_names_ns: u64,
}

/// What a sweep looks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SweepKind {
    /// Growth.
    #[default]
    States,
    /// Names that lead elsewhere, too.
    Names,
}

impl Sweep {
    /// Starts over, with all files.
    pub(super) fn begin(&mut self, files: &HashMap<FileKey, Slot>, kind: SweepKind) {
        self.keys.clear();
        self.keys.extend(files.keys());
        self.kind = kind;
    }

    /// Whether files are left to look at.
    pub(super) fn is_under_way(&self) -> bool {
        !self.keys.is_empty()
    }

    /// When the next one is due, monotonic.
    pub(super) fn next_ns(&self) -> u64 {
        self.next_ns.min(self.next_names_ns)
    }
}

/// What a look at a file says.
enum Look {
    Same,
    Changed,
    Over,
}

impl TailTurns {
    /// Time between sweeps: short where the kernel does not tell every change.
    pub(super) fn sweep_pause(&self) -> Duration {
        match self.watcher.is_none() || self.watch_complaint == Reported::Yes {
            true => POLL,
            false => self.plan.progress_check_interval.min(self.plan.rotate_wait),
        }
    }

    /// Begins a sweep when it is due, and looks at some files.
    pub(super) fn sweep(&mut self, now_ns: u64, stamp: &mut EventTime, sink: &mut dyn EventSink) {
        if !self.sweep.is_under_way() && now_ns >= self.sweep.next_ns() {
            let is_names = now_ns >= self.sweep.next_names_ns;
            let kind = if is_names { SweepKind::Names } else { SweepKind::States };
            self.sweep.begin(&self.files, kind);
            self.sweep.next_ns = now_ns + self.sweep_pause().as_nanos() as u64;
            if is_names {
                self.sweep.next_names_ns = now_ns + self.plan.watcher_interval.as_nanos() as u64;
            }
        }
        for _ in 0..FILES_PER_TURN {
            let Some(key) = self.sweep.keys.pop() else { return };
            match self.look(key, now_ns) {
                Look::Same => {}
                Look::Changed => self.wake(key),
                Look::Over => self.close(key, now_ns, stamp, sink),
            }
        }
    }

    fn look(&mut self, key: FileKey, now_ns: u64) -> Look {
        if self.sweep.kind == SweepKind::Names {
            self.check_name(key, now_ns);
        }
        let Some(slot) = self.files.get(&key) else { return Look::Same };
        let Ok(state) = slot.tailed.file.state() else { return Look::Over };
        if slot.tailed.has_changed(state.size, state.modified_secs) {
            return Look::Changed;
        }
        if slot.queue == Queue::Ready {
            return Look::Same;
        }
        let wait_ns = self.plan.rotate_wait.as_nanos() as u64;
        let is_over = slot.nameless_since_ns.is_some_and(|since_ns| {
            // A rotated file that is still written to is kept, whatever its age.
            now_ns.saturating_sub(since_ns.max(slot.tailed.grown_ns())) >= wait_ns
        });
        let is_too_old = self.plan.drops_active_older && self.finder.is_too_old(&state);
        if is_over || is_too_old { Look::Over } else { Look::Same }
    }

    /// Closes a file. Where it may be found again, its place is kept; where not, its last line is delivered even
    /// without a newline.
    fn close(
        &mut self,
        key: FileKey,
        now_ns: u64,
        stamp: &mut EventTime,
        sink: &mut dyn EventSink,
    ) {
        let Some(mut slot) = self.files.remove(&key) else { return };
        self.unread_initial.remove(&key);
        if let Some(watch) = slot.watch {
            self.targets.remove(&watch);
            if let Some(watcher) = &self.watcher {
                watcher.end(watch);
            }
        }
        let name = slot.tailed.file.current_path();
        let may_return = name.is_some_and(|name| {
            let mut patterns = self.plan.patterns.iter();
            patterns.any(|pattern| pattern.matches(&name)) && !self.plan.exclude.contains(&name)
        });
        if !may_return && slot.tailed.unfinished_bytes() > 0 {
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
        if let Some(joiner) = self.joiner.as_mut().filter(|_| slot.tailed.is_joining()) {
            slot.tailed.flush_joined(joiner, sink);
        }
        let left = slot.tailed.file.state().ok().filter(|state| state.link_count > 0);
        let rest = left
            .map(|state| Rest { place: slot.tailed.place(), modified_secs: state.modified_secs });
        self.plan.spread.closed(slot.tailed.id, rest, now_ns);
        self.log.info(format_args!("closed `{}`", slot.tailed.path.display()));
    }
}
