//! `dummy`: makes records out of the configuration, for tests and for trying things out.

use std::sync::Arc;
use std::time::Duration;

use config::{Problem, Problems, Section, Settings};

use crate::codec::json::{self, JsonKind};
use crate::event::encoder::event_header_with_metadata;
use crate::event::time::EventTime;
use crate::plugin::descriptor::{BuildContext, InputPlugin, Placement};
use crate::plugin::input::{
    EventSink, InputDefinition, InputPlace, InputTag, Next, Source, TimedInput,
};

/// The `dummy` input.
pub static PLUGIN: InputPlugin = InputPlugin {
    name: "dummy",
    summary: "makes records out of the configuration",
    keys: DummySettings::KEYS,
    placement: Placement::OneShard,
    build,
};

config::config_map! {
    /// What `dummy` is told.
    pub struct DummySettings {
        /// The record, as JSON; several objects make several records.
        "dummy" => dummy: String, default "{\"message\":\"dummy\"}";
        /// Metadata of each record, as a JSON object.
        "metadata" => metadata: String, default "{}";
        /// Ticks a second.
        "rate" => rate: u64, default "1";
        /// Seconds between ticks, instead of a rate.
        "interval_sec" => interval_sec: u64, default "0";
        /// Nanoseconds between ticks, besides the seconds.
        "interval_nsec" => interval_nsec: u64, default "0";
        /// Records made at each tick.
        "copies" => copies: u32, default "1";
        /// Ticks in all; 0 goes on for ever.
        "samples" => samples: u64, default "0";
        /// Time of the first record, seconds since 1970; -1 for both parts takes the clock.
        "start_time_sec" => start_time_sec: i64, default "-1";
        /// Nanoseconds of that time.
        "start_time_nsec" => start_time_nsec: i64, default "-1";
        /// Gives every record the time of the first.
        "fixed_timestamp" => fixed_timestamp: bool, default "off";
        /// Makes the first records before anything is asked for; ticks begin at once here anyway.
        "flush_on_startup" => flush_on_startup: bool, default "off";
        /// Hangs at the stop, for tests of Fluent Bit itself.
        "test_hang_on_exit" => later "off";
    }
}

/// Shortest time between two turns: more ticks than that are made together.
const TURN_MIN: Duration = Duration::from_millis(1);

struct Dummy {
    bodies: Vec<Vec<u8>>,
    metadata: Vec<u8>,
    interval: Duration,
    settings: DummySettings,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn InputDefinition>> {
    let settings = DummySettings::read(section, context.engine_keys, problems)?;
    let bodies = objects(&settings.dummy);
    let metadata = objects(&settings.metadata).filter(|all| all.len() == 1);
    let (Some(bodies), Some(mut metadata)) = (bodies.clone(), metadata.clone()) else {
        let key = if bodies.is_none() { "dummy" } else { "metadata" };
        let span = section.get(key).map(|property| property.value_span);
        let message = format!("`{key}` is no JSON object");
        problems.push(Problem::error(span, message).with_help("write it as {\"key\":\"value\"}"));
        return None;
    };
    let interval = match (settings.interval_sec, settings.interval_nsec) {
        (0, 0) => Duration::from_nanos(1_000_000_000 / settings.rate.max(1)),
        (secs, nanos) => Duration::from_secs(secs) + Duration::from_nanos(nanos),
    };
    Some(Arc::new(Dummy { bodies, metadata: metadata.remove(0), interval, settings }))
}

/// The msgpack forms of one or more JSON objects; `None` when the text is anything else.
fn objects(text: &str) -> Option<Vec<Vec<u8>>> {
    let mut rest = text.trim().as_bytes();
    let mut all = Vec::new();
    while !rest.is_empty() {
        let mut out = Vec::new();
        let value = json::encode_value(rest, &mut out).ok()?;
        if value.kind != JsonKind::Object {
            return None;
        }
        all.push(out);
        rest = rest[value.consumed..].trim_ascii_start();
    }
    (!all.is_empty()).then_some(all)
}

impl InputDefinition for Dummy {
    fn start(&self, _place: &InputPlace, tag: &InputTag) -> Result<Source, String> {
        let ticks_a_turn = TURN_MIN.as_nanos().div_ceil(self.interval.as_nanos().max(1)) as u64;
        let interval = self.interval * u32::try_from(ticks_a_turn).unwrap_or(u32::MAX);
        let generator = Generator {
            bodies: self.bodies.clone(),
            metadata: self.metadata.clone(),
            tag: tag.text.as_bytes().to_vec(),
            settings: self.settings.clone(),
            interval: self.interval,
            ticks_a_turn,
            made: 0,
            first: None,
        };
        Ok(Source::Timer(interval, Box::new(generator)))
    }
}

struct Generator {
    bodies: Vec<Vec<u8>>,
    metadata: Vec<u8>,
    tag: Vec<u8>,
    settings: DummySettings,
    interval: Duration,
    ticks_a_turn: u64,
    /// Ticks made so far.
    made: u64,
    /// The clock at the first tick.
    first: Option<EventTime>,
}

impl TimedInput for Generator {
    fn tick(&mut self, now: EventTime, sink: &mut dyn EventSink) -> Next {
        self.first.get_or_insert(now);
        for _ in 0..self.ticks_a_turn {
            if self.settings.samples > 0 && self.made >= self.settings.samples {
                return Next::Ended;
            }
            let time = self.time(now);
            self.append(time, sink);
            self.made += 1;
        }
        match self.settings.samples > 0 && self.made >= self.settings.samples {
            true => Next::Ended,
            false => Next::Continue,
        }
    }
}

impl Generator {
    fn time(&self, now: EventTime) -> EventTime {
        let first = self.first.unwrap_or(now);
        if self.settings.start_time_sec < 0 && self.settings.start_time_nsec < 0 {
            return if self.settings.fixed_timestamp { first } else { now };
        }
        let nanos_of = |value: i64, unit: u64| u64::try_from(value).unwrap_or(0) * unit;
        let base = nanos_of(self.settings.start_time_sec, 1_000_000_000)
            + nanos_of(self.settings.start_time_nsec, 1);
        if self.settings.fixed_timestamp {
            return EventTime::from_unix_nanos(base);
        }
        let elapsed = self.interval.as_nanos() as u64 * self.made;
        EventTime::from_unix_nanos(base + elapsed)
    }

    fn append(&self, time: EventTime, sink: &mut dyn EventSink) {
        for _ in 0..self.settings.copies {
            for body in &self.bodies {
                let room = self.metadata.len() + body.len() + 16;
                let batch = sink.open(&self.tag, room);
                event_header_with_metadata(batch.bytes, time, &self.metadata);
                batch.bytes.extend_from_slice(body);
                sink.commit(1);
            }
        }
    }
}
