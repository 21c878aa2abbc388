//! Time for the tests: the one place that reads the clock, and waiting for a condition with a
//! limit.
//!
//! No test sleeps and hopes. It says what it waits for, and how long at most.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// The monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "tests measure real time; this is their one place to read it")]
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds of the Unix era, by the wall clock.
///
/// # Panics
/// The clock is set to before 1970.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "tokens end by the wall clock; this is the one place to read it"
)]
pub fn unix_s() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is set").as_secs()
}

/// Nanoseconds since the first call in this process: fits into a payload, and is the same for all
/// threads.
#[must_use]
pub fn nanos() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(now).elapsed().as_nanos() as u64
}

/// Waits until `condition` holds.
///
/// # Panics
/// It did not hold within `limit`; the message names `what`.
pub async fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// The same without a runtime.
///
/// # Panics
/// It did not hold within `limit`; the message names `what`.
pub fn wait_blocking(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        std::thread::sleep(POLL);
    }
}

/// Watches that `condition` holds all the time for `duration`: what must not happen has no moment
/// to wait for.
///
/// # Panics
/// It did not hold; the message names `what`.
pub async fn holds_for(what: &str, duration: Duration, mut condition: impl FnMut() -> bool) {
    let start = now();
    while start.elapsed() < duration {
        assert!(condition(), "no longer after {:?}: {what}", start.elapsed());
        tokio::time::sleep(POLL).await;
    }
}

/// Runs `future`, and panics naming `what` when it takes longer than `limit`.
///
/// # Panics
/// The limit has passed.
pub async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {limit:?} in vain for: {what}"),
    }
}
