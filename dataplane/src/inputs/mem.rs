//! `mem`: samples memory and swap, and the resident memory of one process if asked.

use std::sync::Arc;

use config::{Problems, Section, Settings};
use procfs::WithCurrentSystemInfo;
use procfs::process::Process;

use crate::event::encoder::{event_header, put_map_len, put_str, put_uint};
use crate::event::time::EventTime;
use crate::inputs::sampling::interval;
use crate::log::Log;
use crate::plugin::descriptor::{BuildContext, InputPlugin, Placement};
use crate::plugin::input::{
    EventSink, InputDefinition, InputPlace, InputTag, Next, Source, TimedInput,
};

/// The `mem` input.
pub static PLUGIN: InputPlugin = InputPlugin {
    name: "mem",
    summary: "samples memory and swap, in KiB",
    keys: MemSettings::KEYS,
    placement: Placement::OneShard,
    build,
};

config::config_map! {
    /// What `mem` is told.
    pub struct MemSettings {
        /// Seconds between samples.
        "interval_sec" => interval_sec: u64, default "1";
        /// Nanoseconds between samples, besides the seconds.
        "interval_nsec" => interval_nsec: u64, default "0";
        /// Process whose resident memory is sampled too; 0 for none.
        "pid" => pid: i32, default "0";
    }
}

/// Bytes of the largest sample.
const ROOM_BYTES: usize = 256;

struct Mem(MemSettings);

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn InputDefinition>> {
    let settings = MemSettings::read(section, context.engine_keys, problems)?;
    Some(Arc::new(Mem(settings)))
}

impl InputDefinition for Mem {
    fn start(&self, place: &InputPlace, tag: &InputTag) -> Result<Source, String> {
        let sampler = Sampler {
            tag: Arc::clone(&tag.text),
            pid: (self.0.pid > 0).then_some(self.0.pid),
            log: place.log.clone(),
        };
        Ok(Source::Timer(interval(self.0.interval_sec, self.0.interval_nsec), Box::new(sampler)))
    }
}

struct Sampler {
    tag: Arc<str>,
    pid: Option<i32>,
    log: Log,
}

impl TimedInput for Sampler {
    fn tick(&mut self, now: EventTime, sink: &mut dyn EventSink) -> Next {
        let resident = self.pid.and_then(resident_bytes);
        if let (Some(pid), None) = (self.pid, resident) {
            self.log.warn(format_args!("could not measure PID {pid}; it is left out from now on"));
            self.pid = None;
        }
        let out = sink.open(self.tag.as_bytes(), ROOM_BYTES).bytes;
        event_header(out, now);
        put_sample(resident, out);
        sink.commit(1);
        Next::Continue
    }
}

fn resident_bytes(pid: i32) -> Option<u64> {
    Some(Process::new(pid).ok()?.stat().ok()?.rss_bytes().get())
}

fn put_sample(resident: Option<u64>, out: &mut Vec<u8>) {
    let info = rustix::system::sysinfo();
    #[allow(clippy::useless_conversion, reason = "narrower on other processors")]
    let kib = |amount| u64::from(amount) * u64::from(info.mem_unit.max(1)) / 1024;
    let (total, free) = (kib(info.totalram), kib(info.freeram));
    let (swap_total, swap_free) = (kib(info.totalswap), kib(info.freeswap));
    put_map_len(out, 6 + 2 * usize::from(resident.is_some()));
    for (key, value) in [
        ("Mem.total", total),
        ("Mem.used", total.saturating_sub(free)),
        ("Mem.free", free),
        ("Swap.total", swap_total),
        ("Swap.used", swap_total.saturating_sub(swap_free)),
        ("Swap.free", swap_free),
    ] {
        put_str(out, key.as_bytes());
        put_uint(out, value);
    }
    if let Some(bytes) = resident {
        put_str(out, b"proc_bytes");
        put_uint(out, bytes);
        put_str(out, b"proc_hr");
        put_str(out, readable(bytes).as_bytes());
    }
}

/// `12.5M`
fn readable(bytes: u64) -> String {
    let mut amount = bytes as f64;
    if bytes < 1024 {
        return format!("{bytes}b");
    }
    let units = ["b", "K", "M", "G", "T", "P", "E"];
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < units.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::msgpack_text::put_text;
    use crate::event::msgpack::{Head, map_get, read_head};

    #[test]
    fn a_sample_adds_up_and_knows_this_process() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let mut sample = Vec::new();
        put_sample(resident_bytes(pid), &mut sample);
        let get =
            |key: &str| match map_get(&sample, key.as_bytes()).map(|mut it| read_head(&mut it)) {
                Some(Some(Head::Uint(number))) => number,
                other => panic!("{key} is {other:?}"),
            };
        assert!(get("Mem.total") > 0);
        assert_eq!(get("Mem.used") + get("Mem.free"), get("Mem.total"));
        assert_eq!(get("Swap.used") + get("Swap.free"), get("Swap.total"));
        assert!(get("proc_bytes") > 100_000);
        let mut text = Vec::new();
        put_text(map_get(&sample, b"proc_hr").unwrap(), &mut text).unwrap();
        assert!(text.ends_with(b"M\"") || text.ends_with(b"K\"") || text.ends_with(b"G\""));
        assert_eq!(resident_bytes(i32::MAX), None);
    }

    #[test]
    fn sizes_read_as_fluent_bits() {
        let table = [(5, "5b"), (1024, "1.0K"), (12_897_485, "12.3M"), (1 << 40, "1.0T")];
        for (bytes, text) in table {
            assert_eq!(readable(bytes), text);
        }
    }
}
