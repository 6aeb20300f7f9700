//! The one writer of an instance: appends whole chunks, and keeps a file open only as long as its path still
//! leads to it.
//!
//! Fluent Bit opens the file at each flush, so a file that was renamed, removed or replaced is left at once. Here
//! one `stat` a chunk finds that out, and the handle is kept: an open and a close less.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::OUTPUT_FILES_MAX;
use crate::log::Log;
use crate::outputs::file::destination::Destination;
use crate::outputs::file::format::HEADER_LENGTH_BYTES;
use crate::outputs::file::rotation::Rotation;
use crate::outputs::whole::{Partial, write_whole};
use crate::plugin::output::{FlushStatus, SinkBatch, SinkWriter};

/// What becomes of missing folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folders {
    /// Their lack is an error.
    Expected,
    /// They are made.
    Made,
}

/// The writing half.
pub(super) struct FileWriter {
    destination: Destination,
    has_header: bool,
    folders: Folders,
    rotation: Option<Rotation>,
    kept: Kept,
    log: Log,
}

impl FileWriter {
    /// A writer without open files. `has_header` says that chunks begin with a header.
    pub(super) fn new(
        destination: Destination,
        has_header: bool,
        folders: Folders,
        rotation: Option<Rotation>,
        log: Log,
    ) -> FileWriter {
        FileWriter { destination, has_header, folders, rotation, kept: Kept::default(), log }
    }

    /// The file at the path, and its state.
    fn open(&mut self, path: &Path) -> io::Result<(OpenFile, Metadata)> {
        let now = std::fs::metadata(path);
        if let (Some(open), Ok(now)) = (self.kept.take(path), now)
            && open.identity == identity(&now)
        {
            return Ok((open, now));
        }
        let file = open_to_append(path, self.folders)?;
        let now = file.metadata()?;
        Ok((OpenFile { file, identity: identity(&now), used: 0, slot: None }, now))
    }

    /// Opens, puts a grown file aside, and writes.
    fn append(&mut self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        let (mut open, mut before) = self.open(path).map_err(Failure::Open)?;
        if let Some(rotation) = &self.rotation
            && before.is_file()
            && before.len() >= rotation.bytes_max
        {
            drop(open);
            rotation.put_aside(path, &self.log);
            (open, before) = self.open(path).map_err(Failure::Open)?;
        }
        let bytes = match self.has_header {
            true => without_length(bytes, before.len() == 0),
            false => bytes,
        };
        write_whole(&open.file, bytes).map_err(Failure::Write)?;
        self.kept.put(path, open);
        Ok(())
    }
}

impl SinkWriter for FileWriter {
    fn write(&mut self, batch: &SinkBatch<'_>) -> FlushStatus {
        if batch.bytes.is_empty() {
            return FlushStatus::Ok;
        }
        let path = self.destination.path_of(batch.tag);
        let Err(failure) = self.append(&path, batch.bytes) else { return FlushStatus::Ok };
        let path = path.display();
        // Fluent Bit's words come first.
        let error = match &failure {
            Failure::Open(error) => {
                self.log.error(format_args!("error opening: {path}: {error}"));
                error
            }
            Failure::Write(Partial { error, left: 0 }) => {
                self.log.error(format_args!("error writing: {path}: {error}"));
                error
            }
            Failure::Write(Partial { error, left }) => {
                self.log.error(format_args!(
                    "error writing: {path}: {error}; {left} bytes of the chunk are in the file, perhaps with half a \
                     line at their end, and will be there again when the flush is tried again"
                ));
                error
            }
        };
        match error.kind() {
            // No later attempt can have more luck with this name.
            ErrorKind::InvalidInput | ErrorKind::InvalidFilename | ErrorKind::IsADirectory => {
                FlushStatus::Error
            }
            _ => FlushStatus::Retry,
        }
    }
}

/// Why a chunk was not written.
#[derive(Debug)]
enum Failure {
    /// The file was not to be had.
    Open(io::Error),
    /// It took only a part.
    Write(Partial),
}

/// As C's `a+` opens, and with less where reading is not allowed.
fn open_to_append(path: &Path, folders: Folders) -> io::Result<File> {
    let open = || match OpenOptions::new().read(true).append(true).create(true).open(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            OpenOptions::new().append(true).create(true).open(path)
        }
        opened => opened,
    };
    match (open(), path.parent()) {
        (Err(error), Some(parent))
            if error.kind() == ErrorKind::NotFound && folders == Folders::Made =>
        {
            DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
            open()
        }
        (opened, _) => opened,
    }
}

