//! Looks whether io_uring can be used before the first executor starts, because glommio panics otherwise.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::MEMLOCK_BYTES_MIN;

/// Checks what an executor needs and raises the memlock limit where that is allowed.
///
/// # Errors
/// One line that says what is missing and who can change it.
pub fn check() -> Result<(), String> {
    raise_memlock()?;
    try_setup()
}

fn raise_memlock() -> Result<(), String> {
    let limit = getrlimit(Resource::Memlock);
    let enough = |bytes: Option<u64>| bytes.is_none_or(|bytes| bytes >= MEMLOCK_BYTES_MIN);
    if enough(limit.current) {
        return Ok(());
    }
    let wanted = match limit.maximum {
        None => Some(MEMLOCK_BYTES_MIN),
        Some(maximum) if maximum >= MEMLOCK_BYTES_MIN => Some(maximum),
        // A process with CAP_SYS_RESOURCE may raise its hard limit too.
        Some(_) => Some(MEMLOCK_BYTES_MIN),
    };
    let maximum = if enough(limit.maximum) { limit.maximum } else { wanted };
    if setrlimit(Resource::Memlock, Rlimit { current: wanted, maximum }).is_ok() {
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
fn try_setup() -> Result<(), String> {
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
        _ => format!("io_uring cannot be set up: {error}"),
    })
}
