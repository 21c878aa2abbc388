//! A message on its way to local subscribers: made once, shared by all of them.

use std::sync::Arc;

use crate::store::{Kind, MessageRow, Record, record::MESSAGE_EXPIRY};

/// What a message weighs beside its own bytes, in bytes: itself, its count of holders, and the
/// allocator's part of each allocation.
const MESSAGE_BYTES: usize = 192;
const _: () = assert!(size_of::<Message>() <= 120);

/// A message as it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: Box<str>,
    /// Its payload, which what is saved of the message shares.
    pub payload: Arc<[u8]>,
    /// Its MQTT 5 properties to forward, as on the wire, without a message expiry.
    pub properties: Box<[u8]>,
    /// The client id of its publisher.
    pub publisher: Box<str>,
    /// The publisher's QoS.
    pub qos: u8,
    /// The publisher's retain flag.
    pub retain: bool,
    /// When the gateway took it in, by the steady clock, in milliseconds; of no meaning where
    /// `expiry_s` is `None`.
    pub received_ms: u64,
    /// How long it is worth delivering, in seconds from then; `None` for ever.
    pub expiry_s: Option<u32>,
    /// The id of the command that it is; `None` for what was published.
    pub command: Option<Box<str>>,
}

impl Message {
    /// The message that a record holds, received at that time of the steady clock.
    #[must_use]
    pub fn of(record: &Record<'_>, received_ms: u64) -> Self {
        let (expiry_s, properties) = record.split_expiry();
        Self {
            topic: record.topic.into(),
            payload: record.payload.into(),
            properties: properties.into(),
            publisher: record.client.into(),
            qos: record.qos,
            retain: record.retain,
            received_ms,
            expiry_s,
            command: None,
        }
    }

    /// Its properties as a record has them, a message expiry first.
    #[must_use]
    pub fn all_properties(&self) -> Vec<u8> {
        let mut all = Vec::new();
        if let Some(expiry_s) = self.expiry_s {
            all.push(MESSAGE_EXPIRY);
            all.extend_from_slice(&expiry_s.to_be_bytes());
        }
        all.extend_from_slice(&self.properties);
        all
    }

    /// The record of a message that is published now, as an event or for local subscribers, with
    /// [`Message::all_properties`]. `now_ms` is of the wall clock.
    #[must_use]
    pub fn record<'a>(&'a self, now_ms: u64, properties: &'a [u8]) -> Record<'a> {
        Record {
            kind: Kind::Opaque,
            events: 1,
            retain: self.retain,
            qos: self.qos,
            local: false,
            device_level: None,
            urgent: false,
            received_ms: now_ms,
            client: &self.publisher,
            topic: &self.topic,
            properties,
            payload: &self.payload,
        }
    }

    /// Seconds for which it is still worth delivering, if that ends; 0 if it is over.
    #[must_use]
    pub fn expires_in_s(&self, now_ms: u64) -> Option<u32> {
        let passed_s = now_ms.saturating_sub(self.received_ms) / 1000;
        self.expiry_s.map(|expiry_s| expiry_s.saturating_sub(u32::try_from(passed_s).unwrap_or(u32::MAX)))
    }

    /// What it weighs in memory, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        MESSAGE_BYTES + self.topic.len() + self.payload.len() + self.properties.len() + self.publisher.len()
    }

    /// As it is kept.
    #[must_use]
    pub fn row(&self) -> MessageRow {
        MessageRow {
            topic: self.topic.to_string(),
            payload: self.payload.clone(),
            properties: self.properties.to_vec(),
            publisher: self.publisher.to_string(),
            qos: self.qos,
            retain: self.retain,
            received_ms: self.received_ms,
            expiry_s: self.expiry_s,
            command: self.command.as_deref().map(str::to_owned),
        }
    }
}

impl From<MessageRow> for Message {
    fn from(row: MessageRow) -> Self {
        Self {
            topic: row.topic.into(),
            payload: row.payload,
            properties: row.properties.into(),
            publisher: row.publisher.into(),
            qos: row.qos,
            retain: row.retain,
            received_ms: row.received_ms,
            expiry_s: row.expiry_s,
            command: row.command.map(Into::into),
        }
    }
}
