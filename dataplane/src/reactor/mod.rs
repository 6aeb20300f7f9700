//! The one door to glommio: tasks, time, sockets, files, and wakes from other threads.
//!
//! Nothing else says `glommio`, so a second backend can stand behind the same functions. Facts that
//! shaped it: an executor looks at its rings, timers and wakes only when no task is ready or its preempt timer
//! has fired, and where that fires before the first task runs it goes to sleep with tasks that are ready; so the
//! timer is out of the way and [`yield_now`] makes way for the look itself; registered memory is small; names are resolved on a helper thread;
//! listeners and inotify are watched by one small thread, because glommio offers no readiness of a
//! foreign descriptor.

pub mod daemon;
pub mod event;
pub mod executor;
pub mod file;
pub mod inotify;
pub mod mailbox;
pub mod net;
pub mod probe;
pub mod readiness;
pub mod signals;

use std::cell::Cell;
use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::event::time::{Clock, EventTime};

/// Starts a task on this shard. It is polled once before this returns.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(future).detach();
}

/// Waits.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// Longest time busy tasks keep their shard from looking at sockets, timers and wakes.
const LOOK_INTERVAL_NS: u64 = 500_000;

/// A task that waits is not ready, and when none is the executor looks. Long enough not to be over before it has
/// begun, short enough to be over when the executor comes to its timers, so that it does not sleep.
const LOOK_TIMER: Duration = Duration::from_nanos(1_000);

thread_local! {
    /// When this shard last made way for a look, monotonic nanoseconds.
    static LAST_LOOK_NS: Cell<u64> = const { Cell::new(0) };
}

/// Ends a unit of work: lets the other tasks of this shard run, and from time to time the executor look at what
/// has happened meanwhile.
pub async fn yield_now() {
    if monotonic_ns() - LAST_LOOK_NS.get() < LOOK_INTERVAL_NS {
        glommio::executor().yield_task_queue_now().await;
        return;
    }
    // A task that waits for the shortest time is not ready, and when none is the executor looks.
    glommio::timer::sleep(LOOK_TIMER).await;
    LAST_LOOK_NS.set(monotonic_ns());
}

/// The future's result, or `None` when the time is over first.
pub async fn timeout<T>(duration: Duration, future: impl Future<Output = T>) -> Option<T> {
    let work = async { Some(future.await) };
    let clock = async {
        sleep(duration).await;
        None
    };
    futures_lite::future::or(work, clock).await
}

/// Wall clock, as events bear it.
pub fn now() -> EventTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    EventTime { secs: since.as_secs() as u32, nanos: since.subsec_nanos() }
}

/// Both clocks, for what is below this door.
pub fn clock() -> Clock {
    Clock { now: now(), monotonic_ns: monotonic_ns() }
}

/// Monotonic clock for waits, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
