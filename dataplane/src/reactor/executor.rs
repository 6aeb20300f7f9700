//! One executor on one pinned thread: the body of a shard.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};

/// Bytes glommio registers for its own buffers. The default of 10 MiB a core is for direct I/O, unused here.
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// Wakes from other threads are only seen when this timer fires or a task yields.
const PREEMPT_TIMER: Duration = Duration::from_millis(1);
/// The same until the first task has run: so long that it never fires, as nobody could wake the executor yet.
const PREEMPT_TIMER_AT_START: Duration = Duration::from_secs(60);

/// Wakes one executor from another thread, whatever its tasks wait for.
///
/// glommio goes to sleep with tasks ready to run when the preempt timer fires between its last poll and the first
/// task, as it does when the system takes the core away just there (`run_task_queues` says that nothing ran).
/// The timers that were due are spent by then, so without a word from outside such a shard sleeps for ever.
#[derive(Clone, Default)]
pub struct Pulse(Arc<OnceLock<Waker>>);

impl Pulse {
    /// Wakes it, once it has begun to run.
    pub fn beat(&self) {
        if let Some(waker) = self.0.get() {
            waker.wake_by_ref();
        }
    }
}

/// Runs a future to its end on this thread, pinned to `cpu` if one is given. `pulse` must beat while it runs.
///
/// # Errors
/// When the executor cannot be made; [`super::probe::check`] finds the usual reasons first.
pub fn run<F>(name: &str, cpu: Option<usize>, pulse: Pulse, future: F) -> io::Result<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let placement = match cpu {
        Some(cpu) => Placement::Fixed(cpu),
        None => Placement::Unbound,
    };
    let executor = LocalExecutorBuilder::new(placement)
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(PREEMPT_TIMER_AT_START)
        .make()
        .map_err(io::Error::from)?;
    Ok(executor.run(async move {
        super::spawn(poll_fn(move |context| {
            // The waker of a task is the same at every poll.
            let _ = pulse.0.set(context.waker().clone());
            Poll::Pending
        }));
        let latency = Latency::Matters(PREEMPT_TIMER);
        let queue = glommio::executor().create_task_queue(Shares::default(), latency, "shard");
        let task = glommio::spawn_local_into(future, queue);
        task.expect("the queue was made above and is never removed").await
    }))
}
