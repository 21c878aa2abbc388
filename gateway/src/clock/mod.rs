//! The only place of the gateway where a clock is read. Everything else is given `now`, and asks
//! the [`timeline`] how long ago something was that outlives the process or a step of the wall
//! clock.

pub mod journal;
pub mod timeline;
pub mod zone;

use std::{
    hash::{BuildHasher, RandomState},
    sync::OnceLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

pub use journal::{Journal, Moment};
use rustix::time::{ClockId, clock_gettime};
pub use timeline::{Present, Timeline};

/// Where Linux says which boot of the machine this is.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Milliseconds since 1970 by the wall clock; 0 where the clock stands before that.
///
/// A Raspberry Pi without network time starts with a wrong one: never use it to order events.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64) + ahead_ms()
}

/// Time that a test lets pass.
fn ahead_ms() -> u64 {
    fail::fail_point!("clock-ahead", |ms| ms.and_then(|ms| ms.parse().ok()).unwrap_or(0));
    0
}

/// The monotonic clock: for time limits and back-off.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// One look at the clocks, for what is given `now`.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For time limits.
    pub at: Instant,
    /// For records: milliseconds since 1970.
    pub wall_ms: u64,
    /// For what is kept beside the log: see [`steady_ms`].
    pub steady_ms: u64,
}

/// All clocks.
#[must_use]
pub fn now() -> Now {
    Now { at: monotonic(), wall_ms: wall_ms(), steady_ms: steady_ms() }
}

/// The steady clock, in milliseconds: no step of the wall clock moves it, and time asleep counts.
/// It is the time since the machine booted and [`timeline::STEADY_ORIGIN_MS`]; a number of one
/// machine boot means nothing in another, so what is kept is kept as a [`Moment`].
#[must_use]
pub fn steady_ms() -> u64 {
    (timeline::STEADY_ORIGIN_MS + boot_us() / 1000) as u64
}

/// One look at the clocks of the machine, for what has to tell a step of the wall clock from time
/// that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Which boot of the machine this is.
    pub boot_id: [u8; 16],
    /// Time since that boot, time asleep included, in milliseconds.
    pub boot_ms: i64,
    /// Wall clock, milliseconds since 1970.
    pub wall_ms: i64,
}

impl Reading {
    /// What the wall clock is ahead of the time since the boot, in milliseconds.
    #[must_use]
    pub fn ahead_ms(&self) -> i64 {
        self.wall_ms - self.boot_ms
    }
}

/// The wall clock and the time since the boot, as of one moment.
#[must_use]
pub fn reading() -> Reading {
    // Should the process be put aside between the two, it shows in the second look at the boot's
    // clock.
    let mut best = (i64::MAX, Reading { boot_id: boot_id(), boot_ms: 0, wall_ms: 0 });
    for _ in 0..3 {
        let (before, wall_ms, after) = (boot_us(), wall_ms() as i64, boot_us());
        let middle_ms = (before + (after - before) / 2) / 1000;
        if after - before < best.0 {
            best = (after - before, Reading { boot_ms: middle_ms, wall_ms, ..best.1 });
        }
    }
    best.1
}

fn boot_us() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000 + ahead_ms() as i64 * 1000
}

/// Where the system does not say, every process is taken for another boot: then nothing is believed
/// across them.
fn boot_id() -> [u8; 16] {
    static ID: OnceLock<[u8; 16]> = OnceLock::new();
    *ID.get_or_init(|| {
        let text = std::fs::read_to_string(BOOT_ID_FILE).unwrap_or_default();
        let number = u128::from_str_radix(&text.trim().replace('-', ""), 16);
        let made =
            || u128::from(RandomState::new().hash_one(0)) << 64 | u128::from(RandomState::new().hash_one(1));
        number.unwrap_or_else(|_| made()).to_be_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_of_the_machine_run_together() {
        let (first, second) = (reading(), reading());
        assert_eq!(first.boot_id, second.boot_id);
        assert!(second.boot_ms >= first.boot_ms && first.boot_ms > 0);
        let ahead_ms = |reading: Reading| reading.wall_ms - reading.boot_ms;
        assert!((ahead_ms(first) - ahead_ms(second)).abs() < 20, "{first:?} {second:?}");
    }
}
