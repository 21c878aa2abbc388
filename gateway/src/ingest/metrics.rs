//! The door's metrics, with their handles kept, and what the log is told only once.
//!
//! Counted in batches: a handle is touched once per socket read, never per event. Limits: [`TOLD_MAX`] things are
//! remembered as told; after that the log says so, once, and stays quiet about new ones. [`Repeats`] remembers as many, and counts
//! all others as one.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;

use super::{bus::Traffic, connection::rate_limit::Limit, session::Counts};
use crate::{access::audit::Action, mqtt::fault::Fault, telemetry};

/// Things remembered as told.
pub const TOLD_MAX: usize = 1000;

/// Handles of the door's metrics.
pub struct Meters {
    received_events: Counter,
    received_bytes: Counter,
    unrouted: Counter,
    malformed_frames: Counter,
    malformed_texts: Counter,
    refused_events: Counter,
    denied: [Counter; Action::ALL.len()],
    protocol_errors: Counter,
    throttled_connections: Counter,
    throttled_publishes: Counter,
    throttled_bytes: Counter,
    connects: Counter,
    connections: Gauge,
    /// The same for `$SYS/`.
    traffic: Arc<Traffic>,
}

impl Default for Meters {
    fn default() -> Self {
        Meters {
            received_events: counter!(telemetry::RECEIVED_EVENTS),
            received_bytes: counter!(telemetry::RECEIVED_BYTES),
            unrouted: counter!(telemetry::UNROUTED_MESSAGES),
            malformed_frames: counter!(telemetry::MALFORMED_FRAMES),
            malformed_texts: counter!(telemetry::MALFORMED_TEXTS),
            refused_events: counter!(telemetry::REFUSED_EVENTS, "reason" => "store-full"),
            denied: Action::ALL.map(|action| counter!(telemetry::DENIED, "action" => action.label())),
            protocol_errors: counter!(telemetry::PROTOCOL_ERRORS),
            throttled_connections: counter!(telemetry::THROTTLED, "limit" => "connections_per_second"),
            throttled_publishes: counter!(telemetry::THROTTLED, "limit" => "publishes_per_second"),
            throttled_bytes: counter!(telemetry::THROTTLED, "limit" => "bytes_per_second"),
            connects: counter!(telemetry::CONNECTS),
            connections: gauge!(telemetry::CONNECTIONS),
            traffic: Arc::default(),
        }
    }
}

impl Meters {
    /// Those that are seen below `$SYS/` as well.
    #[must_use]
    pub fn new(traffic: Arc<Traffic>) -> Self {
        Meters { traffic, ..Meters::default() }
    }

    /// What one read held.
    pub fn count(&self, counts: Counts) {
        self.traffic.count(&counts);
        let pairs = [
            (&self.received_events, counts.events),
            (&self.received_bytes, counts.bytes),
            (&self.unrouted, counts.unrouted),
            (&self.malformed_frames, counts.malformed_frames),
            (&self.malformed_texts, counts.malformed_texts),
            (&self.refused_events, counts.refused_events),
        ];
        for (counter, n) in pairs.into_iter().chain(self.denied.iter().zip(counts.denied)) {
            if n > 0 {
                counter.increment(n);
            }
        }
    }

    /// A client was accepted.
    pub fn connected(&self) {
        self.traffic.connected();
        self.connects.increment(1);
        self.connections.increment(1.0);
    }

    /// A client that was accepted is gone.
    pub fn disconnected(&self) {
        self.traffic.disconnected();
        self.connections.decrement(1.0);
    }

    /// A connection was refused.
    pub fn refused(&self, fault: Fault) {
        counter!(telemetry::REFUSED_CONNECTIONS, "reason" => fault.label()).increment(1);
    }

    /// A connection was closed at once: there are too many from its address.
    pub fn refused_address(&self) {
        counter!(telemetry::REFUSED_CONNECTIONS, "reason" => "connections_per_address").increment(1);
    }

    /// A connection waits, for others came too fast before it.
    pub fn paced(&self) {
        self.throttled_connections.increment(1);
    }

    /// A client is above a limit and not read from for a while.
    pub fn throttled(&self, limit: Limit) {
        match limit {
            Limit::Publishes => self.throttled_publishes.increment(1),
            Limit::Bytes => self.throttled_bytes.increment(1),
        }
    }

