//! What comes from the upstream on the connection for commands, packet by packet, and what is
//! answered. No socket.
//!
//! A PUBLISH that is longer than [`PACKET_BYTES_MAX`] cannot be a command, and would come again for
//! ever if it were not acknowledged: its topic and packet id are read, the rest is thrown away as
//! it comes.
//!
//! Limits: the bytes of one packet of [`PACKET_BYTES_MAX`] and what was read with it.

use bytes::{Buf as _, BytesMut};

use super::super::engine::{
    Notice,
    mqtt::{
        answer::{WireError, framed},
        connect::{Incoming, message, said},
        notice::Moment,
    },
};
use crate::mqtt::{Version, reason::Reason, varint};

/// Longest packet that is read whole: the longest command with its topic and properties.
pub const PACKET_BYTES_MAX: usize = 160 * 1024;
/// The packet id of the one SUBSCRIBE.
const SUBSCRIBE_ID: u16 = 1;

const PUBLISH: u8 = 3;
const SUBACK: u8 = 9;
const PINGRESP: u8 = 13;
const DISCONNECT: u8 = 14;
const QOS: u8 = 0b0110;
const FAILURE: u8 = 0x80;
/// MQTT 5: retained messages only when the subscription is new. (MQTT 5.0 section 3.8.3.1)
const RETAINED_IF_NEW: u8 = 0x10;

/// Bytes that came, and what of them is thrown away.
#[derive(Debug)]
pub struct Inbox {
    version: Version,
    bytes: BytesMut,
    /// Bytes of a long packet that are still to come.
    skipped: usize,
    /// The long packet, to be told once it is gone by.
    long: Option<Came>,
}

/// A packet from the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// A message.
    Message(Incoming),
    /// One that is longer than any command.
    Long {
        /// Its packet id; 0 with QoS 0.
        id: u16,
        /// Its length.
        bytes: usize,
    },
    /// The answer to SUBSCRIBE; the reason if it was refused.
    Subscribed(Result<(), Reason>),
    /// PINGRESP.
    Pong,
    /// DISCONNECT.
    Disconnect(Box<Notice>),
    /// Something that needs no answer.
    Other,
}

impl Inbox {
    /// Behind the CONNACK, with what came together with it.
    pub fn new(version: Version, bytes: BytesMut) -> Self {
        Self { version, bytes, skipped: 0, long: None }
    }

    /// Where bytes from the socket go.
    pub fn space(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// The next packet that is all there.
    ///
    /// # Errors
    /// [`WireError`]: nothing after this point can be read.
    pub fn next(&mut self) -> Result<Option<Came>, WireError> {
        if self.long.is_some() {
            let gone = self.skipped.min(self.bytes.len());
            self.bytes.advance(gone);
            self.skipped -= gone;
            return Ok(if self.skipped == 0 { self.long.take() } else { None });
        }
        let Some((first, head, size)) = framed(&self.bytes)? else { return Ok(None) };
        if size > PACKET_BYTES_MAX {
            return self.long(first, head, size);
        }
        if self.bytes.len() < size {
            return Ok(None);
        }
        let packet = self.bytes.split_to(size);
        let body = &packet[head..];
        Ok(Some(match first >> 4 {
            PUBLISH => Came::Message(message(&packet, self.version)?),
            SUBACK => Came::Subscribed(match body.last() {
                Some(code) if code & FAILURE == 0 => Ok(()),
                Some(code) => Err(Reason(*code)),
                None => return Err(WireError::Malformed),
            }),
            PINGRESP => Came::Pong,
            DISCONNECT => {
                let code = body.first().copied().unwrap_or_default();
                let notice = Notice::of_broker(Moment::Later, code, self.version, said(&packet));
                Came::Disconnect(Box::new(notice))
            }
            _ => Came::Other,
        }))
    }

    /// Begins to throw a long packet away, once its packet id is there.
    fn long(&mut self, first: u8, head: usize, size: usize) -> Result<Option<Came>, WireError> {
        if first >> 4 != PUBLISH {
            return Err(WireError::Malformed);
        }
        let Some([high, low]) = self.bytes.get(head..head + 2) else { return Ok(None) };
        let at = head + 2 + usize::from(u16::from_be_bytes([*high, *low]));
        let id = match first & QOS {
            0 => 0,
            _ => match self.bytes.get(at..at + 2) {
                Some([high, low]) => u16::from_be_bytes([*high, *low]),
                _ => return Ok(None),
            },
        };
        self.skipped = size;
        self.long = Some(Came::Long { id, bytes: size });
        self.next()
    }
}

/// A SUBSCRIBE with QoS 1.
pub fn subscribe(filter: &str, version: Version) -> Vec<u8> {
    let mut rest = SUBSCRIBE_ID.to_be_bytes().to_vec();
    let options = match version {
        Version::V311 => 1,
        Version::V5 => {
            rest.push(0);
            1 | RETAINED_IF_NEW
        }
    };
    rest.extend_from_slice(&(filter.len() as u16).to_be_bytes());
    rest.extend_from_slice(filter.as_bytes());
    rest.push(options);
    let mut packet = vec![0x82];
    varint::put(rest.len(), &mut packet);
    packet.extend_from_slice(&rest);
    packet
}

/// A PUBACK; its reason only where the version has one.
pub fn puback(id: u16, reason: u8, version: Version) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    match (version, reason) {
        (Version::V311, _) | (Version::V5, 0) => vec![0x40, 2, high, low],
        (Version::V5, reason) => vec![0x40, 3, high, low, reason],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::super::engine::mqtt::send::{Properties, Publish},
        *,
    };

