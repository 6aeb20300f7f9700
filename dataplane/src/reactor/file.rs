//! Files that are read as they grow: identity, reads that do not wait for a disk, and cache advice.
//!
//! A read of cached pages is a copy and is done inline (`preadv2` with RWF_NOWAIT: 10 GB/s, against 2 for a
//! ring read). A cold page answers [`Read::Cold`]: it has been asked for, and the caller tries again later.
//! Where a file system refuses the flag, reads may wait.

use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FileType, Mode, OFlags, Stat, fadvise, fstat, open, stat};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};

/// Bytes asked for ahead when a page is cold: enough that a disk is busy while the shard does other work.
const PREFETCH_BYTES: u64 = 4 * 1024 * 1024;

/// What a file is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Device.
    pub device: u64,
    /// Inode on it.
    pub inode: u64,
}

/// What the file system says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Identity.
    pub id: FileId,
    /// Bytes.
    pub size: u64,
    /// Names it has; 0 when it was removed.
    pub link_count: u64,
    /// Last change of its content, in seconds since 1970.
    pub modified_secs: i64,
    /// Whether it is a regular file.
    pub kind: FileKind,
}

/// Regular files can be tailed, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A socket, a device, a pipe.
    Other,
}

impl From<Stat> for FileState {
    fn from(stat: Stat) -> FileState {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::Regular,
            FileType::Directory => FileKind::Directory,
            _ => FileKind::Other,
        };
        FileState {
            id: FileId { device: stat.st_dev, inode: stat.st_ino },
            size: u64::try_from(stat.st_size).unwrap_or(0),
            #[allow(clippy::useless_conversion, reason = "narrower on other processors")]
            link_count: stat.st_nlink.into(),
            #[allow(clippy::unnecessary_cast, reason = "narrower on other processors")]
            modified_secs: stat.st_mtime as i64,
            kind,
        }
    }
}

/// What a path leads to; links are followed.
///
/// # Errors
/// As the system says; `NotFound` for a name or a link that leads nowhere.
pub fn state_at(path: &Path) -> io::Result<FileState> {
    Ok(stat(path)?.into())
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes were read; fewer than asked for at the end of the file or before a cold page.
    Bytes(usize),
    /// The first page is not in memory. It has been asked for.
    Cold,
}

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Only what is in memory.
    Cached,
    /// Waits.
    Wait,
}

/// A file open for reading.
#[derive(Debug)]
pub struct OpenFile {
    descriptor: OwnedFd,
    patience: Patience,
}

impl OpenFile {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// As the system says; EMFILE and ENFILE when there are too many open files.
    pub fn open(path: &Path) -> io::Result<OpenFile> {
        // NONBLOCK means nothing to a regular file; should the name now lead to a pipe, it stops a hang.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(OpenFile { descriptor: open(path, flags, Mode::empty())?, patience: Patience::Cached })
    }

    /// What the file system says of it now.
    ///
    /// # Errors
    /// As the system says; network file systems may lose a file.
    pub fn state(&self) -> io::Result<FileState> {
        Ok(fstat(&self.descriptor)?.into())
    }

    /// The name it has now, where `/proc` tells. Removed files have none.
    pub fn current_path(&self) -> Option<PathBuf> {
        let path = std::fs::read_link(self.proc_path()).ok()?;
        let is_removed = path.as_os_str().as_encoded_bytes().ends_with(b" (deleted)");
        (!is_removed && path.is_absolute()).then_some(path)
    }

    /// A path that leads to this very file, whatever has happened to its names.
    pub(super) fn proc_path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.descriptor.as_raw_fd()).into()
    }

    /// Reads at an offset.
    ///
    /// # Errors
    /// As the system says.
    pub fn read_at(&mut self, out: &mut [u8], offset: u64, patience: Patience) -> io::Result<Read> {
        if patience == Patience::Cached && self.patience == Patience::Cached {
            let slices = &mut [IoSliceMut::new(out)];
            match preadv2(&self.descriptor, slices, offset, ReadWriteFlags::NOWAIT) {
                Ok(count) => return Ok(Read::Bytes(count)),
                Err(Errno::AGAIN) => {
                    self.advise(Advice::WillNeed, offset, PREFETCH_BYTES);
                    return Ok(Read::Cold);
                }
                Err(Errno::INTR) => return Ok(Read::Cold),
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                    self.patience = Patience::Wait;
                }
                Err(error) => return Err(error.into()),
            }
        }
        loop {
            match pread(&self.descriptor, &mut *out, offset) {
                Ok(count) => return Ok(Read::Bytes(count)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Lets the page cache forget bytes that were read and will not be read again.
    pub fn forget(&self, offset: u64, byte_count: u64) {
        self.advise(Advice::DontNeed, offset, byte_count);
    }

    /// Advice that is refused changes nothing but speed.
    fn advise(&self, advice: Advice, offset: u64, byte_count: u64) {
        let _ = fadvise(&self.descriptor, offset, NonZeroU64::new(byte_count), advice);
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_identity_through_renames_and_loses_its_last_name() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&old, "hello").unwrap();
        let mut file = OpenFile::open(&old).unwrap();
        let state = file.state().unwrap();
        assert_eq!((state.size, state.link_count, state.kind), (5, 1, FileKind::Regular));
        std::fs::rename(&old, &new).unwrap();
        assert_eq!(state_at(&new).unwrap().id, state.id);
        assert_eq!(file.current_path().unwrap(), new.canonicalize().unwrap());
        std::fs::remove_file(&new).unwrap();
        assert_eq!((file.state().unwrap().link_count, file.current_path()), (0, None));
        let mut out = [0; 16];
        for patience in [Patience::Cached, Patience::Wait] {
            assert_eq!(file.read_at(&mut out, 1, patience).unwrap(), Read::Bytes(4));
            assert_eq!(&out[..4], b"ello");
        }
        assert_eq!(file.read_at(&mut out, 5, Patience::Wait).unwrap(), Read::Bytes(0));
        assert_eq!(state_at(&old).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
