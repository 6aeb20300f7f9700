//! `cpu`: samples the use of the processors, in percent, of the machine or of one process.
//!
//! Percents are over the time that really passed between two samples, so a late sample is still right.

use std::sync::Arc;
use std::time::Duration;

use config::{Problems, Section, Settings};
use procfs::process::Process;
use procfs::{CpuTime, CurrentSI, KernelStats};

use crate::event::encoder::{event_header, put_f64, put_map_len, put_str};
use crate::event::time::EventTime;
use crate::inputs::sampling::interval;
use crate::log::Log;
use crate::plugin::descriptor::{BuildContext, InputPlugin, Placement};
use crate::plugin::input::{
    EventSink, InputDefinition, InputPlace, InputTag, Next, Source, TimedInput,
};

/// The `cpu` input.
pub static PLUGIN: InputPlugin = InputPlugin {
    name: "cpu",
    summary: "samples the use of the processors, in percent",
    keys: CpuSettings::KEYS,
    placement: Placement::OneShard,
    build,
};

config::config_map! {
    /// What `cpu` is told.
    pub struct CpuSettings {
        /// Seconds between samples.
        "interval_sec" => interval_sec: u64, default "1";
        /// Nanoseconds between samples, besides the seconds.
        "interval_nsec" => interval_nsec: u64, default "0";
        /// Process to sample instead of the machine; -1 for the machine.
        "pid" => pid: i32, default "-1";
    }
}

/// Bytes one processor adds to a sample, at most.
const CORE_BYTES: usize = 3 * (16 + 9);

struct Cpu(CpuSettings);

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn InputDefinition>> {
    let settings = CpuSettings::read(section, context.engine_keys, problems)?;
    Some(Arc::new(Cpu(settings)))
}

impl InputDefinition for Cpu {
    fn start(&self, place: &InputPlace, tag: &InputTag) -> Result<Source, String> {
        let pid = (self.0.pid >= 0).then_some(self.0.pid);
        let before = measure(pid).map_err(|error| match pid {
            Some(pid) => format!("could not measure `pid {pid}`: {error}"),
            None => format!("could not read /proc/stat: {error}"),
        })?;
        let interval = interval(self.0.interval_sec, self.0.interval_nsec);
        let tag = Arc::clone(&tag.text);
        let sampler = Sampler { tag, pid, before, at: None, log: place.log.clone() };
        Ok(Source::Timer(interval, Box::new(sampler)))
    }
}

/// Seconds spent since the start, in user code and in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Spent {
    user_secs: f64,
    system_secs: f64,
}

/// The sum first, then each processor; of a process only the sum.
type Measure = Vec<Spent>;

fn measure(pid: Option<i32>) -> procfs::ProcResult<Measure> {
    let Some(pid) = pid else {
        let stats = KernelStats::current()?;
        return Ok(std::iter::once(&stats.total).chain(&stats.cpu_time).map(spent).collect());
    };
    let stat = Process::new(pid)?.stat()?;
    let secs = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
    Ok(vec![Spent { user_secs: secs(stat.utime), system_secs: secs(stat.stime) }])
}

fn spent(time: &CpuTime) -> Spent {
    let user = time.user_duration() + time.nice_duration();
    Spent { user_secs: user.as_secs_f64(), system_secs: time.system_duration().as_secs_f64() }
}

struct Sampler {
    tag: Arc<str>,
    pid: Option<i32>,
    before: Measure,
    /// When `before` was measured; `None` before the first tick.
    at: Option<EventTime>,
    log: Log,
}

impl TimedInput for Sampler {
    fn tick(&mut self, now: EventTime, sink: &mut dyn EventSink) -> Next {
        let after = match measure(self.pid) {
            Ok(after) => after,
            Err(error) => {
                self.log.error(format_args!("could not measure, no more samples: {error}"));
                return Next::Ended;
            }
        };
        let before = std::mem::replace(&mut self.before, after);
        let Some(at) = self.at.replace(now) else { return Next::Continue };
        let passed = Duration::from_nanos(now.unix_nanos().saturating_sub(at.unix_nanos()));
        let out = sink.open(self.tag.as_bytes(), 64 + CORE_BYTES * self.before.len()).bytes;
        event_header(out, now);
        put_sample(&before, &self.before, passed, out);
        sink.commit(1);
        Next::Continue
    }
}

fn put_sample(before: &[Spent], after: &[Spent], passed: Duration, out: &mut Vec<u8>) {
    let passed_secs = passed.as_secs_f64().max(1e-3);
    let core_count = std::thread::available_parallelism().map_or(1, usize::from);
    // A processor that came online in between has no sample before.
    let count = before.len().min(after.len());
    let all_cores = after.len().saturating_sub(1).max(if count == 1 { core_count } else { 1 });
    put_map_len(out, 3 * count);
    for index in 0..count {
        let percent = |before: f64, after: f64| {
            let share = (after - before).max(0.0) * 100.0 / passed_secs;
            if index == 0 { share / all_cores as f64 } else { share }
        };
        let user = percent(before[index].user_secs, after[index].user_secs);
        let system = percent(before[index].system_secs, after[index].system_secs);
        let mut put = |name: &str, value: f64| {
            put_str(out, name.as_bytes());
            put_f64(out, value);
        };
        match index.checked_sub(1) {
            None => {
                put("cpu_p", user + system);
                put("user_p", user);
                put("system_p", system);
            }
            Some(core) => {
                put(&format!("cpu{core}.p_cpu"), user + system);
                put(&format!("cpu{core}.p_user"), user);
                put(&format!("cpu{core}.p_system"), system);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::msgpack_text::put_text;

    #[test]
    fn percents_are_of_one_core_each_and_of_all_together() {
        let spent = |user_secs, system_secs| Spent { user_secs, system_secs };
        let before = [spent(10.0, 5.0), spent(6.0, 5.0), spent(4.0, 0.0)];
        let after = [spent(11.5, 5.5), spent(7.0, 5.5), spent(4.5, 0.0)];
        let mut sample = Vec::new();
        put_sample(&before, &after, Duration::from_secs(2), &mut sample);
        let mut text = Vec::new();
        put_text(&sample, &mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "{\"cpu_p\"=>50.000000, \"user_p\"=>37.500000, \"system_p\"=>12.500000, \
             \"cpu0.p_cpu\"=>75.000000, \"cpu0.p_user\"=>50.000000, \"cpu0.p_system\"=>25.000000, \
             \"cpu1.p_cpu\"=>25.000000, \"cpu1.p_user\"=>25.000000, \"cpu1.p_system\"=>0.000000}"
        );
    }

    #[test]
    fn the_machine_and_this_process_can_be_measured() {
        let machine = measure(None).unwrap();
        assert!(machine.len() > 1 && machine[0].user_secs > 0.0);
        let this = i32::try_from(std::process::id()).unwrap();
        assert_eq!(measure(Some(this)).unwrap().len(), 1);
        assert!(measure(Some(i32::MAX)).is_err());
    }
}
