//! The format `thingsboard`: what ThingsBoard's gateway API takes on `v1/gateway/telemetry`, where
//! each of the gateway's devices is a device of its own. ("MQTT Gateway API Reference")
//!
//! ```json
//! {"s3":[{"ts":1764000307123,"values":{"temperature":23.45,"humidity":45.2,"pressure":101325}}]}
//! ```
//! An event of a type of ours, the gateway's health, and JSON that is an object, give the values as
//! they are. Anything else is one value: `value` of a foreign event, `birth`, `status`, `reply` or
//! `gap` of a device's or the gateway's. Bytes are in base64.
//!
//! ThingsBoard keeps one value for each device, name and time: a copy of an event changes nothing.

use super::{
    facts::{Data, Facts},
    json::{put_base64, put_text},
};
use crate::uplink::decimal::put_decimal;

/// Appends the object.
pub fn write(out: &mut Vec<u8>, facts: &Facts<'_>) {
    out.push(b'{');
    put_text(out, facts.device);
    out.extend_from_slice(b":[{\"ts\":");
    put_decimal(out, facts.stamp.time_ms);
    out.extend_from_slice(b",\"values\":");
    put_values(out, facts);
    out.extend_from_slice(b"}]}");
}

fn put_values(out: &mut Vec<u8>, facts: &Facts<'_>) {
    let name = match facts.kind {
        "json" | "text" | "opaque" | "health" => "value",
        kind => kind,
    };
    let is_whole = facts.number().is_some() || name == "value";
    match facts.data {
        Data::Deletion => return out.extend_from_slice(b"{}"),
        Data::Json(json) if is_whole && json.trim_ascii_start().starts_with(b"{") => {
            return out.extend_from_slice(json);
        }
        _ => {}
    }
    out.push(b'{');
    put_text(out, name);
    out.push(b':');
    match facts.data {
        Data::Json(json) => out.extend_from_slice(json),
        Data::Text(text) => put_text(out, text),
        Data::Bytes(bytes) => put_base64(out, bytes),
        Data::Deletion => {}
    }
    out.push(b'}');
}
