//! When to commit: at once, or a little later together with what comes meanwhile. Pure.
//!
//! A small commit writes a page of 4 KiB whatever is in it, a larger one 28 KB besides its rows, so
//! events that come one by one wear an SD card out. The wear budget is a token bucket in bytes: it
//! fills with the budget's rate, and every byte written is taken from it.
//!
//! ```text
//!  owed        0      short           start                         saved
//!  ├───────────┼────────┼───────────────┼───────────────────────────────┤
//!  -30 min           15 min            1 h          of the budget     1 day
//!  linger_max  │ linger │ commits go at once
//! ```
//! Below `short` the linger grows in proportion, up to `linger_max` at 0: a steady load settles
//! where it spends just what comes in, and a quiet night pays for a busy day. So one day may see
//! twice the budget, and the days before it saw that much less.
//!
//! A full row and an urgent event never linger: the first shares its commit already, the second may
//! not wait.
//!
//! Limits: the budget is kept as far as `linger_max` allows it. A small commit a second is 0.4 GB a
//! day, and events are written all the same. What was saved or owed is forgotten at a restart.

use std::time::{Duration, Instant};

use crate::clock::Now;

/// A process begins with what the budget gives in this time.
const START_SECONDS: f64 = 3_600.0;
/// What is saved at most: what the budget gives in this time.
const SAVED_SECONDS_MAX: f64 = DAY_SECONDS;
/// What is owed at most. Bounded, so that a burst does not make the commits of a whole week linger:
/// an hour after it they go at once again.
const OWED_SECONDS_MAX: f64 = 1_800.0;
/// Commits linger when less is left than what the budget gives in this time.
const SHORT_SECONDS: f64 = 900.0;
const DAY_SECONDS: f64 = 86_400.0;

/// The wear budget now, for whoever looks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WearBudget {
    /// Bytes that may be written per day.
    pub bytes_per_day: u64,
    /// Bytes that may be written now; below 0 they were written already.
    pub left_bytes: i64,
    /// How long a commit lingers for company.
    pub linger: Duration,
    /// Since when commits linger, wall clock, milliseconds since 1970; `None` while they go at
    /// once.
    pub lingers_since_ms: Option<u64>,
}

/// The token bucket of the wear budget.
#[derive(Debug)]
pub struct Pacer {
    /// Bytes per second; `None` is without a limit.
    rate: Option<f64>,
    /// Bytes that may be written; below 0 they were written already.
    tokens: f64,
    filled_at: Instant,
    linger_max: Duration,
    lingers_since_ms: Option<u64>,
}

impl Pacer {
    /// A bucket with an hour's worth in it.
    #[must_use]
    pub fn new(budget_bytes_per_day: Option<u64>, linger_max: Duration, now: Instant) -> Self {
        let rate = budget_bytes_per_day.map(|bytes| bytes as f64 / DAY_SECONDS);
        Self {
            rate,
            tokens: rate.unwrap_or(0.0) * START_SECONDS,
            filled_at: now,
            linger_max,
            lingers_since_ms: None,
        }
    }

