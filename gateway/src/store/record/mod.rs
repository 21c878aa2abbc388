//! The record: one PUBLISH as it lies in a row. The leaf of the store: nothing below it.
//!
//! ```text
//!  0      4      5      6      7  8       10         12         16
//!  | len  | kind | flags| events| *| client| topic   | received | properties? | client | topic | payload |
//!  | u32  | u8   | u8   | u8    |u8| _len  | _len    | _ms low  | u16 + bytes |
//! ```
//! All numbers little-endian. `len` counts the bytes after itself. `received_ms` is kept as its low
//! 32 bits and completed from the row's base. `*` is the level of the topic that names the device,
//! from 1, or 0 where none does: always, before routes could say so. Properties are MQTT 5 property
//! bytes as they go on the wire, without their length; the two bytes of their length are there only
//! when the flag says so.
//!
//! Limits: client id and topic to [`NAME_BYTES_MAX`], properties to [`PROPERTIES_BYTES_MAX`], a
//! record to [`RECORD_BYTES_MAX`].

pub mod epochs;
pub mod gap;
pub(super) mod gaps;
pub(super) mod ids;
pub(super) mod pending;
pub(super) mod position;
pub(super) mod retention;
pub(super) mod row;
pub(super) mod times;

use std::num::NonZeroU8;

use tidegate_protocol::Topic;

/// Longest client id or topic, in bytes.
pub const NAME_BYTES_MAX: usize = 1024;
/// The last level of a topic that can name a device.
pub const LAST_DEVICE_LEVEL: u8 = 64;
/// Longest properties, in bytes.
pub const PROPERTIES_BYTES_MAX: usize = 16 * 1024;
/// Longest record, its length field included, in bytes.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes before the first field of variable length.
pub const HEAD_BYTES: usize = 16;

const FLAG_RETAIN: u8 = 1;
const FLAG_URGENT: u8 = 1 << 1;
const FLAG_PROPERTIES: u8 = 1 << 2;
/// Two bits, the publisher's QoS.
const QOS_SHIFT: u8 = 3;
const QOS_MASK: u8 = 3;
const FLAG_LOCAL: u8 = 1 << 5;
/// Of an opaque payload: its route says that it is text. Versions that do not know the flag read it
/// as opaque.
const FLAG_TEXT: u8 = 1 << 6;

/// The MQTT 5 property of that name (section 3.3.2.3.3).
pub const MESSAGE_EXPIRY: u8 = 0x02;
/// The MQTT 5 property of that name (section 3.3.2.3.6).
pub const CORRELATION_DATA: u8 = 0x09;
const PAYLOAD_FORMAT: u8 = 0x01;
const CONTENT_TYPE: u8 = 0x03;
const USER_PROPERTY: u8 = 0x26;

/// What a payload is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A Tidegate frame with a valid header: its identity is `(device, boot, first_seq ..)`.
    Frame = 0,
    /// A foreign device's payload, said to be JSON.
    Json = 1,
    /// A foreign device's payload, or a frame that could not be read: forwarded byte for byte.
    #[default]
    Opaque = 2,
    /// A foreign device's payload, said to be text. In a row it is an opaque one with a flag.
    Text = 3,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Frame, Self::Json, Self::Text, Self::Opaque];

    /// Its name, as people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Json => "json",
            Self::Text => "text",
            Self::Opaque => "opaque",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One PUBLISH, borrowed. The default is an empty one that holds no event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// What the payload is.
    pub kind: Kind,
    /// How many events it carries: 1, or a frame's count.
    pub events: u8,
    /// The publisher's retain flag.
    pub retain: bool,
    /// The publisher's QoS, 0 to 2.
    pub qos: u8,
    /// For local subscribers alone: no route takes it, it holds no event, and no uplink gets it.
    pub local: bool,
    /// Which level of its topic names the device, from 1, if its route says so.
    pub device_level: Option<NonZeroU8>,
    /// Never lingers.
    pub urgent: bool,
    /// When the gateway took it in, wall clock, milliseconds since 1970.
    pub received_ms: u64,
    /// The MQTT client id of the publisher.
    pub client: &'a str,
    /// The topic it was published on.
    pub topic: &'a str,
    /// MQTT 5 properties to forward, as on the wire, without their length; empty for 3.1.1. A
    /// message expiry interval, if there is one, comes first.
    pub properties: &'a [u8],
    /// The payload, as it came.
    pub payload: &'a [u8],
}

