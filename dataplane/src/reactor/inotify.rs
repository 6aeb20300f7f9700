//! Changes of files and directories, told by the kernel. The descriptor becomes readable with each.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::reactor::file::OpenFile;

/// Bytes of events taken by one read.
const READ_BYTES: usize = 16 * 1024;

/// What is watched; the kernel's number, never given twice while a [`Watcher`] lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(i32);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A name appeared in a directory.
    Appeared(WatchId, &'a [u8]),
    /// A file was written, truncated, linked or unlinked.
    Modified(WatchId),
    /// A file was renamed.
    Moved(WatchId),
    /// The watch is over: its file or directory is gone.
    Ended(WatchId),
    /// Changes were lost: look at everything.
    Overflow,
}

/// An inotify instance.
#[derive(Debug)]
pub struct Watcher {
    descriptor: OwnedFd,
}

impl Watcher {
    /// A new instance.
    ///
    /// # Errors
    /// EMFILE when the user has `fs.inotify.max_user_instances` of them.
    pub fn new() -> io::Result<Watcher> {
        let descriptor = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Watcher { descriptor })
    }

    /// Tells names that appear in a directory. Asking again gives the same watch.
    ///
    /// # Errors
    /// ENOSPC when the user has `fs.inotify.max_user_watches`; `NotFound`, `NotADirectory`.
    pub fn watch_directory(&self, path: &Path) -> io::Result<WatchId> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        Ok(WatchId(inotify::add_watch(&self.descriptor, path, flags)?))
    }

    /// Tells changes of an open file, and of no other that has taken its name since.
    ///
    /// # Errors
    /// ENOSPC as above; `NotFound` without `/proc`.
    pub fn watch_file(&self, file: &OpenFile) -> io::Result<WatchId> {
        let flags = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF;
        Ok(WatchId(inotify::add_watch(&self.descriptor, file.proc_path(), flags)?))
    }

    /// Ends a watch.
    pub fn end(&self, id: WatchId) {
        // Refused when the kernel has ended it already.
        let _ = inotify::remove_watch(&self.descriptor, id.0);
    }

    /// Takes what has happened, at most a few hundred changes; whether there may be more.
    ///
    /// # Errors
    /// As the system says.
    pub fn drain(&self, mut take: impl FnMut(Change<'_>)) -> io::Result<More> {
        let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut reader = Reader::new(&self.descriptor, &mut space);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(More::None),
                Err(Errno::INTR) => return Ok(More::Perhaps),
                Err(error) => return Err(error.into()),
            };
            let (id, flags) = (WatchId(event.wd()), event.events());
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                take(Change::Overflow);
            } else if flags.contains(ReadFlags::IGNORED) {
                take(Change::Ended(id));
            } else if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                take(Change::Appeared(id, event.file_name().map_or(b"", |name| name.to_bytes())));
            } else if flags.contains(ReadFlags::MOVE_SELF) {
                take(Change::Moved(id));
            } else {
                take(Change::Modified(id));
            }
            if reader.is_buffer_empty() {
                return Ok(More::Perhaps);
            }
        }
    }

    /// The descriptor, to wait on.
    pub fn descriptor(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

/// Whether another drain may find something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// Nothing is left.
    None,
    /// The queue was not emptied.
    Perhaps,
}

/// Waits until a descriptor is readable or the time is over; without one, for the time.
#[cfg(test)]
pub fn wait_readable(descriptor: Option<RawFd>, time: std::time::Duration) {
    use std::os::fd::BorrowedFd;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    // SAFETY: the input that gave the descriptor is alive and keeps it open during this call.
    let borrowed = descriptor.map(|raw| unsafe { BorrowedFd::borrow_raw(raw) });
    let mut all: Vec<_> = borrowed.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    poll(&mut all, Some(&time)).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(watcher: &Watcher) -> Vec<String> {
        let mut all = Vec::new();
        while watcher.drain(|change| all.push(format!("{change:?}"))).unwrap() == More::Perhaps {}
        all
    }

    #[test]
    fn changes_name_their_watch_and_a_renamed_file_stays_watched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let watcher = Watcher::new().unwrap();
        let directory = watcher.watch_directory(folder.path()).unwrap();
        assert_eq!(watcher.watch_directory(folder.path()).unwrap(), directory);
        std::fs::write(&path, "").unwrap();
        assert_eq!(changes(&watcher), [format!("Appeared({directory:?}, [97])")]);
        let file = OpenFile::open(&path).unwrap();
        let id = watcher.watch_file(&file).unwrap();
        std::fs::write(&path, "x").unwrap();
        std::fs::rename(&path, folder.path().join("b")).unwrap();
        let seen = changes(&watcher);
        assert!(seen.contains(&format!("Modified({id:?})")), "{seen:?}");
        assert!(seen.contains(&format!("Moved({id:?})")), "{seen:?}");
        watcher.end(id);
        assert_eq!(changes(&watcher), [format!("Ended({id:?})")]);
        assert!(watcher.watch_directory(&folder.path().join("none")).is_err());
    }
}