    /// How long what arrived just now may wait for company.
    pub fn linger(&mut self, now: Instant) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let gained = now.saturating_duration_since(self.filled_at).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(rate * SAVED_SECONDS_MAX);
        self.filled_at = now;
        let short = rate * SHORT_SECONDS;
        if self.tokens >= short {
            return Duration::ZERO;
        }
        self.linger_max.mul_f64(1.0 - (self.tokens / short).max(0.0))
    }

    /// How the budget stands; `None` without one.
    pub fn look(&mut self, now: Now) -> Option<WearBudget> {
        let linger = self.linger(now.at);
        self.lingers_since_ms =
            (linger > Duration::ZERO).then(|| self.lingers_since_ms.unwrap_or(now.wall_ms));
        Some(WearBudget {
            bytes_per_day: (self.rate? * DAY_SECONDS).round() as u64,
            left_bytes: self.tokens as i64,
            linger,
            lingers_since_ms: self.lingers_since_ms,
        })
    }

    /// Takes what was written from the bucket.
    pub fn spend(&mut self, bytes: u64) {
        if let Some(rate) = self.rate {
            self.tokens = (self.tokens - bytes as f64).max(-rate * OWED_SECONDS_MAX);
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
    fn a_steady_load_settles_on_one_linger_that_spends_the_budget() {
        for events_per_second in [10, 100, 1_000] {
            let start = crate::clock::monotonic();
            let mut pacer = Pacer::new(Some(20 * GB), MAX, start);
            let (mut now, mut written) = (Duration::ZERO, 0);
            let (mut least, mut most) = (MAX, Duration::ZERO);
            let between = Duration::from_secs(1) / events_per_second;
            let settled = Duration::from_secs(86_400);
            while now < 2 * settled {
                let linger = pacer.linger(start + now);
                now += between + linger;
                let bytes = 28_500 + 75 * (1 + linger.div_duration_f64(between) as u64);
                pacer.spend(bytes);
                if now > settled {
                    (least, most) = (least.min(linger), most.max(linger));
                    written += bytes;
                }
            }
            let off = written.abs_diff(20 * GB);
            assert!(off < GB / 20, "{written} bytes in a day at {events_per_second}/s");
            assert!(
                most - least < Duration::from_millis(2),
                "{least:?} to {most:?} at {events_per_second}/s"
            );
        }
    }

    #[test]
    fn an_hour_after_the_worst_overload_commits_go_at_once() {
        let start = crate::clock::monotonic();
        let mut pacer = Pacer::new(Some(GB), MAX, start);
        pacer.spend(u64::MAX);
        assert_eq!(pacer.linger(start), MAX);
        assert_eq!(pacer.linger(start + Duration::from_secs(3_600)), Duration::ZERO);
    }

    #[test]
    fn a_quiet_time_saves_up_to_one_day_of_the_budget() {
        let start = crate::clock::monotonic();
        let mut pacer = Pacer::new(Some(24 * GB), MAX, start);
        let later = start + Duration::from_secs(30 * 86_400);
        assert_eq!(pacer.linger(later), Duration::ZERO);
        pacer.spend(23 * GB);
        assert_eq!(pacer.linger(later), Duration::ZERO, "an hour's worth is left of a day's");
        pacer.spend(GB);
        assert_eq!(pacer.linger(later), MAX, "no more than a day's worth was saved");
    }

    #[test]
    fn whoever_looks_in_sees_what_is_left_how_long_commits_linger_and_since_when() {
        let at = |ms: u64| {
            let at = crate::clock::monotonic() + Duration::from_millis(ms);
            Now { at, wall_ms: 1_000_000 + ms, steady_ms: ms }
        };
        let mut pacer = Pacer::new(Some(24 * GB), MAX, at(0).at);
        let look = pacer.look(at(0)).unwrap();
        assert_eq!((look.bytes_per_day, look.linger, look.lingers_since_ms), (24 * GB, Duration::ZERO, None));
        assert!(look.left_bytes.abs_diff(GB as i64) < GB / 100, "{look:?}");
        pacer.spend(GB + GB / 10);
        for ms in [5, 9] {
            let look = pacer.look(at(ms)).unwrap();
            assert_eq!((look.linger, look.lingers_since_ms), (MAX, Some(1_000_005)), "{ms}");
            assert!(look.left_bytes < 0, "{look:?}");
        }
        let look = pacer.look(at(3_600_000)).unwrap();
        assert_eq!((look.linger, look.lingers_since_ms), (Duration::ZERO, None));
        assert_eq!(Pacer::new(None, MAX, at(0).at).look(at(0)), None);
    }

    #[test]
    fn an_unlimited_budget_never_lingers() {
        let start = crate::clock::monotonic();
        let mut pacer = Pacer::new(None, MAX, start);
        pacer.spend(u64::MAX);
        assert_eq!(pacer.linger(start), Duration::ZERO);
    }
}
