//! When to commit: at once, or a little later together with what comes meanwhile. Pure.
//!
//! A commit writes about 28 KB whatever is in it, so a trickle of events wears an SD card out. The wear
//! budget is a token bucket in bytes: it fills with the budget's rate up to what an hour gives, and every
//! byte written is taken from it. While it is more than a quarter full a commit goes at once; below that
//! the linger grows in proportion, up to `linger_max` when it is empty. A full row and an urgent event
//! never linger: the first shares its commit already, the second may not wait.

use std::time::{Duration, Instant};

/// The bucket holds what the budget gives in this time.
const BUCKET_SECONDS: f64 = 3_600.0;
/// Below this part of the bucket commits begin to linger.
const SHORT_PART: f64 = 0.25;
const DAY_SECONDS: f64 = 86_400.0;

/// The token bucket of the wear budget.
#[derive(Debug)]
pub struct Pacer {
    /// Bytes per second; `None` is without a limit.
    rate: Option<f64>,
    tokens: f64,
    filled_at: Instant,
    linger_max: Duration,
}

impl Pacer {
    /// A full bucket.
    #[must_use]
    pub fn new(budget_bytes_per_day: Option<u64>, linger_max: Duration, now: Instant) -> Self {
        let rate = budget_bytes_per_day.map(|bytes| bytes as f64 / DAY_SECONDS);
        Self { rate, tokens: rate.unwrap_or(0.0) * BUCKET_SECONDS, filled_at: now, linger_max }
    }

    /// How long what arrived just now may wait for company.
    pub fn linger(&mut self, now: Instant) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let full = rate * BUCKET_SECONDS;
        let gained = now.saturating_duration_since(self.filled_at).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(full);
        self.filled_at = now;
        let short = full * SHORT_PART;
        if self.tokens >= short {
            return Duration::ZERO;
        }
        self.linger_max.mul_f64(1.0 - (self.tokens / short).max(0.0))
    }

    /// Takes what was written from the bucket. The debt is at most one bucket, so that a burst does not make
    /// the commits of a whole week linger.
    pub fn spend(&mut self, bytes: u64) {
        if let Some(rate) = self.rate {
            self.tokens = (self.tokens - bytes as f64).max(-rate * BUCKET_SECONDS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;
    const MAX: Duration = Duration::from_secs(1);

    #[test]
    fn a_full_bucket_commits_at_once_and_an_empty_one_lingers_longest() {
        let start = crate::clock::monotonic();
        let mut pacer = Pacer::new(Some(24 * GB), MAX, start);
        assert_eq!(pacer.linger(start), Duration::ZERO);
        pacer.spend(GB / 2);
        assert_eq!(pacer.linger(start), Duration::ZERO);
        pacer.spend(GB * 3 / 8);
        let half = pacer.linger(start).as_secs_f64();
        assert!((0.45..0.55).contains(&half), "{half}");
        pacer.spend(GB);
        assert_eq!(pacer.linger(start), MAX);
    }

    #[test]
    fn a_trickle_stays_within_its_budget() {
        // One event every 10 ms, and 28 KB written by each commit, for three simulated days.
        let start = crate::clock::monotonic();
        let mut pacer = Pacer::new(Some(5 * GB), MAX, start);
        let (mut written, mut now_ms) = (0u64, 0u64);
        while now_ms < 3 * 86_400_000 {
            now_ms += 10 + pacer.linger(start + Duration::from_millis(now_ms)).as_millis() as u64;
            pacer.spend(28_000);
            written += 28_000;
        }
        let allowed = 3 * 5 * GB + 5 * GB / 24;
        assert!(written <= allowed + allowed / 100, "{written} of {allowed}");
        assert!(written > allowed / 2, "the budget is there to be used: {written} of {allowed}");
    }

    #[test]
    fn an_unlimited_budget_never_lingers() {
        let start = crate::clock::monotonic();
        let mut pacer = Pacer::new(None, MAX, start);
        pacer.spend(u64::MAX);
        assert_eq!(pacer.linger(start), Duration::ZERO);
    }
}
