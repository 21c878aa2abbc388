//! How an uplink is doing: for `/readyz`, `status` and the metrics, and what is said of it in the
//! log.
//!
//! Counts are added once per batch of acknowledgements, never per event. A state that stays is said
//! once, and a failure that repeats at doubling intervals. Why there is no connection is an
//! [`Outage`], of which all speak in the same words. No password and no payload is ever part of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use metrics::{Counter, Gauge, Histogram};
use parking_lot::{Mutex, MutexGuard};

use super::outage::Outage;
use crate::telemetry::{
    ACK_SECONDS, DELIVERED_EVENTS, REPLAYED_EVENTS, SET_ASIDE_EVENTS, UPLINK_CONNECTED, UPLINK_CONNECTS,
};

/// One uplink's state, shared with whoever looks.
#[derive(Debug, Default)]
pub struct Health {
    connected: AtomicBool,
    connects: AtomicU64,
    delivered_events: AtomicU64,
    set_aside_events: AtomicU64,
    said: Mutex<Said>,
    commands_outage: Mutex<Option<Outage>>,
}

#[derive(Debug, Default, Clone)]
struct Said {
    since_ms: Option<u64>,
    outage: Option<Outage>,
    last_error: Option<String>,
}

/// One uplink at a glance. Counts are of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthView {
    /// Connected now, handshake and all.
    pub connected: bool,
    /// Since when `connected` is what it is, wall clock, milliseconds since 1970; `None` before the
    /// first attempt ended.
    pub since_ms: Option<u64>,
    /// Why there is no connection; `None` where there is one, before the first attempt ended, and
    /// after we ended it ourselves.
    pub outage: Option<Outage>,
    /// Why the last connection ended or the last attempt failed; stays after it went well again.
    pub last_error: Option<String>,
    /// Connections made.
    pub connects: u64,
    /// Events that the upstream acknowledged.
    pub delivered_events: u64,
    /// Events that became dead letters.
    pub set_aside_events: u64,
    /// Why no commands come from the upstream; `None` where they do, or are not asked for.
    pub commands_outage: Option<Outage>,
}

impl Health {
    /// The state now.
    #[must_use]
    pub fn view(&self) -> HealthView {
        let Said { since_ms, outage, last_error } = self.said.lock().clone();
        HealthView {
            connected: self.connected.load(Relaxed),
            since_ms,
            outage,
            last_error,
            connects: self.connects.load(Relaxed),
            delivered_events: self.delivered_events.load(Relaxed),
            set_aside_events: self.set_aside_events.load(Relaxed),
            commands_outage: self.commands_outage.lock().clone(),
        }
    }

    /// Commands come, or need not.
    pub(super) fn commands_come(&self) {
        *self.commands_outage.lock() = None;
    }

    /// No commands come, and the next try is at `next_try_ms`. Gives that in words.
    pub(super) fn commands_failed(&self, now_ms: u64, why: String, next_try_ms: u64) -> String {
        let mut outage = self.commands_outage.lock();
        let since_ms = outage.as_ref().map_or(now_ms, |outage| outage.since_ms);
        outage.insert(Outage::new(why, since_ms, next_try_ms)).at(now_ms)
    }
}

/// What an uplink counts, and where.
pub(super) struct Tally<'a> {
    health: &'a Health,
    connected: Gauge,
    connects: Counter,
    delivered_events: Counter,
    set_aside_events: Counter,
    ack_seconds: Histogram,
    dead_letter_records: AtomicU64,
}

impl<'a> Tally<'a> {
    pub(super) fn new(uplink: &str, health: &'a Health) -> Self {
        let label = || uplink.to_owned();
        let tally = Self {
            health,
            connected: metrics::gauge!(UPLINK_CONNECTED, "uplink" => label()),
            connects: metrics::counter!(UPLINK_CONNECTS, "uplink" => label()),
            delivered_events: metrics::counter!(DELIVERED_EVENTS, "uplink" => label()),
            set_aside_events: metrics::counter!(SET_ASIDE_EVENTS, "uplink" => label()),
            ack_seconds: metrics::histogram!(ACK_SECONDS, "uplink" => label()),
            dead_letter_records: AtomicU64::new(0),
        };
        tally.connected.set(0.0);
        tally
    }

    /// For a replay by this uplink: what says how live traffic does is left alone.
    pub(super) fn replay(uplink: &str, health: &'a Health) -> Self {
        let label = || uplink.to_owned();
        Self {
            health,
            connected: Gauge::noop(),
            connects: Counter::noop(),
            delivered_events: metrics::counter!(REPLAYED_EVENTS, "uplink" => label()),
            set_aside_events: metrics::counter!(SET_ASIDE_EVENTS, "uplink" => label()),
            ack_seconds: Histogram::noop(),
            dead_letter_records: AtomicU64::new(0),
        }
    }

    pub(super) fn connected(&self, now_ms: u64) {
        self.connected.set(1.0);
        self.connects.increment(1);
        self.health.connects.fetch_add(1, Relaxed);
        self.health.connected.store(true, Relaxed);
        let mut said = self.health.said.lock();
        (said.since_ms, said.outage) = (Some(now_ms), None);
    }

    /// We ended the connection, or the attempt at one.
    pub(super) fn disconnected(&self, now_ms: u64) {
        self.note_end(now_ms).outage = None;
    }

