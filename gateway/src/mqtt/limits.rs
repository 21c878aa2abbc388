//! How long the parts of a packet may be, where MQTT allows more than the gateway takes.
//!
//! A record of the store has room for the same lengths: `ingest/limits.rs` holds the two together.

/// Longest topic, filter and client id, in bytes.
pub const NAME_BYTES_MAX: usize = 1024;
/// Longest properties of a PUBLISH that are forwarded, in bytes.
pub const PROPERTIES_BYTES_MAX: usize = 16 * 1024;
/// Packets up to this length, in bytes, are read without asking for room; the longest CONNECT.
pub const SMALL_PACKET_BYTES: usize = 256 * 1024;
/// Topic aliases that an MQTT 5 client may use: a device publishes on a few topics.
pub const TOPIC_ALIAS_MAX: u16 = 16;
