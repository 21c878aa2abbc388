//! What must be found in a released store, as JSON beside it.

use serde_json::{Value, json};
use tidegate::store::{Kind, Record, Status};

/// A record as it is listed.
pub fn record(offset: u64, record: &Record<'_>) -> Value {
    let kind = match record.kind {
        Kind::Frame => "frame",
        Kind::Json => "json",
        Kind::Text => "text",
        Kind::Opaque => "opaque",
    };
    json!({
        "offset": offset,
        "kind": kind,
        "events": record.events,
        "retain": record.retain,
        "urgent": record.urgent,
        "received_ms": record.received_ms,
        "client": record.client,
        "topic": record.topic,
        "properties": hex(record.properties),
        "payload": hex(record.payload),
    })
}

/// What the store says of itself, as far as it is the same for every program that opens it.
pub fn status(status: &Status) -> Value {
    let backlog = &status.backlogs[0];
    json!({
        "next_offset": status.next_offset,
        "events": status.events,
        "segments": status.segments,
        "set_aside": status.dead_letters,
        "backlog": {
            "uplink": backlog.uplink,
            "events": backlog.events,
            "bytes": backlog.bytes,
            "oldest_received_ms": backlog.oldest_received_ms,
        },
    })
}

/// Bytes as text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of such a text.
pub fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2) && hex.is_ascii(), "{hex}");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
