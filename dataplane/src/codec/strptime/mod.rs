//! Times in text by a `strptime` format, as Fluent Bit reads them: the format is compiled once, to a row of steps.
//!
//! The rules are those of BSD's `strptime` in the C locale, with Fluent Bit's own: `%L` stands for the digits of a
//! fraction, white space in a format takes any run of it, what follows the end of the format is not looked at, and
//! the text ends at a zero byte. A format without a year takes that of a given day.

mod memo;
mod reader;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::codec::calendar::days_from_civil;
use crate::codec::strptime::memo::Front;
use crate::codec::strptime::reader::{Reader, is_space};

pub use memo::{ReadTime, TimeMemo};

/// A compiled format.
#[derive(Clone, Debug)]
pub struct TimeFormat {
    /// Tells formats apart in a [`TimeMemo`].
    id: u64,
    steps: Vec<Step>,
    /// The steps up to the second, where a memo may stand for them.
    front: Option<Front>,
    /// Steps behind `%L`; `None` when the format has none.
    after_fraction: Option<Vec<Step>>,
    has_year: bool,
    has_zone: bool,
}

/// One step of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Any run of white space, none included.
    Space,
    /// As [`Step::Space`], but something must be left (`%n`, `%t`).
    SomeSpace,
    Literal(u8),
    WeekDay,
    Month,
    MonthNumber,
    Century,
    Day,
    SpacedDay,
    Hour,
    Hour12,
    DayOfYear,
    Minute,
    Second,
    HalfDay,
    Epoch,
    Year,
    ShortYear,
    /// Digits of which only the range is checked.
    Ignored(u16, u16),
    /// A year by weeks: its digits are passed over.
    WeekYear,
    ZoneName,
    Offset,
    /// What nested formats end with, and the whole: years of two digits, and days of the year, become dates.
    Resolve,
    /// A conversion that does not exist: never matches.
    Never,
}

/// A day that stands for what a format leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Today {
    /// Year.
    pub year: i64,
    /// Month, from 0.
    pub month: i64,
    /// Day of the month.
    pub day: i64,
}

/// What was read. Fields that nothing set are those of a zeroed C `tm`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CivilTime {
    /// Year.
    pub year: i64,
    /// Month, from 0.
    pub month: i64,
    /// Day of the month, from 1; 0 when nothing set it.
    pub day: i64,
    /// Hour.
    pub hour: i64,
    /// Minute.
    pub minute: i64,
    /// Second, up to 60.
    pub second: i64,
    /// Seconds that the zone is ahead of UTC.
    pub offset_secs: i64,
    /// Fraction of the second.
    pub fraction: f64,
    /// Whether all of the format matched.
    pub is_whole: bool,
}

impl CivilTime {
    /// Seconds since 1970 as if the fields were UTC.
    pub fn as_utc_secs(&self) -> i64 {
        days_from_civil(self.year, self.month, self.day) * 86_400 + self.second_of_day()
    }

    fn second_of_day(&self) -> i64 {
        self.hour * 3600 + self.minute * 60 + self.second
    }
}

impl TimeFormat {
    /// Compiles a format. The second value is the first conversion that does not exist, which never matches.
    pub fn compile(format: &str) -> (TimeFormat, Option<String>) {
        let has = |part: &str| format.contains(part);
        let has_year = has("%Y") || has("%y") || has("%s");
        let has_zone = has("%z") || has("%Z") || has("%SZ") || has("%S.%LZ");
        let (before, after) = match format.split_once("%L") {
            Some((before, after)) => (before, Some(after)),
            None => (format, None),
        };
        let mut unknown = None;
        let mut program = |format: &str, steps: Vec<Step>| {
            let mut steps = steps;
            compile_into(format, &mut steps, &mut unknown);
            steps.push(Step::Resolve);
            steps
        };
        // Fluent Bit puts the year and a space before a text without one.
        let first = if has_year { Vec::new() } else { vec![Step::Space] };
        let steps = program(before, first);
        let after_fraction = after.map(|after| program(after, Vec::new()));
        let front = Front::of(&steps, after_fraction.as_deref());
        (TimeFormat { id: next_id(), steps, front, after_fraction, has_year, has_zone }, unknown)
    }

    /// Whether it says the year.
    pub fn has_year(&self) -> bool {
        self.has_year
    }

    /// Whether it says the zone.
    pub fn has_zone(&self) -> bool {
        self.has_zone
    }

    /// Reads a text; `today` gives the date of formats without a year. Reading stops where the text does not match,
    /// and [`CivilTime::is_whole`] says whether that happened.
    pub fn read(&self, text: &[u8], today: impl FnOnce() -> Today) -> CivilTime {
        let mut reader = Reader::new(until_zero(text));
        if !self.has_year {
            reader.begin_at(today());
        }
        reader.time.is_whole =
            reader.run(&self.steps).is_some() && self.finish(&mut reader).is_some();
        reader.time
    }

