//! Which shard reads which file: shared by the shards, touched when files are found and closed, never to read.
//!
//! Every shard walks the patterns; the first that meets a file opens it and gives it to the shard with the
//! fewest. It is handed over open, so a rename in between loses nothing, and it stays with its shard as long
//! as it is open. What was closed but still exists rests here with its place: it is never read twice.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::reactor::file::{FileId, FileState, OpenFile};

/// How long a closed file is remembered that no walk meets. One walk may miss a file: it was renamed from a name
/// still to come to one that was not there when the directory was read.
const REST_NS: u64 = 60_000_000_000;

/// Bytes kept of what stands before a place.
pub const MARKER_BYTES: usize = 32;

/// The bytes before a place in a file: if they are others, the file was truncated and written anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marker {
    bytes: [u8; MARKER_BYTES],
    length: u8,
}

impl Marker {
    /// Of the last bytes of this text.
    pub fn of(text: &[u8]) -> Marker {
        let mut marker = Marker::default();
        let last = &text[text.len().saturating_sub(MARKER_BYTES)..];
        marker.bytes[..last.len()].copy_from_slice(last);
        marker.length = last.len() as u8;
        marker
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// A place in a file to read on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Start of the first line that was not delivered.
    pub offset: u64,
    /// What stood before it; empty when nobody has looked.
    pub marker: Marker,
}

/// How a file was left that may be met again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Where to read on.
    pub place: Place,
    /// Its last change, in seconds since 1970.
    pub modified_secs: i64,
}

/// Whether somebody has been told that a path cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody was.
    New,
    /// It was said.
    Known,
}

/// Where a file is to be read from, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Where.
    pub place: Place,
    /// Whether it was there at the start of the process.
    pub age: Age,
}

/// When a file was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// By the first walk.
    Initial,
    /// Later.
    New,
}

/// Which new files are read from their end (rule: keys `read_from_head` and
/// `read_newly_discovered_files_from_head`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromEnd {
    /// Those of the first walk.
    pub initial: bool,
    /// Those found later, unless they follow a rotated file of their name.
    pub new: bool,
}

/// A file that a walk has met and opened.
#[derive(Debug)]
pub struct Found {
    /// Open.
    pub file: OpenFile,
    /// What the open file is.
    pub state: FileState,
    /// The name by which it was met.
    pub path: PathBuf,
}

/// A file given to a shard.
#[derive(Debug)]
pub struct Given {
    /// The file.
    pub found: Found,
    /// Where to start.
    pub start: Start,
}

/// Who may be given a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The shard with the fewest.
    Least,
    /// The shard that asks: the file follows a rotated one of that shard.
    Asker,
}

/// Whether a file must be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It has something to read, and nobody reads it.
    Open,
    /// A shard has it, or it has nothing new.
    Nothing,
}

#[derive(Debug)]
enum Entry {
    /// Open on a shard, or on its way there.
    Taken { shard: usize, path: PathBuf },
    /// Closed, and perhaps still there.
    Resting { place: Place, modified_secs: i64, seen_ns: u64 },
}

#[derive(Debug)]
struct State {
    files: HashMap<FileId, Entry>,
    /// Files of each shard.
    loads: Vec<usize>,
    /// Files on their way to each shard.
    given: Vec<Vec<Given>>,
    walks_done: usize,
    shards_at_end: usize,
    /// Paths that cannot be read, so that it is said once.
    refused: HashSet<PathBuf>,
}

/// The files of one `tail` instance.
#[derive(Debug)]
pub struct FileSpread {
    state: Mutex<State>,
    /// For each shard, whether something was given to it.
    has_given: Vec<AtomicBool>,
    from_end: FromEnd,
}

