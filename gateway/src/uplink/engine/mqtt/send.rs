//! What is sent: PUBLISH, written from the record's bytes straight into the socket's buffer.
//!
//! Limits: a packet to [`OUT_BYTES_MAX`]. It allocates nothing, holds no state and reads no socket.

use crate::{
    mqtt::publish_head::{PublishHead, REMAINING_BYTES_MAX},
    uplink::message::put_text,
};

/// Longest packet that MQTT can carry, in bytes. (MQTT 5.0 section 2.1.4)
pub const OUT_BYTES_MAX: u32 = 5 + REMAINING_BYTES_MAX as u32;
/// A PINGREQ. (MQTT 3.1.1 section 3.12)
pub const PINGREQ: [u8; 2] = [0xC0, 0];
/// A DISCONNECT without reason, in both versions. (MQTT 3.1.1 section 3.14)
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// Payload Format Indicator: the payload is UTF-8 text. (MQTT 5.0 section 3.3.2.3.2)
const TEXT_PAYLOAD: [u8; 2] = [0x01, 1];
const CONTENT_TYPE: u8 = 0x03;
const MESSAGE_EXPIRY: u8 = 0x02;
const TOPIC_ALIAS: u8 = 0x23;
const TOPIC_ALIAS_BYTES: usize = 3;
const MESSAGE_EXPIRY_BYTES: usize = 5;

/// One PUBLISH to write.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// The topic, checked; empty where its alias is known.
    pub topic: &'a [u8],
    /// The packet id, not 0.
    pub id: u16,
    /// The retain flag.
    pub retain: bool,
    /// Its properties; `None` in MQTT 3.1.1, which has none.
    pub properties: Option<Properties<'a>>,
    /// The payload.
    pub payload: &'a [u8],
}

/// The properties of one PUBLISH. (MQTT 5.0 section 3.3.2.3)
#[derive(Debug, Clone, Copy, Default)]
pub struct Properties<'a> {
    /// The payload is UTF-8 text. (Payload Format Indicator)
    pub is_text: bool,
    /// The media type of the payload. (Content Type)
    pub content_type: Option<&'a str>,
    /// What the topic is called from now on, or was before. (Topic Alias)
    pub alias: Option<u16>,
    /// The upstream need not keep it for longer, in seconds. (Message Expiry Interval)
    pub expiry_s: Option<u32>,
    /// User properties, as they are written.
    pub user: &'a [u8],
    /// Any others, as they are written.
    pub others: &'a [u8],
}

impl Publish<'_> {
    /// The length of the packet, in bytes.
    #[must_use]
    #[inline]
    pub fn size(&self) -> u64 {
        self.head().packet_bytes() as u64
    }

    /// Appends the packet to `out`. The caller has checked that [`Publish::size`] is within
    /// [`OUT_BYTES_MAX`]. (MQTT 3.1.1 and 5.0 section 3.3)
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        let head = self.head();
        out.reserve(head.packet_bytes());
        head.write(out);
        if let Some(properties) = &self.properties {
            properties.write(out);
        }
        out.extend_from_slice(self.payload);
    }

    #[inline]
    fn head(&self) -> PublishHead<'_> {
        PublishHead {
            topic: self.topic,
            qos: 1,
            dup: false,
            retain: self.retain,
            packet_id: self.id,
            properties_bytes: self.properties.map(|properties| properties.bytes()),
            payload_bytes: self.payload.len(),
        }
    }
}

impl Properties<'_> {
    #[inline]
    fn bytes(&self) -> usize {
        let text = if self.is_text { TEXT_PAYLOAD.len() } else { 0 };
        let content_type = self.content_type.map_or(0, |name| 1 + 2 + name.len());
        let alias = self.alias.map_or(0, |_| TOPIC_ALIAS_BYTES);
        let expiry = self.expiry_s.map_or(0, |_| MESSAGE_EXPIRY_BYTES);
        text + content_type + alias + expiry + self.user.len() + self.others.len()
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        if self.is_text {
            out.extend_from_slice(&TEXT_PAYLOAD);
        }
        if let Some(name) = self.content_type {
            out.push(CONTENT_TYPE);
            put_text(out, |out| out.extend_from_slice(name.as_bytes()));
        }
        if let Some(alias) = self.alias {
            out.push(TOPIC_ALIAS);
            out.extend_from_slice(&alias.to_be_bytes());
        }
        if let Some(seconds) = self.expiry_s {
            out.push(MESSAGE_EXPIRY);
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        out.extend_from_slice(self.user);
        out.extend_from_slice(self.others);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;
    use rumqttc::{mqttbytes::v4, v5::mqttbytes::v5};

    use super::*;

    #[test]
    fn ping_and_disconnect_are_as_the_codec_writes_them() {
        let mut bytes = BytesMut::new();
        v4::PingReq.write(&mut bytes).unwrap();
        v4::Disconnect.write(&mut bytes).unwrap();
        v5::Disconnect::new(v5::DisconnectReasonCode::NormalDisconnection).write(&mut bytes).unwrap();
        assert_eq!(bytes[..], [PINGREQ, DISCONNECT, DISCONNECT].concat());
    }

    proptest! {
        #[test]
        fn a_publish_reads_back_with_the_codec(
            topic in "[a-z/]{1,300}",
            id in 1_u16..,
            retain: bool,
            payload in prop::collection::vec(any::<u8>(), 0..20_000),
        ) {
            let mut publish =
                Publish { topic: topic.as_bytes(), id, retain, properties: None, payload: &payload };
            let mut out = vec![];
            publish.write(&mut out);
            prop_assert_eq!(out.len() as u64, publish.size());
            let read = v4::Packet::read(&mut BytesMut::from(&out[..]), 1 << 20).unwrap();
            let v4::Packet::Publish(read) = read else { panic!() };
            prop_assert_eq!((read.topic.as_bytes(), read.pkid, read.retain), (topic.as_bytes(), id, retain));
            prop_assert_eq!((read.qos as u8, read.dup, &read.payload[..]), (1, false, &payload[..]));

            publish.properties = Some(Properties {
                is_text: true,
                content_type: Some("text/csv"),
                user: &[0x26, 0, 1, b'k', 0, 1, b'v'],
                alias: Some(7),
                expiry_s: Some(9),
                others: &[0x08, 0, 1, b'r'],
            });
            out.clear();
            publish.write(&mut out);
            prop_assert_eq!(out.len() as u64, publish.size());
            let read = v5::Packet::read(&mut BytesMut::from(&out[..]), None).unwrap();
            let v5::Packet::Publish(read) = read else { panic!() };
            prop_assert_eq!((&read.topic[..], read.pkid, read.retain), (topic.as_bytes(), id, retain));
            prop_assert_eq!((read.qos as u8, &read.payload[..]), (1, &payload[..]));
            let properties = read.properties.unwrap();
            prop_assert_eq!(properties.user_properties, vec![("k".to_owned(), "v".to_owned())]);
            prop_assert_eq!(properties.payload_format_indicator, Some(1));
            prop_assert_eq!(properties.content_type.as_deref(), Some("text/csv"));
            prop_assert_eq!((properties.message_expiry_interval, properties.topic_alias), (Some(9), Some(7)));
            prop_assert_eq!(properties.response_topic.as_deref(), Some("r"));
        }
    }
}
