//! Fluent Bit's retry rules: how often, and after how long.

use std::time::Duration;

/// `Retry_Limit`: retries after the first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryLimit {
    /// `no_retries`.
    None,
    /// A number; the default is 1.
    Times(u32),
    /// `no_limits`, `false` or `off`.
    Unlimited,
}

impl RetryLimit {
    /// Parses the value of `retry_limit`. Fluent Bit reads 0 and garbage as 1 with a warning; here they are
    /// an error, because a typo that throws data away should not start.
    ///
    /// # Errors
    /// What the value may be.
    pub fn parse(text: &str) -> Result<RetryLimit, String> {
        match text.to_ascii_lowercase().as_str() {
            "no_limits" | "false" | "off" => return Ok(RetryLimit::Unlimited),
            "no_retries" => return Ok(RetryLimit::None),
            _ => {}
        }
        match text.parse() {
            Ok(times) if times > 0 => Ok(RetryLimit::Times(times)),
            _ => Err(format!(
                "`{text}` is no retry limit: write a number from 1, `no_limits` or `no_retries`"
            )),
        }
    }

    /// Whether one more attempt is allowed after `attempts` have failed.
    pub fn allows(self, attempts: u32) -> bool {
        match self {
            RetryLimit::None => false,
            RetryLimit::Times(times) => attempts <= times,
            RetryLimit::Unlimited => true,
        }
    }
}

/// `scheduler.base` and `scheduler.cap`, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Shortest wait.
    pub base_s: u64,
    /// Longest wait.
    pub cap_s: u64,
}

impl Backoff {
    /// The wait after `attempts` failures: uniform in `[base, min(cap, base * 2^attempts)]`, plus one
    /// second. `random` is any number (rule: Fluent Bit's src/flb_scheduler.c).
    pub fn wait(self, attempts: u32, random: u64) -> Duration {
        let highest = self.base_s.saturating_mul(1 << attempts.min(32)).min(self.cap_s);
        let highest = highest.max(self.base_s);
        let seconds = self.base_s + random % (highest - self.base_s + 1);
        Duration::from_secs(seconds + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_limits_read_as_fluent_bit_means_them() {
        assert_eq!(RetryLimit::parse("no_limits"), Ok(RetryLimit::Unlimited));
        assert_eq!(RetryLimit::parse("False"), Ok(RetryLimit::Unlimited));
        assert_eq!(RetryLimit::parse("no_retries"), Ok(RetryLimit::None));
        assert_eq!(RetryLimit::parse("3"), Ok(RetryLimit::Times(3)));
        for wrong in ["0", "-1", "many", ""] {
            assert!(RetryLimit::parse(wrong).is_err(), "{wrong}");
        }
        assert!(RetryLimit::Times(1).allows(1) && !RetryLimit::Times(1).allows(2));
        assert!(!RetryLimit::None.allows(1));
        assert!(RetryLimit::Unlimited.allows(u32::MAX));
    }

    #[test]
    fn the_first_retry_comes_after_6_to_11_seconds() {
        let backoff = Backoff { base_s: 5, cap_s: 2000 };
        let waits: Vec<u64> = (0..100).map(|random| backoff.wait(1, random).as_secs()).collect();
        assert_eq!(waits.iter().min(), Some(&6));
        assert_eq!(waits.iter().max(), Some(&11));
        assert_eq!(backoff.wait(30, 1995).as_secs(), 2001);
        assert_eq!(Backoff { base_s: 10, cap_s: 3 }.wait(4, 7).as_secs(), 11);
    }
}
