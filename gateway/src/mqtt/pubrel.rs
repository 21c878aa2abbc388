//! PUBREL, with which a publisher gives a packet id of QoS 2 free: read by the codec of
//! `mqtt-protocol-core`, and written to subscribers.

use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};

use super::{fault::Fault, parse::whole, version::Version};

/// The packet id of the PUBREL in `body`.
///
/// # Errors
/// [`Fault::Malformed`], [`Fault::Protocol`]
pub fn read(version: Version, body: &[u8]) -> Result<u16, Fault> {
    match version {
        Version::V311 if body.len() != 2 => Err(Fault::Malformed("PUBREL is not of two bytes")),
        Version::V311 => whole(v3_1_1::Pubrel::parse(body), body).map(|packet| packet.packet_id()),
        Version::V5 => whole(v5_0::Pubrel::parse(body), body).map(|packet| packet.packet_id()),
    }
}

/// Appends a PUBREL.
pub fn put(packet_id: u16, out: &mut Vec<u8>) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[0x62, 2, high, low]);
}
