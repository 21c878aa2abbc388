//! What a broker says after the handshake: packets of its, read in place.
//!
//! ```text
//!  PUBACK · PINGRESP · DISCONNECT; anything else is passed over
//! ```
//! Nearly all of it is PUBACK, which allocates nothing. Limits: a packet to [`IN_BYTES_MAX`]. It
//! holds no state and reads no socket.

use crate::{mqtt::reason::Reason, uplink::engine::Notice};

/// Longest packet taken from the upstream, in bytes: it has nothing long to say.
pub const IN_BYTES_MAX: usize = 32 * 1024;

/// Bytes of a PUBACK that says nothing but its id.
pub const PLAIN_ACK_BYTES: usize = 4;

const PUBACK: u8 = 4;
const PINGRESP: u8 = 13;
const DISCONNECT_IN: u8 = 14;

/// Bytes from the upstream are not what it may send. The connection cannot be read on: close it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A packet is cut short in itself, or has a length that cannot be.
    #[error("the upstream sent a packet that is not MQTT")]
    Malformed,
    /// A packet is longer than [`IN_BYTES_MAX`].
    #[error("the upstream sent a packet of {bytes} bytes, more than {IN_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The first packet is no CONNACK. \[MQTT-3.2.0-1\]
    #[error("the upstream answered CONNECT with something else than CONNACK")]
    NoConnack,
    /// The first bytes are another protocol's.
    #[error("what answers there speaks {0}")]
    Foreign(Foreign),
    /// The upstream refused the connection.
    #[error("the upstream refused the connection: {0}")]
    Refused(Box<Notice>),
    /// The upstream takes QoS 0 only.
    #[error("the upstream takes QoS 0 only, which acknowledges nothing: use another one")]
    NoQos1,
}

/// What answers in place of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// An alert of TLS.
    #[error("TLS: write mqtts:// in url")]
    Tls,
    /// A status line of HTTP.
    #[error("HTTP: check the port, or write ws:// in url")]
    Http,
    /// The greeting of a NATS server.
    #[error("NATS: check the port, or write nats:// in url")]
    Nats,
}

impl Foreign {
    /// What these first bytes are, if they are known.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        // An alert and the major version. (RFC 8446 section 5.1)
        let known: [(&[u8], Self); 3] =
            [(&[0x15, 3], Self::Tls), (b"HTTP/", Self::Http), (b"INFO ", Self::Nats)];
        known.into_iter().find(|(begin, _)| bytes.starts_with(begin)).map(|(_, foreign)| foreign)
    }
}

/// A packet from the upstream, after the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbound {
    /// PUBACK with its reason code, 0 in MQTT 3.1.1.
    Ack {
        /// The packet id.
        id: u16,
        /// The reason code.
        reason: Reason,
    },
    /// PINGRESP.
    Pong,
    /// DISCONNECT with its reason code.
    Disconnect {
        /// The reason code.
        reason: Reason,
    },
    /// Something that needs no answer from us.
    Other,
}

/// Reads the packet at the start of `bytes`, and gives its length; `None` while it is not all
/// there.
///
/// # Errors
/// [`WireError`]: nothing after this point can be read.
pub fn inbound(bytes: &[u8]) -> Result<Option<(Inbound, usize)>, WireError> {
    let Some((kind, body, size)) = packet(bytes)? else { return Ok(None) };
    let read = match (kind >> 4, body) {
        (PUBACK, [high, low]) => Inbound::Ack { id: u16::from_be_bytes([*high, *low]), reason: Reason(0) },
        (PUBACK, [high, low, reason, ..]) => {
            Inbound::Ack { id: u16::from_be_bytes([*high, *low]), reason: Reason(*reason) }
        }
        (PUBACK, _) => return Err(WireError::Malformed),
        (PINGRESP, _) => Inbound::Pong,
        (DISCONNECT_IN, body) => Inbound::Disconnect { reason: Reason(body.first().copied().unwrap_or(0)) },
        _ => Inbound::Other,
    };
    Ok(Some((read, size)))
}

/// The ids of the PUBACKs at the start of `bytes` that say nothing but their id, which is that the
/// message was taken.
#[inline]
pub fn plain_acks(bytes: &[u8]) -> impl Iterator<Item = u16> {
    let (packets, _) = bytes.as_chunks::<PLAIN_ACK_BYTES>();
    packets.iter().map_while(|packet| match *packet {
        [0x40, 2, high, low] => Some(u16::from_be_bytes([high, low])),
        _ => None,
    })
}

/// First byte, body and whole length of a packet.
type Framed<'a> = (u8, &'a [u8], usize);

/// The packet at the start of `bytes`.
pub fn packet(bytes: &[u8]) -> Result<Option<Framed<'_>>, WireError> {
    let Some((kind, head, size)) = framed(bytes)? else { return Ok(None) };
    if size > IN_BYTES_MAX {
        return Err(WireError::TooLong { bytes: size });
    }
    Ok(bytes.get(head..size).map(|body| (kind, body, size)))
}

/// First byte, length of the fixed header and length of all of the packet at the start of `bytes`,
/// which need not be all there.
///
/// # Errors
/// [`WireError::Malformed`]: it has a length that cannot be.
pub fn framed(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, WireError> {
    let Some((&kind, rest)) = bytes.split_first() else { return Ok(None) };
    let mut length = 0;
    for (at, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let head = 1 + at + 1;
            return Ok(Some((kind, head, head + length)));
        }
    }
    if rest.len() >= 4 { Err(WireError::Malformed) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::connect::connack, *};
    use crate::mqtt::Version;

    #[test]
    fn what_the_upstream_sends_is_read() {
        type Case<'a> = (&'a [u8], Option<(Inbound, usize)>);
        let cases: &[Case<'_>] = &[
            (&[0x40, 2, 1, 2, 0x40], Some((Inbound::Ack { id: 258, reason: Reason(0) }, 4))),
            (&[0x40, 2, 1], None),
            (&[0x40], None),
            (&[0x40, 3, 0, 9, 0x97], Some((Inbound::Ack { id: 9, reason: Reason(0x97) }, 5))),
            (&[0x40, 4, 0, 9, 0x10, 0], Some((Inbound::Ack { id: 9, reason: Reason(0x10) }, 6))),
            (&[0xD0, 0], Some((Inbound::Pong, 2))),
            (&[0xE0, 0], Some((Inbound::Disconnect { reason: Reason(0) }, 2))),
            (&[0xE0, 1, 0x8B], Some((Inbound::Disconnect { reason: Reason(0x8B) }, 3))),
            (&[0x30, 3, 0, 1, b'a'], Some((Inbound::Other, 5))),
        ];
        for (bytes, expected) in cases {
            assert_eq!(inbound(bytes), Ok(*expected), "{bytes:?}");
        }
        assert_eq!(inbound(&[0x40, 1, 0]), Err(WireError::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_from_the_upstream_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for version in [Version::V311, Version::V5] {
                for kind in [bytes.first().copied().unwrap_or(0), 0x20, 0x40, 0xE0] {
                    let mut bytes = bytes.clone();
                    if let Some(first) = bytes.first_mut() { *first = kind }
                    if let Ok(Some((_, size))) = connack(&bytes, version) { prop_assert!(size <= bytes.len()) }
                    if let Ok(Some((_, size))) = inbound(&bytes) { prop_assert!(size > 0 && size <= bytes.len()) }
                }
            }
        }
    }
}
