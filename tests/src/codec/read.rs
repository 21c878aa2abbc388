//! Reading packets: see [`super`] for what is read and what is not.

use bytes::{Buf, Bytes, BytesMut};

use super::{Ack, Broken, Packet, Received, Version};

/// The packet that `bytes` begins with, if it is whole: its first byte, where its body starts,
/// where it ends.
#[must_use]
pub fn frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (mut size, mut shift, mut at) = (0_usize, 0, 1);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        size |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 || shift == 28 {
            break;
        }
    }
    (bytes.len() >= at + size).then(|| (bytes[0], at, at + size))
}

/// Takes the next packet off the front of `buffer`; `None` while it is not whole. A server passes
/// the version of the CONNECT, which itself is read with either.
///
/// # Errors
/// It is malformed; the buffer's state is lost.
pub fn take_packet(buffer: &mut BytesMut, version: Version) -> Result<Option<Packet>, Broken> {
    let Some((first, start, end)) = frame(buffer) else { return Ok(None) };
    let mut body = buffer.split_to(end).freeze();
    body.advance(start);
    read_body(first, body, version).map(Some).ok_or(Broken(first))
}

fn read_body(first: u8, mut body: Bytes, version: Version) -> Option<Packet> {
    Some(match first >> 4 {
        1 => read_connect(body)?,
        2 => {
            let head = take(&mut body, 2)?;
            let receive_maximum = match version {
                Version::V311 => u16::MAX,
                Version::V5 => read_receive_maximum(body)?,
            };
            Packet::ConnAck { session_present: head[0] & 1 == 1, reason: head[1], receive_maximum }
        }
        3 => Packet::Publish(read_publish(first, body, version)?),
        kind @ 4..=7 => {
            let packet_id = take(&mut body, 2)?.get_u16();
            let reason = body.first().copied().unwrap_or(0);
            let ack = [Ack::PubAck, Ack::PubRec, Ack::PubRel, Ack::PubComp][usize::from(kind - 4)];
            Packet::Ack { ack, packet_id, reason }
        }
        8 => {
            let packet_id = take(&mut body, 2)?.get_u16();
            skip_properties(&mut body, version)?;
            let mut filters = 0;
            while body.has_remaining() {
                take_prefixed(&mut body)?;
                take(&mut body, 1)?;
                filters += 1;
            }
            Packet::Subscribe { packet_id, filters }
        }
        9 => {
            let packet_id = take(&mut body, 2)?.get_u16();
            skip_properties(&mut body, version)?;
            Packet::SubAck { packet_id, codes: body.to_vec() }
        }
        11 => Packet::UnsubAck { packet_id: take(&mut body, 2)?.get_u16() },
        12 => Packet::PingReq,
        13 => Packet::PingResp,
        14 => Packet::Disconnect(body.first().copied().unwrap_or(0)),
        _ => return None,
    })
}

/// Walks the properties of CONNACK: MQTT 5.0 section 3.2.2.3.
fn read_receive_maximum(mut body: Bytes) -> Option<u16> {
    let size = take_length(&mut body)?;
    let mut rest = take(&mut body, size)?;
    let mut found = u16::MAX;
    while rest.has_remaining() {
        match rest.get_u8() {
            0x21 => found = take(&mut rest, 2)?.get_u16(),
            0x24 | 0x25 | 0x28 | 0x29 | 0x2A => drop(take(&mut rest, 1)?),
            0x13 | 0x22 => drop(take(&mut rest, 2)?),
            0x11 | 0x27 => drop(take(&mut rest, 4)?),
            0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => drop(take_prefixed(&mut rest)?),
            0x26 => drop((take_prefixed(&mut rest)?, take_prefixed(&mut rest)?)),
            _ => return None,
        }
    }
    Some(found)
}

fn read_connect(mut body: Bytes) -> Option<Packet> {
    take_prefixed(&mut body)?;
    let version = match take(&mut body, 1)?[0] {
        // The two highest bits of the level mark a bridge in mosquitto's bridge protocol.
        4 | 0x84 => Version::V311,
        5 => Version::V5,
        _ => return None,
    };
    let flags = take(&mut body, 1)?[0];
    take(&mut body, 2)?;
    skip_properties(&mut body, version)?;
    let client_id = take_text(&mut body)?;
    Some(Packet::Connect { version, client_id, clean: flags & 2 != 0 })
}