impl FileSpread {
    /// For so many shards.
    pub fn new(shard_count: usize, from_end: FromEnd) -> FileSpread {
        let shard_count = shard_count.max(1);
        let state = State {
            files: HashMap::new(),
            loads: vec![0; shard_count],
            given: (0..shard_count).map(|_| Vec::new()).collect(),
            walks_done: 0,
            shards_at_end: 0,
            refused: HashSet::new(),
        };
        let has_given = (0..shard_count).map(|_| AtomicBool::new(false)).collect();
        FileSpread { state: Mutex::new(state), has_given, from_end }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panics stops the process, so poison is never seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a file that was met must be opened and [given](Self::give).
    pub fn need(&self, found: &FileState, now_ns: u64) -> Need {
        match self.state().files.get_mut(&found.id) {
            None => Need::Open,
            Some(Entry::Taken { .. }) => Need::Nothing,
            Some(Entry::Resting { place, modified_secs, seen_ns }) => {
                *seen_ns = now_ns;
                // Another file may have got the number of a removed one, and the same size.
                match place.offset == found.size && *modified_secs == found.modified_secs {
                    true => Need::Nothing,
                    false => Need::Open,
                }
            }
        }
    }

    /// Whether it is news that a path cannot be read.
    pub fn refuse(&self, path: &Path) -> Refusal {
        match self.state().refused.insert(path.to_owned()) {
            true => Refusal::New,
            false => Refusal::Known,
        }
    }

    /// A path can be read, or is gone.
    pub fn accept(&self, path: &Path) {
        let mut state = self.state();
        if !state.refused.is_empty() {
            state.refused.remove(path);
        }
    }

    /// Gives an open file to a shard, unless another shard was quicker. `asker` met it.
    pub fn give(&self, found: Found, asker: usize, choice: Choice) {
        let state = &mut *self.state();
        let start = match state.files.get(&found.state.id) {
            Some(Entry::Taken { .. }) => return,
            Some(Entry::Resting { place, .. }) => Start { place: *place, age: Age::New },
            None => self.start_of(state, &found),
        };
        let least = (0..state.loads.len()).min_by_key(|shard| state.loads[*shard]);
        let shard = if choice == Choice::Asker { asker } else { least.unwrap_or(asker) };
        state.loads[shard] += 1;
        state.files.insert(found.state.id, Entry::Taken { shard, path: found.path.clone() });
        state.given[shard].push(Given { found, start });
        self.has_given[shard].store(true, Ordering::Release);
    }

    fn start_of(&self, state: &State, found: &Found) -> Start {
        let age = if state.walks_done == 0 { Age::Initial } else { Age::New };
        let follows = || {
            let mut taken = state.files.values();
            taken.any(|entry| matches!(entry, Entry::Taken { path, .. } if *path == found.path))
        };
        let is_from_end = match age {
            Age::Initial => self.from_end.initial,
            Age::New => self.from_end.new && !follows(),
        };
        let offset = if is_from_end { found.state.size } else { 0 };
        Start { place: Place { offset, marker: Marker::default() }, age }
    }

    /// Whether something was given to a shard.
    pub fn has_given(&self, shard: usize) -> bool {
        self.has_given[shard].load(Ordering::Acquire)
    }

    /// What a shard was given; one atomic load when that is nothing.
    pub fn take(&self, shard: usize) -> Vec<Given> {
        if !self.has_given(shard) || !self.has_given[shard].swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut self.state().given[shard])
    }

    /// A shard has closed a file, and would go on there if it is met again.
    pub fn closed(&self, id: FileId, rest: Option<Rest>, now_ns: u64) {
        let state = &mut *self.state();
        if let Some(Entry::Taken { shard, .. }) = state.files.remove(&id) {
            state.loads[shard] -= 1;
            if let Some(Rest { place, modified_secs }) = rest {
                let entry = Entry::Resting { place, modified_secs, seen_ns: now_ns };
                state.files.insert(id, entry);
            }
        }
    }

    /// A shard has walked all patterns since `began_ns`: what rests and was not met for long is no longer there.
    pub fn walked(&self, began_ns: u64) {
        let state = &mut *self.state();
        state.walks_done += 1;
        state.refused.retain(|path| path.symlink_metadata().is_ok());
        state.files.retain(|_, entry| match entry {
            Entry::Taken { .. } => true,
            Entry::Resting { seen_ns, .. } => seen_ns.saturating_add(REST_NS) >= began_ns,
        });
    }

    /// A shard has read all it had at the start; whether every shard has.
    pub fn reached_end(&self) -> AllAtEnd {
        let mut state = self.state();
        state.shards_at_end += 1;
        if state.shards_at_end >= state.loads.len() { AllAtEnd::Yes } else { AllAtEnd::No }
    }
}

