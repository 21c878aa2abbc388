//! The record: one PUBLISH as it lies in a row. The leaf of the store: nothing below it.
//!
//! ```text
//!  0      4      5      6      7  8       10         12         16
//!  | len  | kind | flags| events| *| client| topic   | received | properties? | client | topic | payload |
//!  | u32  | u8   | u8   | u8    |u8| _len  | _len    | _ms low  | u16 + bytes |
//! ```
//! All numbers little-endian. `len` counts the bytes after itself. `received_ms` is kept as its low 32
//! bits and completed from the row's base. `*` is the level of the topic that names the device, from 1, or 0
//! where none does: always, before routes could say so. Properties are MQTT 5 property bytes as they go on the wire,
//! without their length; the two bytes of their length are there only when the flag says so.
//!
//! Limits: client id and topic to [`NAME_BYTES_MAX`], properties to [`PROPERTIES_BYTES_MAX`], a record to
//! [`RECORD_BYTES_MAX`].

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

/// The MQTT 5 property of that name (section 3.3.2.3.3).
pub const MESSAGE_EXPIRY: u8 = 0x02;
/// The MQTT 5 property of that name (section 3.3.2.3.6).
pub const CORRELATION_DATA: u8 = 0x09;
const PAYLOAD_FORMAT: u8 = 0x01;
const USER_PROPERTY: u8 = 0x26;

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A Tidegate frame with a valid header: its identity is `(device, boot, first_seq ..)`.
    Frame = 0,
    /// A foreign device's payload, said to be JSON.
    Json = 1,
    /// A foreign device's payload, or a frame that could not be read: forwarded byte for byte.
    Opaque = 2,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Frame, Self::Json, Self::Opaque];

    /// Its name, as people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Json => "json",
            Self::Opaque => "opaque",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One PUBLISH, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// MQTT 5 properties to forward, as on the wire, without their length; empty for 3.1.1. A message expiry interval, if
    /// there is one, comes first.
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
    /// Whose it is: the device of a `tg/…` topic, else the level of its topic that its route names, else the MQTT client
    /// id, also where the topic has not that level or nothing in it.
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

    /// The message expiry interval in its properties, in seconds, and the other properties: an acknowledged event does not
    /// expire on its way to an upstream, only on its way to a local subscriber.
    #[must_use]
    pub fn split_expiry(&self) -> (Option<u32>, &'a [u8]) {
        match self.properties {
            [MESSAGE_EXPIRY, a, b, c, d, rest @ ..] => (Some(u32::from_be_bytes([*a, *b, *c, *d])), rest),
            properties => (None, properties),
        }
    }

    /// The correlation data in its properties: in a device's reply, the id of the command that it belongs to.
    #[must_use]
    pub fn correlation(&self) -> Option<&'a [u8]> {
        let field = |bytes: &'a [u8]| {
            let (length, rest) = bytes.split_first_chunk::<2>()?;
            rest.split_at_checked(u16::from_be_bytes(*length).into())
        };
        let mut rest = self.split_expiry().1;
        while let Some((&id, value)) = rest.split_first() {
            rest = match id {
                CORRELATION_DATA => return field(value).map(|(data, _)| data),
                PAYLOAD_FORMAT => value.get(1..)?,
                USER_PROPERTY => field(field(value)?.1)?.1,
                // A content type or a response topic: no other is kept.
                _ => field(value)?.1,
            };
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
        flags |= (self.qos & QOS_MASK) << QOS_SHIFT;
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&((self.size() - 4) as u32).to_le_bytes());
        let device_level = self.device_level.map_or(0, NonZeroU8::get);
        head[4..8].copy_from_slice(&[self.kind as u8, flags, self.events, device_level]);
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

    /// Reads the record that starts at `bytes[at]`, and gives its length. `base_ms` is a time within
    /// 24 days of the record's.
    ///
    /// # Errors
    /// The bytes are no record; nothing is consumed.
    pub fn read(bytes: &'a [u8], at: usize, base_ms: u64) -> Result<(Self, usize), BadRecord> {
        Self::parse(bytes.get(at..).unwrap_or_default(), base_ms).ok_or(BadRecord { at })
    }

    /// The events and the length of the record that starts at `bytes[at]`, without looking at the rest of it.
    #[must_use]
    pub fn peek(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
        let head: &[u8; HEAD_BYTES] = bytes.get(at..)?.first_chunk()?;
        let size = 4 + u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        (size >= HEAD_BYTES && at + size <= bytes.len()).then_some((head[6], size))
    }

    /// The events and the length of the record that starts with `head`, where a record may start so: to look for one.
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