    fn finish(&self, reader: &mut Reader<'_>) -> Option<()> {
        let Some(steps) = &self.after_fraction else { return Some(()) };
        reader.fraction()?;
        // The second half forgets what the first half knew, but for the date itself.
        reader.forget();
        reader.run(steps)
    }
}

/// Where C would see the end of a text.
fn until_zero(text: &[u8]) -> &[u8] {
    &text[..memchr::memchr(0, text).unwrap_or(text.len())]
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn compile_into(format: &str, steps: &mut Vec<Step>, unknown: &mut Option<String>) {
    let mut rest = format.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if is_space(*byte) {
            steps.push(Step::Space);
            continue;
        }
        if *byte != b'%' {
            steps.push(Step::Literal(*byte));
            continue;
        }
        let modifier = match rest.first() {
            Some(modifier @ (b'E' | b'O')) => {
                rest = &rest[1..];
                Some(*modifier)
            }
            _ => None,
        };
        let letter = rest.first().copied().unwrap_or(0);
        rest = rest.get(1..).unwrap_or_default();
        let allowed: &[u8] = match modifier {
            None => &[letter],
            Some(b'E') => b"cXxCYy",
            Some(_) => b"deHkIlMmSUWwuy",
        };
        let nested = match letter {
            b'c' => "%a %b %e %H:%M:%S %Y",
            b'D' | b'x' => "%m/%d/%y",
            b'F' => "%Y-%m-%d",
            b'R' => "%H:%M",
            b'r' => "%I:%M:%S %p",
            b'T' | b'X' => "%H:%M:%S",
            _ => "",
        };
        if allowed.contains(&letter) && !nested.is_empty() {
            compile_into(nested, steps, unknown);
            steps.push(Step::Resolve);
            continue;
        }
        let step = step(letter).filter(|_| allowed.contains(&letter));
        if step.is_none() && unknown.is_none() {
            let modifier = modifier.map_or(String::new(), |byte| char::from(byte).to_string());
            *unknown = Some(format!("%{modifier}{}", char::from(letter)));
        }
        steps.push(step.unwrap_or(Step::Never));
    }
}

