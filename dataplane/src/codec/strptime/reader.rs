//! Reads a text step by step.

use crate::codec::calendar::{DAYS, MONTHS, civil_from_days, days_from_civil};
use crate::codec::strptime::{CivilTime, Step, Today};
use crate::codec::zone_names;

/// What is known while a text is read.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
    pub(super) time: CivilTime,
    day_of_year: i64,
    century: Option<i64>,
    short_year: Option<i64>,
    has: Fields,
}

/// Fields that were set since the start or `%L`.
#[derive(Clone, Copy, Debug, Default)]
struct Fields {
    year: bool,
    month: bool,
    day: bool,
    day_of_year: bool,
}

pub(super) fn is_space(byte: u8) -> bool {
    byte == b' ' || (9..=13).contains(&byte)
}

impl<'a> Reader<'a> {
    /// Nothing is known yet.
    pub(super) fn new(text: &'a [u8]) -> Reader<'a> {
        Reader {
            rest: text,
            time: CivilTime { year: 1900, ..CivilTime::default() },
            day_of_year: 0,
            century: None,
            short_year: None,
            has: Fields::default(),
        }
    }

    /// What is known, with another text behind it.
    pub(super) fn with_rest<'b>(&self, rest: &'b [u8]) -> Reader<'b> {
        Reader { rest, ..*self }
    }

    /// The date of a day stands until another is read.
    pub(super) fn begin_at(&mut self, Today { year, month, day }: Today) {
        (self.time.year, self.time.month, self.time.day) = (year, month, day);
        self.has.year = true;
    }

    /// Whether what is known so far says no other date than it does already.
    pub(super) fn is_resolved(&self) -> bool {
        let mut resolved = self.clone();
        resolved.resolve();
        resolved.time == self.time
    }

    /// Forgets all but the date and the time.
    pub(super) fn forget(&mut self) {
        (self.century, self.short_year, self.has) = (None, None, Fields::default());
        self.time.offset_secs = 0;
    }

    /// `None` where the text does not match; fields that were read before stay.
    pub(super) fn run(&mut self, steps: &[Step]) -> Option<()> {
        for step in steps {
            match step {
                Step::Space => self.skip_space(),
                Step::Resolve => self.resolve(),
                _ if self.rest.is_empty() => return None,
                step => self.step(*step)?,
            }
        }
        Some(())
    }

    fn step(&mut self, step: Step) -> Option<()> {
        match step {
            Step::Literal(byte) => self.rest = self.rest.strip_prefix(&[byte])?,
            Step::WeekDay => drop(self.name(&DAYS)?),
            Step::Month => {
                self.time.month = self.name(&MONTHS)?;
                self.has.month = true;
            }
            Step::MonthNumber => {
                self.time.month = self.number(1, 12)? - 1;
                self.has.month = true;
            }
            Step::Century => self.century = Some(self.number(0, 99)? * 100),
            Step::Day | Step::SpacedDay => {
                if step == Step::SpacedDay && is_space(self.rest[0]) {
                    self.rest = &self.rest[1..];
                }
                self.time.day = self.number(1, 31)?;
                self.has.day = true;
            }
            Step::Hour => self.time.hour = self.number(0, 23)?,
            Step::Hour12 => self.time.hour = self.number(1, 12)?,
            Step::DayOfYear => {
                self.day_of_year = self.number(1, 366)? - 1;
                self.has.day_of_year = true;
            }
            Step::Minute => self.time.minute = self.number(0, 59)?,
            Step::Second => self.time.second = self.number(0, 60)?,
            Step::HalfDay => self.half_day()?,
            Step::Epoch => self.epoch()?,
            Step::Year => {
                self.time.year = self.number(0, 9999)?;
                self.short_year = None;
                self.has.year = true;
            }
            Step::ShortYear => self.short_year = Some(self.number(0, 99)?),
            Step::Ignored(low, high) => drop(self.number(low.into(), high.into())?),
            Step::WeekYear => {
                let digits = self.rest[1..].iter().take_while(|byte| byte.is_ascii_digit());
                self.rest = &self.rest[1 + digits.count()..];
            }
            Step::ZoneName => {
                let (offset_secs, length) = zone_names::find(self.rest)?;
                self.time.offset_secs = offset_secs;
                self.rest = &self.rest[length..];
            }
            Step::Offset => self.offset()?,
            Step::SomeSpace => self.skip_space(),
            Step::Space | Step::Resolve => {}
            Step::Never => return None,
        }
        Some(())
    }

    fn skip_space(&mut self) {
        while let [first, rest @ ..] = self.rest
            && is_space(*first)
        {
            self.rest = rest;
        }
    }

    fn digit(&mut self) -> Option<i64> {
        let (digit, rest) = self.rest.split_first().filter(|(byte, _)| byte.is_ascii_digit())?;
        self.rest = rest;
        Some(i64::from(digit - b'0'))
    }

    /// A number of as many digits as the largest has, fewer when another would be too many.
    #[inline]
    fn number(&mut self, low: i64, high: i64) -> Option<i64> {
        let mut number = self.digit()?;
        let mut digits_left = high / 10;
        while number * 10 <= high && digits_left > 0 {
            let Some(digit) = self.digit() else { break };
            number = number * 10 + digit;
            digits_left /= 10;
        }
        (low..=high).contains(&number).then_some(number)
    }

    /// Index of a name, in full or by its first three letters.
    fn name(&mut self, names: &[&str]) -> Option<i64> {
        for (index, name) in names.iter().enumerate() {
            for name in [name.as_bytes(), &name.as_bytes()[..3]] {
                let front = self.rest.get(..name.len());
                if front.is_some_and(|front| front.eq_ignore_ascii_case(name)) {
                    self.rest = &self.rest[name.len()..];
                    return Some(index as i64);
                }
            }
        }
        None
    }

    fn half_day(&mut self) -> Option<()> {
        let front = self.rest.get(..2)?;
        let hour = self.time.hour;
        let (is_am, is_pm) = (front.eq_ignore_ascii_case(b"AM"), front.eq_ignore_ascii_case(b"PM"));
        if hour > 12 || !is_am && !is_pm {
            return None;
        }
        self.time.hour = hour % 12 + if is_pm { 12 } else { 0 };
        self.rest = &self.rest[2..];
        Some(())
    }

    fn epoch(&mut self) -> Option<()> {
        let mut secs = self.digit()?;
        // A civil year must fit C's int.
        const SECS_MAX: i64 = 67_767_976_233_532_799;
        while let Some(digit) = self.digit() {
            secs = secs.checked_mul(10)?.checked_add(digit)?;
        }
        if secs > SECS_MAX {
            return None;
        }
        let time = &mut self.time;
        (time.year, time.month, time.day) = civil_from_days(secs.div_euclid(86_400));
        let second_of_day = secs.rem_euclid(86_400);
        time.hour = second_of_day / 3600;
        time.minute = second_of_day / 60 % 60;
        time.second = second_of_day % 60;
        time.offset_secs = 0;
        self.has = Fields { year: true, month: true, day: true, day_of_year: true };
        Some(())
    }

    fn offset(&mut self) -> Option<()> {
        self.skip_space();
        let (length, offset_secs) = match self.rest {
            [b'G', b'M', b'T', ..] | [b'U', b'T', b'C', ..] => (3, 0),
            [b'U', b'T', ..] => (2, 0),
            [b'Z', ..] => (1, 0),
            [sign @ (b'+' | b'-'), ..] => {
                let is_negative = *sign == b'-';
                self.rest = &self.rest[1..];
                let hours = self.digit()? * 10 + self.digit()?;
                self.rest = self.rest.strip_prefix(b":").unwrap_or(self.rest);
                let minutes = match self.digit() {
                    Some(tens) => tens * 10 + self.digit()?,
                    None => 0,
                };
                let ahead = hours * 3600 + minutes * 60;
                (0, if is_negative { -ahead } else { ahead })
            }
            rest => (3, zone_names::find_american(rest.get(..3)?)?),
        };
        self.rest = &self.rest[length..];
        self.time.offset_secs = offset_secs;
        Some(())
    }

    /// Up to nine digits, as a double, because that is what Fluent Bit multiplies.
    pub(super) fn fraction(&mut self) -> Option<()> {
        let mut digits = self.digit()?;
        let mut scale = 10.0;
        while scale < 1e9 {
            let Some(digit) = self.digit() else { break };
            digits = digits * 10 + digit;
            scale *= 10.0;
        }
        self.time.fraction = digits as f64 / scale;
        Some(())
    }

    fn resolve(&mut self) {
        if let Some(short) = self.short_year {
            self.time.year = match self.century {
                Some(century) => century + short,
                None if short <= 68 => 2000 + short,
                None => 1900 + short,
            };
            self.has.year = true;
        }
        // The day of the year is known either way once the date is.
        if !self.has.year || (self.has.month && self.has.day) || !self.has.day_of_year {
            return;
        }
        let first = days_from_civil(self.time.year, 0, 1);
        let (_, month, day) = civil_from_days(first + self.day_of_year);
        if !self.has.month {
            self.time.month = month;
        }
        if !self.has.day {
            self.time.day = day;
        }
    }
}
