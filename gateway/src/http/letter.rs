//! A dead letter as JSON: plain data, both ways, for whoever asks and for `tidegate dead-letters`.
//!
//! Bytes travel as base64. A payload that is UTF-8 is there as text as well, up to
//! [`TEXT_BYTES_MAX`].

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::store::{DeadLetter, DeadLetterPage};

/// Longest payload that is shown as text as well, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Some dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterPage {
    /// In the order of their numbers; there may be none although there are more.
    pub items: Vec<LetterItem>,
    /// What to give as `after` to go on; `null` at the end.
    pub next: Option<u64>,
}

/// A dead letter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterItem {
    /// Its number.
    pub id: u64,
    /// The uplink whose upstream cannot take it.
    pub uplink: String,
    /// Its offset in the log.
    pub offset: u64,
    /// Why it cannot be taken.
    pub reason: String,
    /// When it was set aside, milliseconds since 1970.
    pub set_aside_ms: u64,
    /// When it was received, milliseconds since 1970.
    pub received_ms: u64,
    /// How often it was sent; 0 where it cannot be sent at all.
    pub tries: u32,
    /// Whose it is, see [`Record::device`](crate::store::Record::device).
    pub device: String,
    /// The MQTT client id of the publisher.
    pub client: String,
    /// The topic it was published on.
    pub topic: String,
    /// `frame`, `json`, `text` or `opaque`.
    pub kind: String,
    /// How many events it carries.
    pub events: u8,
    /// Never lingers, never dropped for telemetry's sake.
    pub urgent: bool,
    /// The publisher's retain flag.
    pub retain: bool,
    /// Bytes of the payload.
    pub payload_bytes: u64,
    /// MQTT 5 properties as on the wire, base64; in a whole one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties_base64: Option<String>,
    /// The payload, base64; in a whole one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// The payload where it is text; in a whole one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl LetterPage {
    /// A page of the store, its letters whole or without what they carry.
    pub(super) fn new(page: &DeadLetterPage, whole: bool) -> Self {
        let item = if whole { LetterItem::whole } else { LetterItem::head };
        Self { items: page.letters.iter().map(item).collect(), next: page.next }
    }
}

impl LetterItem {
    /// All but what it carries.
    pub(super) fn head(letter: &DeadLetter) -> Self {
        let record = letter.record();
        Self {
            id: letter.id,
            uplink: letter.uplink.clone(),
            offset: letter.offset,
            reason: letter.reason.clone(),
            set_aside_ms: letter.set_aside_ms,
            received_ms: letter.received_ms,
            tries: letter.tries,
            device: record.device().to_owned(),
            client: record.client.to_owned(),
            topic: record.topic.to_owned(),
            kind: record.kind.name().to_owned(),
            events: record.events,
            urgent: record.urgent,
            retain: record.retain,
            payload_bytes: record.payload.len() as u64,
            ..Self::default()
        }
    }

    /// All of it.
    pub(super) fn whole(letter: &DeadLetter) -> Self {
        let record = letter.record();
        let text = std::str::from_utf8(record.payload).ok().filter(|text| text.len() <= TEXT_BYTES_MAX);
        Self {
            properties_base64: Some(STANDARD.encode(record.properties)),
            payload_base64: Some(STANDARD.encode(record.payload)),
            text: text.map(str::to_owned),
            ..Self::head(letter)
        }
    }
}
