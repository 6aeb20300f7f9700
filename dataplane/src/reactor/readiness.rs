//! Readiness of descriptors that glommio cannot wait for: listeners, inotify, standard input.
//!
//! One small thread sleeps in epoll for all shards and wakes the task that asked. One-shot: a
//! descriptor costs nothing until it is asked for again.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use rustix::event::epoll;
use rustix::io::Errno;

/// The thread's side that tasks hold.
#[derive(Clone)]
pub struct Readiness(Arc<Shared>);

struct Shared {
    epoll: OwnedFd,
    next_token: AtomicU64,
    cells: Mutex<HashMap<u64, Arc<Cell>>>,
}

#[derive(Default)]
struct Cell {
    is_ready: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Readiness {
    /// Starts the thread.
    ///
    /// # Errors
    /// When epoll or the thread cannot be made.
    pub fn start() -> io::Result<Readiness> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let cells = Mutex::new(HashMap::new());
        let shared = Arc::new(Shared { epoll, next_token: AtomicU64::new(0), cells });
        let thread_side = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("readiness".into())
            .spawn(move || watch_all(&thread_side))?;
        Ok(Readiness(shared))
    }

    /// Watches a descriptor, which must stay open as long as the watch.
    ///
    /// # Errors
    /// As epoll says. A descriptor that is always ready (a regular file) is no error.
    pub fn watch(&self, descriptor: RawFd) -> io::Result<Watch> {
        let token = self.0.next_token.fetch_add(1, Ordering::Relaxed);
        let cell = Arc::new(Cell::default());
        self.cells().insert(token, Arc::clone(&cell));
        // SAFETY: the caller keeps the descriptor open as long as the watch, and so during this call.
        let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let data = epoll::EventData::new_u64(token);
        let flags = epoll::EventFlags::ONESHOT;
        let is_always_ready = match epoll::add(&self.0.epoll, borrowed, data, flags) {
            Ok(()) => false,
            Err(Errno::PERM) => true,
            Err(error) => return Err(error.into()),
        };
        Ok(Watch { readiness: self.clone(), descriptor, token, cell, is_always_ready })
    }

    fn cells(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Cell>>> {
        self.0.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One watched descriptor.
pub struct Watch {
    readiness: Readiness,
    descriptor: RawFd,
    token: u64,
    cell: Arc<Cell>,
    is_always_ready: bool,
}

impl Watch {
    /// Waits until the descriptor is readable.
    ///
    /// # Errors
    /// As epoll says, for a descriptor that was closed.
    pub async fn readable(&self) -> io::Result<()> {
        if self.is_always_ready {
            return Ok(());
        }
        self.cell.is_ready.store(false, Ordering::Release);
        let mut is_armed = false;
        poll_fn(|context| {
            *self.cell.waker.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(context.waker().clone());
            if self.cell.is_ready.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
            if !is_armed {
                is_armed = true;
                if let Err(error) = self.arm() {
                    return Poll::Ready(Err(error));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Reads what is there; blocks unless it was [`readable`](Self::readable).
    ///
    /// # Errors
    /// As the system says.
    pub fn read(&self, space: &mut [u8]) -> io::Result<usize> {
        // SAFETY: as in `Readiness::watch`.
        let borrowed = unsafe { BorrowedFd::borrow_raw(self.descriptor) };
        Ok(rustix::io::read(borrowed, space)?)
    }

    fn arm(&self) -> io::Result<()> {
        // SAFETY: as in `watch`.
        let borrowed = unsafe { BorrowedFd::borrow_raw(self.descriptor) };
        let data = epoll::EventData::new_u64(self.token);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        Ok(epoll::modify(&self.readiness.0.epoll, borrowed, data, flags)?)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.readiness.cells().remove(&self.token);
        // SAFETY: as in `watch`. A descriptor closed too early gives EBADF, which is harmless.
        let borrowed = unsafe { BorrowedFd::borrow_raw(self.descriptor) };
        let _ = epoll::delete(&self.readiness.0.epoll, borrowed);
    }
}

fn watch_all(shared: &Shared) {
    let mut events = Vec::with_capacity(64);
    loop {
        events.clear();
        match epoll::wait(&shared.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        for event in &events {
            let cells = shared.cells.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(cell) = cells.get(&event.data.u64()).map(Arc::clone) else { continue };
            drop(cells);
            cell.is_ready.store(true, Ordering::Release);
            let waker = cell.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}
