//! What the inputs that sample by the clock share.

use std::time::Duration;

/// The interval that `interval_sec` and `interval_nsec` give; both 0 mean one second, as in Fluent Bit.
pub fn interval(secs: u64, nanos: u64) -> Duration {
    match (secs, nanos) {
        (0, 0) => Duration::from_secs(1),
        (secs, nanos) => Duration::from_secs(secs).saturating_add(Duration::from_nanos(nanos)),
    }
}
