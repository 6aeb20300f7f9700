//! The time of an event: seconds and nanoseconds, as Fluentd's EventTime ext bears them.

/// Seconds since 1970 and nanoseconds of the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventTime {
    /// Whole seconds.
    pub secs: u32,
    /// Nanoseconds of the second.
    pub nanos: u32,
}

/// What both clocks of the machine said, as the reactor read them; nobody below it asks them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The time of day.
    pub now: EventTime,
    /// The clock that never leaps.
    pub monotonic_ns: u64,
}

impl EventTime {
    /// From nanoseconds since 1970.
    pub fn from_unix_nanos(nanos: u64) -> EventTime {
        EventTime { secs: (nanos / 1_000_000_000) as u32, nanos: (nanos % 1_000_000_000) as u32 }
    }

    /// Nanoseconds since 1970.
    pub fn unix_nanos(self) -> u64 {
        u64::from(self.secs) * 1_000_000_000 + u64::from(self.nanos)
    }

    /// From seconds with a fraction; negative and absurd ones become zero.
    pub fn from_f64(seconds: f64) -> EventTime {
        if !(0.0..4_294_967_296.0).contains(&seconds) {
            return EventTime::default();
        }
        let secs = seconds as u32;
        let nanos = ((seconds - f64::from(secs)) * 1e9) as u32;
        EventTime { secs, nanos: nanos.min(999_999_999) }
    }

    /// From the eight bytes of the ext.
    pub fn from_bytes(bytes: [u8; 8]) -> EventTime {
        let [a, b, c, d, e, f, g, h] = bytes;
        EventTime {
            secs: u32::from_be_bytes([a, b, c, d]),
            nanos: u32::from_be_bytes([e, f, g, h]),
        }
    }

    /// The eight bytes of the ext.
    pub fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.secs) << 32 | u64::from(self.nanos)).to_be_bytes()
    }

    /// Seconds with a fraction.
    pub fn as_f64(self) -> f64 {
        f64::from(self.secs) + f64::from(self.nanos) / 1e9
    }
}
