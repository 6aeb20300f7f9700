//! Going into the background, before any thread and any plugin: Go does not survive a fork.
//!
//! The parent waits for the word that the start went well, so errors and exit status reach the shell.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::process::setsid;

/// The child's side: says once how the start went.
#[derive(Debug)]
pub struct Daemon {
    pipe: OwnedFd,
}

/// Forks. The parent never returns: it ends with the status the child reports.
///
/// # Errors
/// When the system refuses.
pub fn detach() -> Result<Daemon, String> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| error.to_string())?;
    // SAFETY: the process has one thread, so the child may go on using everything.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(std::io::Error::last_os_error().to_string());
    }
    if child > 0 {
        drop(write);
        let mut status = [0u8; 4];
        // A child that dies before it reports closes the pipe: that is a failed start.
        let status = match File::from(read).read_exact(&mut status) {
            Ok(()) => i32::from_le_bytes(status),
            Err(_) => 255,
        };
        crate::reactor::signals::exit_now(status);
    }
    drop(read);
    setsid().map_err(|error| error.to_string())?;
    Ok(Daemon { pipe: write })
}

impl Daemon {
    /// Says how the start went; on success leaves the terminal. The directory stays: every relative path of the
    /// configuration is meant from there, those of foreign plugins among them, which nobody could rewrite.
    pub fn report(&self, status: i32) {
        if status == 0 {
            // Descriptors that cannot be replaced do no harm.
            if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
                let _ = rustix::stdio::dup2_stdin(&null);
                let _ = rustix::stdio::dup2_stdout(&null);
                let _ = rustix::stdio::dup2_stderr(&null);
            }
        }
        if let Ok(pipe) = self.pipe.try_clone() {
            // The parent may have been killed.
            let _ = File::from(pipe).write_all(&status.to_le_bytes());
        }
    }
}