/// Whether the files of the start are read, on all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllAtEnd {
    /// They are.
    Yes,
    /// Some shard still reads.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM_HEAD: FromEnd = FromEnd { initial: false, new: false };

    fn found(folder: &Path, name: &str, size: usize) -> Found {
        let path = folder.join(name);
        std::fs::write(&path, vec![b'x'; size]).unwrap();
        let file = OpenFile::open(&path).unwrap();
        let state = file.state().unwrap();
        Found { file, state, path }
    }

    #[test]
    fn files_are_dealt_evenly_and_each_is_given_once() {
        let folder = tempfile::tempdir().unwrap();
        let spread = FileSpread::new(2, FROM_HEAD);
        for name in 0..10 {
            for asker in [1, 0] {
                let found = found(folder.path(), &name.to_string(), 5);
                spread.give(found, asker, Choice::Least);
            }
        }
        let (first, second) = (spread.take(0), spread.take(1));
        assert_eq!((first.len(), second.len()), (5, 5));
        assert!(spread.take(0).is_empty());
        assert_eq!(spread.need(&first[0].found.state, 1), Need::Nothing);
        spread.give(found(folder.path(), "follows", 1), 1, Choice::Asker);
        assert_eq!(spread.take(1).len(), 1);
    }

    #[test]
    fn a_closed_file_rests_and_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let spread = FileSpread::new(1, FROM_HEAD);
        let give = |size| spread.give(found(folder.path(), "x", size), 0, Choice::Least);
        give(5);
        let state = spread.take(0)[0].found.state;
        let place = Place { offset: 5, marker: Marker::of(b"hello") };
        let rest = Some(Rest { place, modified_secs: state.modified_secs });
        spread.closed(state.id, rest, 2);
        assert_eq!(spread.need(&state, 3), Need::Nothing);
        assert_eq!(spread.need(&FileState { size: 9, ..state }, 4), Need::Open);
        let of_same_size = FileState { modified_secs: state.modified_secs + 1, ..state };
        assert_eq!(spread.need(&of_same_size, 4), Need::Open, "its number was given again");
        give(9);
        assert_eq!(spread.take(0)[0].start.place, place);
        spread.closed(state.id, rest, 5);
        spread.walked(6);
        give(9);
        assert_eq!(spread.take(0)[0].start.place, place, "one walk may miss it");
        spread.closed(state.id, rest, 7);
        spread.walked(8 + REST_NS);
        give(9);
        let start = spread.take(0)[0].start;
        assert_eq!(start.place.offset, 0, "not met for long, so it is another file");
    }

    #[test]
    fn files_of_the_first_walk_may_start_at_their_end_and_later_ones_at_their_head() {
        let folder = tempfile::tempdir().unwrap();
        let spread = FileSpread::new(1, FromEnd { initial: true, new: false });
        spread.give(found(folder.path(), "a", 5), 0, Choice::Least);
        spread.walked(1);
        spread.give(found(folder.path(), "b", 7), 0, Choice::Least);
        let starts: Vec<_> = spread
            .take(0)
            .iter()
            .map(|given| (given.start.place.offset, given.start.age))
            .collect();
        assert_eq!(starts, [(5, Age::Initial), (0, Age::New)]);
    }

    #[test]
    fn the_successor_of_a_rotated_file_is_read_from_its_head_in_any_case() {
        let folder = tempfile::tempdir().unwrap();
        let spread = FileSpread::new(1, FromEnd { initial: true, new: true });
        spread.give(found(folder.path(), "a", 5), 0, Choice::Least);
        spread.walked(1);
        std::fs::rename(folder.path().join("a"), folder.path().join("a.1")).unwrap();
        spread.give(found(folder.path(), "other", 9), 0, Choice::Least);
        spread.give(found(folder.path(), "a", 9), 0, Choice::Least);
        let offsets: Vec<_> = spread.take(0).iter().map(|given| given.start.place.offset).collect();
        assert_eq!(offsets, [5, 9, 0]);
    }

    #[test]
    fn the_end_is_reached_when_every_shard_has_reached_it() {
        let spread = FileSpread::new(2, FROM_HEAD);
        assert_eq!(spread.reached_end(), AllAtEnd::No);
        assert_eq!(spread.reached_end(), AllAtEnd::Yes);
    }
}
