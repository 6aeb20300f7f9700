//! `throttle`: keeps records up to a rate, averaged over a sliding window, and drops the rest.
//!
//! The rate is that of the instance, however many shards there are: they share the panes of the window. Each pane is
//! one atomic number, of the interval it stands for and of the records kept in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use config::{Problem, Problems, Seconds, Section, Settings};

use crate::event::record::Record;
use crate::event::time::Clock;
use crate::log::Log;
use crate::plugin::descriptor::{BuildContext, FilterPlugin};
use crate::plugin::filter::{Filter, FilterDefinition, FilterPlace, Verdict};

/// The `throttle` filter.
pub static PLUGIN: FilterPlugin = FilterPlugin {
    name: "throttle",
    summary: "keeps records up to a rate and drops the rest",
    keys: ThrottleSettings::KEYS,
    build,
};

config::config_map! {
    /// What `throttle` is told.
    pub struct ThrottleSettings {
        /// Records kept in an interval, on average over the window.
        "rate" => rate: f64, default "1";
        /// Intervals over which the rate is averaged.
        "window" => window: u32, default "5";
        /// Length of an interval: 1, 30s, 5m, 1h.
        "interval" => interval: Seconds, default "1";
        /// Logs the rate once an interval, while records come.
        "print_status" => print_status: bool, default "false";
    }
}

/// Intervals a window may have: their counts are added up for each batch.
const WINDOW_MAX: u32 = 100_000;

struct Throttle {
    panes: Arc<[AtomicU64]>,
    /// Records that a whole window may have.
    limit: f64,
    rate: f64,
    interval: Seconds,
    printed: Option<Arc<AtomicU64>>,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn FilterDefinition>> {
    let settings = ThrottleSettings::read(section, context.engine_keys, problems)?;
    let mut warn = |key: &str, used: u32| {
        let span = section.get(key).map(|property| property.value_span);
        let message = format!("`{key}` must be more than 1: {used} is used, as in Fluent Bit");
        problems.push(Problem::warning(span, message));
    };
    let rate = match settings.rate {
        rate if rate > 1.0 => rate,
        rate => {
            if rate != 1.0 {
                warn("rate", 1);
            }
            1.0
        }
    };
    let window = match settings.window {
        0 | 1 => {
            warn("window", 5);
            5
        }
        window => window,
    };
    let error = match (settings.interval.0.is_zero(), window > WINDOW_MAX) {
        (true, _) => Some("`interval` must be a second at least".to_owned()),
        (_, true) => Some(format!("`window` may be {WINDOW_MAX} at most")),
        _ => None,
    };
    if let Some(message) = error {
        problems.push(Problem::error(section.span, message));
        return None;
    }
    Some(Arc::new(Throttle {
        panes: (0..window).map(|_| AtomicU64::new(0)).collect(),
        limit: rate * f64::from(window),
        rate,
        interval: settings.interval,
        printed: settings.print_status.then(Arc::default),
    }))
}

impl FilterDefinition for Throttle {
    fn open(&self, place: &FilterPlace) -> Box<dyn Filter> {
        Box::new(ThrottleFilter {
            panes: Arc::clone(&self.panes),
            limit: self.limit,
            rate: self.rate,
            interval: self.interval,
            printed: self.printed.clone(),
            log: place.log.clone(),
            slot: 0,
            others: 0,
        })
    }
}

struct ThrottleFilter {
    panes: Arc<[AtomicU64]>,
    limit: f64,
    rate: f64,
    interval: Seconds,
    /// The interval whose rate was logged last.
    printed: Option<Arc<AtomicU64>>,
    log: Log,
    /// The interval of the batch, counted from 1.
    slot: u32,
    /// Records kept in the other panes of the window.
    others: u64,
}

fn pane(slot: u32, count: u32) -> u64 {
    u64::from(slot) << 32 | u64::from(count)
}

impl ThrottleFilter {
    fn own(&self) -> &AtomicU64 {
        &self.panes[self.slot as usize % self.panes.len()]
    }

    /// Records kept in the interval at hand.
    fn own_count(&self, word: u64) -> u32 {
        if (word >> 32) as u32 == self.slot { word as u32 } else { 0 }
    }

    fn print_status(&self) {
        let Some(printed) = &self.printed else { return };
        let slot = u64::from(self.slot);
        let last = printed.load(Relaxed);
        if last == slot || printed.compare_exchange(last, slot, Relaxed, Relaxed).is_err() {
            return;
        }
        let (rate, window) = (self.rate, self.panes.len());
        let seconds = self.interval.0.as_secs();
        let mean = self.others / window as u64;
        self.log.info(format_args!(
            "limit is {rate:.2} per {seconds}s with window size of {window}, current rate is: {mean} per interval"
        ));
    }
}

impl Filter for ThrottleFilter {
    fn begin_batch(&mut self, clock: Clock) {
        let interval_ns = self.interval.0.as_nanos().max(1);
        self.slot = (u128::from(clock.monotonic_ns) / interval_ns) as u32 + 1;
        let oldest = self.slot.saturating_sub(self.panes.len() as u32 - 1);
        let words = self.panes.iter().map(|word| word.load(Relaxed));
        let others = words.filter(|word| {
            let slot = (word >> 32) as u32;
            slot >= oldest && slot < self.slot
        });
        self.others = others.map(|word| word & 0xffff_ffff).sum();
        self.print_status();
    }

    fn apply(&mut self, _record: &mut Record<'_>) -> Verdict {
        let own = self.own();
        let mut word = own.load(Relaxed);
        loop {
            let count = self.own_count(word);
            if self.others as f64 + f64::from(count) >= self.limit {
                return Verdict::Drop;
            }
            let next = pane(self.slot, count.saturating_add(1));
            match own.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return Verdict::Keep,
                Err(now) => word = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::testing::{apply_at, errors};

    fn filter(throttle: &Throttle) -> ThrottleFilter {
        ThrottleFilter {
            panes: Arc::clone(&throttle.panes),
            limit: throttle.limit,
            rate: throttle.rate,
            interval: throttle.interval,
            printed: None,
            log: Log::discard(),
            slot: 0,
            others: 0,
        }
    }

    fn kept(filter: &mut ThrottleFilter, monotonic_ns: u64, offered: usize) -> usize {
        let clock = Clock { monotonic_ns, ..Clock::default() };
        (0..offered).filter(|_| apply_at(filter, clock, "{}").0 == Verdict::Keep).count()
    }

    #[test]
    fn one_rate_holds_for_all_shards_over_a_sliding_window() {
        let panes = (0..3).map(|_| AtomicU64::new(0)).collect();
        let interval = Seconds(std::time::Duration::from_secs(2));
        let throttle = Throttle { panes, limit: 7.5, rate: 2.5, interval, printed: None };
        let (mut one, mut other) = (filter(&throttle), filter(&throttle));
        // A whole window's worth may come at once; 7.5 has room for an eighth.
        assert_eq!(kept(&mut one, 0, 3) + kept(&mut other, 1_999_999_999, 9), 8);
        assert_eq!(kept(&mut one, 2_000_000_000, 1), 0);
        assert_eq!(kept(&mut other, 5_999_999_999, 1), 0);
        // The first interval has left the window.
        assert_eq!(kept(&mut one, 6_000_000_000, 5), 5);
        assert_eq!(kept(&mut other, 8_000_000_000, 5), 3);
        assert_eq!(kept(&mut one, 99_000_000_000, 20), 8);
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        assert_eq!(errors(&PLUGIN, &[("interval", "0")]).len(), 1);
        assert_eq!(errors(&PLUGIN, &[("window", "200000")]).len(), 1);
    }
}
