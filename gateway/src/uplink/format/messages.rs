//! Births and statuses as JSON: what a device says of itself.

use serde::Serialize;
use tidegate_protocol::{Birth, DefinitionHead, Status};

/// A birth.
#[derive(Serialize)]
struct BirthJson<'a> {
    boot: u32,
    connection: u32,
    uptime_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_ms: Option<u64>,
    reset: &'a str,
    firmware: &'a str,
    version: &'a str,
    build: &'a str,
    kinds: Vec<KindJson<'a>>,
}

#[derive(Serialize)]
struct KindJson<'a> {
    name: &'a str,
    version: u8,
}

#[derive(Serialize)]
struct StatusJson<'a> {
    boot: u32,
    connection: u32,
    state: &'a str,
    uptime_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_contact_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    battery_percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal_dbm: Option<i8>,
}

/// Appends a birth.
pub fn write_birth(out: &mut Vec<u8>, birth: &Birth<'_>) {
    let heads = birth.kinds.iter().filter_map(|definition| DefinitionHead::parse(definition).ok());
    put(
        out,
        &BirthJson {
            boot: birth.boot,
            connection: birth.connection,
            uptime_ms: birth.uptime_ms,
            wall_ms: birth.wall_ms,
            reset: birth.reset.as_str(),
            firmware: birth.firmware,
            version: birth.version,
            build: birth.build,
            kinds: heads.map(|head| KindJson { name: head.name, version: head.version }).collect(),
        },
    );
}

/// Appends a status.
pub fn write_status(out: &mut Vec<u8>, status: &Status) {
    put(
        out,
        &StatusJson {
            boot: status.boot,
            connection: status.connection,
            state: status.state.as_str(),
            uptime_ms: status.uptime_ms,
            wall_ms: status.wall_ms,
            next_contact_s: status.next_contact_s,
            battery_percent: status.battery_percent,
            signal_dbm: status.signal_dbm,
        },
    );
}

fn put(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("invariant: plain fields are written into memory");
}
