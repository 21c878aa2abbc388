//! The format `json`: one object for each event, data and what is known of it.
//!
//! ```json
//! {"id":"s3/17/300","device":"s3","boot":17,"seq":300,"type":"climate","version":1,"definition":"f8b063dcae0b",
//!  "time":"2026-11-24T16:05:07.123Z","time_quality":"mapped","uncertainty_ms":2000,"uptime_ms":3600123,
//!  "received":"2026-11-24T16:05:09.001Z","data":{"temperature":23.45,"humidity":45.2,"pressure":101325}}
//! ```
//! `duplicate_identity` is there, and true, where another event has the same number. What does not
//! come from an event type of ours has `topic` in place of `boot`, `seq`, `version`, `definition`
//! and `uptime_ms`; a reply has the id of its `command`. What shape a payload has is in
//! [`payload`](super::payload); what its publisher says that it is, in `content_type`.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::facts::{Data, Facts};
use crate::uplink::decimal::put_decimal;

/// Appends the object.
pub fn write(out: &mut Vec<u8>, facts: &Facts<'_>) {
    // Names of devices and gateways, and numbers: nothing to escape.
    out.extend_from_slice(b"{\"id\":\"");
    facts.put_id(out);
    out.extend_from_slice(b"\",\"device\":");
    put_text(out, facts.device);
    match facts.number() {
        Some(id) => {
            put_number(out, "boot", id.boot.into());
            put_number(out, "seq", id.seq.into());
        }
        None => {
            out.extend_from_slice(b",\"topic\":");
            put_text(out, facts.topic);
        }
    }
    if let Some(command) = facts.command {
        out.extend_from_slice(b",\"command\":");
        put_text(out, command);
    }
    out.extend_from_slice(b",\"type\":");
    put_text(out, facts.kind);
    if let Some(version) = facts.version {
        put_number(out, "version", version.into());
    }
    if let Some(definition) = facts.definition() {
        out.extend_from_slice(b",\"definition\":\"");
        out.extend(definition);
        out.push(b'"');
    }
    if facts.is_number_reused {
        out.extend_from_slice(b",\"duplicate_identity\":true");
    }
    out.extend_from_slice(b",\"time\":\"");
    facts.put_time(out);
    out.extend_from_slice(b"\",\"time_quality\":\"");
    out.extend_from_slice(facts.stamp.quality.as_str().as_bytes());
    out.push(b'"');
    if let Some(uncertainty_ms) = facts.stamp.uncertainty_ms {
        put_number(out, "uncertainty_ms", uncertainty_ms);
    }
    if let Some(uptime_ms) = facts.uptime_ms {
        put_number(out, "uptime_ms", uptime_ms);
    }
    out.extend_from_slice(b",\"received\":\"");
    out.extend_from_slice(facts.received);
    out.push(b'"');
    if let Some(replay) = facts.replay {
        out.extend_from_slice(b",\"replayed\":");
        put_text(out, replay);
    }
    if let Some(content_type) = facts.content_type {
        out.extend_from_slice(b",\"content_type\":");
        put_text(out, content_type);
    }
    put_data(out, facts.data);
    out.push(b'}');
}

/// Appends the member `data`, or `data_base64` where it is bytes, with a comma before it.
pub fn put_data(out: &mut Vec<u8>, data: Data<'_>) {
    match data {
        Data::Json(json) => {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(json);
        }
        Data::Text(text) => {
            out.extend_from_slice(b",\"data\":");
            put_text(out, text);
        }
        Data::Bytes(bytes) => {
            out.extend_from_slice(b",\"data_base64\":");
            put_base64(out, bytes);
        }
        Data::Deletion => {}
    }
}

/// Appends bytes as a JSON string, in base64.
pub fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

/// Appends a text as a JSON string.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("invariant: a text is written into memory");
}

fn put_number(out: &mut Vec<u8>, key: &str, value: u64) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
    put_decimal(out, value);
}
