//! How much per second: a bucket for each limit, and what one client is held to. Pure: `now` is given.
//!
//! ```text
//!   spent_until   now         now + burst
//!        │─────────│───────────────│         each unit taken moves `spent_until` on by 1 / rate;
//!        └ at rest ┘ nothing to wait for     beyond `now + burst` there is a debt, and a time when it is paid
//! ```
//! What was taken is never given back, and more than is left may be taken: the debt is waited for afterwards. So that no
//! debt is longer than a second at a fast rate, [`read_bytes_max`] bounds what one read holds; at the slowest allowed rates
//! it stays below a minute.
//!
//! It does not wait, and it loses nothing: who is above a limit is read from later.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::buffer::{BUSY_BYTES, IDLE_BYTES};
use crate::ingest::settings::Settings;

/// What a client may do at once, in seconds of its rate.
pub const CLIENT_BURST: Duration = Duration::from_secs(1);
/// Longest debt: a clock or a count that is beyond reason is not waited for.
const DEBT_MAX: Duration = Duration::from_secs(3600);
const NANOS_PER_S: u128 = 1_000_000_000;
/// Shortest PUBLISH, in bytes: QoS 0, a topic of one character, no payload.
const PUBLISH_BYTES_LEAST: u64 = 5;

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

/// A limit per second that one client has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `publishes_per_s_max`
    Publishes,
    /// `bytes_per_s_max`
    Bytes,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Publishes => "publishes",
            Limit::Bytes => "bytes",
        })
    }
}

/// What one client is held to.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    publishes: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Quota {
    /// From the settings; `None` if there is no limit.
    #[must_use]
    pub fn new(settings: &Settings) -> Option<Self> {
        let bucket = |rate| Bucket::new(rate, CLIENT_BURST);
        let quota = Quota {
            publishes: settings.publishes_per_s_max.map(u64::from).map(bucket),
            bytes: settings.bytes_per_s_max.map(bucket),
        };
        (quota.publishes.is_some() || quota.bytes.is_some()).then_some(quota)
    }

    /// So much came; gives until when nothing more is to be read, and for which limit.
    pub fn take(&mut self, now: Instant, publishes: u64, bytes: u64) -> Option<(Instant, Limit)> {
        let publishes = self.publishes.as_mut().and_then(|bucket| bucket.take(now, publishes));
        let bytes = self.bytes.as_mut().and_then(|bucket| bucket.take(now, bytes));
        let publishes = publishes.map(|until| (until, Limit::Publishes));
        let bytes = bytes.map(|until| (until, Limit::Bytes));
        publishes.into_iter().chain(bytes).max_by_key(|(until, _)| *until)
    }
}

/// How much one read may hold, in bytes: no more than a second's worth of the slower limit, if a buffer is that small.
#[must_use]
pub fn read_bytes_max(settings: &Settings) -> usize {
    let publishes = settings.publishes_per_s_max.map(|rate| u64::from(rate) * PUBLISH_BYTES_LEAST);
    let least = publishes.into_iter().chain(settings.bytes_per_s_max).min().unwrap_or(u64::MAX);
    usize::try_from(least).unwrap_or(BUSY_BYTES).clamp(IDLE_BYTES, BUSY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock,
        ingest::settings::{BYTES_PER_S_LEAST, PUBLISHES_PER_S_LEAST},
    };
    use proptest::prelude::*;

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

    #[test]
    fn the_slower_limit_decides_and_none_means_none() {
        let now = clock::monotonic();
        let of = |publishes, bytes| {
            let settings =
                Settings { publishes_per_s_max: publishes, bytes_per_s_max: bytes, ..Settings::default() };
            Quota::new(&settings)
        };
        assert!(of(None, None).is_none());
        let mut both = of(Some(10), Some(1024)).unwrap();
        assert_eq!(both.take(now, 10, 1024), None);
        assert_eq!(both.take(now, 1, 1024), Some((now + ms(1000), Limit::Bytes)));
        assert_eq!(both.take(now, 20, 0), Some((now + ms(2100), Limit::Publishes)));
    }

    #[test]
    fn one_read_is_made_up_for_within_a_minute() {
        for (publishes, bytes) in [
            (Some(PUBLISHES_PER_S_LEAST), None),
            (None, Some(BYTES_PER_S_LEAST)),
            (Some(10_000_000), Some(1 << 40)),
        ] {
            let settings =
                Settings { publishes_per_s_max: publishes, bytes_per_s_max: bytes, ..Settings::default() };
            let read = read_bytes_max(&settings) as u64;
            let now = clock::monotonic();
            let mut quota = Quota::new(&settings).unwrap();
            let until = quota.take(now, read / PUBLISH_BYTES_LEAST, read).map_or(now, |(until, _)| until);
            assert!(until < now + Duration::from_secs(60), "{settings:?}");
        }
        assert_eq!(read_bytes_max(&Settings::default()), BUSY_BYTES);
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
                // What has been taken before this read was allowed: a burst, and the rate since the start.
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
