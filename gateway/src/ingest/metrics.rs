//! The metrics of ingest, with their handles kept.
//!
//! Counted in batches: a handle is touched once per socket read, never per event.

use std::sync::Arc;

use metrics::{Counter, Gauge, counter, gauge};

use super::{limits::RateLimit, session::Counts};
use crate::{access::audit::Action, broker::Traffic, mqtt::fault::Fault, telemetry};

/// Handles of ingest's metrics.
pub struct Metrics {
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

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
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

impl Metrics {
    /// Those that are seen below `$SYS/` as well.
    #[must_use]
    pub fn new(traffic: Arc<Traffic>) -> Self {
        Metrics { traffic, ..Metrics::default() }
    }

    /// What one read held.
    pub fn count(&self, counts: Counts) {
        self.traffic.count(counts.publishes + counts.other_packets, counts.answers, counts.publishes);
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
    pub fn throttled(&self, limit: RateLimit) {
        match limit {
            RateLimit::Publishes => self.throttled_publishes.increment(1),
            RateLimit::Bytes => self.throttled_bytes.increment(1),
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
