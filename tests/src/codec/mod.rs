//! MQTT 3.1.1 and 5 packets, as far as the tests' own clients and upstream need them.
//!
//! Limits: packets up to 256 MiB by the format; no authentication exchange, of the MQTT 5
//! properties only those that a scenario looks at. It is strict where a test relies on it (lengths,
//! UTF-8) and no validator otherwise: what a server must refuse is written out as bytes in the
//! scenarios.
//!
//! Sections are those of the OASIS standards.

mod connect;
mod read;

use bytes::{BufMut, Bytes, BytesMut};

pub use connect::{WholeConnect, read_whole_connect};
pub use read::{frame, take_packet};

/// The protocol version as CONNECT names it (MQTT 5.0 section 3.1.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311 = 4,
    /// MQTT 5.
    V5 = 5,
}

/// CONNECT, as a client says it.
#[derive(Debug, Clone, Copy)]
pub struct Connect<'a> {
    /// Protocol version.
    pub version: Version,
    /// Client identifier; may be empty.
    pub client_id: &'a str,
    /// Clean session (3.1.1) or clean start (5).
    pub clean: bool,
    /// Keep alive, in seconds; 0 turns it off.
    pub keep_alive_s: u16,
}

/// PUBLISH, either way.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// 0, 1 or 2.
    pub qos: u8,
    /// Packet identifier; not written with QoS 0.
    pub packet_id: u16,
    /// Sent before.
    pub dup: bool,
    /// User properties; written on MQTT 5 only.
    pub user_properties: &'a [(&'a str, &'a str)],
}

/// The packets that answer or continue a PUBLISH, by their type nibble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// QoS 1.
    PubAck = 4,
    /// QoS 2, first answer.
    PubRec = 5,
    /// QoS 2, release.
    PubRel = 6,
    /// QoS 2, last answer.
    PubComp = 7,
}

/// A packet that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// From a client.
    Connect {
        /// 4 or 5.
        version: Version,
        /// As sent.
        client_id: String,
        /// Clean session or clean start.
        clean: bool,
    },
    /// From a server.
    ConnAck {
        /// The server had the session.
        session_present: bool,
        /// 0 is accepted.
        reason: u8,
        /// How many unacknowledged publishes the server takes at once; 65535 where it does not say.
        receive_maximum: u16,
    },
    /// Either way.
    Publish(Received),
    /// PUBACK, PUBREC, PUBREL, PUBCOMP.
    Ack {
        /// Which.
        ack: Ack,
        /// Of which PUBLISH.
        packet_id: u16,
        /// MQTT 5's reason code; 0 on 3.1.1.
        reason: u8,
    },
    /// From a client: the packet id and the number of filters.
    Subscribe {
        /// Packet identifier.
        packet_id: u16,
        /// Filters in it.
        filters: usize,
    },
    /// From a server.
    SubAck {
        /// Of which SUBSCRIBE.
        packet_id: u16,
        /// One code for each filter.
        codes: Vec<u8>,
    },
    /// From a server.
    UnsubAck {
        /// Of which UNSUBSCRIBE.
        packet_id: u16,
    },
    /// From a client.
    PingReq,
    /// From a server.
    PingResp,
    /// With MQTT 5's reason code.
    Disconnect(u8),
}

/// A PUBLISH that was received. Topic and payload share the receive buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Topic name.
    pub topic: Bytes,
    /// Payload.
    pub payload: Bytes,
    /// 0, 1 or 2.
    pub qos: u8,
    /// 0 with QoS 0.
    pub packet_id: u16,
    /// Sent before.
    pub dup: bool,
    /// Retained.
    pub retain: bool,
    /// The properties as on the wire; empty on 3.1.1.
    pub properties: Bytes,
}

/// The bytes are no MQTT packet that the tests know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken(
    /// The packet's first byte.
    pub u8,
);

/// Appends CONNECT. On MQTT 5 without `clean` the session is kept for an hour.
pub fn put_connect(out: &mut BytesMut, connect: &Connect<'_>) {
    put_connect_as(out, connect, None);
}

/// Appends CONNECT with a user name and a password.
pub fn put_connect_as(out: &mut BytesMut, connect: &Connect<'_>, user: Option<(&str, &str)>) {
    let mut body = BytesMut::new();
    put_text(&mut body, "MQTT");
    body.put_u8(connect.version as u8);
    let shown = if user.is_some() { 0b1100_0000 } else { 0 };
    body.put_u8(shown | u8::from(connect.clean) << 1);
    body.put_u16(connect.keep_alive_s);
    match (connect.version, connect.clean) {
        (Version::V311, _) => {}
        (Version::V5, true) => body.put_u8(0),
        // Session Expiry Interval: MQTT 5.0 section 3.1.2.11.2.
        (Version::V5, false) => body.put_slice(&[5, 0x11, 0, 0, 0x0E, 0x10]),
    }
    put_text(&mut body, connect.client_id);
    if let Some((name, password)) = user {
        put_text(&mut body, name);
        put_text(&mut body, password);
    }
    put_packet(out, 0x10, &body);
}

