//! One executor on one pinned thread: the body of a shard.

use std::future::Future;
use std::io;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Bytes glommio registers for its own buffers. The default of 10 MiB a core is for direct I/O, unused here.
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// Never fires: an executor that finds it fired before it ran anything sleeps although tasks are ready (glommio
/// 0.9.0, seen as a shard that never started). [`super::yield_now`] takes its place.
const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 3600);

/// Runs a future to its end on this thread, pinned to `cpu` if one is given.
///
/// # Errors
/// When the executor cannot be made; [`super::probe::check`] finds the usual reasons first.
pub fn run<F>(name: &str, cpu: Option<usize>, future: F) -> io::Result<F::Output>
where
    F: Future,
{
    if let Some(cpu) = cpu {
        // glommio reads files to pin a thread, and panics where there are no descriptors left for them. Threads that
        // the executor starts inherit this.
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only)?;
    }
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .map_err(io::Error::from)?;
    Ok(executor.run(future))
}
