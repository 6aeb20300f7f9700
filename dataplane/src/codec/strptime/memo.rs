//! What was read last: neighbours in a log share their minute, and often their second.
//!
//! Of a text that begins as the last one did only what follows is read, from the state in which the steps before had
//! left the reader. So the result is that of [`TimeFormat::read`] by construction, whatever the format says behind.

use crate::codec::calendar::days_from_civil;
use crate::codec::strptime::reader::Reader;
use crate::codec::strptime::{CivilTime, Step, TimeFormat, Today, until_zero};

/// Longest text that is kept.
const TEXT_BYTES: usize = 40;

/// The steps that a memo can stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front {
    /// So many.
    steps: usize,
    /// What follows, where it is one of the usual forms.
    tail: Option<Tail>,
}

/// A second, digits of a fraction behind a point where there are such, and an end.
#[derive(Clone, Copy, Debug)]
struct Tail {
    has_fraction: bool,
    end: TailEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TailEnd {
    Nothing,
    Literal(u8),
    Offset,
}

impl Tail {
    fn of(rest: &[Step], after_fraction: Option<&[Step]>) -> Option<Tail> {
        let (has_fraction, end) = match (rest, after_fraction) {
            ([Step::Second, end @ ..], None) => (false, end),
            ([Step::Second, Step::Literal(b'.'), Step::Resolve], Some(end)) => (true, end),
            _ => return None,
        };
        let end = match end {
            [Step::Resolve] => TailEnd::Nothing,
            [Step::Literal(byte @ 1..), Step::Resolve] => TailEnd::Literal(*byte),
            // Blanks before an offset are passed over in any case.
            [Step::Offset, Step::Resolve] | [Step::Space, Step::Offset, Step::Resolve] => {
                TailEnd::Offset
            }
            _ => return None,
        };
        Some(Tail { has_fraction, end })
    }

