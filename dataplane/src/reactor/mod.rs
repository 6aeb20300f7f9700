//! The one door to glommio: tasks, time, sockets, files, and wakes from other threads.
//!
//! Nothing else says `glommio`, so a second backend can stand behind the same functions. Facts that
//! shaped it: the preempt timer is 1 ms and every unit of work ends in a yield, because wakes from other
//! threads are only seen then; registered memory is small; names are resolved on a helper thread;
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

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::event::time::EventTime;

/// Starts a task on this shard. It is polled once before this returns.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(future).detach();
}

/// Waits.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// Lets the other tasks of this shard run.
pub async fn yield_now() {
    glommio::yield_if_needed().await;
    glommio::executor().yield_task_queue_now().await;
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

/// Monotonic clock for waits, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
