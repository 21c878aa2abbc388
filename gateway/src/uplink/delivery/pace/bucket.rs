//! A smooth token bucket: how soon the next message may go. Pure: `now` is an argument.
//!
//! ```text
//!  ──┬──┬──┬──┬──▶ time        each message stands for cost / rate of it
//!    now      paid to          one may go while `paid to` is no more than a burst ahead of now
//! ```
//! Over any span no more than its time at the rate goes through, and one burst or one message
//! beyond it, whichever is larger. Time that nothing used is not made up for.

use std::time::{Duration, Instant};

/// How far ahead messages go of a rate that is set: timers are no finer than a millisecond, and a
/// packet for each message would cost more than the message.
pub const BURST: Duration = Duration::from_millis(50);
/// The same of a rate that was found: little is known of how many may come at once.
pub const BURST_FOUND: Duration = Duration::from_millis(5);
/// One message stands for no more time than this.
const COST_MAX: Duration = Duration::from_secs(3600);
/// The slowest that a bucket runs, in units a second.
const PER_S_MIN: f64 = 0.001;

/// A limit on a rate, in units of whatever is counted.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    per_s: f64,
    burst: Duration,
    paid_to: Option<Instant>,
}

impl Bucket {
    /// So many units in a second, more than none, and so far ahead.
    #[must_use]
    pub fn new(per_s: f64, burst: Duration) -> Self {
        Self { per_s: per_s.max(PER_S_MIN), burst, paid_to: None }
    }

    /// From now on at this rate. What was taken stays paid for at the old one.
    pub fn set_rate(&mut self, per_s: f64) {
        self.per_s = per_s.max(PER_S_MIN);
    }

    /// When the next message may go; in the past or `None` if at once.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.paid_to?.checked_sub(self.burst)
    }

    /// A message of so many units goes now, whether or not it was its time.
    pub fn take(&mut self, units: f64, now: Instant) {
        let cost = Duration::try_from_secs_f64(units / self.per_s).unwrap_or(COST_MAX).min(COST_MAX);
        self.paid_to = Some(self.paid_to.map_or(now, |at| at.max(now)) + cost);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_open(bucket: &Bucket, now: Instant) -> bool {
        bucket.next_at().is_none_or(|at| at <= now)
    }

    #[test]
    fn a_burst_is_fifty_milliseconds_worth_or_one_message() {
        for (per_s, burst) in [(1.0, 1), (10.0, 1), (90.0, 5), (1000.0, 51), (100_000.0, 5001)] {
            let (mut bucket, now, mut sent) = (Bucket::new(per_s, BURST), crate::clock::monotonic(), 0);
            while is_open(&bucket, now) {
                bucket.take(1.0, now);
                sent += 1;
            }
            assert!((burst..=burst + 1).contains(&sent), "{sent} at {per_s}/s");
        }
    }

    #[test]
    fn a_message_that_stands_for_more_than_an_hour_is_waited_for_an_hour() {
        let (mut bucket, now) = (Bucket::new(0.0, BURST), crate::clock::monotonic());
        bucket.take(1e300, now);
        assert_eq!(bucket.next_at(), Some(now + COST_MAX - BURST));
        assert!(is_open(&bucket, now + COST_MAX));
    }

    proptest! {
        #[test]
        fn over_any_span_no_more_goes_than_its_time_and_a_burst(
            per_s in 1_u32..5_000,
            steps in prop::collection::vec((0_u64..200, 1_u32..2_000), 1..200),
        ) {
            let (mut bucket, t0) = (Bucket::new(per_s.into(), BURST), crate::clock::monotonic());
            let (mut now, mut sent) = (t0, Vec::new());
            for (ms, units) in steps {
                now += Duration::from_millis(ms);
                if is_open(&bucket, now) {
                    bucket.take(units.into(), now);
                    sent.push((now, f64::from(units)));
                }
            }
            for (first, (began, _)) in sent.iter().enumerate() {
                let (mut sum, mut largest) = (0.0, 0.0_f64);
                for (at, units) in &sent[first..] {
                    sum += units;
                    largest = largest.max(*units);
                    let worth = f64::from(per_s) * (*at - *began + BURST).as_secs_f64();
                    prop_assert!(sum <= worth + largest + 1e-3, "{sum} of {worth} and {largest}");
                }
            }
        }

        #[test]
        fn a_sender_that_always_has_something_gets_the_whole_rate(per_s in 1_u32..5_000, wake_ms in 1_u64..20) {
            let (mut bucket, t0) = (Bucket::new(per_s.into(), BURST), crate::clock::monotonic());
            let mut sent = 0_u32;
            for step in 0..10_000 / wake_ms {
                let now = t0 + Duration::from_millis(step * wake_ms);
                while is_open(&bucket, now) {
                    bucket.take(1.0, now);
                    sent += 1;
                }
            }
            prop_assert!(f64::from(sent) >= 9.9 * f64::from(per_s) - 1.0, "{sent} in 10 s at {per_s}/s");
        }
    }
}
