//! Every limit of ingest: its default, or its value where nothing else can be set, and the reason
//! for it. A leaf of constants.

use std::{fmt, time::Duration};

use crate::{
    access,
    mqtt::{self, limits::NAME_BYTES_MAX},
    store::record::{self, HEAD_BYTES, RECORD_BYTES_MAX},
};

/// Clients connected at a time, by default: at 10 KB each, 100 MB when all of them are busy with
/// nothing.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Connections whose client is not accepted, at some KB each, more in a TLS handshake. Attackers
/// beyond this number push each other out and come again, which fills the kernel's queue: so there
/// is room for more than an attacker usually has connections.
pub const WAITING_MAX: usize = 2048;
/// Connections whose client is gone already, or that were pushed out, and that are not closed yet.
pub const CLOSING_MAX: usize = 512;
/// Longest packet, by default, in bytes: what AWS IoT allows is half of it.
pub const PACKET_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Publishes in flight per client, by default: at a sync of 10 ms it still allows 100,000 per
/// second.
pub const INFLIGHT_MAX: u16 = 1000;
/// QoS 2 publishes that one client has not released, over all its connections, in times of
/// `inflight`. MQTT 5 has a Receive Maximum on each connection; MQTT 3.1.1 has none, and a client
/// without a window of its own sends thousands before it reads what was received.
pub const UNRELEASED_PER_INFLIGHT: usize = 8;
/// Connections accepted per second, by default, all listeners together: ten thousand devices are
/// back in 20 s, and their handshakes leave the rest of a small machine to those that are back
/// already.
pub const CONNECTIONS_PER_S_MAX: u32 = 500;
/// Time for a client to send its CONNECT, by default.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time to finish a TLS handshake, by default: three round trips over a satellite, and a slow
/// device's arithmetic.
pub const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which a client has to read some of what is written to it, by default.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest keep-alive that an MQTT 5 client is granted, by default, in seconds.
pub const KEEP_ALIVE_MAX_S: u16 = 3600;
/// Time that a stop waits for acknowledgements that are due to become durable.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest pause in reading from an MQTT 5 client whose publishes a full store refuses: a PINGREQ
/// is answered after it.
pub const STORE_FULL_PAUSE: Duration = Duration::from_secs(1);
/// Bytes read from such a client between two pauses at most: with the pause, what a client that
/// publishes on gets to send.
pub const STORE_FULL_READ_MAX: usize = 1024 * 1024;
/// Least `publishes_per_s_max`: what one read of a small buffer holds is made up for within a
/// minute, before a client takes the gateway for dead.
pub const PUBLISHES_PER_S_LEAST: u32 = 10;
/// Least `bytes_per_s_max`, for the same reason.
pub const BYTES_PER_S_LEAST: u64 = 1024;
/// Largest `packet_bytes_max`: such a packet still makes a record, whatever its topic and client
/// id.
pub const PACKET_BYTES_LIMIT: usize =
    RECORD_BYTES_MAX - HEAD_BYTES - 2 * NAME_BYTES_MAX - mqtt::limits::PROPERTIES_BYTES_MAX - 2;
/// Least `packet_bytes_max`: a CONNECT with the longest client id fits.
pub const PACKET_BYTES_LEAST: usize = 2 * NAME_BYTES_MAX;

const _: () = assert!(PACKET_BYTES_MAX <= PACKET_BYTES_LIMIT && PACKET_BYTES_LEAST <= PACKET_BYTES_MAX);

// What MQTT brings fits into a record.
const _: () = assert!(NAME_BYTES_MAX == record::NAME_BYTES_MAX);
const _: () = assert!(mqtt::limits::PROPERTIES_BYTES_MAX == record::PROPERTIES_BYTES_MAX);
// Even when all clients are connected, those whose password is being checked leave the listener
// room to refuse others.
const _: () = assert!(access::hash::RUNNING_MAX + access::prove::WAITING_MAX < WAITING_MAX);

/// A limit per second that one client has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// `publishes_per_s_max`
    Publishes,
    /// `bytes_per_s_max`
    Bytes,
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RateLimit::Publishes => "publishes",
            RateLimit::Bytes => "bytes",
        })
    }
}
