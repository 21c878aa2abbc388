//! How fast a replay may hand out events. Pure: `now` is an argument.
//!
//! A block of events is given at once, and the next one when the time that its events stand for is
//! over. So a block holds no more than [`BURSTS_PER_S`] in a second allow.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// Blocks in a second, at the least: live events wait no longer than for one of them.
const BURSTS_PER_S: u32 = 20;

/// A limit on events in a second.
#[derive(Debug)]
pub struct Pace {
    events_per_s: NonZeroU32,
    next_at: Option<Instant>,
}

impl Pace {
    /// At most `events_per_s`, on the average of a second.
    pub fn new(events_per_s: NonZeroU32) -> Self {
        Self { events_per_s, next_at: None }
    }

    /// Events that one block may hold, unless a single record holds more.
    pub fn block_events_max(&self) -> u64 {
        u64::from((self.events_per_s.get() / BURSTS_PER_S).max(1))
    }

    /// When the next block may go; `None` is at once.
    pub fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// A block of `events` goes now. Time that was not used is not made up for.
    pub fn took(&mut self, events: u64, now: Instant) {
        let nanos = events.saturating_mul(1_000_000_000) / u64::from(self.events_per_s.get());
        let from = self.next_at.map_or(now, |at| at.max(now));
        self.next_at = Some(from + Duration::from_nanos(nanos));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(events_per_s: u32) -> Pace {
        Pace::new(NonZeroU32::new(events_per_s).unwrap())
    }

    #[test]
    fn a_block_stands_for_its_time_and_unused_time_is_lost() {
        let (mut pace, t0) = (pace(200), crate::clock::monotonic());
        assert_eq!((pace.next_at(), pace.block_events_max()), (None, 10));
        let ms = |ms| t0 + Duration::from_millis(ms);
        pace.took(10, t0);
        assert_eq!(pace.next_at(), Some(ms(50)));
        pace.took(10, ms(60));
        assert_eq!(pace.next_at(), Some(ms(110)), "late is late");
        pace.took(10, ms(100));
        assert_eq!(pace.next_at(), Some(ms(160)), "a block that went early is paid for");
    }

    #[test]
    fn the_slowest_pace_gives_one_event_at_a_time() {
        assert_eq!(pace(1).block_events_max(), 1);
        assert_eq!(pace(u32::MAX).block_events_max(), u64::from(u32::MAX / 20));
    }
}
