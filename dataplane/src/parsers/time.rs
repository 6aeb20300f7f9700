//! The time of a record: which key bears it, how it is written, in which zone.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::codec::calendar::civil_from_days;
use crate::codec::strptime::{ReadTime, TimeFormat, TimeMemo, Today};
use crate::event::time::EventTime;

/// How a parser finds the time of a record.
#[derive(Clone, Debug)]
pub(super) struct TimeRule {
    /// The key that bears it.
    pub(super) key: Vec<u8>,
    pub(super) format: TimeFormat,
    /// Whether the key stays in the record.
    pub(super) keeps_key: bool,
    /// Whether a text that matches only in part has no time.
    pub(super) is_strict: bool,
    pub(super) zone: Zone,
}

/// In which zone a time is that names none.
#[derive(Clone, Debug)]
pub(super) enum Zone {
    /// So many seconds ahead of UTC.
    Offset(i64),
    /// That of the machine; whatever the text says of a zone is not looked at (rule: Fluent Bit's).
    System(TimeZone),
    /// A named one.
    Named(TimeZone),
}

impl TimeRule {
    /// The time that a text says. `Err` when it says none; `Ok(None)` is a time that
    /// no event can bear, or 0, which counts as none.
    #[inline]
    pub(super) fn read(
        &self,
        text: &[u8],
        now: EventTime,
        memo: &mut TimeMemo,
    ) -> Result<Option<EventTime>, NoTime> {
        let time = self.format.read_with(memo, text, now.secs, || self.today(now));
        if !time.is_whole && self.is_strict {
            return Err(NoTime);
        }
        // A double of seconds, times 1e9, cut: nanoseconds come out as in Fluent Bit.
        let nanos = (time.fraction * 1e9) as u32;
        let Ok(secs) = u32::try_from(self.as_secs(&time)) else { return Ok(None) };
        Ok(Some(EventTime { secs, nanos }).filter(|time| time.unix_nanos() != 0))
    }

    fn as_secs(&self, time: &ReadTime) -> i64 {
        let offset_secs = match &self.zone {
            Zone::System(zone) => return in_zone(time.utc_secs, zone),
            Zone::Named(zone) if !self.format.has_zone() => return in_zone(time.utc_secs, zone),
            Zone::Offset(secs) if !self.format.has_zone() && time.is_whole => *secs,
            Zone::Offset(_) | Zone::Named(_) => time.offset_secs,
        };
        time.utc_secs - offset_secs
    }

    /// The day whose date stands for one that a text does not say.
    fn today(&self, now: EventTime) -> Today {
        let zone = match &self.zone {
            Zone::System(zone) => Some(zone),
            Zone::Named(zone) if !self.format.has_zone() => Some(zone),
            Zone::Offset(_) | Zone::Named(_) => None,
        };
        let secs = i64::from(now.secs);
        let stamp = Timestamp::from_second(secs).unwrap_or_default();
        let ahead = zone.map_or(0, |zone| i64::from(zone.to_offset(stamp).seconds()));
        let (year, month, day) = civil_from_days((secs + ahead).div_euclid(86_400));
        Today { year, month, day }
    }
}

/// The text is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoTime;

/// Seconds since 1970 of a time on the clocks of a zone. One that clocks skip is as far behind the gap as it is in
/// it, of one that comes twice the first is taken.
fn in_zone(utc_secs: i64, zone: &TimeZone) -> i64 {
    let (year, month, day) = civil_from_days(utc_secs.div_euclid(86_400));
    let second = utc_secs.rem_euclid(86_400);
    let date_time = (|| {
        let (month, day) = (month as i8 + 1, day as i8);
        let (hour, minute) = ((second / 3600) as i8, (second / 60 % 60) as i8);
        DateTime::new(i16::try_from(year).ok()?, month, day, hour, minute, (second % 60) as i8, 0)
            .ok()
    })();
    let stamp = date_time.and_then(|date_time| zone.to_timestamp(date_time).ok());
    stamp.map_or(utc_secs, Timestamp::as_second)
}
