//! What the door is told, with every limit's default and the reason for it.
//!
//! `config` fills these in; nothing here reads a file. [`Settings::check`] names the first value that cannot be
//! served, before a port is bound.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{
    admission::Route,
    limiter,
    listener::tls::{ClientCert, TlsSettings},
};
use crate::{
    access::Access,
    mqtt::topics,
    store::record::{HEAD_BYTES, NAME_BYTES_MAX, PROPERTIES_BYTES_MAX, RECORD_BYTES_MAX},
};

/// Clients connected at a time, by default: at 10 KB each, 100 MB when all of them are busy with nothing.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Longest packet, by default, in bytes: what AWS IoT allows is half of it.
pub const PACKET_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Publishes in flight per client, by default: at a sync of 10 ms it still allows 100,000 per second.
pub const INFLIGHT_MAX: u16 = 1000;
/// QoS 2 publishes that one client has not released, over all its connections, in times of `inflight`. MQTT 5 has a Receive Maximum on each
/// connection; MQTT 3.1.1 has none, and a client without a window of its own sends thousands before it reads what was received.
pub const UNRELEASED_PER_INFLIGHT: usize = 8;
/// Connections accepted per second, by default, all listeners together: ten thousand devices are back in 20 s, and their
/// handshakes leave the rest of a small machine to those that are back already.
pub const CONNECTIONS_PER_S_MAX: u32 = 500;
/// Time for a client to send its CONNECT, by default.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time to finish a TLS handshake, by default: three round trips over a satellite, and a slow device's arithmetic.
pub const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which a client has to read some of what is written to it, by default.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest keep-alive that an MQTT 5 client is granted, by default, in seconds.
pub const KEEP_ALIVE_MAX_S: u16 = 3600;
/// Topic aliases that an MQTT 5 client may use: a device publishes on a few topics.
pub const TOPIC_ALIAS_MAX: u16 = 16;
/// Time that a stop waits for acknowledgements that are due to become durable.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest pause in reading from an MQTT 5 client whose publishes a full store refuses: a PINGREQ is answered after it.
pub const STORE_FULL_PAUSE: Duration = Duration::from_secs(1);
/// Bytes read from such a client between two pauses at most: with the pause, what a client that publishes on gets to send.
pub const STORE_FULL_READ_MAX: usize = 1024 * 1024;
/// Sessions remembered while their client is away, by default: more, and the oldest is forgotten.
pub const SESSIONS_MAX: usize = 10_000;
/// Subscriptions per client, by default: Home Assistant has a thousand, one by one. What all of them take is bounded beside that, by
/// bytes.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Messages queued for one session, by default.
pub const QUEUED_MESSAGES_MAX: usize = 1000;
/// Bytes queued for one session, by default.
pub const QUEUED_BYTES_MAX: usize = 1024 * 1024;
/// Retained messages, by default.
pub const RETAINED_MESSAGES_MAX: usize = 10_000;
/// Bytes of the retained messages, by default.
pub const RETAINED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Least `publishes_per_s_max`: what one read of a small buffer holds is made up for within a minute, before a client
/// takes the gateway for dead.
pub const PUBLISHES_PER_S_LEAST: u32 = 10;
/// Least `bytes_per_s_max`, for the same reason.
pub const BYTES_PER_S_LEAST: u64 = 1024;
/// Largest `packet_bytes_max`: such a packet still makes a record, whatever its topic and client id.
pub const PACKET_BYTES_LIMIT: usize =
    RECORD_BYTES_MAX - HEAD_BYTES - 2 * NAME_BYTES_MAX - PROPERTIES_BYTES_MAX - 2;
/// Least `packet_bytes_max`: a CONNECT with the longest client id fits.
pub const PACKET_BYTES_LEAST: usize = 2 * NAME_BYTES_MAX;

const _: () = assert!(PACKET_BYTES_MAX <= PACKET_BYTES_LIMIT && PACKET_BYTES_LEAST <= PACKET_BYTES_MAX);

/// What a listener is told whose [`ListenerSettings::is_open_to_pages`].
pub const OPEN_TO_PAGES: &str =
    "whoever shows a page to a browser on this machine can connect here by it: set anonymous = false";

/// What is spoken on a port, with or without TLS below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// MQTT.
    #[default]
    Mqtt,
    /// MQTT over WebSocket.
    WebSocket,
}

impl Protocol {
    /// Its name in TLS, by which a client may ask for it (ALPN). A WebSocket begins with HTTP, and
    /// browsers ask for that.
    #[must_use]
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Protocol::Mqtt => b"mqtt",
            Protocol::WebSocket => b"http/1.1",
        }
    }
}

