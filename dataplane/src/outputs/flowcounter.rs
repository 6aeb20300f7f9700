//! `flowcounter`: prints records and bytes for each second, minute, hour or day.
//!
//! As in Fluent Bit there is a ring of as many units as a flush interval spans, and one more. A unit is printed
//! when a record comes that is later than the whole ring; one earlier than the ring is not counted.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use config::{Problems, Section, Settings};

use crate::chunk::Chunk;
use crate::event::reader::{EventKind, Events};
use crate::limits::FLOW_LINES_MAX;
use crate::log::Log;
use crate::outputs::stdout::StdoutWriter;
use crate::plugin::descriptor::{BuildContext, OutputPlugin, Placement};
use crate::plugin::output::{
    FlushStatus, OutputDefinition, SinkBatch, SinkOutput, SinkOwner, SinkWriter,
};
use crate::reactor;

/// The `flowcounter` output.
pub static PLUGIN: OutputPlugin = OutputPlugin {
    name: "flowcounter",
    summary: "prints records and bytes for each unit of time",
    keys: FlowCounterSettings::KEYS,
    placement: Placement::OneSink,
    build,
};

config::value_enum! {
    /// `unit`.
    pub enum FlowUnit {
        /// A second.
        Second = "second",
        /// 60 seconds.
        Minute = "minute",
        /// 3600 seconds.
        Hour = "hour",
        /// 86400 seconds.
        Day = "day",
    }
}

impl FlowUnit {
    fn seconds(self) -> i64 {
        match self {
            FlowUnit::Second => 1,
            FlowUnit::Minute => 60,
            FlowUnit::Hour => 3600,
            FlowUnit::Day => 86_400,
        }
    }

    fn label(self) -> &'static str {
        match self {
            FlowUnit::Second => "second",
            FlowUnit::Minute => "minute",
            FlowUnit::Hour => "hour",
            FlowUnit::Day => "day",
        }
    }
}

config::config_map! {
    /// What `flowcounter` is told.
    pub struct FlowCounterSettings {
        /// What is counted over: second, minute, hour or day.
        "unit" => unit: FlowUnit, default "minute";
        /// Whether the times of the records count, and not the time of the flush.
        "event_based" => event_based: bool, default "false";
    }
}

struct FlowCounter {
    unit: FlowUnit,
    is_event_based: bool,
    flush_interval: Duration,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<OutputDefinition> {
    let settings = FlowCounterSettings::read(section, context.engine_keys, problems)?;
    Some(OutputDefinition::Sink(Arc::new(FlowCounter {
        unit: settings.unit,
        is_event_based: settings.event_based,
        flush_interval: context.flush_interval,
    })))
}

/// Records of one second, as they go to the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    /// Seconds since 1970.
    secs: u32,
    records: u32,
    bytes: u64,
}

const SHARE_BYTES: usize = 16;

impl Share {
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.secs.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
    }

    fn read(bytes: &[u8; SHARE_BYTES]) -> Share {
        let [a, b, c, d, e, f, g, h, rest @ ..] = *bytes;
        Share {
            secs: u32::from_le_bytes([a, b, c, d]),
            records: u32::from_le_bytes([e, f, g, h]),
            bytes: u64::from_le_bytes(rest),
        }
    }
}

impl SinkOutput for FlowCounter {
    fn owner(&self) -> SinkOwner {
        SinkOwner::Stdout
    }

    /// Neighbours of one second are counted together; without `event_based` all are neighbours.
    fn format(&self, chunk: &Chunk, out: &mut Vec<u8>) -> u32 {
        let mut share = Share { secs: 0, records: 0, bytes: 0 };
        let mut left = chunk.record_count();
        for event in Events::new(chunk.bytes()).flatten() {
            left = left.saturating_sub(1);
            if event.kind != EventKind::Log {
                continue;
            }
            let secs = if self.is_event_based { event.time.secs } else { 0 };
            if secs != share.secs && share.records > 0 {
                share.put(out);
                share = Share { secs, records: 0, bytes: 0 };
            }
            share.secs = secs;
            share.records += 1;
            share.bytes += event.bytes.len() as u64;
        }
        share.put(out);
        left
    }

    fn open(&self, log: Log) -> Box<dyn SinkWriter> {
        let now = i64::from(reactor::now().secs);
        Box::new(FlowWriter {
            ring: Ring::new(self.unit, self.flush_interval, now),
            is_event_based: self.is_event_based,
            stdout: StdoutWriter::new(log.clone()),
            lines: Vec::new(),
            log,
        })
    }
}

struct FlowWriter {
    ring: Ring,
    is_event_based: bool,
    stdout: StdoutWriter,
    lines: Vec<u8>,
    log: Log,
}

impl SinkWriter for FlowWriter {
    fn write(&mut self, batch: &SinkBatch<'_>) -> FlushStatus {
        self.lines.clear();
        let mut uncounted = 0;
        let (shares, _) = batch.bytes.as_chunks::<SHARE_BYTES>();
        for share in shares.iter().map(Share::read).filter(|share| share.records > 0) {
            let secs = if self.is_event_based { share.secs } else { reactor::now().secs };
            if !self.ring.count(i64::from(secs), share, &mut self.lines) {
                uncounted += share.records;
            }
        }
        if uncounted > 0 {
            self.log.warn(format_args!("out of range. Skip the record: {uncounted} not counted"));
        }
        match self.lines.is_empty() {
            true => FlushStatus::Ok,
            false => self.stdout.write_all(&self.lines),
        }
    }
}

