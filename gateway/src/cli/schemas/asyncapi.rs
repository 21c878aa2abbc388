//! The types as an AsyncAPI 3.0 document: what devices publish, and what uplinks with `format =
//! "json"` or `"cloudevents"` send.
//!
//! ```text
//! channels    tg/{device}/e, b, s    bytes, as docs/wire-format.md has them
//!             uplink                 a message for each type: the envelope, with the type's own JSON as its data
//! ```
//!
//! The gateway is the application: it receives from devices and sends to upstreams. Where an uplink
//! publishes is its own setting, so that channel has no address.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::json_schema;
use crate::catalog::Entry;

/// What devices publish: the last level of the topic, what it is called, and what it is.
const DEVICE_CHANNELS: [(&str, &str, &str); 3] = [
    ("e", "frame", "Frames: batches of events, acknowledged when they are on disk. QoS 1, not retained."),
    (
        "b",
        "birth",
        "Births: firmware, reset reason, and the definitions of all kinds of event. QoS 1, retained.",
    ),
    ("s", "status", "Status: online, sleeping, stopping, and the last will. QoS 1, not retained."),
];

/// The document.
pub(super) fn document(entries: &[Entry]) -> Value {
    let names = names(entries);
    let (mut messages, mut schemas, mut sent) = (Map::new(), Map::new(), Map::new());
    schemas.insert("envelope".into(), envelope());
    for (entry, name) in entries.iter().zip(&names) {
        messages.insert(name.clone(), message(entry, name));
        schemas.insert(name.clone(), json_schema::schema(entry));
        sent.insert(name.clone(), json!({ "$ref": format!("#/components/messages/{name}") }));
    }
    let mut channels = Map::new();
    let mut operations = Map::new();
    for (level, name, description) in DEVICE_CHANNELS {
        channels.insert(name.into(), device_channel(level, name, description));
        operations.insert(
            format!("receive-{name}"),
            json!({ "action": "receive", "channel": { "$ref": format!("#/channels/{name}") }, "summary": description }),
        );
        messages.insert(
            name.into(),
            json!({
                "name": name, "title": name, "contentType": "application/octet-stream",
                "payload": { "type": "string", "description": "Bytes as docs/wire-format.md has them." },
            }),
        );
    }
    channels.insert(
        "uplink".into(),
        json!({
            "address": null,
            "title": "what an uplink publishes",
            "description": "Each event as JSON. The topic is the uplink's own setting.",
            "messages": sent,
        }),
    );
    operations.insert(
        "send-uplink".into(),
        json!({
            "action": "send", "channel": { "$ref": "#/channels/uplink" },
            "summary": "Events, at least once; the id tells copies from each other.",
        }),
    );
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tidegate events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What devices publish to a Tidegate gateway, and what it sends to its upstreams.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas, "messageTraits": { "cloudevents": cloudevents() } },
    })
}

/// A name for each entry that can stand in a reference: `climate.1`, with some of its hash where
/// there are several.
fn names(entries: &[Entry]) -> Vec<String> {
    let plain = |entry: &Entry| format!("{}.{}", entry.name, entry.version);
    let mut counts = BTreeMap::new();
    for entry in entries {
        *counts.entry(plain(entry)).or_insert(0) += 1;
    }
    let name = |entry: &Entry| match counts[&plain(entry)] {
        1 => plain(entry),
        _ => format!("{}.{}", plain(entry), entry.short_hash()),
    };
    entries.iter().map(name).collect()
}

fn device_channel(level: &str, name: &str, description: &str) -> Value {
    let mut messages = Map::new();
    messages.insert(name.into(), json!({ "$ref": format!("#/components/messages/{name}") }));
    json!({
        "address": format!("tg/{{device}}/{level}"),
        "description": description,
        "parameters": { "device": { "description": "The device's name: 1 to 32 of a-z, 0-9 and -." } },
        "messages": messages,
    })
}

