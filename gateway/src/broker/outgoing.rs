//! PUBLISH and PUBREL as they go to a subscriber.
//!
//! MQTT 3.1.1 gets no properties. A packet that the client does not take is not written
//! `[MQTT-3.1.2-24]`: whoever asks counts it as delivered `[MQTT-3.1.2-25]`.

use super::message::Message;
use crate::{
    mqtt::{
        output::Output,
        publish_head::{PublishHead, REMAINING_BYTES_MAX},
        varint,
        version::Version,
    },
    store::record::MESSAGE_EXPIRY,
};

const SUBSCRIPTION_ID: u8 = 0x0b;

/// One delivery of a message.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The message.
    pub message: &'a Message,
    /// Its QoS on this way.
    pub qos: u8,
    /// Its retain flag on this way.
    pub retain: bool,
    /// It was sent before.
    pub dup: bool,
    /// Its packet id; not used with QoS 0.
    pub packet_id: u16,
    /// The identifiers of the subscriptions that it came by.
    pub subscription_ids: &'a [u32],
    /// What is left of its message expiry interval, in seconds.
    pub expires_in_s: Option<u32>,
}

impl Delivery<'_> {
    /// Appends the PUBLISH to `output`, unless it is longer than `packet_bytes_max`: then false,
    /// and `output` is as it was.
    pub fn write(&self, version: Version, packet_bytes_max: usize, output: &mut Output) -> bool {
        let payload = &self.message.payload;
        let head = PublishHead {
            topic: self.message.topic.as_bytes(),
            qos: self.qos,
            dup: self.dup,
            retain: self.retain,
            packet_id: self.packet_id,
            properties_bytes: (version == Version::V5).then(|| self.properties_bytes()),
            payload_bytes: payload.len(),
        };
        if head.remaining_bytes() > REMAINING_BYTES_MAX || head.packet_bytes() > packet_bytes_max {
            return false;
        }
        let out = output.buffer();
        head.write(out);
        if version == Version::V5 {
            if let Some(seconds) = self.expires_in_s {
                out.push(MESSAGE_EXPIRY);
                out.extend_from_slice(&seconds.to_be_bytes());
            }
            for id in self.subscription_ids {
                out.push(SUBSCRIPTION_ID);
                varint::put(*id as usize, out);
            }
            out.extend_from_slice(&self.message.properties);
        }
        output.put_payload(payload);
        true
    }

    fn properties_bytes(&self) -> usize {
        let expiry = if self.expires_in_s.is_some() { 5 } else { 0 };
        let ids = self.subscription_ids.iter().map(|id| 1 + varint::bytes(*id as usize));
        expiry + ids.sum::<usize>() + self.message.properties.len()
    }
}

#[cfg(test)]
mod tests {
    use mqtt_protocol_core::mqtt::packet::{Property, v3_1_1, v5_0};

    use super::*;

    fn message() -> Message {
        Message {
            topic: "a/b".into(),
            payload: vec![7; 300].into(),
            properties: [1, 1].into(),
            publisher: "p".into(),
            qos: 2,
            retain: false,
            received_ms: 0,
            expiry_s: None,
            command: None,
        }
    }

    fn body(packet: &[u8]) -> &[u8] {
        &packet[3..]
    }

    #[test]
    fn a_publish_reads_back_with_the_codec_in_both_versions() {
        let message = message();
        let delivery = Delivery {
            message: &message,
            qos: 1,
            retain: true,
            dup: true,
            packet_id: 0x1234,
            subscription_ids: &[5, 300],
            expires_in_s: Some(9),
        };
        let mut out = Output::default();
        assert!(delivery.write(Version::V5, usize::MAX, &mut out));
        let out = out.next();
        let (read, _) = v5_0::Publish::parse(out[0] & 15, std::sync::Arc::from(body(out))).unwrap();
        assert_eq!(
            (read.topic_name(), read.packet_id(), read.payload().as_slice()),
            ("a/b", Some(0x1234), &[7; 300][..])
        );
        assert_eq!((read.dup(), read.retain()), (true, true));
        let ids: Vec<_> = read
            .props()
            .iter()
            .filter_map(|property| match property {
                Property::SubscriptionIdentifier(id) => Some(id.val()),
                _ => None,
            })
            .collect();
        assert_eq!((ids, read.props().len()), (vec![5, 300], 4));

        let mut old = Output::default();
        assert!(delivery.write(Version::V311, usize::MAX, &mut old));
        let old = old.next();
        let (read, _) = v3_1_1::Publish::parse(old[0] & 15, std::sync::Arc::from(body(old))).unwrap();
        assert_eq!(read.payload().as_slice(), &[7; 300]);
    }

    #[test]
    fn what_the_client_does_not_take_is_not_written() {
        let message = message();
        let delivery = Delivery {
            message: &message,
            qos: 0,
            retain: false,
            dup: false,
            packet_id: 0,
            subscription_ids: &[],
            expires_in_s: None,
        };
        let mut out = Output::default();
        assert!(delivery.write(Version::V311, usize::MAX, &mut out));
        let length = out.next().len();
        assert!(!delivery.write(Version::V311, length - 1, &mut out));
        assert_eq!(out.next().len(), length);
        assert!(delivery.write(Version::V311, length, &mut out));
    }
}
