//! PUBLISH, read straight from the read buffer: the hot path, without allocation.
//!
//! ```text
//!   | topic length | topic | packet id (QoS > 0) | properties (MQTT 5) | payload |
//!   | u16          |       | u16                 | varint, bytes       | the rest|
//! ```
//! Checks the flags, the topic and the packet id. The properties are only cut out here;
//! `properties` walks them.

use super::{fault::Fault, topics, version::Version};

/// The quality of service that a publish asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// No acknowledgement.
    AtMostOnce = 0,
    /// PUBACK.
    AtLeastOnce = 1,
    /// PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce = 2,
}

/// A PUBLISH, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The topic, checked; empty where MQTT 5's topic alias stands for it.
    pub topic: &'a str,
    /// 0 for QoS 0 and never else.
    pub packet_id: u16,
    /// The quality of service.
    pub qos: Qos,
    /// The client says that it sends this again.
    pub dup: bool,
    /// The retain flag.
    pub retain: bool,
    /// The properties without their length, not looked at; empty for 3.1.1.
    pub properties: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

const CUT: Fault = Fault::Malformed("PUBLISH is cut short");

impl<'a> Publish<'a> {
    /// Reads the PUBLISH with first header byte `first` and the bytes `body` after its fixed
    /// header.
    ///
    /// # Errors
    /// [`Fault::Malformed`], [`Fault::Topic`], [`Fault::Protocol`]: the client broke section 3.3.
    #[inline]
    pub fn parse(first: u8, body: &'a [u8], version: Version) -> Result<Self, Fault> {
        let qos = match first >> 1 & 3 {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            2 => Qos::ExactlyOnce,
            _ => return Err(Fault::Malformed("QoS 3")),
        };
        let dup = first & 8 != 0;
        if dup && qos == Qos::AtMostOnce {
            return Err(Fault::Malformed("DUP with QoS 0"));
        }
        let (length, rest) = body.split_first_chunk::<2>().ok_or(CUT)?;
        let (topic, mut rest) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(CUT)?;
        let mut packet_id = 0;
        if qos != Qos::AtMostOnce {
            let (id, after) = rest.split_first_chunk::<2>().ok_or(CUT)?;
            packet_id = u16::from_be_bytes(*id);
            rest = after;
            if packet_id == 0 {
                return Err(Fault::Protocol("packet id 0"));
            }
        }
        let (properties, payload) = match version {
            Version::V311 => (&[][..], rest),
            Version::V5 => split_properties(rest)?,
        };
        // An alias may stand for the topic: whoever walks the properties knows.
        let topic = match topic {
            [] if version == Version::V5 => "",
            topic => topics::name(topic).ok_or(Fault::Topic)?,
        };
        Ok(Publish { topic, packet_id, qos, dup, retain: first & 1 != 0, properties, payload })
    }
}

/// Properties without their length, and what is behind them.
fn split_properties(input: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let mut length = 0;
    for (i, &byte) in input.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return input[i + 1..].split_at_checked(length).ok_or(CUT);
        }
    }
    Err(Fault::Malformed("the property length has no end"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn publish<'a>() -> Publish<'a> {
        Publish {
            topic: "a/b",
            packet_id: 0x0102,
            qos: Qos::AtLeastOnce,
            dup: false,
            retain: false,
            properties: &[],
            payload: b"xy",
        }
    }

    #[test]
    fn a_publish_is_read_in_both_versions() {
        let body = [0, 3, b'a', b'/', b'b', 1, 2, b'x', b'y'];
        assert_eq!(Publish::parse(0x32, &body, Version::V311), Ok(publish()));
        let body = [0, 3, b'a', b'/', b'b', 1, 2, 2, 1, 0, b'x', b'y'];
        let wanted =
            Publish { properties: &[1, 0], dup: true, retain: true, qos: Qos::ExactlyOnce, ..publish() };
        assert_eq!(Publish::parse(0x3d, &body, Version::V5), Ok(wanted));
        let wanted = Publish { packet_id: 0, qos: Qos::AtMostOnce, payload: &[], ..publish() };
        assert_eq!(Publish::parse(0x30, &body[..5], Version::V311), Ok(wanted));
    }

    #[test]
    fn a_broken_publish_is_refused_by_cause() {
        let table: [(u8, &[u8], Fault); 8] = [
            (0x36, &[0, 1, b'a', 0, 1, 0], Fault::Malformed("QoS 3")),
            (0x38, &[0, 1, b'a', 0], Fault::Malformed("DUP with QoS 0")),
            (0x32, &[0, 1, b'a', 0, 0, 0], Fault::Protocol("packet id 0")),
            (0x32, &[0, 1, b'a', 0], CUT),
            (0x30, &[0, 9, b'a', 0], CUT),
            (0x30, &[0, 1, b'#', 0], Fault::Topic),
            (0x30, &[0, 1, b'a', 5, 0], CUT),
            (0x30, &[0, 1, b'a', 0x80, 0x80, 0x80, 0x80], Fault::Malformed("the property length has no end")),
        ];
        for (first, body, wanted) in table {
            assert_eq!(Publish::parse(first, body, Version::V5), Err(wanted), "{body:02x?}");
        }
        assert_eq!(Publish::parse(0x30, &[0, 0, 0], Version::V311), Err(Fault::Topic));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(first in 0x30u8..0x40, body: Vec<u8>, five: bool) {
            let _ = Publish::parse(first, &body, if five { Version::V5 } else { Version::V311 });
        }
    }
}
