//! What all listeners are told. The limits' defaults, and the reasons for them, are in
//! [`limits`](super::limits).
//!
//! `config` fills these in; nothing here reads a file. [`Settings::check`] names the first value
//! that cannot be served, before a port is bound.

use std::{sync::Arc, time::Duration};

use super::limits::{
    BYTES_PER_S_LEAST, CLOSING_MAX, CONNECT_TIMEOUT, CONNECTIONS_MAX, CONNECTIONS_PER_S_MAX, INFLIGHT_MAX,
    KEEP_ALIVE_MAX_S, PACKET_BYTES_LEAST, PACKET_BYTES_LIMIT, PACKET_BYTES_MAX, PUBLISHES_PER_S_LEAST,
    TLS_TIMEOUT, WAITING_MAX, WRITE_TIMEOUT,
};
use crate::{access::Access, broker, mqtt::topics, routing::Route};

/// What all listeners share.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Clients connected at a time; one more is refused with "server busy".
    pub connections_max: usize,
    /// Connections at a time whose client is not accepted yet; one more pushes out the oldest. Not
    /// 0.
    pub waiting_max: usize,
    /// Connections at a time whose client is gone and that are not closed yet.
    pub closing_max: usize,
    /// Connections accepted per second, all listeners together; above it the accept loops wait, and
    /// the kernel's queue holds those that come. Not 0.
    pub connections_per_s_max: u32,
    /// Connections from one address at a time; one more is closed at once. `None` is without a
    /// limit.
    pub connections_per_address_max: Option<usize>,
    /// Publishes per second from one client; above it, it is read from more slowly. `None` is
    /// without a limit.
    pub publishes_per_s_max: Option<u32>,
    /// Bytes per second from one client; above it, it is read from more slowly. `None` is without a
    /// limit.
    pub bytes_per_s_max: Option<u64>,
    /// What topics and filters may be.
    pub topics: topics::TopicLimits,
    /// Subscriptions per client.
    pub subscriptions_max: usize,
    /// Sessions kept while their client is away.
    pub sessions_max: usize,
    /// Messages queued for one session.
    pub queued_messages_max: usize,
    /// Bytes queued for one session.
    pub queued_bytes_max: usize,
    /// Retained messages.
    pub retained_messages_max: usize,
    /// Bytes of the retained messages.
    pub retained_bytes_max: usize,
    /// Longest packet, in bytes, its header included; announced to MQTT 5 clients.
    pub packet_bytes_max: usize,
    /// Publishes in flight per client; announced to MQTT 5 clients as Receive Maximum. Not 0.
    pub inflight_max: u16,
    /// Time for a client to send its CONNECT.
    pub connect_timeout: Duration,
    /// Time to finish a TLS handshake.
    pub tls_timeout: Duration,
    /// Time in which a client has to read some of what is written to it.
    pub write_timeout: Duration,
    /// Longest keep-alive that an MQTT 5 client is granted, in seconds. Not 0. A client that wants
    /// none gets none.
    pub keep_alive_max_s: u16,
    /// What becomes of topics outside `tg/`, the first match deciding.
    pub routes: Vec<Route>,
    /// Who may come in, and what they may do. By default everybody, everything.
    pub access: Arc<Access>,
}

impl Default for Settings {
    fn default() -> Self {
        let broker = broker::Settings::default();
        Settings {
            connections_max: CONNECTIONS_MAX,
            waiting_max: WAITING_MAX,
            closing_max: CLOSING_MAX,
            connections_per_s_max: CONNECTIONS_PER_S_MAX,
            // Behind one address there may be a site of devices.
            connections_per_address_max: None,
            // What a device has kept during an outage comes at once, and is welcome.
            publishes_per_s_max: None,
            bytes_per_s_max: None,
            topics: topics::TopicLimits::default(),
            subscriptions_max: broker.subscriptions_max,
            sessions_max: broker.sessions_max,
            queued_messages_max: broker.queued_messages_max,
            queued_bytes_max: broker.queued_bytes_max,
            retained_messages_max: broker.retained_messages_max,
            retained_bytes_max: broker.retained_bytes_max,
            packet_bytes_max: PACKET_BYTES_MAX,
            inflight_max: INFLIGHT_MAX,
            connect_timeout: CONNECT_TIMEOUT,
            tls_timeout: TLS_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            keep_alive_max_s: KEEP_ALIVE_MAX_S,
            routes: Vec::new(),
            access: Arc::new(Access::open()),
        }
    }
}

