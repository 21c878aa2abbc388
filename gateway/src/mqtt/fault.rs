//! Why a connection ends, and how each MQTT version is told.
//!
//! ```text
//!                    before CONNACK            after it
//!   MQTT 5           CONNACK with a reason     DISCONNECT with a reason
//!   MQTT 3.1.1       CONNACK 0x01..0x05        nothing: the connection is closed
//! ```
//! Whatever the cause: what was acknowledged is on disk, what was not is the client's to send
//! again. Where a version has no code for a cause, the connection is closed without one
//! `[MQTT-3.2.2-6]`.

use super::{limits::SMALL_PACKET_BYTES, version::Version};

/// Why a connection is closed. In every case the events it acknowledged are stored and the others
/// are not promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Bytes that are no MQTT packet. The client has to be fixed.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// A packet that the rules do not allow here. The client has to be fixed.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The first packet is no CONNECT: perhaps no MQTT at all.
    #[error("the first packet is no CONNECT")]
    NotConnect,
    /// A protocol level other than 3 (3.1), 4 (3.1.1) and 5. Set the client to MQTT 3.1.1 or 5.
    #[error("MQTT protocol level {0} is not served, only 3.1, 3.1.1 and 5 are")]
    Version(u8),
    /// An empty client id without a clean session or on MQTT 3.1, or one that is too long. Give the
    /// client a shorter id.
    #[error("the client id is empty without a clean session or on MQTT 3.1, or too long")]
    ClientId,
    /// As many clients as `connections_max` allows. Try again later.
    #[error("as many clients are connected as are allowed")]
    Busy,
    /// It was not accepted yet, and as many waited for that as may. Try again later.
    #[error("more connections came than can wait for their CONNECT, and this one had waited longest")]
    PushedOut,
    /// Enhanced authentication is not offered.
    #[error("the authentication method is not offered")]
    Authentication,
    /// The user name or the password is wrong, or the user is not the certificate's. Give the
    /// client its credentials.
    #[error("the user name or the password is wrong")]
    BadCredentials,
    /// The client may not do this: connect without credentials, or publish there. See the audit log
    /// and the access file.
    #[error("the client may not do this")]
    NotAuthorized,
    /// The client's certificate, or what it comes from, is no longer good. See the gateway's log
    /// for why.
    #[error("the client's certificate is no longer good")]
    Certificate,
    /// The client id belongs to another identity. Give the client an id of its own.
    #[error("the client id belongs to another identity")]
    ForeignClientId,
    /// A topic to publish on that is empty, too long or too deep, or that holds a wildcard or NUL.
    #[error("the topic cannot be published on: empty, too long, or with a wildcard or NUL in it")]
    Topic,
    /// A packet longer than `packet_bytes_max`: nothing of it was kept.
    #[error("a packet of {bytes} bytes, and [limits] packet_bytes = {bytes_max} (256 KiB for CONNECT)")]
    PacketTooLarge {
        /// Its length, header included.
        bytes: usize,
        /// What is allowed.
        bytes_max: usize,
    },
    /// A large packet whose end did not come in time: nothing of it was kept.
    #[error("the end of a packet of more than {SMALL_PACKET_BYTES} bytes did not come in time")]
    PacketTimeout,
    /// More publishes in flight than the Receive Maximum.
    #[error("more publishes in flight than the receive maximum")]
    ReceiveMaximum,
    /// A topic alias, and none is allowed.
    #[error("a topic alias, and the topic alias maximum is 0")]
    TopicAlias,
    /// More bytes of properties than a record can hold.
    #[error("more bytes of properties than can be stored")]
    Quota,
    /// More QoS 2 publishes that the client did not release than it may have, over all its
    /// connections. A client that releases what it is told was received does not get there.
    #[error("too many QoS 2 publishes were received and not released")]
    Unreleased,
    /// Nothing was heard for one and a half keep-alive times.
    #[error("nothing was heard for 1.5 times the keep-alive")]
    KeepAlive,
    /// No CONNECT in time.
    #[error("no CONNECT came in time")]
    ConnectTimeout,
    /// The peer does not read what is written to it.
    #[error("the peer does not read what is written to it")]
    WriteTimeout,
    /// Another connection came with the same client id.
    #[error("another connection came with the same client id")]
    TakenOver,
    /// The gateway stops. Connect again later.
    #[error("the gateway stops")]
    Stopping,
    /// For too long there was no room for what the client publishes: the store is full, or cannot
    /// write for now. See the gateway's log for which; connect again later.
    #[error("there is no room for what the client publishes")]
    NoRoom,
    /// The client acknowledges nothing of what it gets, others need the room, and its session was
    /// ended. Connect again.
    #[error("the client acknowledges nothing of what it gets, and its session was ended")]
    Unacknowledged,
    /// The store was closed under the connection, as in a stop: nothing more will be acknowledged.
    /// Connect again later. A store that is full or that fails to write is not closed.
    #[error("the store is closed")]
    StoreClosed,
}