/// A record's bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record at byte {at} of the row is cut short or not a record")]
pub struct BadRecord {
    /// Where it starts, in bytes from the row's start.
    pub at: usize,
}

impl<'a> Record<'a> {
    /// Whose it is: the device of a `tg/…` topic, else the level of its topic that its route
    /// names, else the MQTT client id, also where the topic has not that level or nothing in it.
    #[must_use]
    pub fn device(&self) -> &'a str {
        match (Topic::parse(self.topic), self.device_level) {
            (Ok(topic), _) => topic.device.as_str(),
            (Err(_), None) => self.client,
            (Err(_), Some(level)) => {
                let level = self.topic.split('/').nth(usize::from(level.get()) - 1);
                level.filter(|level| !level.is_empty()).unwrap_or(self.client)
            }
        }
    }

    /// The message expiry interval in its properties, in seconds, and the other properties: an
    /// acknowledged event does not expire on its way to an upstream, only on its way to a local
    /// subscriber.
    #[must_use]
    pub fn split_expiry(&self) -> (Option<u32>, &'a [u8]) {
        match self.properties {
            [MESSAGE_EXPIRY, a, b, c, d, rest @ ..] => (Some(u32::from_be_bytes([*a, *b, *c, *d])), rest),
            properties => (None, properties),
        }
    }

    /// The correlation data in its properties: in a device's reply, the id of the command that it
    /// belongs to.
    #[must_use]
    pub fn correlation(&self) -> Option<&'a [u8]> {
        self.property(CORRELATION_DATA)?.get(2..)
    }

    /// What its publisher says that the payload is: the content type in its properties, if that
    /// says anything.
    #[must_use]
    pub fn content_type(&self) -> Option<&'a str> {
        let text = std::str::from_utf8(self.property(CONTENT_TYPE)?.get(2..)?).ok();
        text.filter(|text| !text.is_empty())
    }

    /// Whether its publisher says that the payload is UTF-8, by the payload format indicator:
    /// nobody has checked it.
    #[must_use]
    pub fn is_said_to_be_text(&self) -> bool {
        self.property(PAYLOAD_FORMAT) == Some(&[1])
    }

    /// The value of a property, other than a user property, as on the wire.
    fn property(&self, wanted: u8) -> Option<&'a [u8]> {
        let field_bytes = |bytes: &[u8]| bytes.first_chunk().map(|n| 2 + usize::from(u16::from_be_bytes(*n)));
        let mut rest = self.split_expiry().1;
        while let Some((&id, value)) = rest.split_first() {
            let bytes = match id {
                PAYLOAD_FORMAT => 1,
                USER_PROPERTY => {
                    let name_bytes = field_bytes(value)?;
                    name_bytes + field_bytes(value.get(name_bytes..)?)?
                }
                // A content type, a response topic or correlation data: no other is kept.
                _ => field_bytes(value)?,
            };
            let (found, after) = value.split_at_checked(bytes)?;
            if id == wanted {
                return Some(found);
            }
            rest = after;
        }
        None
    }

    /// Whether the record that starts `bytes` has the retain flag.
    #[must_use]
    pub fn is_retained(bytes: &[u8]) -> bool {
        bytes.get(5).is_some_and(|flags| flags & FLAG_RETAIN != 0)
    }

    /// The record's length in a row, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let properties = if self.properties.is_empty() { 0 } else { 2 + self.properties.len() };
        HEAD_BYTES + properties + self.client.len() + self.topic.len() + self.payload.len()
    }

    /// Appends the record to `out`. The caller has kept the limits above.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut flags = 0;
        if self.retain {
            flags |= FLAG_RETAIN;
        }
        if self.urgent {
            flags |= FLAG_URGENT;
        }
        if !self.properties.is_empty() {
            flags |= FLAG_PROPERTIES;
        }
        if self.local {
            flags |= FLAG_LOCAL;
        }
        let kind = if self.kind == Kind::Text {
            flags |= FLAG_TEXT;
            Kind::Opaque
        } else {
            self.kind
        };
        flags |= (self.qos & QOS_MASK) << QOS_SHIFT;
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&((self.size() - 4) as u32).to_le_bytes());
        let device_level = self.device_level.map_or(0, NonZeroU8::get);
        head[4..8].copy_from_slice(&[kind as u8, flags, self.events, device_level]);
        head[8..10].copy_from_slice(&(self.client.len() as u16).to_le_bytes());
        head[10..12].copy_from_slice(&(self.topic.len() as u16).to_le_bytes());
        head[12..16].copy_from_slice(&(self.received_ms as u32).to_le_bytes());
        out.extend_from_slice(&head);
        if !self.properties.is_empty() {
            out.extend_from_slice(&(self.properties.len() as u16).to_le_bytes());
            out.extend_from_slice(self.properties);
        }
        out.extend_from_slice(self.client.as_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(self.payload);
    }

    /// Reads the record that starts at `bytes[at]`, and gives its length. `base_ms` is a time
    /// within 24 days of the record's.
    ///
    /// # Errors
    /// The bytes are no record; nothing is consumed.
    pub fn read(bytes: &'a [u8], at: usize, base_ms: u64) -> Result<(Self, usize), BadRecord> {
        Self::parse(bytes.get(at..).unwrap_or_default(), base_ms).ok_or(BadRecord { at })
    }

    /// The events and the length of the record that starts at `bytes[at]`, without looking at the
    /// rest of it.
    #[must_use]
    pub fn peek(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
        let head: &[u8; HEAD_BYTES] = bytes.get(at..)?.first_chunk()?;
        let size = 4 + u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        (size >= HEAD_BYTES && at + size <= bytes.len()).then_some((head[6], size))
    }

    /// The events and the length of the record that starts with `head`, where a record may start
    /// so: to look for one.
    #[must_use]
    pub fn measure(head: &[u8]) -> Option<(u8, usize)> {
        let head: &[u8; HEAD_BYTES] = head.first_chunk()?;
        let size = 4 + u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let names =
            u16::from_le_bytes([head[8], head[9]]).saturating_add(u16::from_le_bytes([head[10], head[11]]));
        let is_one = head[4] <= Kind::Opaque as u8 && head[7] <= LAST_DEVICE_LEVEL;
        let sizes = HEAD_BYTES + usize::from(names)..=RECORD_BYTES_MAX;
        (is_one && sizes.contains(&size)).then_some((head[6], size))
    }

    /// Whether the record that starts `bytes` is a frame.
    #[must_use]
    pub fn is_frame(bytes: &[u8]) -> bool {
        bytes.get(4) == Some(&(Kind::Frame as u8))
    }

    /// Whether the record that starts `bytes` is urgent.
    #[must_use]
    pub fn is_urgent(bytes: &[u8]) -> bool {
        bytes.get(5).is_some_and(|flags| flags & FLAG_URGENT != 0)
    }

    fn parse(bytes: &'a [u8], base_ms: u64) -> Option<(Self, usize)> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        let size = 4 + u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let mut rest = bytes.get(HEAD_BYTES..size)?;
        let mut take = |n: usize| {
            let (taken, left) = rest.split_at_checked(n)?;
            rest = left;
            Some(taken)
        };
        let kind = match head[4] {
            0 => Kind::Frame,
            1 => Kind::Json,
            2 if head[5] & FLAG_TEXT != 0 => Kind::Text,
            2 => Kind::Opaque,
            _ => return None,
        };
        let properties = if head[5] & FLAG_PROPERTIES == 0 {
            &[]
        } else {
            let n: [u8; 2] = take(2)?.try_into().ok()?;
            take(u16::from_le_bytes(n).into())?
        };
        let client = std::str::from_utf8(take(u16::from_le_bytes([head[8], head[9]]).into())?).ok()?;
        let topic = std::str::from_utf8(take(u16::from_le_bytes([head[10], head[11]]).into())?).ok()?;
        let low = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
        let record = Record {
            kind,
            events: head[6],
            retain: head[5] & FLAG_RETAIN != 0,
            qos: head[5] >> QOS_SHIFT & QOS_MASK,
            local: head[5] & FLAG_LOCAL != 0,
            device_level: NonZeroU8::new(head[7]),
            urgent: head[5] & FLAG_URGENT != 0,
            received_ms: base_ms.wrapping_add_signed(i64::from(low.wrapping_sub(base_ms as u32) as i32)),
            client,
            topic,
            properties,
            payload: rest,
        };
        Some((record, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample<'a>() -> Record<'a> {
        Record {
            kind: Kind::Json,
            events: 1,
            retain: true,
            qos: 0,
            local: false,
            device_level: NonZeroU8::new(2),
            urgent: false,
            received_ms: 1_700_000_000_123,
            client: "barn",
            topic: "zigbee2mqtt/door",
            properties: &[0x01, 0x01],
            payload: b"{}",
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let mut row = vec![9; 3];
        sample().write(&mut row);
        assert_eq!(row.len(), 3 + sample().size());
        let (read, size) = Record::read(&row, 3, 1_700_000_000_000).unwrap();
        assert_eq!((read, size), (sample(), sample().size()));
    }

    #[test]
    fn the_device_is_the_one_of_our_topics_or_the_level_that_the_route_names_or_the_client() {
        for (topic, level, device) in [
            ("zigbee2mqtt/door/state", 0, "barn"),
            ("zigbee2mqtt/door/state", 1, "zigbee2mqtt"),
            ("zigbee2mqtt/door/state", 2, "door"),
            ("zigbee2mqtt/door/state", 3, "state"),
            ("zigbee2mqtt/door/state", 4, "barn"),
            ("zigbee2mqtt/door/state", 64, "barn"),
            ("zigbee2mqtt//state", 2, "barn"),
            ("/door", 1, "barn"),
            ("/Tür 7", 2, "Tür 7"),
            ("tg/stall-3/e", 1, "stall-3"),
            ("tg/Stall 3/e", 2, "Stall 3"),
        ] {
            let record = Record { topic, device_level: NonZeroU8::new(level), ..sample() };
            assert_eq!(record.device(), device, "{topic} {level}");
            let mut row = vec![];
            record.write(&mut row);
            assert_eq!(Record::read(&row, 0, record.received_ms).unwrap().0.device(), device);
            assert_eq!(Record::measure(&row), Some((1, row.len())));
        }
    }

    #[test]
    fn what_an_older_version_reads_as_opaque_is_text_to_this_one() {
        for kind in Kind::ALL {
            let mut row = vec![];
            Record { kind, ..sample() }.write(&mut row);
            assert_eq!(Record::read(&row, 0, 1_700_000_000_000).unwrap().0.kind, kind);
            let seen_before = if kind == Kind::Text { Kind::Opaque } else { kind };
            assert_eq!(row[4], seen_before as u8);
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
    }

    #[test]
    fn what_a_publisher_says_of_its_payload_is_found_among_the_other_properties() {
        let user = b"\x26\0\x01k\0\x02\x03\0";
        let typed = b"\x03\0\x08text/csv";
        let expiry = b"\x02\0\0\0\x09";
        let all = [&expiry[..], user, b"\x08\0\x01r", b"\x01\x01", typed, b"\x09\0\x02\x03\0", user].concat();
        for (properties, content_type, text, correlation) in [
            (&all[..], Some("text/csv"), true, Some(&b"\x03\0"[..])),
            (typed, Some("text/csv"), false, None),
            (b"\x01\0", None, false, None),
            (b"\x03\0\0", None, false, None),
            (user, None, false, None),
            (&all[..all.len() - 9], Some("text/csv"), true, None),
            (b"\x03\0\x09text/csv", None, false, None),
            (b"\x01", None, false, None),
            (&[], None, false, None),
        ] {
            let record = Record { properties, ..sample() };
            let said = (record.content_type(), record.is_said_to_be_text(), record.correlation());
            assert_eq!(said, (content_type, text, correlation), "{properties:02x?}");
        }
    }

    #[test]
    fn the_received_time_is_completed_across_a_wrap_of_its_low_bits() {
        let received_ms = 5 << 32;
        let mut row = vec![];
        Record { received_ms, ..sample() }.write(&mut row);
        for base_ms in [received_ms - 40_000, received_ms + 40_000] {
            assert_eq!(Record::read(&row, 0, base_ms).unwrap().0.received_ms, received_ms);
        }
    }

    #[test]
    fn no_truncation_panics_or_passes() {
        let mut row = vec![];
        sample().write(&mut row);
        for n in 0..row.len() {
            assert_eq!(Record::read(&row[..n], 0, 0), Err(BadRecord { at: 0 }));
        }
    }
}