    fn publish(topic: &str, id: u16, payload: &[u8], version: Version) -> Vec<u8> {
        let properties = (version == Version::V5).then(Properties::default);
        let mut out = vec![];
        let topic = topic.as_bytes();
        Publish { topic, id, retain: false, properties, payload }.write(&mut out);
        out
    }

    /// All that comes of `bytes`, given in pieces of `piece` bytes.
    fn read(bytes: &[u8], piece: usize, version: Version) -> Vec<Came> {
        let (mut inbox, mut found) = (Inbox::new(version, BytesMut::new()), vec![]);
        for piece in bytes.chunks(piece) {
            inbox.space().extend_from_slice(piece);
            while let Some(came) = inbox.next().unwrap() {
                found.push(came);
            }
        }
        found
    }

    #[test]
    fn packets_come_in_any_pieces_and_a_long_one_is_passed_over_with_its_id() {
        for version in [Version::V311, Version::V5] {
            let mut bytes = publish("c/a", 7, b"on", version);
            bytes.extend(publish("c/b", 8, &vec![1; PACKET_BYTES_MAX], version));
            bytes.extend([0xD0, 0]);
            bytes.extend(publish("c/c", 9, b"off", version));
            for piece in [1, 2, 3, 1000, bytes.len()] {
                let found = read(&bytes, piece, version);
                let [
                    Came::Message(first),
                    Came::Long { id: 8, bytes: long },
                    Came::Pong,
                    Came::Message(last),
                ] = &found[..]
                else {
                    panic!("{found:?}")
                };
                assert!(*long > PACKET_BYTES_MAX);
                assert_eq!((first.id, first.topic.as_str(), &first.payload[..]), (7, "c/a", &b"on"[..]));
                assert_eq!((last.id, &last.payload[..]), (9, &b"off"[..]));
            }
        }
    }

    #[test]
    fn the_properties_of_a_command_are_read() {
        let properties: &[u8] =
            b"\x02\x00\x00\x00\x3c\x03\x00\x0atext/plain\x09\x00\x01x\x26\x00\x02id\x00\x01y";
        let mut out = vec![];
        let properties = Some(Properties { others: properties, ..Properties::default() });
        Publish { topic: b"t", id: 1, retain: true, properties, payload: b"p" }.write(&mut out);
        let read = message(&out, Version::V5).unwrap();
        assert_eq!((read.correlation.as_deref(), read.named.as_deref()), (Some(&b"x"[..]), Some("y")));
        assert_eq!(
            (read.content_type.as_deref(), read.expiry_s, read.retain),
            (Some("text/plain"), Some(60), true)
        );
    }

    #[test]
    fn answers_are_as_the_standard_writes_them() {
        for (bytes, came) in [
            (&[0x90, 3, 0, 1, 1][..], Came::Subscribed(Ok(()))),
            (&[0x90, 3, 0, 1, 0x80], Came::Subscribed(Err(Reason(0x80)))),
            (&[0x90, 4, 0, 1, 0, 0x87], Came::Subscribed(Err(Reason(0x87)))),
            (
                &[0xE0, 1, 0x8B],
                Came::Disconnect(Box::new(Notice::of_broker(Moment::Later, 0x8B, Version::V5, None))),
            ),
            (&[0x40, 2, 0, 1], Came::Other),
        ] {
            assert_eq!(read(bytes, 9, Version::V5), [came], "{bytes:?}");
        }
        assert_eq!(subscribe("c/+", Version::V311), b"\x82\x08\x00\x01\x00\x03c/+\x01");
        assert_eq!(subscribe("c/+", Version::V5), b"\x82\x09\x00\x01\x00\x00\x03c/+\x11");
        assert_eq!(puback(258, 0, Version::V5), [0x40, 2, 1, 2]);
        assert_eq!(puback(258, 0x97, Version::V5), [0x40, 3, 1, 2, 0x97]);
        assert_eq!(puback(258, 0x97, Version::V311), [0x40, 2, 1, 2]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), first in 0_u8..16) {
            for version in [Version::V311, Version::V5] {
                let mut bytes = bytes.clone();
                if let Some(byte) = bytes.first_mut() { *byte = first << 4 | *byte & 0x0F }
                let mut inbox = Inbox::new(version, BytesMut::from(&bytes[..]));
                while let Ok(Some(_)) = inbox.next() {}
            }
        }
    }
}
