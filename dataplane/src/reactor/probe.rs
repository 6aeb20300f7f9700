//! Looks whether io_uring can be used before the first executor starts, because glommio panics otherwise.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::{MEMLOCK_BYTES_MIN, MEMLOCK_BYTES_SHARD};

/// Checks what the executors of this many shards need and raises the memlock limit where that is allowed.
///
/// # Errors
/// One line that says what is missing and who can change it.
pub fn check(shard_count: usize) -> Result<(), String> {
    raise_memlock(memlock_bytes(shard_count))?;
    try_setup(shard_count)
}

/// Why an executor could not be made after all.
pub fn explain(error: &io::Error, shard_count: usize) -> String {
    // Processes of one user share the limit, so only the attempt tells.
    if error.raw_os_error() == Some(libc::ENOMEM) || error.kind() == io::ErrorKind::OutOfMemory {
        let need = memlock_bytes(shard_count) / 1024;
        return format!(
            "the limit on locked memory is too low for {shard_count} shards: raise it with \
             `ulimit -l {need}`, or `LimitMEMLOCK={need}K` in the systemd unit, or run fewer `--shards`"
        );
    }
    if error.raw_os_error() == Some(libc::EMFILE) {
        return format!(
            "the limit on open files is too low for {shard_count} shards: raise it with `ulimit -n`, or \
             `LimitNOFILE=` in the systemd unit, or run fewer `--shards`"
        );
    }
    format!("io_uring cannot be set up: {error}")
}

fn memlock_bytes(shard_count: usize) -> u64 {
    MEMLOCK_BYTES_MIN.max(shard_count as u64 * MEMLOCK_BYTES_SHARD)
}

/// Raises the limit to what is wanted or as near as may be. Less than the least an executor takes is an error;
/// whether less than wanted will do depends on privileges, and the attempt tells.
fn raise_memlock(wanted: u64) -> Result<(), String> {
    let limit = getrlimit(Resource::Memlock);
    if limit.current.is_none_or(|bytes| bytes >= wanted) {
        return Ok(());
    }
    // A process with CAP_SYS_RESOURCE may raise its hard limit too.
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    if setrlimit(Resource::Memlock, Rlimit { current: Some(wanted), maximum }).is_ok() {
        return Ok(());
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let is_enough = limit.maximum.is_none_or(|bytes| bytes >= MEMLOCK_BYTES_MIN);
    if is_enough && setrlimit(Resource::Memlock, raised).is_ok() {
        return Ok(());
    }
    let have = limit.maximum.unwrap_or(0) / 1024;
    let need = MEMLOCK_BYTES_MIN / 1024;
    Err(format!(
        "the limit on locked memory is {have} KiB and io_uring needs {need} KiB: raise it with \
         `ulimit -l {need}`, or `LimitMEMLOCK={need}K` in the systemd unit"
    ))
}

/// Sets up a ring of one entry and closes it again.
fn try_setup(shard_count: usize) -> Result<(), String> {
    // struct io_uring_params is 120 bytes, all zero for defaults.
    let mut params = [0u64; 15];
    // SAFETY: the kernel writes at most 120 bytes into `params`, which is that long and lives through
    // the call; entry count 1 is valid.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1u32, params.as_mut_ptr()) };
    if result >= 0 {
        // SAFETY: `result` is a descriptor this function has just been given and nobody else owns.
        unsafe { libc::close(result as i32) };
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring: Linux 5.8 or newer is needed, or the sandbox hides it"
                .into()
        }
        Some(libc::EPERM) => {
            let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            match sysctl.as_deref().map(str::trim) {
                Ok("1" | "2") => "io_uring is disabled by the sysctl kernel.io_uring_disabled: set it to 0 \
                    with `sysctl -w kernel.io_uring_disabled=0`"
                    .into(),
                _ => "io_uring is denied to this process, most likely by a container's seccomp profile: \
                    allow io_uring_setup, io_uring_enter and io_uring_register (Docker: \
                    `--security-opt seccomp=unconfined` or a profile that lists them)"
                    .into(),
            }
        }
        _ => explain(&error, shard_count),
    })
}
