//! The fixed header, and the acknowledgements, which are written by hand: they are the hot path.
//!
//! ```text
//!   byte 1          bytes 2..5                then
//!   | type | flags | remaining length, 1-4 | variable header, payload |
//! ```
//! Limits: a packet's length is known from its first five bytes at the most, so one that is too
//! long is refused before anything of it is buffered. The rare packets have files of their own.

use super::{
    fault::Fault,
    reason::{NO_MATCHING_SUBSCRIBERS, NOT_AUTHORIZED, QUOTA_EXCEEDED},
    version::{Dialect, Version},
};

/// Longest fixed header, in bytes.
pub const HEADER_BYTES_MAX: usize = 5;

/// CONNECT's packet type.
pub const CONNECT: u8 = 1;
/// PUBLISH's packet type.
pub const PUBLISH: u8 = 3;
/// PUBACK's packet type.
pub const PUBACK: u8 = 4;
/// PUBREC's packet type.
pub const PUBREC: u8 = 5;
/// PUBCOMP's packet type.
pub const PUBCOMP: u8 = 7;
/// PUBREL's packet type.
pub const PUBREL: u8 = 6;
/// SUBSCRIBE's packet type.
pub const SUBSCRIBE: u8 = 8;
/// UNSUBSCRIBE's packet type.
pub const UNSUBSCRIBE: u8 = 10;
/// PINGREQ's packet type.
pub const PINGREQ: u8 = 12;
/// DISCONNECT's packet type.
pub const DISCONNECT: u8 = 14;
/// AUTH's packet type.
pub const AUTH: u8 = 15;

/// The flag of a packet that is sent again.
const DUP: u8 = 8;

/// PINGRESP, whole.
pub const PINGRESP: [u8; 2] = [0xd0, 0];

/// A fixed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Packet type and flags.
    pub first: u8,
    /// Length of the fixed header itself, in bytes: 2 to 5.
    pub bytes: usize,
    /// Bytes that follow it.
    pub body_bytes: usize,
}

impl Header {
    /// Reads the header at the start of `input`; `None` if its end is not there yet.
    ///
    /// # Errors
    /// [`Fault::Malformed`] for a remaining length of more than four bytes `[MQTT-1.5.5-1]`,
    /// [`Fault::PacketTooLarge`] for a packet longer than `packet_bytes_max`, its header included.
    pub fn parse(input: &[u8], packet_bytes_max: usize) -> Result<Option<Header>, Fault> {
        let Some((&first, rest)) = input.split_first() else { return Ok(None) };
        let mut body_bytes = 0;
        for (i, &byte) in rest.iter().take(HEADER_BYTES_MAX - 1).enumerate() {
            body_bytes |= usize::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                let bytes = i + 2;
                if bytes + body_bytes > packet_bytes_max {
                    let bytes = bytes + body_bytes;
                    return Err(Fault::PacketTooLarge { bytes, bytes_max: packet_bytes_max });
                }
                return Ok(Some(Header { first, bytes, body_bytes }));
            }
        }
        if rest.len() >= HEADER_BYTES_MAX - 1 {
            return Err(Fault::Malformed("the remaining length has no end"));
        }
        Ok(None)
    }

    /// The packet's whole length, in bytes.
    #[must_use]
    pub fn packet_bytes(&self) -> usize {
        self.bytes + self.body_bytes
    }

    /// The packet type, 0 to 15.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// Checks the flags of a packet other than PUBLISH: PUBREL, SUBSCRIBE and UNSUBSCRIBE have 2,
    /// the others 0. On MQTT 3.1 these three may have DUP as well (MQTT 3.1 section 2.1).
    ///
    /// # Errors
    /// [`Fault::Malformed`] `[MQTT-2.2.2-2]`, `[MQTT-2.1.3-1]`
    pub fn check_flags(&self, dialect: Dialect) -> Result<(), Fault> {
        let wanted = if matches!(self.kind(), PUBREL | SUBSCRIBE | UNSUBSCRIBE) { 2 } else { 0 };
        let ignored = if dialect.is_v31 && wanted != 0 { DUP } else { 0 };
        if self.first & 0x0f & !ignored == wanted {
            Ok(())
        } else {
            Err(Fault::Malformed("reserved header flags"))
        }
    }
}

/// An acknowledgement of a PUBLISH or PUBREL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// PUBACK: QoS 1 is done.
    Puback,
    /// PUBACK for a publish that no route takes: 0x10 on MQTT 5.
    PubackUnrouted,
    /// PUBACK for a publish that the full store refuses: 0x97 on MQTT 5.
    PubackRefused,
    /// PUBACK for a publish that the client may not make: 0x87 on MQTT 5.
    PubackDenied,
    /// PUBREC: QoS 2 is stored.
    Pubrec,
    /// PUBREC once more, for a publish that was told so before.
    PubrecAgain,
    /// PUBREC for a publish that no route takes: 0x10 on MQTT 5.
    PubrecUnrouted,
    /// PUBREC for a publish that the full store refuses: 0x97 on MQTT 5. The packet id is free, no
    /// PUBREL follows.
    PubrecRefused,
    /// PUBREC for a publish that the client may not make: 0x87 on MQTT 5. The packet id is free, no
    /// PUBREL follows.
    PubrecDenied,
    /// PUBCOMP: the packet id is free again.
    Pubcomp,
}

impl Reply {
    /// The reply instead, for a publish that is refused.
    #[must_use]
    pub fn refused(self) -> Self {
        match self {
            Reply::Puback => Reply::PubackRefused,
            Reply::Pubrec => Reply::PubrecRefused,
            other => other,
        }
    }

