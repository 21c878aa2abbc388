//! The only place of the gateway where a clock is read. Everything else is given `now`.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 by the wall clock; 0 where the clock stands before that.
///
/// A Raspberry Pi without network time starts with a wrong one: never use it to order events.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The monotonic clock: for time limits and back-off.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// One look at both clocks, for what is given `now`.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For time limits.
    pub at: Instant,
    /// For records: milliseconds since 1970.
    pub wall_ms: u64,
}

/// Both clocks.
#[must_use]
pub fn now() -> Now {
    Now { at: monotonic(), wall_ms: wall_ms() }
}
