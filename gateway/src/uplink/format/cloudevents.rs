//! The format `cloudevents`: CloudEvents 1.0.2 with the binding of its engine.
//!
//! ```text
//!  engine with headers     binary mode: attributes are headers, with the prefix of the engine's binding,
//!                          `datacontenttype` is the content type, the payload is the data
//!                          (MQTT 5: no prefix, user properties; MQTT binding, section 3.1)
//!  engine without headers  structured mode: one JSON object
//!                          (MQTT 3.1.1; section 3.2; JSON format, section 3)
//! ```
//! | Attribute | Value |
//! |---|---|
//! | `id` | the event's id, `s3/17/300` |
//! | `source` | `/tidegate/<gateway>/<device>` |
//! | `type` | `tidegate.climate.v1`; `tidegate.json` and the like for what has no version |
//! | `subject` | the topic as it came |
//! | `time` | when it was |
//! | `timequality`, `uncertaintyms` | how the time is known, and how well |
//! | `boot`, `sequence`, `uptimems` | the device's own numbers |
//! | `receivedtime` | when the gateway took it in |
//! | `commandid` | of a reply: the id of its command |
//! | `definition` | of an event type of ours: the beginning of its definition's hash |
//! | `duplicateidentity` | `true` where another event has the same number |
//! | `replayed` | which replay sends it again |
//!
//! Extension attributes are strings of digits where they are numbers: the type Integer has 32 bits.
//! (CloudEvents 1.0.2, type system)

use super::{
    facts::{Data, Facts},
    json,
    payload::media_type,
};
use crate::uplink::decimal::put_decimal;
use crate::uplink::message::put_header;

const SPEC_VERSION: &[u8] = b"1.0";
const ID: &str = "id";

/// Appends the headers of binary mode; `prefix` stands before the name of each attribute.
pub fn put_headers(out: &mut Vec<u8>, facts: &Facts<'_>, gateway: &str, prefix: &str) {
    each_attribute(facts, gateway, |name, write| put_header(out, prefix, name, write));
}

/// Whether the payload of binary mode is text, and its media type.
pub fn content<'a>(facts: &Facts<'a>) -> (bool, Option<&'a str>) {
    if facts.data == Data::Deletion {
        return (false, None);
    }
    let is_text = facts.is_said_to_be_text || matches!(facts.data, Data::Json(_) | Data::Text(_));
    (is_text, Some(media_type(facts.data, facts.content_type)))
}

/// Appends the object of structured mode.
pub fn write_structured(out: &mut Vec<u8>, facts: &Facts<'_>, gateway: &str) {
    let mut separator = b'{';
    each_attribute(facts, gateway, |name, write| {
        out.extend_from_slice(&[separator, b'"']);
        separator = b',';
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        put_quoted(out, write);
    });
    out.extend_from_slice(b",\"datacontenttype\":");
    json::put_text(out, media_type(facts.data, facts.content_type));
    json::put_data(out, facts.data);
    out.push(b'}');
}

/// Gives every attribute but the content type: its name, and what writes its value.
fn each_attribute(facts: &Facts<'_>, gateway: &str, mut put: impl FnMut(&str, &mut dyn FnMut(&mut Vec<u8>))) {
    put("specversion", &mut |out| out.extend_from_slice(SPEC_VERSION));
    put(ID, &mut |out| facts.put_id(out));
    put("source", &mut |out| {
        out.extend_from_slice(b"/tidegate/");
        put_segment(out, gateway);
        out.push(b'/');
        put_segment(out, facts.device);
    });
    put("type", &mut |out| {
        out.extend_from_slice(b"tidegate.");
        out.extend_from_slice(facts.kind.as_bytes());
        if let Some(version) = facts.version {
            out.extend_from_slice(b".v");
            put_decimal(out, version.into());
        }
    });
    put("subject", &mut |out| out.extend_from_slice(facts.topic.as_bytes()));
    put("time", &mut |out| facts.put_time(out));
    put("timequality", &mut |out| out.extend_from_slice(facts.stamp.quality.as_str().as_bytes()));
    put("receivedtime", &mut |out| out.extend_from_slice(facts.received));
    let id = facts.number();
    let numbers = [
        ("uncertaintyms", facts.stamp.uncertainty_ms),
        ("boot", id.map(|id| id.boot.into())),
        ("sequence", id.map(|id| id.seq.into())),
        ("uptimems", facts.uptime_ms),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            put(name, &mut |out| put_decimal(out, value));
        }
    }
    if let Some(command) = facts.command {
        put("commandid", &mut |out| out.extend_from_slice(command.as_bytes()));
    }
    if let Some(mut definition) = facts.definition() {
        put("definition", &mut |out| out.extend(definition.by_ref()));
    }
    if facts.is_number_reused {
        put("duplicateidentity", &mut |out| out.extend_from_slice(b"true"));
    }
    if let Some(replay) = facts.replay {
        put("replayed", &mut |out| out.extend_from_slice(replay.as_bytes()));
    }
}

/// Appends a text as one segment of a URI path. (RFC 3986, section 3.3)
fn put_segment(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

/// Appends what `write` writes as a JSON string. Next to nothing of it ever needs an escape, so it
/// is written in place.
fn put_quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(b'"');
    write(out);
    // Every byte is looked at, which a compiler does for many at once.
    let is_special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    if out[start + 1..].iter().fold(false, |found, byte| found | is_special(*byte)) {
        let text = String::from_utf8_lossy(&out[start + 1..]).into_owned();
        out.truncate(start);
        return json::put_text(out, &text);
    }
    out.push(b'"');
}