/// A setting that cannot be served. Nothing was started: correct the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSettings {
    /// A filter of a route.
    #[error("the route filter \"{filter}\": {cause}")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        cause: topics::BadFilter,
    },
    /// The packet size.
    #[error("packets of {0} bytes: allowed are {PACKET_BYTES_LEAST} to {PACKET_BYTES_LIMIT}")]
    PacketBytes(usize),
    /// A rate per client that one read would exceed for minutes.
    #[error("{0} is too little: at least {1}")]
    Rate(&'static str, u64),
    /// A limit that would let nothing through.
    #[error("{0} is 0: nothing would ever be accepted")]
    Zero(&'static str),
}

impl Settings {
    /// Those of the local subscribers.
    #[must_use]
    pub fn broker(&self) -> broker::Settings {
        broker::Settings {
            topics: self.topics,
            subscriptions_max: self.subscriptions_max,
            sessions_max: self.sessions_max,
            queued_messages_max: self.queued_messages_max,
            queued_bytes_max: self.queued_bytes_max,
            retained_messages_max: self.retained_messages_max,
            retained_bytes_max: self.retained_bytes_max,
            routes: self.routes.clone(),
        }
    }

    /// Checks that this can be served.
    ///
    /// # Errors
    /// [`BadSettings`] for the first value that cannot.
    pub fn check(&self) -> Result<(), BadSettings> {
        for route in &self.routes {
            topics::check_filter(&route.filter)
                .map_err(|cause| BadSettings::Filter { filter: route.filter.clone(), cause })?;
        }
        if !(PACKET_BYTES_LEAST..=PACKET_BYTES_LIMIT).contains(&self.packet_bytes_max) {
            return Err(BadSettings::PacketBytes(self.packet_bytes_max));
        }
        for (name, rate, least) in [
            (
                "publishes_per_s_max",
                self.publishes_per_s_max.map(u64::from),
                u64::from(PUBLISHES_PER_S_LEAST),
            ),
            ("bytes_per_s_max", self.bytes_per_s_max, BYTES_PER_S_LEAST),
        ] {
            if rate.is_some_and(|rate| rate < least) {
                return Err(BadSettings::Rate(name, least));
            }
        }
        for (name, zero) in [
            ("connections_max", self.connections_max == 0),
            ("waiting_max", self.waiting_max == 0),
            ("connections_per_s_max", self.connections_per_s_max == 0),
            ("connections_per_address_max", self.connections_per_address_max == Some(0)),
            ("topics", self.topics.bytes == 0 || self.topics.levels == 0),
            ("inflight_max", self.inflight_max == 0),
            ("connect_timeout", self.connect_timeout.is_zero()),
            ("tls_timeout", self.tls_timeout.is_zero()),
            ("write_timeout", self.write_timeout.is_zero()),
            ("keep_alive_max_s", self.keep_alive_max_s == 0),
        ] {
            if zero {
                return Err(BadSettings::Zero(name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::Payload;

    #[test]
    fn what_cannot_be_served_is_named() {
        let good = Settings::default;
        let route =
            Route { filter: "a/#/b".into(), payload: Payload::Json, urgent: false, device_level: None };
        let table = [
            (good(), Ok(())),
            (
                Settings { routes: vec![route], ..good() },
                Err("the route filter \"a/#/b\": '#' has to be the last level, and alone in it".to_owned()),
            ),
            (
                Settings { packet_bytes_max: 10, ..good() },
                Err("packets of 10 bytes: allowed are 2048 to 16758766".to_owned()),
            ),
            (
                Settings { inflight_max: 0, ..good() },
                Err("inflight_max is 0: nothing would ever be accepted".to_owned()),
            ),
            (
                Settings { publishes_per_s_max: Some(9), ..good() },
                Err("publishes_per_s_max is too little: at least 10".to_owned()),
            ),
        ];
        for (settings, wanted) in table {
            assert_eq!(settings.check().map_err(|error| error.to_string()), wanted);
        }
    }
}
