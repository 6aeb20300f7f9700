//! Writing to a descriptor whole, or not at all where that can be had.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, SeekFrom, fstat, ftruncate, seek};
use rustix::io::{Errno, write};

/// A descriptor took only a part.
#[derive(Debug)]
pub(crate) struct Partial {
    /// Why.
    pub(crate) error: io::Error,
    /// Bytes that it has taken and that could not be taken back.
    pub(crate) left: usize,
}

/// Writes all of the bytes. What a regular file took before it failed, a full disk for instance, is taken back,
/// so that a second attempt doubles nothing and no half line is left.
pub(crate) fn write_whole(descriptor: impl AsFd, bytes: &[u8]) -> Result<(), Partial> {
    let descriptor = descriptor.as_fd();
    let before = size_of(descriptor);
    let mut written = 0;
    while written < bytes.len() {
        let error = match write(descriptor, &bytes[written..]) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(count) => {
                written += count;
                continue;
            }
            Err(Errno::INTR) => continue,
            // Whoever shares the terminal or the pipe has made it non-blocking.
            Err(Errno::AGAIN) => match wait_for_room(descriptor) {
                Ok(()) => continue,
                Err(error) => error.into(),
            },
            Err(error) => error.into(),
        };
        let is_undone = written == 0
            || before.is_some_and(|before| take_back(descriptor, before, written as u64));
        return Err(Partial { error, left: if is_undone { 0 } else { written } });
    }
    Ok(())
}

/// The size of a regular file.
fn size_of(descriptor: BorrowedFd<'_>) -> Option<u64> {
    let stat = fstat(descriptor).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some(stat.st_size as u64)
}

/// What another process has appended meanwhile must stay.
fn take_back(descriptor: BorrowedFd<'_>, before: u64, written: u64) -> bool {
    size_of(descriptor) == Some(before + written)
        && ftruncate(descriptor, before).is_ok()
        && seek(descriptor, SeekFrom::Start(before)).is_ok()
}

fn wait_for_room(descriptor: BorrowedFd<'_>) -> rustix::io::Result<()> {
    match poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_pipe_that_does_not_block_is_waited_for() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let bytes: Vec<u8> = (0..1_000_000u32).map(|number| number as u8).collect();
        let expected = bytes.clone();
        let writing = std::thread::spawn(move || write_whole(&writer, &bytes).is_ok());
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(writing.join().unwrap());
        assert!(read == expected);
    }

    #[test]
    fn a_reader_that_is_gone_is_an_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let partial = write_whole(&writer, b"x").unwrap_err();
        assert_eq!((partial.error.kind(), partial.left), (io::ErrorKind::BrokenPipe, 0));
    }
}