/// The rows of a chunk that begins with the length of its header and the header, or all of it.
fn without_length(bytes: &[u8], wants_header: bool) -> &[u8] {
    let Some((length, rest)) = bytes.split_first_chunk::<HEADER_LENGTH_BYTES>() else {
        return bytes;
    };
    match wants_header {
        true => rest,
        false => &rest[u32::from_be_bytes(*length) as usize..],
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// A file that is open.
struct OpenFile {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    /// When it was last written, by the count of its instance.
    used: u64,
    slot: Option<Slot>,
}

/// Files kept open by all instances of the process.
static KEPT_FILES: AtomicUsize = AtomicUsize::new(0);

/// The right to keep one file open.
struct Slot;

impl Slot {
    fn take() -> Option<Slot> {
        let one_more = |count| (count < OUTPUT_FILES_MAX).then_some(count + 1);
        KEPT_FILES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok().map(|_| Slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        KEPT_FILES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The open files of an instance.
#[derive(Default)]
struct Kept {
    by_path: HashMap<PathBuf, OpenFile>,
    used: u64,
}

impl Kept {
    fn take(&mut self, path: &Path) -> Option<OpenFile> {
        self.by_path.remove(path)
    }

    /// Keeps a file, for which another of this instance may have to be closed. Where other instances hold all that
    /// may be open it is closed at once, which costs an open at the next chunk and nothing else.
    fn put(&mut self, path: &Path, mut open: OpenFile) {
        if open.slot.is_none() {
            open.slot = Slot::take().or_else(|| {
                self.close_oldest();
                Slot::take()
            });
        }
        if open.slot.is_some() {
            self.used += 1;
            open.used = self.used;
            self.by_path.insert(path.to_owned(), open);
        }
    }

    fn close_oldest(&mut self) {
        let oldest = self.by_path.iter().min_by_key(|(_, open)| open.used);
        if let Some(path) = oldest.map(|(path, _)| path.clone()) {
            self.by_path.remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(folder: &Path, folders: Folders) -> FileWriter {
        let destination = Destination::new(folder.to_str(), None);
        FileWriter::new(destination, false, folders, None, Log::discard())
    }

    fn write(writer: &mut FileWriter, tag: &str, text: &str) -> FlushStatus {
        let (tag, bytes) = (tag.as_bytes(), text.as_bytes());
        writer.write(&SinkBatch { tag, bytes, record_count: 1, chunk_bytes: 1 })
    }

    #[test]
    fn a_file_that_was_moved_or_removed_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(folder.path(), Folders::Expected);
        let path = folder.path().join("t");
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(write(&mut writer, "t", "1\n"), FlushStatus::Ok);
        assert_eq!(write(&mut writer, "t", "2\n"), FlushStatus::Ok);
        std::fs::rename(&path, folder.path().join("t.1")).unwrap();
        assert_eq!(write(&mut writer, "t", "3\n"), FlushStatus::Ok);
        assert_eq!((read("t.1").as_str(), read("t").as_str()), ("1\n2\n", "3\n"));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(write(&mut writer, "t", "4\n"), FlushStatus::Ok);
        assert_eq!(read("t"), "4\n");
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        assert_eq!(write(&mut writer, "t", "5\n"), FlushStatus::Ok);
        assert_eq!(read("t"), "5\n");
    }

    #[test]
    fn open_files_are_bounded_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(folder.path(), Folders::Expected);
        let tags: Vec<String> = (0..OUTPUT_FILES_MAX + 20).map(|index| index.to_string()).collect();
        for round in 0..2 {
            for tag in &tags {
                assert_eq!(write(&mut writer, tag, "x\n"), FlushStatus::Ok, "{round} {tag}");
            }
        }
        assert!(writer.kept.by_path.len() <= OUTPUT_FILES_MAX);
        assert!(writer.kept.by_path.contains_key(&folder.path().join(tags.last().unwrap())));
        for tag in &tags {
            assert_eq!(std::fs::read_to_string(folder.path().join(tag)).unwrap(), "x\nx\n");
        }
    }

    #[test]
    fn folders_are_made_when_asked_for_and_names_no_system_takes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut expecting = writer(folder.path(), Folders::Expected);
        assert_eq!(write(&mut expecting, "a/b", "1\n"), FlushStatus::Retry);
        let mut making = writer(folder.path(), Folders::Made);
        assert_eq!(write(&mut making, "a/b", "1\n"), FlushStatus::Ok);
        assert_eq!(write(&mut making, "a", "1\n"), FlushStatus::Error, "a folder");
        assert_eq!(write(&mut making, &"n".repeat(300), "1\n"), FlushStatus::Error);
    }

    #[test]
    fn a_full_disk_is_tried_again() {
        let destination = Destination::new(Some("/dev"), Some("full"));
        let log = Log::discard();
        let mut writer = FileWriter::new(destination, false, Folders::Expected, None, log);
        assert_eq!(write(&mut writer, "t", "1\n"), FlushStatus::Retry);
    }
}
