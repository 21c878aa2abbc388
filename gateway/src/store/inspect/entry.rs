//! A record as a line of JSON.
//!
//! A payload that is JSON is shown as it is, with line breaks made blanks: numbers keep their
//! digits and keys their order. Other text is a string, and what is no text is base64.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;
use tidegate_protocol::FrameHead;

use crate::store::record::{Kind, Record, ids::Prefixes};

/// A record to look at.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    /// Its place in the log.
    pub offset: u64,
    /// Its identity, as an uplink gives it: `<device>/<boot>/<first_seq>` of a frame,
    /// `<gateway>/<store>-<offset>` of anything else; without the gateway where that is not known.
    pub id: String,
    /// When it was received, wall clock, milliseconds since 1970.
    pub received_ms: u64,
    /// Whose it is, see [`Record::device`].
    pub device: &'a str,
    /// Where it was published.
    pub topic: &'a str,
    /// The MQTT client that published it.
    pub client: &'a str,
    /// `frame`, `json`, `text` or `opaque`.
    pub kind: &'static str,
    /// Events in it.
    pub events: u8,
    /// It is never dropped for others.
    pub urgent: bool,
    /// Its publisher asked for it to be retained.
    pub retain: bool,
    /// It is for local subscribers alone, and holds no event.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
    /// The payload, where it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// The payload, where it is other text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_text: Option<&'a str>,
    /// The payload, where it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
}

impl<'a> Entry<'a> {
    /// The record at `offset` of a store whose foreign events have ids that begin like this.
    pub(super) fn new(offset: u64, record: &Record<'a>, prefixes: &Prefixes) -> Self {
        let text = std::str::from_utf8(record.payload).ok();
        let json = text.and_then(json);
        let payload_text = text.filter(|_| json.is_none());
        let device = record.device();
        let head = match record.kind {
            Kind::Frame => FrameHead::parse(record.payload).ok(),
            Kind::Json | Kind::Text | Kind::Opaque => None,
        };
        let id = match head {
            Some((head, _)) => format!("{device}/{}/{}", head.boot, head.first_seq),
            None => format!("{}{offset}", prefixes.at(offset)),
        };
        Self {
            offset,
            id,
            received_ms: record.received_ms,
            device,
            topic: record.topic,
            client: record.client,
            kind: record.kind.name(),
            events: record.events,
            urgent: record.urgent,
            retain: record.retain,
            local: record.local,
            payload_base64: text.is_none().then(|| BASE64_STANDARD.encode(record.payload)),
            payload: json,
            payload_text,
        }
    }
}

/// `text` on one line, if it is JSON: between its tokens a line break or a tab is as good as a
/// blank, and within them there is none.
fn json(text: &str) -> Option<Box<RawValue>> {
    let line = text.trim().replace(['\n', '\r', '\t'], " ");
    RawValue::from_string(line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::ids::StoreIds;

    fn record(kind: Kind, payload: &[u8]) -> Record<'_> {
        Record {
            kind,
            events: 1,
            qos: 0,
            urgent: true,
            received_ms: 5,
            client: "hub",
            topic: "zigbee2mqtt/door",
            payload,
            ..Record::default()
        }
    }

    fn line(kind: Kind, payload: &[u8]) -> String {
        serde_json::to_string(&Entry::new(
            7,
            &record(kind, payload),
            &StoreIds::one(0xc0_ffee).prefixes("barn-7/"),
        ))
        .unwrap()
    }

    #[test]
    fn a_payload_is_shown_as_what_it_is_and_on_one_line() {
        let json = line(Kind::Json, b" {\"z\":\t1.50,\r\n\"a\":123456789012345678901234567890}\n");
        let payload = "\"payload\":{\"z\": 1.50,  \"a\":123456789012345678901234567890}}";
        assert!(json.ends_with(payload), "{json}");
        assert!(line(Kind::Opaque, b"{open").ends_with("\"payload_text\":\"{open\"}"));
        assert!(line(Kind::Opaque, b"a\nb").ends_with("\"payload_text\":\"a\\nb\"}"));
        assert!(line(Kind::Opaque, b"\xff\x00").ends_with("\"payload_base64\":\"/wA=\"}"));
        assert!(line(Kind::Opaque, b"\"\xff\"").contains("payload_base64"), "JSON is text");
    }

    #[test]
    fn a_line_says_whose_it_is_and_what_it_is() {
        let expected = "{\"offset\":7,\"id\":\"barn-7/00c0ffee-7\",\"received_ms\":5,\"device\":\"hub\",\
                        \"topic\":\"zigbee2mqtt/door\",\"client\":\"hub\",\"kind\":\"opaque\",\"events\":1,\
                        \"urgent\":true,\"retain\":false,\"payload_text\":\"\"}";
        assert_eq!(line(Kind::Opaque, b""), expected);
    }
}