    /// The connection, or the attempt at one, failed, and the next try is at `next_try_ms`. Gives
    /// that in words.
    pub(super) fn failed(&self, now_ms: u64, why: String, next_try_ms: u64) -> String {
        let mut said = self.note_end(now_ms);
        let outage = Outage::new(why, said.since_ms.unwrap_or(now_ms), next_try_ms);
        let words = outage.at(now_ms);
        said.last_error = Some(outage.why.clone());
        said.outage = Some(outage);
        words
    }

    fn note_end(&self, now_ms: u64) -> MutexGuard<'_, Said> {
        self.connected.set(0.0);
        let was_connected = self.health.connected.swap(false, Relaxed);
        let mut said = self.health.said.lock();
        if was_connected || said.since_ms.is_none() {
            said.since_ms = Some(now_ms);
        }
        said
    }

    /// `events` were acknowledged and released, the oldest of them `seconds` after it was sent.
    pub(super) fn delivered(&self, events: u64, seconds: f64) {
        self.delivered_events.increment(events);
        self.health.delivered_events.fetch_add(events, Relaxed);
        // One value for all that came together: a value per event would cost more than the event.
        self.ack_seconds.record(seconds);
    }

    /// One more record, of `events`, became a dead letter. Gives how many that makes if that is
    /// worth a line in the log: the 1st, 2nd, 4th, 8th …
    pub(super) fn dead_letter(&self, events: u64) -> Option<u64> {
        self.set_aside_events.increment(events);
        self.health.set_aside_events.fetch_add(events, Relaxed);
        let records = self.dead_letter_records.fetch_add(1, Relaxed) + 1;
        records.is_power_of_two().then_some(records)
    }
}

/// How many attempts failed since events last went through, and what of it is worth a line in the
/// log.
#[derive(Debug)]
pub(super) struct Failures {
    count: u64,
    /// The log's last word is that there is no connection.
    said_down: bool,
}

impl Failures {
    /// Nothing failed yet, and nothing was said.
    pub(super) fn new() -> Self {
        Self { count: 0, said_down: true }
    }

    /// One more failed. Says whether to log it: the 1st, 2nd, 4th, 8th …
    pub(super) fn add(&mut self) -> bool {
        self.count += 1;
        let say = self.count.is_power_of_two();
        self.said_down |= say;
        say
    }

    /// There is a connection. Says whether to log it: where the log's last word was another.
    pub(super) fn connected(&mut self) -> bool {
        std::mem::take(&mut self.said_down)
    }

    /// Events go through: the next failure is the first one.
    pub(super) fn clear(&mut self) {
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_failure_is_said_at_doubling_intervals() {
        let mut failures = Failures::new();
        let said: Vec<u64> = (1..=100).filter(|_| failures.add()).collect();
        assert_eq!(said, [1, 2, 4, 8, 16, 32, 64], "which of a hundred attempts");
        failures.clear();
        assert!(failures.add());
    }

    #[test]
    fn a_connection_is_said_once_after_each_failure_that_was_said() {
        let mut failures = Failures::new();
        assert!(failures.connected(), "the first of all");
        let said: Vec<u64> = (1..=10)
            .filter(|_| {
                failures.add();
                failures.connected()
            })
            .collect();
        assert_eq!(said, [1, 2, 4, 8], "one that comes and goes is not said more often than its failures");
        assert_eq!((0..3).filter(|_| failures.add()).count(), 0);
        assert!(!failures.connected(), "9 to 11 were not said");
        assert_eq!((0..9).filter(|_| failures.add()).count(), 1);
        assert!(failures.connected() && !failures.connected(), "16 was, and what followed is over");
    }

    #[test]
    fn since_is_when_the_state_changed_and_the_last_error_stays() {
        let health = Health::default();
        let tally = Tally::new("cloud", &health);
        assert_eq!(tally.failed(5_000, "refused".into(), 5_340), "refused; trying again in 340 ms");
        let words = tally.failed(7_000, "still refused".into(), 9_000);
        assert_eq!(
            words,
            "still refused; no connection for 2 s, since 1970-01-01T00:00:05Z; trying again in 2 s"
        );
        let view = health.view();
        assert_eq!((view.connected, view.since_ms), (false, Some(5_000)));
        assert_eq!(view.outage, Some(Outage::new("still refused".into(), 5_000, 9_000)));
        tally.connected(7);
        tally.delivered(12, 0.1);
        assert_eq!([(); 5].map(|()| tally.dead_letter(1)), [Some(1), Some(2), None, Some(4), None]);
        let view = health.view();
        assert_eq!((view.connected, view.since_ms, view.connects), (true, Some(7), 1));
        assert_eq!((view.delivered_events, view.set_aside_events), (12, 5));
        assert_eq!((view.outage, view.last_error.as_deref()), (None, Some("still refused")));
        tally.disconnected(8);
        let view = health.view();
        assert_eq!((view.since_ms, view.outage), (Some(8), None));
        assert_eq!(view.last_error.as_deref(), Some("still refused"));
        assert_eq!(tally.failed(9, "closed".into(), 9), "closed; trying again now");
        assert_eq!(health.view().since_ms, Some(8), "since it was ended");
    }
}
