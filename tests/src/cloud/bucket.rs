//! A token bucket for publishes and bytes, that holds one second's worth. Pure.

use std::time::{Duration, Instant};

use super::limits::Rate;

/// What a client has left of its rate. It outlives connections.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    publishes: f64,
    bytes: f64,
    filled_at: Option<Instant>,
}

impl Bucket {
    /// Takes a publish out; gives whether there was enough for it. It is not taken if not.
    pub fn take(&mut self, rate: Rate, bytes: usize, now: Instant) -> bool {
        self.fill(rate, now);
        // More bytes than a second allows would never go: they need a full bucket.
        let bytes = (bytes as f64).min(rate.bytes_per_s.into());
        if self.publishes < 1.0 || self.bytes < bytes {
            return false;
        }
        self.publishes -= 1.0;
        self.bytes -= bytes;
        true
    }

    /// Takes a publish out, into debt if need be; gives how long the debt lasts.
    pub fn take_in_advance(&mut self, rate: Rate, bytes: usize, now: Instant) -> Duration {
        self.fill(rate, now);
        self.publishes -= 1.0;
        self.bytes -= bytes as f64;
        let publishes_s = -self.publishes / f64::from(rate.publishes_per_s);
        let bytes_s = -self.bytes / f64::from(rate.bytes_per_s);
        Duration::from_secs_f64(publishes_s.max(bytes_s).max(0.0))
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let (publishes, bytes) = (f64::from(rate.publishes_per_s), f64::from(rate.bytes_per_s));
        let passed_s = match self.filled_at.replace(now) {
            Some(before) => now.saturating_duration_since(before).as_secs_f64(),
            None => 1.0,
        };
        self.publishes = (self.publishes + passed_s * publishes).min(publishes);
        self.bytes = (self.bytes + passed_s * bytes).min(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::limits::Excess, *};
    use crate::clock;

    const RATE: Rate = Rate { publishes_per_s: 10, bytes_per_s: 1000, excess: Excess::Discard };

    #[test]
    fn a_second_s_worth_goes_at_once_and_the_rest_at_the_rate() {
        let (mut bucket, start) = (Bucket::default(), clock::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!((0..20).filter(|_| bucket.take(RATE, 1, at(0))).count(), 10);
        assert!(!bucket.take(RATE, 1, at(90)));
        assert!(bucket.take(RATE, 1, at(110)));
        let later = (0..1000).filter(|step| bucket.take(RATE, 1, at(110 + step * 10))).count();
        assert!((99..=101).contains(&later), "{later}");
    }

    #[test]
    fn bytes_count_as_publishes_do_and_a_debt_is_paid_by_waiting() {
        let (mut bucket, start) = (Bucket::default(), clock::now());
        assert!(bucket.take(RATE, 900, start));
        assert!(!bucket.take(RATE, 200, start));
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take_in_advance(RATE, 1000, start), Duration::ZERO);
        assert_eq!(bucket.take_in_advance(RATE, 500, start).as_millis(), 500);
        assert_eq!(bucket.take_in_advance(RATE, 0, start + Duration::from_millis(500)).as_millis(), 0);
    }
}
