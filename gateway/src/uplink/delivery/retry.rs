//! How long to wait before the next attempt: exponential back-off with full jitter, pure.
//!
//! The ceiling doubles with every failure, from `min` to `max`; the wait is drawn evenly from
//! nothing to the ceiling, so that gateways that lost the same upstream do not come back in the
//! same moment.
//!
//! A connection that was of little use is no sign that the upstream does its work again: one that
//! takes an event and cuts would be asked without a pause for ever. It has to be of use for as long
//! as the ceiling has become, and what it took counts as time.
//!
//! It reads no clock and sleeps nowhere. The randomness is seeded by the caller and is not for
//! secrets.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// An event that was taken counts for so much time of use: where a connection brings few, the waits
/// for the next add up to no more than that for each of them.
const USE_PER_EVENT: Duration = Duration::from_millis(100);

/// The waits between attempts.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// Starts with a ceiling of `min`.
    #[must_use]
    pub fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, failures: 0, random: seed }
    }

    /// The wait after one more failure.
    pub fn after_failure(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        // The high half of a 128-bit product: even over 0..=nanos without a division.
        let drawn = (u128::from(self.draw()) * (u128::from(nanos) + 1)) >> 64;
        Duration::from_nanos(drawn as u64)
    }

    /// The upstream does its work again: the next failure waits little.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// A connection was of use for so long, and took so many events. The next failure waits little
    /// if that is not little itself. Whether it is not.
    pub fn was_of_use(&mut self, time: Duration, events: u64) -> bool {
        let taken = USE_PER_EVENT.saturating_mul(u32::try_from(events).unwrap_or(u32::MAX));
        let is_much = time.saturating_add(taken) >= self.ceiling();
        if is_much {
            self.reset();
        }
        is_much
    }

    /// The longest that the next wait can be.
    #[must_use]
    pub fn ceiling(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.min.saturating_mul(factor).min(self.max)
    }

    /// A step of splitmix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// A seed that differs between processes and between calls, from the system's randomness.
#[must_use]
pub fn seed() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(60);

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum_and_falls_back_on_reset() {
        let mut backoff = Backoff::new(MIN, MAX, 1);
        for expected_ms in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000] {
            assert_eq!(backoff.ceiling(), Duration::from_millis(expected_ms));
            assert!(backoff.after_failure() <= Duration::from_millis(expected_ms));
        }
        for _ in 0..100 {
            backoff.after_failure();
        }
        assert_eq!(backoff.ceiling(), MAX);
        backoff.reset();
        assert_eq!(backoff.ceiling(), MIN);
    }

    #[test]
    fn a_connection_of_little_use_does_not_shorten_the_waits() {
        let min = Duration::from_millis(500);
        let mut backoff = Backoff::new(min, MAX, 1);
        for (failures, ms, events, is_much) in [
            (0, 0, 1, false),
            (0, 499, 0, false),
            (0, 500, 0, true),
            (0, 0, 5, true),
            (5, 15_900, 0, false),
            (5, 16_000, 0, true),
            (5, 6_000, 100, true),
            (20, 59_000, 9, false),
            (20, 0, u64::MAX, true),
        ] {
            backoff.reset();
            for _ in 0..failures {
                backoff.after_failure();
            }
            let before = backoff.ceiling();
            let was = backoff.was_of_use(Duration::from_millis(ms), events);
            assert_eq!(was, is_much, "{failures} {ms} {events}");
            assert_eq!(backoff.ceiling(), if is_much { min } else { before });
        }
        // A broker that takes an event on each connection and cuts.
        backoff.reset();
        let mut waited = Duration::ZERO;
        for _ in 0..200 {
            backoff.was_of_use(Duration::from_millis(5), 1);
            waited += backoff.after_failure();
        }
        assert!(waited > Duration::from_secs(3600), "{waited:?} for 200 connections");
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let mut backoff = Backoff::new(MAX, MAX, 7);
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            let wait = backoff.after_failure();
            tenths[(wait.as_millis() * 10 / (MAX.as_millis() + 1)) as usize] += 1;
        }
        assert!(tenths.iter().all(|n| (800..1200).contains(n)), "{tenths:?}");
    }

    #[test]
    fn two_lanes_do_not_wait_alike() {
        let waits = |seed| {
            let mut backoff = Backoff::new(MIN, MAX, seed);
            (0..5).map(|_| backoff.after_failure()).collect::<Vec<_>>()
        };
        assert_ne!(waits(seed()), waits(seed()));
    }
}
