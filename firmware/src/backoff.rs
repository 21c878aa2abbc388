//! How long to wait before the next attempt: exponential, with full jitter.
//!
//! Purpose: when a gateway comes back, a thousand devices must not come back in the same second.
//! The wait before attempt `n` is drawn evenly from `0..=min(cap, base * 2^n)`: the mean doubles
//! and the arrivals spread over the whole span.
//!
//! Limits: [`BASE_MS`] and [`CAP_MS`]. What it does not do: it reads no clock and draws no random
//! number; it is given one.

/// The upper end of the first wait.
pub const BASE_MS: u32 = 250;
/// The upper end of every wait.
pub const CAP_MS: u32 = 30_000;

const _: () = assert!(BASE_MS > 0 && BASE_MS <= CAP_MS);

/// Counts failed attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    failures: u8,
}

impl Backoff {
    /// The wait before the next attempt, in milliseconds; one more failure is counted.
    pub fn next_ms(&mut self, random: u32) -> u32 {
        let ceiling_ms = self.ceiling_ms();
        self.failures = self.failures.saturating_add(1);
        // A multiply and a shift instead of a remainder: no bias that matters, no division on a
        // small core.
        ((u64::from(random) * (u64::from(ceiling_ms) + 1)) >> 32) as u32
    }

    /// The other side answered: start from the shortest wait again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    fn ceiling_ms(self) -> u32 {
        let doublings = u32::from(self.failures).min(31);
        let ceiling_ms = u64::from(BASE_MS) << doublings;
        ceiling_ms.min(u64::from(CAP_MS)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap_and_stays() {
        let mut backoff = Backoff::default();
        let ceilings: [u32; 9] = core::array::from_fn(|_| backoff.next_ms(u32::MAX));
        assert_eq!(ceilings, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        for _ in 0..1000 {
            assert_eq!(backoff.next_ms(u32::MAX), CAP_MS);
        }
    }

    #[test]
    fn the_wait_is_spread_over_the_whole_span() {
        let mut backoff = Backoff::default();
        for _ in 0..7 {
            backoff.next_ms(0);
        }
        assert_eq!(backoff.next_ms(0), 0);
        assert_eq!(backoff.next_ms(u32::MAX / 2), CAP_MS / 2);
        assert_eq!(backoff.next_ms(u32::MAX), CAP_MS);
    }

    #[test]
    fn an_answer_brings_the_shortest_wait_back() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.next_ms(7);
        }
        backoff.reset();
        assert_eq!(backoff.next_ms(u32::MAX), BASE_MS);
    }
}
