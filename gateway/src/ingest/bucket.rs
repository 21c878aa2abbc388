//! A rate: a bucket of what may be taken at once, and what is spent of it. Pure: `now` is given.
//!
//! ```text
//!   spent_until   now         now + burst
//!        │─────────│───────────────│         each unit taken moves `spent_until` on by 1 / rate;
//!        └ at rest ┘ nothing to wait for     beyond `now + burst` there is a debt, and a time when it is paid
//! ```
//! What was taken is never given back, and more than is left may be taken: the debt is waited for
//! afterwards.

use std::time::{Duration, Instant};

/// Longest debt: a clock or a count that is beyond reason is not waited for.
const DEBT_MAX: Duration = Duration::from_secs(3600);
const NANOS_PER_S: u128 = 1_000_000_000;

/// A rate, and how much of it is spent.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    rate_per_s: u64,
    burst: Duration,
    spent_until: Option<Instant>,
}

impl Bucket {
    /// One that is full. A rate of 0 counts as 1.
    #[must_use]
    pub fn new(rate_per_s: u64, burst: Duration) -> Self {
        Bucket { rate_per_s: rate_per_s.max(1), burst, spent_until: None }
    }

    /// Takes `units`; gives when the debt is paid, if there is one.
    pub fn take(&mut self, now: Instant, units: u64) -> Option<Instant> {
        let nanos = u128::from(units) * NANOS_PER_S / u128::from(self.rate_per_s);
        let cost = u64::try_from(nanos).map_or(DEBT_MAX, Duration::from_nanos).min(DEBT_MAX);
        let spent_until = self.spent_until.map_or(now, |until| until.max(now)) + cost;
        self.spent_until = Some(spent_until);
        (spent_until > now + self.burst).then(|| spent_until - self.burst)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    /// As long as a client's, in seconds of its rate.
    const CLIENT_BURST: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_passes_and_what_is_beyond_it_waits_as_long_as_it_takes() {
        let start = clock::monotonic();
        /// At (ms), units, then wait until (ms).
        type Take = (u64, u64, Option<u64>);
        let table: [(&str, &[Take]); 4] = [
            ("a burst of a second is free", &[(0, 100, None), (0, 1, Some(10)), (0, 1, Some(20))]),
            ("what is spent comes back", &[(0, 100, None), (500, 50, None), (500, 10, Some(600))]),
            ("no more than the burst is saved up", &[(0, 1, None), (90_000, 101, Some(90_010))]),
            ("a debt may be larger than the burst", &[(0, 1100, Some(10_000)), (10_000, 1, Some(10_010))]),
        ];
        for (what, takes) in table {
            let mut bucket = Bucket::new(100, CLIENT_BURST);
            for &(at, units, wanted) in takes {
                let until = bucket.take(start + ms(at), units);
                assert_eq!(until, wanted.map(|at| start + ms(at)), "{what}: {units} at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn who_waits_as_told_gets_the_rate_and_a_burst_and_no_more(
            rate in 1u64..100_000,
            takes in prop::collection::vec((0u64..2000, 0u64..5000), 1..50),
        ) {
            let start = clock::monotonic();
            let (mut now, mut bucket, mut taken) = (start, Bucket::new(rate, CLIENT_BURST), 0u128);
            for (pause_ms, units) in takes {
                now += ms(pause_ms);
                // What has been taken before this read was allowed: a burst, and the rate since the
                // start.
                let allowed = u128::from(rate) * ((now - start).as_nanos() + NANOS_PER_S);
                prop_assert!(taken * NANOS_PER_S <= allowed + 50 * u128::from(rate), "{taken} by then");
                taken += u128::from(units);
                if let Some(until) = bucket.take(now, units) {
                    prop_assert!(until > now);
                    now = until;
                }
            }
        }
    }
}
