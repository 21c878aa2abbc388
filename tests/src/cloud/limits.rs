//! What a platform allows its MQTT clients: the rows of the table, and nothing that moves.
//!
//! QoS 2 is allowed nowhere.

use std::{ops::RangeInclusive, time::Duration};

use super::sas::SharedAccess;
use crate::codec::Version;

/// No client may publish with more.
pub const QOS_MAX: u8 = 1;

/// One platform.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Its name, for the log.
    pub name: &'static str,
    /// Versions that it speaks; to others it says nothing.
    pub versions: &'static [Version],
    /// Who may come in.
    pub identity: Identity,
    /// Longest client id, in bytes.
    pub client_id_bytes_max: usize,
    /// Least time between two CONNECTs of a client id.
    pub connect_spacing: Duration,
    /// Client ids with a session that it keeps, at most.
    pub sessions_max: usize,
    /// Bounds of the keep-alive, in seconds: what is outside is taken to the nearest.
    pub keep_alive_s: RangeInclusive<u16>,
    /// CONNECT may have user properties (MQTT 5).
    pub connect_user_properties: bool,
    /// Longest topic, in bytes.
    pub topic_bytes_max: usize,
    /// Slashes in a topic, at most.
    pub topic_slashes_max: usize,
    /// With what every topic begins; all others are denied.
    pub topic_prefix: String,
    /// Longest payload, in bytes.
    pub payload_bytes_max: usize,
    /// RETAIN may be set.
    pub retain: bool,
    /// How fast a client may publish.
    pub rate: Option<Rate>,
    /// Publishes of a connection that are not acknowledged, at most.
    pub unacked_max: u16,
    /// Their payloads and topics together, in bytes, at most.
    pub unacked_bytes_max: usize,
    /// Topic aliases of a connection, at most (MQTT 5).
    pub topic_alias_max: u16,
    /// Longest packet that it says it takes, in bytes (MQTT 5); 0 says nothing.
    pub packet_bytes_max: u32,
    /// How long an acknowledgement takes.
    pub ack_after: Duration,
}

/// Who may come in. Certificates are judged by TLS.
#[derive(Debug, Clone)]
pub enum Identity {
    /// Whoever TLS lets in.
    Anyone,
    /// By this user name, without a password.
    Named(String),
    /// By user and password.
    Password {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
    /// An Azure IoT Hub's device, by a token.
    SharedAccess(SharedAccess),
}

/// How fast a client may publish, over all of its connections. One second's worth may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Publishes per second.
    pub publishes_per_s: u32,
    /// Bytes of topics and payloads per second.
    pub bytes_per_s: u32,
    /// What is done with more.
    pub excess: Excess,
}

/// What is done with publishes over the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// It is thrown away without a word, and the connection stays.
    Discard,
    /// The connection is closed.
    Close,
    /// The client is read from more slowly.
    Pause,
}
