//! The head of a PUBLISH that goes out: everything but its properties and its payload, which
//! whoever sends it puts behind.
//!
//! Limits: [`REMAINING_BYTES_MAX`]; who writes has asked [`PublishHead::packet_bytes`] before.

use super::varint;

/// Longest rest of a packet behind its fixed header, in bytes. (MQTT 5.0 section 2.1.4)
pub const REMAINING_BYTES_MAX: usize = 268_435_455;
const PUBLISH: u8 = 0x30;
const DUP: u8 = 0x08;
const RETAIN: u8 = 0x01;

/// The head of a PUBLISH.
#[derive(Debug, Clone, Copy)]
pub struct PublishHead<'a> {
    /// The topic, checked.
    pub topic: &'a [u8],
    /// Its QoS: 0, 1 or 2.
    pub qos: u8,
    /// It was sent before.
    pub dup: bool,
    /// The retain flag.
    pub retain: bool,
    /// The packet id, not 0; not used with QoS 0.
    pub packet_id: u16,
    /// How many bytes of properties follow; `None` in MQTT 3.1.1, which has none.
    pub properties_bytes: Option<usize>,
    /// How many bytes of payload follow them.
    pub payload_bytes: usize,
}

impl PublishHead<'_> {
    /// The packet's length behind its fixed header, in bytes.
    #[must_use]
    #[inline]
    pub fn remaining_bytes(&self) -> usize {
        let packet_id = if self.qos > 0 { 2 } else { 0 };
        let properties = self.properties_bytes.map_or(0, |bytes| varint::bytes(bytes) + bytes);
        2 + self.topic.len() + packet_id + properties + self.payload_bytes
    }

    /// The packet's whole length, in bytes.
    #[must_use]
    #[inline]
    pub fn packet_bytes(&self) -> usize {
        let remaining = self.remaining_bytes();
        1 + varint::bytes(remaining) + remaining
    }

    /// Appends it to `out`, the properties' length as its end.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        let flags = if self.dup { DUP } else { 0 } | if self.retain { RETAIN } else { 0 };
        out.push(PUBLISH | flags | self.qos << 1);
        varint::put(self.remaining_bytes(), out);
        out.extend_from_slice(&(self.topic.len() as u16).to_be_bytes());
        out.extend_from_slice(self.topic);
        if self.qos > 0 {
            out.extend_from_slice(&self.packet_id.to_be_bytes());
        }
        if let Some(bytes) = self.properties_bytes {
            varint::put(bytes, out);
        }
    }
}