    /// Second, fraction and offset of what stands behind the front, written as usual; `None` where it is not.
    #[inline]
    fn read(self, text: &[u8]) -> Option<(i64, f64, i64)> {
        let digit = |byte: u8| i64::from(byte - b'0');
        let [tens @ b'0'..=b'5', ones @ b'0'..=b'9', rest @ ..] = text else { return None };
        let second = digit(*tens) * 10 + digit(*ones);
        let (mut rest, mut fraction) = (rest, 0.0);
        if self.has_fraction {
            let [b'.', digits @ ..] = rest else { return None };
            let mut number = 0u32;
            let mut count = 0;
            while let Some(byte @ b'0'..=b'9') = digits.get(count)
                && count < 9
            {
                number = number * 10 + u32::from(byte - b'0');
                count += 1;
            }
            if count == 0 {
                return None;
            }
            fraction = f64::from(number) / FRACTION_SCALES[count];
            rest = &digits[count..];
        }
        let offset_secs = match (self.end, rest) {
            (TailEnd::Nothing, _) => 0,
            (TailEnd::Literal(byte), [first, ..]) if *first == byte => 0,
            (TailEnd::Offset, [b'Z', ..]) => 0,
            (TailEnd::Offset, [b' ', rest @ ..] | rest) => {
                let [sign @ (b'+' | b'-'), digits @ ..] = rest else { return None };
                let (hours, minutes) = match digits {
                    [a, b, b':', c, d, ..] | [a, b, c, d, ..] => ([a, b], [c, d]),
                    _ => return None,
                };
                if !hours.iter().chain(&minutes).all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                let number = |[tens, ones]: [&u8; 2]| digit(*tens) * 10 + digit(*ones);
                let ahead = number(hours) * 3600 + number(minutes) * 60;
                if *sign == b'-' { -ahead } else { ahead }
            }
            _ => return None,
        };
        Some((second, fraction, offset_secs))
    }
}

/// What the digits of a fraction are divided by.
const FRACTION_SCALES: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

impl Front {
    /// The steps before the second, where what they make of a text cannot depend on what follows: none of them looks
    /// beyond the mark that they end with.
    pub(super) fn of(steps: &[Step], after_fraction: Option<&[Step]>) -> Option<Front> {
        let second = steps.iter().position(|step| *step == Step::Second)?;
        let (last, before) = steps[..second].split_last()?;
        let is_mark = matches!(last, Step::Literal(byte) if byte.is_ascii_punctuation());
        let is_bounded = |step: &Step| match step {
            Step::Space
            | Step::Literal(_)
            | Step::WeekDay
            | Step::Month
            | Step::MonthNumber
            | Step::Century
            | Step::Day
            | Step::SpacedDay
            | Step::Hour
            | Step::Hour12
            | Step::DayOfYear
            | Step::Minute
            | Step::HalfDay
            | Step::Year
            | Step::ShortYear
            | Step::Ignored(..)
            | Step::Resolve => true,
            Step::SomeSpace
            | Step::Second
            | Step::Epoch
            | Step::WeekYear
            | Step::ZoneName
            | Step::Offset
            | Step::Never => false,
        };
        let tail = Tail::of(&steps[second..], after_fraction);
        (is_mark && before.iter().all(is_bounded)).then_some(Front { steps: second, tail })
    }
}

/// What is remembered of the last text; one for each place that reads.
#[derive(Clone, Debug, Default)]
pub struct TimeMemo {
    /// Of the format that it is about; 0 for none.
    format: u64,
    /// What gave formats without a year their date.
    now_secs: u32,
    front: Option<KnownFront>,
    whole: Option<(Text, ReadTime)>,
}

/// A text up to the second.
#[derive(Clone, Debug)]
struct KnownFront {
    text: Text,
    reader: Reader<'static>,
    /// Days since 1970 of its date.
    days: i64,
    /// Seconds since 1970 of the whole, where nothing that may follow changes its date.
    settled_secs: Option<i64>,
}

#[derive(Clone, Debug)]
struct Text {
    bytes: [u8; TEXT_BYTES],
    length: usize,
}

impl Text {
    fn new(text: &[u8]) -> Option<Text> {
        let mut bytes = [0; TEXT_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Text { bytes, length: text.len() })
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A time that was read, as far as seconds go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadTime {
    /// [`CivilTime::as_utc_secs`]
    pub utc_secs: i64,
    /// Seconds that the zone is ahead of UTC.
    pub offset_secs: i64,
    /// Fraction of the second.
    pub fraction: f64,
    /// Whether all of the format matched.
    pub is_whole: bool,
}

impl ReadTime {
    fn new(time: &CivilTime, utc_secs: i64) -> ReadTime {
        let CivilTime { offset_secs, fraction, is_whole, .. } = *time;
        ReadTime { utc_secs, offset_secs, fraction, is_whole }
    }
}

impl TimeFormat {
    /// As [`read`](TimeFormat::read), with a memory of the text before. `today` must depend on `now_secs` alone.
    #[inline]
    pub fn read_with(
        &self,
        memo: &mut TimeMemo,
        text: &[u8],
        now_secs: u32,
        today: impl FnOnce() -> Today,
    ) -> ReadTime {
        if memo.format == self.id && (self.has_year || memo.now_secs == now_secs) {
            if let Some((known, time)) = &memo.whole
                && known.bytes() == text
            {
                return *time;
            }
            if let (Some(front), Some(known)) = (&self.front, &memo.front)
                && let Some(rest) = text.strip_prefix(known.text.bytes())
            {
                if let (Some(tail), Some(secs)) = (front.tail, known.settled_secs)
                    && let Some((second, fraction, offset_secs)) = tail.read(rest)
                {
                    let utc_secs = secs + second;
                    let time = ReadTime { utc_secs, offset_secs, fraction, is_whole: true };
                    self.remember_whole(memo, text, time);
                    return time;
                }
                let mut reader = known.reader.with_rest(until_zero(rest));
                let time = self.read_rest(front, &mut reader);
                let date = |time: &CivilTime| (time.year, time.month, time.day);
                let utc_secs = match date(&time) == date(&known.reader.time) {
                    true => known.days * 86_400 + time.second_of_day(),
                    false => time.as_utc_secs(),
                };
                let time = ReadTime::new(&time, utc_secs);
                self.remember_whole(memo, text, time);
                return time;
            }
        } else {
            *memo = TimeMemo { format: self.id, now_secs, ..TimeMemo::default() };
        }
        self.read_anew(memo, text, today)
    }

    #[cold]
    fn read_anew(
        &self,
        memo: &mut TimeMemo,
        text: &[u8],
        today: impl FnOnce() -> Today,
    ) -> ReadTime {
        let Some(front) = &self.front else {
            let time = self.read(text, today);
            let time = ReadTime::new(&time, time.as_utc_secs());
            self.remember_whole(memo, text, time);
            return time;
        };
        let text_read = until_zero(text);
        let mut reader = Reader::new(text_read);
        if !self.has_year {
            reader.begin_at(today());
        }
        let time = match reader.run(&self.steps[..front.steps]) {
            Some(()) => {
                let front_text = &text_read[..text_read.len() - reader.rest.len()];
                memo.front = Text::new(front_text).map(|text| {
                    let CivilTime { year, month, day, .. } = reader.time;
                    let days = days_from_civil(year, month, day);
                    let reader = reader.with_rest(&[]);
                    let is_settled = reader.is_resolved() && reader.time.second == 0;
                    let secs = days * 86_400 + reader.time.second_of_day();
                    KnownFront { text, reader, days, settled_secs: is_settled.then_some(secs) }
                });
                self.read_rest(front, &mut reader)
            }
            None => reader.time,
        };
        let time = ReadTime::new(&time, time.as_utc_secs());
        self.remember_whole(memo, text, time);
        time
    }

    /// What follows the front.
    #[inline]
    fn read_rest(&self, front: &Front, reader: &mut Reader<'_>) -> CivilTime {
        reader.time.is_whole =
            reader.run(&self.steps[front.steps..]).is_some() && self.finish(reader).is_some();
        reader.time
    }

    /// A whole text is worth it where texts repeat: fractions do not.
    #[inline]
    fn remember_whole(&self, memo: &mut TimeMemo, text: &[u8], time: ReadTime) {
        if self.after_fraction.is_none() && time.is_whole {
            memo.whole = Text::new(text).map(|text| (text, time));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMATS: [&str; 14] = [
        "%Y-%m-%dT%H:%M:%S.%L%z",
        "%Y-%m-%dT%H:%M:%SZ",
        "%d/%b/%Y:%H:%M:%S %z",
        "%b %d %H:%M:%S",
        "%H:%M:%S.%L",
        "%s.%L",
        "%c",
        "%D %r",
        "%a, %e %B %y %T %Z",
        "%b:%S %Y-%d",
        "%H:%M:%S %j %C%y",
        "%z:%S",
        "%Y %p:%S",
        "%G:%S%n%Y",
    ];

    proptest! {
        #[test]
        fn with_a_memory_the_same_is_read(
            format in prop::sample::select(&FORMATS[..]),
            texts in prop::collection::vec((0u32..3, 0i64..200, 0u32..1_000_000_000, any::<prop::sample::Index>(), "[\0-9A-Z :+]{0,2}", 0u8..4), 1..20),
        ) {
            let (format, _) = TimeFormat::compile(format);
            let (other, _) = TimeFormat::compile("%H:%M:%S");
            let mut memo = TimeMemo::default();
            for (day, second, nanos, at, change, kind) in texts {
                let stamp = jiff::Timestamp::new(1_709_164_700 + i64::from(day) * 86_400 + second, nanos as i32);
                let zoned = stamp.unwrap().to_zoned_datetime(jiff::tz::TimeZone::UTC);
                let shapes = ["%Y-%m-%dT%H:%M:%S.%fZ", "%d/%b/%Y:%H:%M:%S +0100", "%b %d %H:%M:%S", "%H:%M:%S.%f"];
                let mut text = zoned.strftime(shapes[usize::from(kind)]).to_string();
                if let Some(at) = text.char_indices().nth(at.index(60)).map(|(at, _)| at) {
                    text.replace_range(at..(at + change.len()).min(text.len()), &change);
                }
                let today = Today { year: 2024, month: 1, day: 20 + i64::from(day) };
                let plain = format.read(text.as_bytes(), || today);
                let time = format.read_with(&mut memo, text.as_bytes(), day, || today);
                prop_assert_eq!(time, ReadTime::new(&plain, plain.as_utc_secs()), "{}", text);
                if second == 0 {
                    other.read_with(&mut memo, text.as_bytes(), day, || today);
                }
            }
        }
    }
}