/// Units under way.
struct Ring {
    unit: FlowUnit,
    units: Vec<Unit>,
    /// The oldest.
    first: usize,
}

#[derive(Clone, Copy)]
struct Unit {
    /// Its last second.
    until: i64,
    records: u64,
    bytes: u64,
}

impl Ring {
    fn new(unit: FlowUnit, flush_interval: Duration, now: i64) -> Ring {
        let tick = unit.seconds();
        let count = flush_interval.as_secs() as i64 / tick + 1;
        let unit_of = |index| Unit { until: now + tick * index, records: 0, bytes: 0 };
        Ring { unit, units: (0..count).map(unit_of).collect(), first: 0 }
    }

    /// Counts records, after lines for the units that are over. `false` when their time is before the ring.
    fn count(&mut self, secs: i64, share: Share, lines: &mut Vec<u8>) -> bool {
        let tick = self.unit.seconds();
        if secs < self.units[self.first].until - tick {
            return false;
        }
        let mut printed = 0;
        loop {
            if let Some(index) = self.find(secs) {
                self.units[index].records += u64::from(share.records);
                self.units[index].bytes += share.bytes;
                return true;
            }
            let count = self.units.len();
            let first = &mut self.units[self.first];
            put_line(self.unit, first, lines);
            *first = Unit { until: first.until + tick * count as i64, records: 0, bytes: 0 };
            self.first = (self.first + 1) % count;
            printed += 1;
            if printed == FLOW_LINES_MAX {
                self.leap(secs, lines);
            }
        }
    }

    fn find(&self, secs: i64) -> Option<usize> {
        let tick = self.unit.seconds();
        let is_in = |index: &usize| (0..=tick).contains(&(self.units[*index].until - secs));
        let count = self.units.len();
        (0..count).map(|offset| (self.first + offset) % count).find(is_in)
    }

    /// Passes over units in which nothing came, up to the one before the given time.
    fn leap(&mut self, secs: i64, lines: &mut Vec<u8>) {
        let tick = self.unit.seconds();
        let count = self.units.len();
        for offset in 0..count {
            let unit = &self.units[(self.first + offset) % count];
            if unit.records > 0 {
                put_line(self.unit, unit, lines);
            }
        }
        let oldest = self.units[self.first].until;
        let skipped = ((secs - oldest) / tick - count as i64).max(0);
        for unit in &mut self.units {
            *unit = Unit { until: unit.until + skipped * tick, records: 0, bytes: 0 };
        }
    }
}

fn put_line(unit: FlowUnit, counted: &Unit, lines: &mut Vec<u8>) {
    let (label, seconds) = (unit.label(), unit.seconds() as u64);
    let Unit { until, records, bytes } = counted;
    // Writing to a Vec cannot fail.
    let _ = writeln!(
        lines,
        "[out_flowcounter] [{until}, {{\"counts\":{records}, \"bytes\":{bytes}, \"counts/{label}\":{}, \
         \"bytes/{label}\":{} }}]",
        records / seconds,
        bytes / seconds
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(ring: &mut Ring, secs: i64, records: u32) -> (bool, String) {
        let mut lines = Vec::new();
        let share = Share { secs: 0, records, bytes: 10 * u64::from(records) };
        let counted = ring.count(secs, share, &mut lines);
        (counted, String::from_utf8(lines).unwrap())
    }

    #[test]
    fn a_unit_is_printed_when_a_later_one_begins() {
        let mut ring = Ring::new(FlowUnit::Minute, Duration::from_secs(1), 1000);
        assert_eq!(count(&mut ring, 940, 5), (true, String::new()));
        assert_eq!(count(&mut ring, 1000, 60), (true, String::new()));
        assert!(!count(&mut ring, 939, 1).0, "before the ring");
        let line = "[out_flowcounter] [1000, {\"counts\":65, \"bytes\":650, \"counts/minute\":1, \
                    \"bytes/minute\":10 }]\n";
        assert_eq!(count(&mut ring, 1001, 1), (true, line.into()));
    }

    #[test]
    fn a_ring_of_several_units_waits_for_late_records() {
        let mut ring = Ring::new(FlowUnit::Second, Duration::from_secs(2), 100);
        assert_eq!(ring.units.len(), 3);
        for secs in [99, 101, 102, 100] {
            assert_eq!(count(&mut ring, secs, 1), (true, String::new()), "{secs}");
        }
        let (counted, lines) = count(&mut ring, 104, 1);
        assert!(counted);
        assert_eq!(lines.lines().count(), 2);
        assert!(lines.starts_with("[out_flowcounter] [100, {\"counts\":2, "), "{lines}");
    }

    #[test]
    fn a_time_far_ahead_prints_a_bounded_number_of_lines() {
        let mut ring = Ring::new(FlowUnit::Second, Duration::from_secs(1), 100);
        assert!(count(&mut ring, 100, 7).0);
        let (counted, lines) = count(&mut ring, 4_000_000_000, 1);
        assert!(counted);
        assert!(lines.lines().count() <= FLOW_LINES_MAX + 4);
        assert!(lines.contains("\"counts\":7,"));
        let (counted, lines) = count(&mut ring, 4_000_000_001, 1);
        assert!(counted && lines.lines().count() <= 3, "{lines}");
    }
}