    /// The connection of a client that was accepted was closed for `fault`.
    pub fn closed(&self, fault: Fault) {
        counter!(telemetry::CLOSED_CONNECTIONS, "reason" => fault.label()).increment(1);
        if fault.breaks_rules() {
            self.protocol_errors.increment(1);
        }
    }
}

/// What the log was told.
#[derive(Debug, Default)]
pub struct Told {
    once: Mutex<HashSet<u64>>,
    repeats: Repeats,
}

impl Told {
    /// Whether `thing` is told for the first time, and so has to be.
    pub fn is_new(&self, thing: impl Hash) -> bool {
        let mut hasher = DefaultHasher::new();
        thing.hash(&mut hasher);
        let mut told = self.once.lock();
        if told.len() >= TOLD_MAX || !told.insert(hasher.finish()) {
            return false;
        }
        if told.len() == TOLD_MAX {
            tracing::warn!(
                "{TOLD_MAX} topics and clients were named: what is new from here on is only counted"
            );
        }
        true
    }

    /// `thing` happened once more. Gives how often it has by now, if that has to be told: as [`Repeats::more`].
    pub fn more(&self, thing: impl Hash) -> Option<u64> {
        self.repeats.more(thing, 1)
    }
}

/// Something that an outsider can cause any number of times: the log is told of the first, and whenever there are twice as many.
#[derive(Debug, Default)]
pub struct Doublings(AtomicU64);

impl Doublings {
    /// It happened `times` more. Gives how many there are by now, if that has to be told.
    pub fn more(&self, times: u64) -> Option<u64> {
        let before = self.0.fetch_add(times, Ordering::Relaxed);
        doubled(before, before.wrapping_add(times))
    }
}

/// `now`, if it has reached a power of two that `before` had not.
fn doubled(before: u64, now: u64) -> Option<u64> {
    (before.checked_ilog2() != now.checked_ilog2()).then_some(now)
}

/// [`Doublings`] of each of several things that outsiders name, such as a client beside a limit: [`TOLD_MAX`] of them, and all others
/// together.
#[derive(Debug, Default)]
pub struct Repeats {
    each: Mutex<HashMap<u64, u64>>,
    others: Doublings,
}

impl Repeats {
    /// `thing` happened `times` more. Gives how often it has by now, if that has to be told.
    pub fn more(&self, thing: impl Hash, times: u64) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        thing.hash(&mut hasher);
        let mut each = self.each.lock();
        let is_full = each.len() >= TOLD_MAX;
        let all = match each.entry(hasher.finish()) {
            Entry::Vacant(_) if is_full => {
                drop(each);
                return self.others.more(times);
            }
            entry => entry.or_insert(0),
        };
        let before = *all;
        *all += times;
        doubled(before, *all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_often_is_told_the_first_time_and_whenever_it_is_twice_as_often() {
        let doublings = Doublings::default();
        let told: Vec<_> = (0..1000).filter_map(|_| doublings.more(1)).collect();
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
        assert_eq!((doublings.more(0), doublings.more(20), doublings.more(4)), (None, None, Some(1024)));
    }

    #[test]
    fn what_each_client_repeats_is_told_in_doublings_and_not_without_end() {
        let repeats = Repeats::default();
        for client in ["a", "b"] {
            let told: Vec<_> = (0..100).filter_map(|_| repeats.more((client, 1), 1)).collect();
            assert_eq!(told, [1, 2, 4, 8, 16, 32, 64], "{client}");
        }
        let told = (0..100 * TOLD_MAX).filter_map(|i| repeats.more(i, 1)).count();
        assert!(told < TOLD_MAX + 64, "{told} of those that made up names");
        assert_eq!(repeats.more(("a", 1), 1), None);
    }

    #[test]
    fn a_thing_is_told_once_and_not_without_end() {
        let told = Told::default();
        assert!(told.is_new(("a", 1)));
        assert!(!told.is_new(("a", 1)));
        let new = (0..2 * TOLD_MAX).filter(|i| told.is_new(i)).count();
        assert_eq!(new, TOLD_MAX - 1);
    }
}