/// Appends CONNECT of an MQTT 5 client whose session is kept for an hour, with a will of QoS 1 that
/// waits for `delay_s` seconds.
pub fn put_connect_with_will(out: &mut BytesMut, client_id: &str, topic: &str, payload: &str, delay_s: u32) {
    let mut body = BytesMut::new();
    put_text(&mut body, "MQTT");
    // Will QoS 1, will, keep-alive of a minute, Session Expiry Interval: MQTT 5.0 section 3.1.2.
    body.put_slice(&[5, 0b0000_1100, 0, 60, 5, 0x11, 0, 0, 0x0E, 0x10]);
    put_text(&mut body, client_id);
    // Will Delay Interval: section 3.1.3.2.2.
    body.put_slice(&[5, 0x18]);
    body.put_u32(delay_s);
    put_text(&mut body, topic);
    put_text(&mut body, payload);
    put_packet(out, 0x10, &body);
}

/// Appends CONNACK that accepts; `properties` are written on MQTT 5 only, as on the wire without
/// their length.
pub fn put_connack(out: &mut BytesMut, version: Version, session_present: bool, properties: &[u8]) {
    let mut body = BytesMut::new();
    body.put_slice(&[u8::from(session_present), 0]);
    if version == Version::V5 {
        put_length(&mut body, properties.len());
        body.put_slice(properties);
    }
    put_packet(out, 0x20, &body);
}

/// Appends PUBLISH.
pub fn put_publish(out: &mut BytesMut, version: Version, publish: &Publish<'_>) {
    let mut properties = BytesMut::new();
    for (name, value) in publish.user_properties {
        properties.put_u8(0x26);
        put_text(&mut properties, name);
        put_text(&mut properties, value);
    }
    let id = if publish.qos > 0 { 2 } else { 0 };
    let mut size = 2 + publish.topic.len() + id + publish.payload.len();
    if version == Version::V5 {
        size += length_size(properties.len()) + properties.len();
    }
    out.put_u8(0x30 | u8::from(publish.dup) << 3 | publish.qos << 1);
    put_length(out, size);
    put_text(out, publish.topic);
    if publish.qos > 0 {
        out.put_u16(publish.packet_id);
    }
    if version == Version::V5 {
        put_length(out, properties.len());
        out.put_slice(&properties);
    }
    out.put_slice(publish.payload);
}

/// Appends PUBLISH that is to be retained.
pub fn put_retained(out: &mut BytesMut, version: Version, publish: &Publish<'_>) {
    let at = out.len();
    put_publish(out, version, publish);
    out[at] |= 1;
}

/// Appends PUBACK, PUBREC, PUBREL or PUBCOMP; a reason other than 0 is for MQTT 5.
pub fn put_ack(out: &mut BytesMut, ack: Ack, packet_id: u16, reason: u8) {
    // PUBREL has reserved bit 1 set: MQTT 5.0 section 3.6.1.
    let first = (ack as u8) << 4 | if ack == Ack::PubRel { 2 } else { 0 };
    if reason == 0 {
        out.put_slice(&[first, 2]);
        out.put_u16(packet_id);
    } else {
        out.put_slice(&[first, 3]);
        out.put_u16(packet_id);
        out.put_u8(reason);
    }
}

/// Appends SUBSCRIBE with one filter.
pub fn put_subscribe(out: &mut BytesMut, version: Version, packet_id: u16, filter: &str, qos: u8) {
    let mut body = BytesMut::new();
    body.put_u16(packet_id);
    if version == Version::V5 {
        body.put_u8(0);
    }
    put_text(&mut body, filter);
    body.put_u8(qos);
    put_packet(out, 0x82, &body);
}

/// Appends UNSUBSCRIBE with one filter.
pub fn put_unsubscribe(out: &mut BytesMut, version: Version, packet_id: u16, filter: &str) {
    let mut body = BytesMut::new();
    body.put_u16(packet_id);
    if version == Version::V5 {
        body.put_u8(0);
    }
    put_text(&mut body, filter);
    put_packet(out, 0xA2, &body);
}

/// Appends SUBACK that grants QoS 1 to each filter.
pub fn put_suback(out: &mut BytesMut, version: Version, packet_id: u16, filters: usize) {
    let mut body = BytesMut::new();
    body.put_u16(packet_id);
    if version == Version::V5 {
        body.put_u8(0);
    }
    body.put_bytes(1, filters);
    put_packet(out, 0x90, &body);
}

/// Appends PINGREQ.
pub fn put_pingreq(out: &mut BytesMut) {
    out.put_slice(&[0xC0, 0]);
}

/// Appends PINGRESP.
pub fn put_pingresp(out: &mut BytesMut) {
    out.put_slice(&[0xD0, 0]);
}

