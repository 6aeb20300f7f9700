//! Signals: blocked before the first thread, waited for by the main thread with sigwait.
//!
//! A Go plugin that calls `signal.Notify` takes nearly half of the signals from a signalfd and none from
//! sigwait (measured). SIGURG stays open: Go preempts its own threads with it.

use std::io;
use std::mem::MaybeUninit;

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM, SIGINT or SIGQUIT, by name: drain and end; at once when asked again.
    Stop(&'static str),
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals this process answers, blocked in every thread.
pub struct Signals(libc::sigset_t);

impl Signals {
    /// Blocks them; call it before the first thread starts. SIGPIPE is ignored.
    ///
    /// # Errors
    /// As the system says.
    pub fn block() -> io::Result<Signals> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigemptyset` initialises the set it is given; the others get that valid set, valid
        // signal numbers and no output pointers. SIG_IGN is a valid disposition for SIGPIPE.
        let (set, result) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
                libc::sigaddset(&mut set, signal);
            }
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            (set, libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()))
        };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        Ok(Signals(set))
    }

    /// Waits for the next one.
    pub fn wait(&self) -> Request {
        loop {
            let mut signal = 0;
            // SAFETY: both pointers are to live values; the set was initialised in `block`.
            let result = unsafe { libc::sigwait(&self.0, &mut signal) };
            if result != 0 {
                continue;
            }
            return match signal {
                libc::SIGHUP => Request::Reload,
                libc::SIGINT => Request::Stop("SIGINT"),
                libc::SIGQUIT => Request::Stop("SIGQUIT"),
                _ => Request::Stop("SIGTERM"),
            };
        }
    }
}

/// Ends the process at once: no destructor, no plugin code.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes any status and does not return.
    unsafe { libc::_exit(status) }
}