fn step(letter: u8) -> Option<Step> {
    Some(match letter {
        b'%' => Step::Literal(b'%'),
        b'A' | b'a' => Step::WeekDay,
        b'B' | b'b' | b'h' => Step::Month,
        b'C' => Step::Century,
        b'd' => Step::Day,
        b'e' => Step::SpacedDay,
        b'H' | b'k' => Step::Hour,
        b'I' | b'l' => Step::Hour12,
        b'j' => Step::DayOfYear,
        b'M' => Step::Minute,
        b'm' => Step::MonthNumber,
        b'p' => Step::HalfDay,
        b'S' => Step::Second,
        b's' => Step::Epoch,
        b'U' | b'W' | b'V' => Step::Ignored(0, 53),
        b'w' => Step::Ignored(0, 6),
        b'u' => Step::Ignored(1, 7),
        b'g' => Step::Ignored(0, 99),
        b'G' => Step::WeekYear,
        b'Y' => Step::Year,
        b'y' => Step::ShortYear,
        b'Z' => Step::ZoneName,
        b'z' => Step::Offset,
        b'n' | b't' => Step::SomeSpace,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::calendar::civil_from_days;

    const TODAY: Today = Today { year: 2024, month: 1, day: 29 };

    /// The date in UTC, the fraction and whether all matched.
    fn read(format: &str, text: &str) -> String {
        let (format, unknown) = TimeFormat::compile(format);
        assert_eq!(unknown, None);
        let time = format.read(text.as_bytes(), || TODAY);
        if !time.is_whole {
            return "none".into();
        }
        let secs = time.as_utc_secs() - time.offset_secs;
        let (year, month, day) = civil_from_days(secs.div_euclid(86_400));
        let second = secs.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let nanos = (time.fraction * 1e9) as u32;
        let month = month + 1;
        format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{nanos:09}")
    }

    #[test]
    fn formats_read_what_fluent_bit_reads() {
        let table = [
            ("%d/%b/%Y:%H:%M:%S %z", "10/Oct/2000:13:55:36 -0700", "2000-10-10 20:55:36.000000000"),
            (
                "%Y-%m-%dT%H:%M:%S.%L%z",
                "2024-02-29T01:02:03.5+01:00",
                "2024-02-29 00:02:03.500000000",
            ),
            (
                "%Y-%m-%dT%H:%M:%S.%LZ",
                "2024-02-29T01:02:03.000000001Z",
                "2024-02-29 01:02:03.000000001",
            ),
            ("%b %d %H:%M:%S", "Mar  1 01:02:03", "2024-03-01 01:02:03.000000000"),
            ("%b %d %H:%M:%S", "  dec 31 23:59:60 tail", "2025-01-01 00:00:00.000000000"),
            ("%H:%M:%S.%L", "01:02:03.123456789", "2024-02-29 01:02:03.123456789"),
            ("%s.%L", "1700000000.25", "2023-11-14 22:13:20.250000000"),
            ("%s", "1700000000", "2023-11-14 22:13:20.000000000"),
            ("%y%m%d", "691231", "1969-12-31 00:00:00.000000000"),
            ("%C%y-%m-%d", "1999-01-02", "1999-01-02 00:00:00.000000000"),
            ("%Y %j", "2024 366", "2024-12-31 00:00:00.000000000"),
            ("%D %r", "02/03/04 11:12:13 PM", "2004-02-03 23:12:13.000000000"),
            ("%F%n%I %p", "2001-01-01 12 am", "2001-01-01 00:00:00.000000000"),
            ("%Y-%m-%d %Z", "2001-01-01 pst", "2001-01-01 08:00:00.000000000"),
            ("%Y-%m-%d %Z", "2001-01-01 UTC+1", "2001-01-01 00:00:00.000000000"),
            ("%Y-%m-%d %z", "2001-01-01EDT", "2001-01-01 04:00:00.000000000"),
            ("%A, %d %B %Y", "friday, 01 JUNE 2001", "2001-06-01 00:00:00.000000000"),
            ("%Y-%m", "2001-03", "2001-02-28 00:00:00.000000000"),
            ("%m%d", "45", "2024-04-05 00:00:00.000000000"),
            ("%z %Y-%m-%d %L", "+0100 2001-01-01 5", "2001-01-01 00:00:00.500000000"),
            ("%Y-%m-%d", "2001-13-01", "none"),
            ("%Y-%m-%d", "2001-01", "none"),
            ("%Y.%L", "2001.x", "none"),
            ("%Y %p", "2001 xm", "none"),
            ("%Y%%", "2001", "none"),
            ("%Y%%", "2001%", "2000-12-31 00:00:00.000000000"),
            ("%s", "99999999999999999999", "none"),
            ("%z %Y", "+1 2001", "none"),
        ];
        for (format, text, expected) in table {
            assert_eq!(read(format, text), expected, "{format} of {text}");
        }
    }

    #[test]
    fn a_conversion_that_does_not_exist_is_named_and_never_matches() {
        for (format, expected) in [("%Y %Q", "%Q"), ("%Ed", "%Ed"), ("%Y%", "%\0"), ("%Oc", "%Oc")]
        {
            let (compiled, unknown) = TimeFormat::compile(format);
            assert_eq!(unknown.as_deref(), Some(expected), "{format}");
            assert!(!compiled.read(b"2001 x", || TODAY).is_whole);
        }
    }

    #[test]
    fn zones_and_years_are_seen_in_the_format() {
        let has = |format| {
            let (format, _) = TimeFormat::compile(format);
            (format.has_year(), format.has_zone())
        };
        assert_eq!(has("%Y %z"), (true, true));
        assert_eq!(has("%H:%M:%SZ"), (false, true));
        assert_eq!(has("%H:%M:%S.%LZ"), (false, true));
        assert_eq!(has("%s"), (true, false));
        assert_eq!(has("%D"), (false, false));
    }

    proptest! {
        #[test]
        fn dates_are_those_of_a_calendar(secs in 0i64..4_294_967_296, nanos in 0u32..1_000_000_000, ahead in -720i32..840) {
            let offset = jiff::tz::Offset::from_seconds(ahead * 60).unwrap();
            let zoned = jiff::Timestamp::new(secs, nanos as i32).unwrap().to_zoned_datetime(offset.to_time_zone());
            for (theirs, ours) in [
                ("%Y-%m-%dT%H:%M:%S.%9f%z", "%Y-%m-%dT%H:%M:%S.%L%z"),
                ("%a, %d %b %Y %T.%9f %:z", "%a, %d %b %Y %T.%L %z"),
                ("%Y %j %I:%M:%S.%9f %p %z", "%Y %j %I:%M:%S.%L %p %z"),
                ("%s.%9f", "%s.%L"),
            ] {
                // `%p` must stand before the fraction's second half sets the hour.
                let (theirs, ours) = (theirs.replace(".%9f %p", " %p.%9f"), ours.replace(".%L %p", " %p.%L"));
                let text = jiff::fmt::strtime::format(&theirs, &zoned).unwrap();
                let (format, _) = TimeFormat::compile(&ours);
                let time = format.read(text.as_bytes(), || TODAY);
                prop_assert!(time.is_whole, "{}", text);
                prop_assert_eq!(time.as_utc_secs() - time.offset_secs, secs, "{}", text);
                prop_assert!(((time.fraction * 1e9) as u32).abs_diff(nanos) <= 1);
            }
        }

        #[test]
        fn any_text_is_read_to_an_end(format in "[%LYymdHMSzZsjpe: -]{0,16}", text in "[0-9A-Za-z:+ -]{0,24}") {
            let (format, _) = TimeFormat::compile(&format);
            format.read(text.as_bytes(), || TODAY);
        }
    }
}
