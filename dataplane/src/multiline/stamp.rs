//! Times as containers write them: `2026-01-31T12:00:00.123456789Z`.
//!
//! Lines follow each other within a minute, so the seconds of the last one's minute are kept. What is not of the
//! plain form goes through the format, and comes to the same: a test says so.

use crate::codec::calendar::days_from_civil;
use crate::codec::strptime::{TimeFormat, Today};
use crate::event::time::EventTime;

/// Which zone a time is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zone {
    /// The one behind it.
    Written,
    /// UTC, whatever is behind it.
    Utc,
}

/// How times are written.
#[derive(Debug)]
pub(super) struct StampFormat {
    format: TimeFormat,
    zone: Zone,
}

/// `2026-01-31T12:00:`
const MINUTE_BYTES: usize = 17;

/// The last minute that was read.
#[derive(Debug, Default)]
pub(super) struct LastMinute {
    text: [u8; MINUTE_BYTES],
    secs: i64,
}

/// Powers of ten, by digits of a fraction; doubles hold these and all numbers below them.
const TENS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

impl StampFormat {
    pub(super) fn new(format: &str, zone: Zone) -> StampFormat {
        StampFormat { format: TimeFormat::compile(format).0, zone }
    }

    /// The time that a text says: as much of it as matches. `None` where that is none that an event can bear.
    pub(super) fn read(&self, text: &[u8], last: &mut LastMinute) -> Option<EventTime> {
        let (secs, fraction) = match plain(text, self.zone, last) {
            Some(time) => time,
            None => {
                let today = || Today { year: 1970, month: 0, day: 1 };
                let time = self.format.read(text, today);
                (time.as_utc_secs() - time.offset_secs, time.fraction)
            }
        };
        let secs = u32::try_from(secs).ok()?;
        // A double of seconds, times 1e9, cut: nanoseconds come out as in Fluent Bit.
        let time = EventTime { secs, nanos: (fraction * 1e9) as u32 };
        Some(time).filter(|time| time.unix_nanos() != 0)
    }
}

/// Seconds since 1970 and fraction of a time of the plain form.
#[inline]
fn plain(text: &[u8], zone: Zone, last: &mut LastMinute) -> Option<(i64, f64)> {
    let (minute, rest) = text.split_first_chunk::<MINUTE_BYTES>()?;
    if *minute != last.text {
        last.secs = minute_secs(minute)?;
        last.text = *minute;
    }
    let [tens @ b'0'..=b'5', ones @ b'0'..=b'9', b'.', rest @ ..] = rest else { return None };
    let second = i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
    let (mut number, mut count) = (0u64, 0);
    while let Some(digit @ b'0'..=b'9') = rest.get(count) {
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        count += 1;
    }
    if count == 0 || count > 9 {
        return None;
    }
    let fraction = number as f64 / TENS[count];
    let offset = match (zone, &rest[count..]) {
        (Zone::Utc, _) | (Zone::Written, b"Z") => 0,
        (Zone::Written, [sign @ (b'+' | b'-'), hours @ .., b':', minutes_high, minutes_low])
            if hours.len() == 2 =>
        {
            let hours = two_digits(hours[0], hours[1]).filter(|hours| *hours < 24)?;
            let minutes =
                two_digits(*minutes_high, *minutes_low).filter(|minutes| *minutes < 60)?;
            let secs = hours * 3600 + minutes * 60;
            if *sign == b'-' { -secs } else { secs }
        }
        _ => return None,
    };
    Some((last.secs + second - offset, fraction))
}

fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    Some(digit(tens)? * 10 + digit(ones)?)
}

fn minute_secs(minute: &[u8; MINUTE_BYTES]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, b'T', h1, h2, b':', mi1, mi2, b':'] =
        *minute
    else {
        return None;
    };
    let year = two_digits(y1, y2)? * 100 + two_digits(y3, y4)?;
    let month = two_digits(mo1, mo2).filter(|month| (1..=12).contains(month))?;
    let day = two_digits(d1, d2).filter(|day| (1..=31).contains(day))?;
    let hour = two_digits(h1, h2).filter(|hour| *hour < 24)?;
    let minute = two_digits(mi1, mi2).filter(|minute| *minute < 60)?;
    let days = days_from_civil(year, month - 1, day);
    Some(days * 86_400 + hour * 3600 + minute * 60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WRITTEN: &str = "%Y-%m-%dT%H:%M:%S.%L%z";
    const UTC: &str = "%Y-%m-%dT%H:%M:%S.%L";

    proptest! {
        #[test]
        fn the_plain_form_is_that_of_the_format(
            year in 1970i64..2100, month in 1..=13, day in 0..=32, hour in 0..=25, minute in 0..=61,
            second in 0..=61, fraction in r"(\.[0-9]{0,11})?",
            zone in prop_oneof![3 => "Z", 3 => r"[+-][0-2][0-9]:?[0-6][0-9]", 1 => r"[ Z+:0-9]{0,6}"],
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}");
            for (format, zone) in [(WRITTEN, Zone::Written), (UTC, Zone::Utc)] {
                let mut last = LastMinute::default();
                let Some((secs, fraction)) = plain(text.as_bytes(), zone, &mut last) else { continue };
                let today = || Today { year: 1970, month: 0, day: 1 };
                let time = TimeFormat::compile(format).0.read(text.as_bytes(), today);
                prop_assert_eq!(secs, time.as_utc_secs() - time.offset_secs, "{}", text);
                prop_assert_eq!(fraction, time.fraction, "{}", text);
            }
        }
    }

    #[test]
    fn plain_times_need_no_format() {
        let mut last = LastMinute::default();
        for (text, expected) in [
            (&b"2024-01-02T03:04:05.123456789Z"[..], Some((1_704_164_645, 0.123456789))),
            (b"2024-01-02T03:04:06.5+01:00", Some((1_704_161_046, 0.5))),
            (b"2024-01-02T03:04:06.5-07:30", Some((1_704_191_646, 0.5))),
            (b"2024-01-02T03:04:06Z", None),
            (b"2024-13-02T03:04:06.1Z", None),
            (b"2024-01-02T03:04:06.1Zx", None),
        ] {
            assert_eq!(plain(text, Zone::Written, &mut last), expected);
        }
    }
}