fn read_publish(first: u8, mut body: Bytes, version: Version) -> Option<Received> {
    let topic = take_prefixed(&mut body)?;
    std::str::from_utf8(&topic).ok()?;
    let qos = first >> 1 & 3;
    let packet_id = if qos > 0 { take(&mut body, 2)?.get_u16() } else { 0 };
    let properties = match version {
        Version::V311 => Bytes::new(),
        Version::V5 => {
            let size = take_length(&mut body)?;
            take(&mut body, size)?
        }
    };
    let (dup, retain) = (first & 8 != 0, first & 1 != 0);
    Some(Received { topic, payload: body, qos, packet_id, dup, retain, properties })
}

fn skip_properties(body: &mut Bytes, version: Version) -> Option<()> {
    if version == Version::V5 {
        let size = take_length(body)?;
        take(body, size)?;
    }
    Some(())
}

pub(super) fn take(from: &mut Bytes, size: usize) -> Option<Bytes> {
    (from.len() >= size).then(|| from.split_to(size))
}

pub(super) fn take_prefixed(from: &mut Bytes) -> Option<Bytes> {
    let size = take(from, 2)?.get_u16();
    take(from, size.into())
}

pub(super) fn take_text(from: &mut Bytes) -> Option<String> {
    String::from_utf8(take_prefixed(from)?.to_vec()).ok()
}

pub(super) fn take_length(from: &mut Bytes) -> Option<usize> {
    let mut size = 0;
    for shift in [0, 7, 14, 21] {
        let byte = take(from, 1)?[0];
        size |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(size);
        }
    }
    None
}

impl Received {
    /// The value of the first user property of that name.
    #[must_use]
    pub fn user_property(&self, name: &str) -> Option<String> {
        let found = self.user_properties()?.into_iter().find(|(n, _)| n == name)?;
        Some(found.1)
    }

    /// All user properties, in order; `None` if the properties are not well formed.
    #[must_use]
    pub fn user_properties(&self) -> Option<Vec<(String, String)>> {
        let user = |property| match property {
            Property::User(name, value) => Some((name, value)),
            _ => None,
        };
        Some(self.properties()?.into_iter().filter_map(user).collect())
    }

    /// The number that stands for its topic, if it has one (MQTT 5.0 section 3.3.2.3.4).
    #[must_use]
    pub fn topic_alias(&self) -> Option<u16> {
        self.properties()?.into_iter().find_map(|property| match property {
            Property::TopicAlias(alias) => Some(alias),
            _ => None,
        })
    }

    /// How long it may still be delivered, in seconds, if it says so (MQTT 5.0 section 3.3.2.3.3).
    #[must_use]
    pub fn expiry_s(&self) -> Option<u32> {
        self.properties()?.into_iter().find_map(|property| match property {
            Property::Expiry(seconds) => Some(seconds),
            _ => None,
        })
    }

    /// The properties of PUBLISH: MQTT 5.0 section 3.3.2.3.
    fn properties(&self) -> Option<Vec<Property>> {
        let mut rest = self.properties.clone();
        let mut found = vec![];
        while rest.has_remaining() {
            match rest.get_u8() {
                0x01 => drop(take(&mut rest, 1)?),
                0x02 => found.push(Property::Expiry(take(&mut rest, 4)?.get_u32())),
                0x23 => found.push(Property::TopicAlias(take(&mut rest, 2)?.get_u16())),
                0x0B => drop(take_length(&mut rest)?),
                0x03 | 0x08 | 0x09 => drop(take_prefixed(&mut rest)?),
                0x26 => found.push(Property::User(take_text(&mut rest)?, take_text(&mut rest)?)),
                _ => return None,
            }
        }
        Some(found)
    }
}

/// The properties of a PUBLISH that somebody asks for.
enum Property {
    User(String, String),
    TopicAlias(u16),
    Expiry(u32),
}
