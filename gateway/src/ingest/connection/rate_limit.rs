//! How much per second one client may send: a bucket for publishes and one for bytes. Pure: `now`
//! is given.
//!
//! More than is left may be taken, and the debt is waited for afterwards. So that no debt is longer
//! than a second at a fast rate, [`read_bytes_max`] bounds what one read holds; at the slowest
//! allowed rates it stays below a minute.
//!
//! It does not wait, and it loses nothing: a client that is above a limit is read from later.

use std::time::{Duration, Instant};

use super::buffer::{BUSY_BYTES, IDLE_BYTES};
use crate::ingest::{bucket::Bucket, limits::RateLimit, settings::Settings};

/// What a client may do at once, in seconds of its rate.
pub const CLIENT_BURST: Duration = Duration::from_secs(1);
/// Shortest PUBLISH, in bytes: QoS 0, a topic of one character, no payload.
const PUBLISH_BYTES_LEAST: u64 = 5;

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
    pub fn take(&mut self, now: Instant, publishes: u64, bytes: u64) -> Option<(Instant, RateLimit)> {
        let publishes = self.publishes.as_mut().and_then(|bucket| bucket.take(now, publishes));
        let bytes = self.bytes.as_mut().and_then(|bucket| bucket.take(now, bytes));
        let publishes = publishes.map(|until| (until, RateLimit::Publishes));
        let bytes = bytes.map(|until| (until, RateLimit::Bytes));
        publishes.into_iter().chain(bytes).max_by_key(|(until, _)| *until)
    }
}

/// How much one read may hold, in bytes: no more than a second's worth of the slower limit, if a
/// buffer is that small.
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
        ingest::limits::{BYTES_PER_S_LEAST, PUBLISHES_PER_S_LEAST},
    };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
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
        assert_eq!(both.take(now, 1, 1024), Some((now + ms(1000), RateLimit::Bytes)));
        assert_eq!(both.take(now, 20, 0), Some((now + ms(2100), RateLimit::Publishes)));
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
}