/// Appends DISCONNECT.
pub fn put_disconnect(out: &mut BytesMut) {
    out.put_slice(&[0xE0, 0]);
}

/// Appends a packet: its first byte, its length, its body.
pub fn put_packet(out: &mut BytesMut, first: u8, body: &[u8]) {
    out.put_u8(first);
    put_length(out, body.len());
    out.put_slice(body);
}

/// Appends a text behind its length.
pub fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}

fn put_length(out: &mut BytesMut, mut size: usize) {
    loop {
        let more = if size > 0x7F { 0x80 } else { 0 };
        out.put_u8((size & 0x7F) as u8 | more);
        size >>= 7;
        if size == 0 {
            return;
        }
    }
}

fn length_size(size: usize) -> usize {
    match size {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], version: Version) -> Result<Option<Packet>, Broken> {
        take_packet(&mut BytesMut::from(bytes), version)
    }

    #[test]
    fn packets_read_as_the_standard_s_bytes_say() {
        let v311 = Version::V311;
        assert_eq!(
            read(b"\x20\x02\x01\x05", v311),
            Ok(Some(Packet::ConnAck { session_present: true, reason: 5, receive_maximum: u16::MAX }))
        );
        assert_eq!(
            read(b"\x20\x08\x00\x00\x05\x25\x00\x21\x01\x00", Version::V5),
            Ok(Some(Packet::ConnAck { session_present: false, reason: 0, receive_maximum: 256 }))
        );
        assert_eq!(
            read(b"\x40\x03\x00\x07\x10", Version::V5),
            Ok(Some(Packet::Ack { ack: Ack::PubAck, packet_id: 7, reason: 0x10 }))
        );
        assert_eq!(
            read(b"\x90\x04\x00\x09\x01\x80", v311),
            Ok(Some(Packet::SubAck { packet_id: 9, codes: vec![1, 0x80] }))
        );
        assert_eq!(read(b"\xF0\x00", v311), Err(Broken(0xF0)));
    }

    #[test]
    fn a_publish_reads_back_with_its_user_properties() {
        for (version, size) in [(Version::V311, 8), (Version::V5, 300)] {
            let mut out = BytesMut::new();
            let payload = vec![b'x'; size];
            let user_properties: &[_] =
                if version == Version::V5 { &[("id", "7-1"), ("unit", "Cel")] } else { &[] };
            let sent = Publish {
                topic: "a/b",
                payload: &payload,
                qos: 1,
                packet_id: 258,
                dup: true,
                user_properties,
            };
            put_publish(&mut out, version, &sent);
            let Ok(Some(Packet::Publish(read))) = take_packet(&mut out, version) else { panic!() };
            assert_eq!((&read.topic[..], &read.payload[..]), (&b"a/b"[..], &payload[..]));
            assert_eq!((read.qos, read.packet_id, read.dup), (1, 258, true));
            assert_eq!(read.user_properties().unwrap().len(), user_properties.len());
            assert_eq!(read.user_property("unit").is_some(), version == Version::V5);
            assert!(out.is_empty());
        }
    }

    #[test]
    fn a_connect_reads_back_in_both_versions() {
        for (version, clean) in [(Version::V311, true), (Version::V5, false), (Version::V5, true)] {
            let mut out = BytesMut::new();
            put_connect(&mut out, &Connect { version, client_id: "c", clean, keep_alive_s: 3 });
            let expected = Packet::Connect { version, client_id: "c".into(), clean };
            assert_eq!(take_packet(&mut out, version), Ok(Some(expected.clone())));
            put_connect_as(
                &mut out,
                &Connect { version, client_id: "c", clean, keep_alive_s: 3 },
                Some(("u", "p")),
            );
            assert!(out.ends_with(b"\0\x01c\0\x01u\0\x01p"), "{out:?}");
            assert_eq!(take_packet(&mut out, version), Ok(Some(expected)));
        }
    }

    #[test]
    fn a_publish_with_an_alias_and_an_expiry_tells_both() {
        // QoS 1, no topic, id 1; Message Expiry Interval 60, Topic Alias 7.
        let bytes = b"\x32\x0E\0\0\0\x01\x08\x02\0\0\0\x3C\x23\0\x07x";
        let Ok(Some(Packet::Publish(read))) = read(bytes, Version::V5) else { panic!() };
        assert_eq!(
            (read.topic_alias(), read.expiry_s(), read.user_property("id")),
            (Some(7), Some(60), None)
        );
        assert_eq!(&read.payload[..], b"x");
    }

    #[test]
    fn a_packet_is_taken_only_when_it_is_whole() {
        let mut out = BytesMut::new();
        put_subscribe(&mut out, Version::V5, 3, "#", 1);
        for cut in 0..out.len() {
            assert_eq!(read(&out[..cut], Version::V5), Ok(None));
        }
    }
}