fn message(entry: &Entry, name: &str) -> Value {
    json!({
        "name": entry.title(),
        "title": entry.title(),
        "summary": entry.description,
        "contentType": "application/json",
        "traits": [{ "$ref": "#/components/messageTraits/cloudevents" }],
        "payload": {
            "allOf": [
                { "$ref": "#/components/schemas/envelope" },
                {
                    "type": "object",
                    "properties": {
                        "type": { "const": entry.name },
                        "version": { "const": entry.version },
                        "data": { "$ref": format!("#/components/schemas/{name}") },
                    },
                },
            ],
        },
    })
}

/// What is around the data of every event of an uplink with `format = "json"`.
fn envelope() -> Value {
    let number = |max: u64, what: &str| json!({ "type": "integer", "minimum": 0, "maximum": max, "description": what });
    json!({
        "type": "object",
        "required": ["id", "device", "boot", "seq", "type", "version", "definition", "time", "time_quality", "uptime_ms", "received", "data"],
        "properties": {
            "id": { "type": "string", "description": "device/boot/seq: the event's name for ever; copies have the same." },
            "device": { "type": "string", "pattern": "^[a-z0-9-]{1,32}$" },
            "boot": number(u32::MAX.into(), "Which start of the device."),
            "seq": number(u32::MAX.into(), "Which event of that boot, from 0."),
            "type": { "type": "string", "description": "The kind's name." },
            "version": number(u8::MAX.into(), "The kind's version."),
            "definition": {
                "type": "string", "pattern": "^[0-9a-f]{12}$",
                "description": "The beginning of the definition's hash: two definitions of one kind and version differ in it.",
            },
            "duplicate_identity": {
                "const": true,
                "description": "Another event has the same id, for the device used its boot number twice; left out otherwise.",
            },
            "time": { "type": "string", "format": "date-time", "description": "When it happened, as well as is known." },
            "time_quality": {
                "enum": ["synced", "mapped", "bounded", "received"],
                "description": "How the time is known: the device's own clock, its uptime mapped to the gateway's clock, between \
                                two moments, or only when it was received.",
            },
            "uncertainty_ms": {
                "type": ["integer", "null"], "minimum": 0, "description": "How far off the time may be; null if that is not known.",
            },
            "uptime_ms": number(u64::MAX, "The device's uptime when it happened."),
            "received": { "type": "string", "format": "date-time", "description": "When the gateway received it." },
            "data": { "description": "The event's own fields." },
        },
    })
}

/// The same as attributes of CloudEvents 1.0, for an uplink with `format = "cloudevents"`: user
/// properties of MQTT 5.
fn cloudevents() -> Value {
    json!({
        "name": "cloudevents",
        "summary": "With format = \"cloudevents\" the payload is the data alone, and these are user properties (binary mode).",
        "headers": {
            "type": "object",
            "properties": {
                "specversion": { "const": "1.0" },
                "id": { "type": "string" },
                "source": { "type": "string", "format": "uri-reference" },
                "type": { "type": "string" },
                "time": { "type": "string", "format": "date-time" },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_points_at_something() {
        let document = document(&Entry::built_in());
        let text = document.to_string();
        let mut count = 0;
        for part in text.split("\"$ref\":\"#").skip(1) {
            let path = part.split('"').next().unwrap();
            assert!(document.pointer(path).is_some(), "{path}");
            count += 1;
        }
        assert!(count > 3 * Entry::built_in().len(), "{count}");
    }

    #[test]
    fn two_definitions_of_one_name_and_version_have_two_names() {
        let entry = |definition: &[u8]| Entry::new(definition).unwrap();
        let names =
            names(&[entry(b"\x01\x01a\x01\x03"), entry(b"\x01\x01a\x01\x01"), entry(b"\x01\x01a\x02\x01")]);
        assert!(
            names[0].starts_with("a.1.") && names[1].starts_with("a.1.") && names[0] != names[1],
            "{names:?}"
        );
        assert_eq!(names[2], "a.2");
    }
}