impl Fault {
    /// The code of a CONNACK that refuses with this cause; `None` closes without one. MQTT 5
    /// section 3.2.2.2, MQTT 3.1.1 table 3.1.
    #[must_use]
    pub fn connack_code(self, version: Version) -> Option<u8> {
        let (v311, v5) = match self {
            Fault::Malformed(_) => (None, Some(0x81)),
            Fault::Protocol(_) => (None, Some(0x82)),
            Fault::Version(_) => (Some(0x01), Some(0x84)),
            Fault::ClientId => (Some(0x02), Some(0x85)),
            Fault::Busy | Fault::PushedOut => (Some(0x03), Some(0x89)),
            Fault::Authentication => (None, Some(0x8c)),
            Fault::BadCredentials => (Some(0x04), Some(0x86)),
            Fault::NotAuthorized | Fault::Certificate => (Some(0x05), Some(0x87)),
            Fault::ForeignClientId => (Some(0x02), Some(0x85)),
            Fault::Topic => (None, Some(0x90)),
            Fault::PacketTooLarge { .. } => (None, Some(0x95)),
            Fault::Quota => (None, Some(0x97)),
            Fault::Stopping | Fault::StoreClosed | Fault::TakenOver => (Some(0x03), Some(0x88)),
            Fault::NotConnect
            | Fault::ReceiveMaximum
            | Fault::TopicAlias
            | Fault::KeepAlive
            | Fault::NoRoom
            | Fault::Unreleased
            | Fault::Unacknowledged
            | Fault::ConnectTimeout
            | Fault::PacketTimeout
            | Fault::WriteTimeout => (None, None),
        };
        match version {
            Version::V311 => v311,
            Version::V5 => v5,
        }
    }

    /// The reason code of an MQTT 5 DISCONNECT with this cause (section 3.14.2.1); `None` closes
    /// without one.
    #[must_use]
    pub fn disconnect_code(self) -> Option<u8> {
        match self {
            Fault::Malformed(_) => Some(0x81),
            Fault::Protocol(_) | Fault::Authentication => Some(0x82),
            Fault::NotAuthorized | Fault::Certificate | Fault::ForeignClientId => Some(0x87),
            Fault::Busy | Fault::PushedOut => Some(0x89),
            Fault::Stopping => Some(0x8b),
            // As one that is not heard: what it is waited for does not come.
            Fault::KeepAlive | Fault::PacketTimeout => Some(0x8d),
            Fault::TakenOver => Some(0x8e),
            Fault::Topic => Some(0x90),
            Fault::ReceiveMaximum => Some(0x93),
            Fault::TopicAlias => Some(0x94),
            Fault::PacketTooLarge { .. } => Some(0x95),
            Fault::Quota | Fault::NoRoom | Fault::Unacknowledged | Fault::Unreleased | Fault::StoreClosed => {
                Some(0x97)
            }
            Fault::NotConnect
            | Fault::Version(_)
            | Fault::ClientId
            | Fault::BadCredentials
            | Fault::ConnectTimeout
            | Fault::WriteTimeout => None,
        }
    }

    /// Whether the peer broke MQTT's rules, as opposed to a limit reached, a time run out or a
    /// stop.
    #[must_use]
    pub fn breaks_rules(self) -> bool {
        matches!(
            self,
            Fault::Malformed(_)
                | Fault::Protocol(_)
                | Fault::NotConnect
                | Fault::Topic
                | Fault::PacketTooLarge { .. }
                | Fault::ReceiveMaximum
                | Fault::TopicAlias
        )
    }

    /// A short name for the label of a metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Fault::Malformed(_) => "malformed",
            Fault::Protocol(_) => "protocol",
            Fault::NotConnect => "not_connect",
            Fault::Version(_) => "version",
            Fault::ClientId => "client_id",
            Fault::Busy => "busy",
            Fault::PushedOut => "pushed_out",
            Fault::Authentication => "authentication",
            Fault::BadCredentials => "bad_credentials",
            Fault::NotAuthorized => "not_authorized",
            Fault::Certificate => "certificate",
            Fault::ForeignClientId => "foreign_client_id",
            Fault::Topic => "topic",
            Fault::PacketTooLarge { .. } => "packet_too_large",
            Fault::PacketTimeout => "packet_timeout",
            Fault::ReceiveMaximum => "receive_maximum",
            Fault::TopicAlias => "topic_alias",
            Fault::Quota => "quota",
            Fault::Unreleased => "unreleased",
            Fault::KeepAlive => "keep_alive",
            Fault::ConnectTimeout => "connect_timeout",
            Fault::WriteTimeout => "write_timeout",
            Fault::TakenOver => "taken_over",
            Fault::Stopping => "stopping",
            Fault::NoRoom => "no_room",
            Fault::Unacknowledged => "unacknowledged",
            Fault::StoreClosed => "store_closed",
        }
    }
}