    /// Appends the packet to `out`. A reason of 0 is left out, as both versions allow. Version
    /// 3.1.1 cannot refuse, and is told nothing then.
    pub fn write(self, version: Version, packet_id: u16, out: &mut Vec<u8>) {
        let [high, low] = packet_id.to_be_bytes();
        let (first, reason) = match self {
            Reply::Puback => (0x40, 0),
            Reply::PubackUnrouted => (0x40, NO_MATCHING_SUBSCRIBERS),
            Reply::PubackRefused => (0x40, QUOTA_EXCEEDED),
            Reply::PubackDenied => (0x40, NOT_AUTHORIZED),
            Reply::Pubrec | Reply::PubrecAgain => (0x50, 0),
            Reply::PubrecUnrouted => (0x50, NO_MATCHING_SUBSCRIBERS),
            Reply::PubrecRefused => (0x50, QUOTA_EXCEEDED),
            Reply::PubrecDenied => (0x50, NOT_AUTHORIZED),
            Reply::Pubcomp => (0x70, 0),
        };
        match version {
            Version::V311 if reason >= NOT_AUTHORIZED => {}
            Version::V5 if reason != 0 => out.extend_from_slice(&[first, 3, high, low, reason]),
            Version::V311 | Version::V5 => out.extend_from_slice(&[first, 2, high, low]),
        }
    }
}

/// An acknowledgement from a client: PUBACK, PUBREC or PUBCOMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAck {
    /// What it acknowledges.
    pub packet_id: u16,
    /// 0 and what is below 0x80 is success.
    pub reason: u8,
}

impl ClientAck {
    /// Reads the acknowledgement whose bytes after the fixed header are `body`. Of its properties
    /// only the length is checked: they are for people.
    ///
    /// # Errors
    /// [`Fault::Malformed`], [`Fault::Protocol`] for packet id 0.
    pub fn parse(version: Version, body: &[u8]) -> Result<Self, Fault> {
        let (id, rest) =
            body.split_first_chunk::<2>().ok_or(Fault::Malformed("an acknowledgement is cut short"))?;
        let reason = match (version, rest) {
            (_, []) => 0,
            (Version::V5, [reason]) => *reason,
            (Version::V5, [reason, length, properties @ ..])
                if usize::from(*length) == properties.len() || *length > 127 =>
            {
                *reason
            }
            _ => return Err(Fault::Malformed("an acknowledgement is too long")),
        };
        match u16::from_be_bytes(*id) {
            0 => Err(Fault::Protocol("packet id 0")),
            packet_id => Ok(ClientAck { packet_id, reason }),
        }
    }

    /// Whether the client did not take the message.
    #[must_use]
    pub fn is_refused(self) -> bool {
        self.reason >= 0x80
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_from_as_few_bytes_as_hold_it() {
        type Length = Result<Option<usize>, Fault>;
        let table: [(&[u8], Length); 7] = [
            (&[], Ok(None)),
            (&[0x30], Ok(None)),
            (&[0x30, 0x80], Ok(None)),
            (&[0x30, 0x05], Ok(Some(7))),
            (&[0x30, 0x80, 0x01, 9, 9], Ok(Some(131))),
            (&[0x30, 0x80, 0x80, 0x80, 0x80], Err(Fault::Malformed("the remaining length has no end"))),
            (
                &[0x30, 0xff, 0xff, 0xff, 0x7f],
                Err(Fault::PacketTooLarge { bytes: 5 + 0x0fff_ffff, bytes_max: 1000 }),
            ),
        ];
        for (input, wanted) in table {
            let got = Header::parse(input, 1000).map(|header| header.map(|h| h.packet_bytes()));
            assert_eq!(got, wanted, "{input:02x?}");
        }
    }

    #[test]
    fn the_size_limit_holds_from_the_header_alone() {
        assert!(Header::parse(&[0x30, 98], 100).is_ok());
        assert_eq!(
            Header::parse(&[0x30, 99], 100),
            Err(Fault::PacketTooLarge { bytes: 101, bytes_max: 100 })
        );
    }

    #[test]
    fn reserved_flags_are_refused() {
        let v31 = Dialect { is_v31: true, ..Dialect::default() };
        for (first, good, good_on_v31) in [
            (0x62, true, true),
            (0x60, false, false),
            (0x6a, false, true),
            (0x82, true, true),
            (0x83, false, false),
            (0x8a, false, true),
            (0xc0, true, true),
            (0xc1, false, false),
            (0xc8, false, false),
        ] {
            let header = Header { first, bytes: 2, body_bytes: 0 };
            assert_eq!(header.check_flags(Dialect::default()).is_ok(), good, "{first:02x}");
            assert_eq!(header.check_flags(v31).is_ok(), good_on_v31, "{first:02x} on MQTT 3.1");
        }
    }

    #[test]
    fn only_version_5_is_told_why_a_publish_is_not_stored() {
        use Reply::{PubackRefused, PubackUnrouted, Pubcomp, PubrecAgain, PubrecRefused};
        let table: [(Reply, Version, &[u8]); 7] = [
            (PubackUnrouted, Version::V5, &[0x40, 3, 1, 2, 0x10]),
            (PubackUnrouted, Version::V311, &[0x40, 2, 1, 2]),
            (PubackRefused, Version::V5, &[0x40, 3, 1, 2, 0x97]),
            (PubrecRefused, Version::V5, &[0x50, 3, 1, 2, 0x97]),
            (PubrecRefused, Version::V311, &[]),
            (PubrecAgain, Version::V5, &[0x50, 2, 1, 2]),
            (Pubcomp, Version::V5, &[0x70, 2, 1, 2]),
        ];
        for (reply, version, wanted) in table {
            let mut out = vec![];
            reply.write(version, 0x0102, &mut out);
            assert_eq!(out, wanted, "{reply:?} {version:?}");
        }
    }
}