/// What MQTT is spoken over, in words.
#[must_use]
pub fn transport(protocol: Protocol, has_tls: bool) -> &'static str {
    match (protocol, has_tls) {
        (Protocol::Mqtt, false) => "TCP",
        (Protocol::Mqtt, true) => "TLS",
        (Protocol::WebSocket, false) => "WebSocket",
        (Protocol::WebSocket, true) => "WebSocket and TLS",
    }
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Where to listen. Port 0 takes a free one: see [`Bound::local_addr`](super::Bound::local_addr).
    pub address: SocketAddr,
    /// Whether clients are taken that are nobody: on a loopback address only, unless certificates are required.
    pub anonymous: bool,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its certificates, if it speaks TLS.
    pub tls: Option<TlsSettings>,
}

impl ListenerSettings {
    /// A port with nothing set but where it is.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, anonymous: true, protocol: Protocol::Mqtt, tls: None }
    }

    /// Whether only clients get in that are known by something.
    #[must_use]
    pub fn knows_its_clients(&self) -> bool {
        let client_cert = self.tls.as_ref().map_or(ClientCert::None, |tls| tls.client_cert);
        !self.anonymous || client_cert == ClientCert::Required
    }

    /// Whether a page from anywhere can connect, by the browser that shows it: it gets to loopback
    /// addresses as well, and WebSocket leaves it to the server to look where a page is from.
    #[must_use]
    pub fn is_open_to_pages(&self) -> bool {
        self.protocol == Protocol::WebSocket && !self.knows_its_clients()
    }

    /// Whether passwords travel to it in the clear, and not within this machine only.
    #[must_use]
    pub fn is_overheard(&self) -> bool {
        self.tls.is_none() && !self.address.ip().to_canonical().is_loopback()
    }
}

/// What all listeners share.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Clients connected at a time; one more is refused with "server busy".
    pub connections_max: usize,
    /// Connections at a time that have no seat yet; one more pushes out the oldest. Not 0.
    pub waiting_max: usize,
    /// Connections at a time whose seat is given up and that are not closed yet.
    pub closing_max: usize,
    /// Connections accepted per second, all listeners together; above it the accept loops wait, and the kernel's queue holds
    /// those that come. Not 0.
    pub connections_per_s_max: u32,
    /// Connections from one address at a time; one more is closed at once. `None` is without a limit.
    pub connections_per_address_max: Option<usize>,
    /// Publishes per second from one client; above it, it is read from more slowly. `None` is without a limit.
    pub publishes_per_s_max: Option<u32>,
    /// Bytes per second from one client; above it, it is read from more slowly. `None` is without a limit.
    pub bytes_per_s_max: Option<u64>,
    /// What topics and filters may be.
    pub topics: topics::Limits,
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
    /// Longest keep-alive that an MQTT 5 client is granted, in seconds. Not 0. A client that wants none gets none.
    pub keep_alive_max_s: u16,
    /// What becomes of topics outside `tg/`, the first match deciding.
    pub routes: Vec<Route>,
    /// Who may come in, and what they may do. By default everybody, everything.
    pub access: Arc<Access>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            connections_max: CONNECTIONS_MAX,
            waiting_max: limiter::WAITING_MAX,
            closing_max: limiter::CLOSING_MAX,
            connections_per_s_max: CONNECTIONS_PER_S_MAX,
            // Behind one address there may be a site of devices.
            connections_per_address_max: None,
            // What a device has kept during an outage comes at once, and is welcome.
            publishes_per_s_max: None,
            bytes_per_s_max: None,
            topics: topics::Limits::default(),
            subscriptions_max: SUBSCRIPTIONS_MAX,
            sessions_max: SESSIONS_MAX,
            queued_messages_max: QUEUED_MESSAGES_MAX,
            queued_bytes_max: QUEUED_BYTES_MAX,
            retained_messages_max: RETAINED_MESSAGES_MAX,
            retained_bytes_max: RETAINED_BYTES_MAX,
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

/// A setting that cannot be served. Nothing was started: mend the configuration.
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
    use crate::ingest::admission::Payload;

    #[test]
    fn clients_are_known_by_users_or_by_certificates_that_are_required() {
        let tls = |client_cert| {
            let none = std::path::PathBuf::new;
            Some(TlsSettings {
                cert: none(),
                key: none(),
                client_ca: None,
                client_cert,
                crl: None,
                max_record_bytes: None,
            })
        };
        for (anonymous, tls, known) in [
            (true, None, false),
            (true, tls(ClientCert::None), false),
            (true, tls(ClientCert::Optional), false),
            (true, tls(ClientCert::Required), true),
            (false, None, true),
            (false, tls(ClientCert::None), true),
        ] {
            let address = "192.0.2.1:1883".parse().unwrap();
            let protocol = Protocol::WebSocket;
            let settings = ListenerSettings { address, anonymous, protocol, tls };
            assert_eq!(settings.knows_its_clients(), known, "{settings:?}");
            assert_eq!(settings.is_open_to_pages(), !known, "{settings:?}");
            assert_eq!(settings.is_overheard(), settings.tls.is_none());
        }
    }

    #[test]
    fn what_can_not_be_served_is_named() {
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
