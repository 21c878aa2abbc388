//! The ready event types beside what they mean: definition and body in bytes, and the body in JSON
//! with its scales applied. The files under `tests/golden/events/` and `tests/golden/messages/` are
//! what devices in the field were built with.
//!
//! A vector that is missing is told with what this program writes.

mod common;

use std::path::PathBuf;

use common::{from_hex, to_hex};
use proptest::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tidegate_protocol::definition::{self, DefinitionError};
use tidegate_protocol::events::{
    ALL, AirQuality, Alarm, Climate, Contact, DeviceStatus, EventType, Field, Listed, Location, Loss,
    LossReason, Motion, Panic, Power, Severity,
};
use tidegate_protocol::limits::{BIRTH_BYTES_MAX, BODY_BYTES_MAX, STATUS_BYTES_MAX};
use tidegate_protocol::postcard_schema::schema::{DataModelType, NamedType, NamedValue};
use tidegate_protocol::{
    Birth, DefinitionHead, Deserialize, Kind, Kinds, ResetReason, Schema, State, Status, birth_bytes_max,
    units,
};

/// A body and its meaning.
struct Case {
    listed: Listed,
    body: Vec<u8>,
    json: Value,
    /// Reads a body as the type and says what it means.
    read: fn(&[u8]) -> Value,
}

macro_rules! cases {
    ($($ty:ty: $event:expr;)+) => {
        vec![$({
            let event: $ty = $event;
            Case {
                listed: Listed::of::<$ty>(),
                body: common::body(&event),
                json: scaled(&event),
                read: |body| scaled(&postcard::from_bytes::<$ty>(body).expect("a body of the type")),
            }
        }),+]
    };
}

fn cases() -> Vec<Case> {
    cases! {
        Loss: Loss { first_seq: 120, count: 60, reason: LossReason::TooLarge };
        Climate: Climate { temperature: -1234, humidity: 4520, pressure: 101_325 };
        AirQuality: AirQuality { co2: Some(812), pm2_5: Some(123), pm10: None, voc_index: Some(100) };
        Power: Power { voltage: 230_150, current: -1250, power: -287_688, energy: 12_345_678 };
        Motion: Motion { acceleration: [-12, 3, 981], moving: true };
        Location: Location {
            latitude: 525_200_123, longitude: -134_049_540, altitude: Some(-345), accuracy: Some(25), speed: None,
        };
        Contact: Contact { contact: 1, open: true, openings: 300 };
        DeviceStatus: DeviceStatus {
            supply: Some(3291), battery: Some(87), temperature: Some(-550), signal: Some(-71), memory_free: None,
            queued_events: 42,
        };
        Alarm: Alarm { code: 1007, severity: Severity::Critical, active: true };
        Panic<'_>: Panic { boot: 16, file: "src/main.rs", line: 208, message: "no sensor" };
    }
}

/// The event as JSON, each field's integers with its scale.
fn scaled<E: EventType>(event: &E) -> Value {
    let Value::Object(mut fields) = serde_json::to_value(event).expect("plain data") else {
        panic!("a struct")
    };
    for field in E::FIELDS {
        let value = fields.get_mut(field.name).expect("a field of the struct");
        scale(value, field);
    }
    Value::Object(fields)
}

fn scale(value: &mut Value, field: &Field) {
    match value {
        Value::Number(number) if field.scale_exp10 < 0 => {
            let divisor = 10_f64.powi(-i32::from(field.scale_exp10));
            *value = json!(number.as_f64().expect("an integer") / divisor);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| scale(item, field)),
        _ => {}
    }
}

fn golden(folder: &str, name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", folder, &format!("{name}.json")].iter().collect()
}

fn load(path: &PathBuf) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

fn bytes(file: &Value, key: &str) -> Vec<u8> {
    from_hex(file[key].as_str().expect("text"))
}

fn event_path(kind: &Kind) -> PathBuf {
    golden("events", &format!("{}-{}", kind.name, kind.version))
}

#[test]
fn every_ready_type_has_a_vector_and_both_say_the_same() {
    let cases = cases();
    assert_eq!(cases.iter().map(|case| case.listed).collect::<Vec<_>>(), ALL);
    for Case { listed, body, json, read } in cases {
        let kind = listed.kind;
        let file = load(&event_path(&kind));
        assert_eq!((&file["type"], &file["version"]), (&json!(kind.name), &json!(kind.version)));
        assert_eq!(file["definition"], to_hex(kind.definition), "a released type was changed: {}", kind.name);
        assert_eq!(file["body"], to_hex(&body), "{}", kind.name);
        assert_eq!(file["json"], json, "{}", kind.name);
        assert_eq!(read(&bytes(&file, "body")), file["json"], "{}", kind.name);
    }
}

#[test]
fn every_ready_type_says_who_answers_for_it_and_what_each_field_is() {
    for Listed { kind, owner, description, fields } in ALL {
        assert!(!owner.is_empty() && !description.is_empty(), "{}", kind.name);
        for Field { name, unit, description, .. } in *fields {
            assert!(!description.is_empty() && units::is_unit(unit), "{} {name}", kind.name);
        }
        let head = DefinitionHead::parse(kind.definition).expect("a definition");
        assert_eq!((head.name, head.version), (kind.name, kind.version));
    }
}

#[test]
fn the_definition_of_climate_is_this_by_hand() {
    let by_hand = [
        "01",
        "07636c696d617465",
        "01", // format, climate, version 1
        "11",
        "03", // a struct of three
        "0b74656d7065726174757265",
        "0343656c",
        "fe",
        "04", // temperature, Cel, -2, i16
        "0868756d6964697479",
        "03255248",
        "fe",
        "03", // humidity, %RH, -2, u16
        "087072657373757265",
        "025061",
        "00",
        "05", // pressure, Pa, 0, u32
    ];
    assert_eq!(to_hex(Climate::KIND.definition), by_hand.concat());
}

fn docs() -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "docs", "wire-format.md"].iter().collect();
    std::fs::read_to_string(path).expect("the page on the format")
}

#[test]
fn the_definition_in_the_docs_is_the_vector() {
    let docs = docs();
    let (_, ruler) = docs.split_once("climate-1.json`:").expect("the ruler's heading");
    let is_byte = |word: &&str| word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lines = ruler.split("```").nth(1).expect("the ruler").lines();
    let hex: String = lines.flat_map(|line| line.split_whitespace().take_while(is_byte)).collect();
    assert_eq!(hex, to_hex(Climate::KIND.definition));
}

#[test]
fn the_table_in_the_docs_has_every_ready_type_with_its_fields_in_order() {
    let docs = docs();
    let (_, table) = docs.split_once("## Event types").expect("the heading");
    let (table, _) = table.split_once("## Definition").expect("the next heading");
    let rows = table.lines().filter(|line| line.starts_with("| `") || line.starts_with("| | | `"));
    let mut rows = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    for Listed { kind, fields, .. } in ALL {
        for (place, field) in fields.iter().enumerate() {
            let row = rows.next().expect("a row");
            if place == 0 {
                assert_eq!(row[1], format!("`{}` {}", kind.name, kind.version));
            }
            assert_eq!((row[3], row[5]), (format!("`{}`", field.name).as_str(), field.unit), "{}", kind.name);
            let scale: f64 = if row[6].is_empty() { 1.0 } else { row[6].parse().expect("a scale") };
            assert_eq!(scale, 10_f64.powi(field.scale_exp10.into()), "{} {}", kind.name, field.name);
        }
    }
    assert_eq!(rows.next(), None);
}

#[test]
fn the_definition_of_loss_is_this_by_hand() {
    let by_hand = [
        "01",
        "046c6f7373",
        "01", // format, loss, version 1
        "11",
        "03", // a struct of three
        "0966697273745f736571",
        "00",
        "00",
        "05", // first_seq, u32
        "05636f756e74",
        "00",
        "00",
        "05", // count, u32
        "06726561736f6e",
        "00",
        "00", // reason,
        "12",
        "03", // an enum of three: QueueFull, TooLarge, Storage
        "09517565756546756c6c",
        "0d",
        "08546f6f4c61726765",
        "0d",
        "0753746f72616765",
        "0d",
    ];
    assert_eq!(to_hex(Loss::KIND.definition), by_hand.concat());
}

#[test]
fn every_shape_of_a_body_has_its_tag() {
    #[derive(Serialize, Schema)]
    struct Newtype(u64);
    #[derive(Serialize, Schema)]
    struct Pair(u8, i8);
    #[derive(Serialize, Schema)]
    struct Nothing;
    #[derive(Serialize, Schema)]
    struct Inner {
        r#type: bool,
    }
    #[derive(Serialize, Schema)]
    #[expect(dead_code, reason = "only its structure is looked at")]
    enum Choice {
        Plain,
        One(i32),
        Two(i64, u16),
        Named { x: u32 },
    }
    #[derive(Serialize, Schema, EventType)]
    #[event(name = "all_of-it", version = 255, owner = "a test", description = "every shape")]
    struct Shapes<'a> {
        #[unit("V", scale = 12)]
        newtype: Option<Newtype>,
        pair: Pair,
        nothing: Nothing,
        inner: Inner,
        choice: Choice,
        text: &'a str,
        list: &'a [i16],
        array: [(); 2],
    }
    let by_hand = [
        "01",
        "09616c6c5f6f662d6974",
        "ff",
        "11",
        "08",
        "076e657774797065",
        "0156",
        "0c",
        "0e07", // newtype: V, 12, option u64
        "0470616972",
        "0000",
        "10020102", // pair: tuple of u8, i8
        "076e6f7468696e67",
        "0000",
        "0d", // nothing: unit
        "05696e6e6572",
        "0000",
        "1101",
        "0474797065",
        "0000",
        "00", // inner: struct of type: bool
        "0663686f696365",
        "0000",
        "1204", // choice: enum of four
        "05506c61696e",
        "0d",
        "034f6e65",
        "06",
        "0354776f",
        "10020803",
        "054e616d6564",
        "1101",
        "0178",
        "0000",
        "05",
        "0474657874",
        "0000",
        "0b", // text: string
        "046c697374",
        "0000",
        "0f04", // list: seq of i16
        "056172726179",
        "0000",
        "10020d0d", // array: tuple of two units
    ];
    assert_eq!(to_hex(Shapes::KIND.definition), by_hand.concat());
}

/// The measure of a struct with one field `one` of type `T`.
fn measured<T: Schema>(name: &str, field: Field) -> Result<usize, DefinitionError> {
    let one = NamedValue { name: "one", ty: T::SCHEMA };
    // What a constant would be; a test may leak.
    let ty: &'static DataModelType =
        Box::leak(Box::new(DataModelType::Struct(vec![&*Box::leak(Box::new(one))].leak())));
    definition::measure(name, 1, &NamedType { name: "One", ty }, &[field])
}

#[test]
fn a_type_over_a_limit_has_no_definition() {
    type Six = Option<Option<Option<Option<Option<Option<u8>>>>>>;
    const ONE: Field = Field { name: "one", unit: "", scale_exp10: 0, description: "" };
    assert_eq!(measured::<u8>("n", ONE), Ok(1 + 2 + 1 + 2 + 4 + 1 + 1 + 1));
    assert!(measured::<Six>("n", ONE).is_ok(), "the body, six options and a number are eight deep");
    assert_eq!(measured::<Option<Six>>("n", ONE), Err(DefinitionError::Depth));
    assert!(measured::<[bool; 254]>("n", ONE).is_ok());
    assert_eq!(measured::<[bool; 255]>("n", ONE), Err(DefinitionError::Nodes));
    assert_eq!(measured::<char>("n", ONE), Err(DefinitionError::Type));
    assert_eq!(measured::<u128>("n", ONE), Err(DefinitionError::Type));
    assert!(measured::<u8>(&"n".repeat(32), ONE).is_ok());
    assert_eq!(measured::<u8>(&"n".repeat(33), ONE), Err(DefinitionError::KindName));
    assert_eq!(measured::<u8>("N", ONE), Err(DefinitionError::KindName));
    assert_eq!(measured::<u8>("n", Field { name: "two", ..ONE }), Err(DefinitionError::Fields));
    assert_eq!(measured::<u8>("n", Field { unit: "seventeen bytes..", ..ONE }), Err(DefinitionError::Unit));
    assert_eq!(definition::measure("n", 1, u8::SCHEMA, &[]), Err(DefinitionError::NotAStruct));
    assert_eq!(definition::measure("n", 1, Climate::SCHEMA, &[]), Err(DefinitionError::Fields));
}

fn a_birth(kinds: Kinds<'_>) -> Birth<'_> {
    Birth {
        boot: 17,
        connection: 3,
        uptime_ms: 3_600_123,
        wall_ms: Some(1_763_000_000_000),
        reset: ResetReason::Watchdog,
        firmware: "greenhouse",
        version: "1.4.0",
        build: "a1b2c3d",
        kinds,
    }
}

fn own_kinds() -> Vec<Kind> {
    ALL.iter().map(|listed| listed.kind).collect()
}

fn birth_json(birth: &Birth<'_>) -> Value {
    json!({
        "boot": birth.boot, "connection": birth.connection, "uptime_ms": birth.uptime_ms, "wall_ms": birth.wall_ms,
        "reset": birth.reset.as_str(), "firmware": birth.firmware, "version": birth.version, "build": birth.build,
        "schema_set": birth.kinds.schema_set(), "definitions": birth.kinds.iter().map(to_hex).collect::<Vec<_>>(),
    })
}

fn statuses() -> [(&'static str, Status); 3] {
    let online = Status {
        boot: 17,
        connection: 3,
        state: State::Online,
        uptime_ms: 3_600_123,
        wall_ms: Some(1_763_000_000_000),
        next_contact_s: None,
        battery_percent: Some(87),
        signal_dbm: Some(-71),
    };
    let (wall_ms, battery_percent, signal_dbm) = (None, None, None);
    let will = Status { state: State::Offline, wall_ms, battery_percent, signal_dbm, ..online };
    let sleeping = Status { state: State::Sleeping, next_contact_s: Some(900), ..online };
    [("status-online", online), ("status-will", will), ("status-sleeping", sleeping)]
}

fn status_json(status: &Status) -> Value {
    json!({
        "boot": status.boot, "connection": status.connection, "state": status.state.number(),
        "uptime_ms": status.uptime_ms, "wall_ms": status.wall_ms, "next_contact_s": status.next_contact_s,
        "battery_percent": status.battery_percent, "signal_dbm": status.signal_dbm,
    })
}

#[test]
fn the_birth_of_every_ready_type_is_its_vector() {
    let file = load(&golden("messages", "birth"));
    let bytes = bytes(&file, "bytes");
    let own = own_kinds();
    let birth = a_birth(Kinds::new(&own));
    assert_eq!(to_hex(birth.write(&mut vec![0; birth_bytes_max(&own)]).expect("room")), to_hex(&bytes));
    let read = Birth::parse(&bytes).expect("a birth");
    assert_eq!(read, birth);
    assert_eq!(birth_json(&read), file["json"]);
    assert_eq!(read.kinds.schema_set(), tidegate_protocol::schema_set(&own));
}

#[test]
fn the_statuses_are_their_vectors() {
    for (name, status) in statuses() {
        let file = load(&golden("messages", name));
        let bytes = bytes(&file, "bytes");
        assert_eq!(to_hex(status.write(&mut [0; STATUS_BYTES_MAX]).expect("room")), to_hex(&bytes), "{name}");
        assert_eq!(Status::parse(&bytes), Ok(status), "{name}");
        assert_eq!(status_json(&status), file["json"], "{name}");
    }
}

#[test]
fn no_vector_is_missing() {
    let demand = |path: PathBuf, value: Value| {
        let text = || serde_json::to_string_pretty(&value).expect("JSON");
        assert!(path.exists(), "{} is missing; what this program writes:\n{}", path.display(), text());
    };
    for Case { listed: Listed { kind, .. }, body, json, .. } in cases() {
        let head: Map<String, Value> = [("type", json!(kind.name)), ("version", json!(kind.version))]
            .into_iter()
            .chain([
                ("definition", json!(to_hex(kind.definition))),
                ("body", json!(to_hex(&body))),
                ("json", json),
            ])
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        demand(event_path(&kind), Value::Object(head));
    }
    let own = own_kinds();
    let birth = a_birth(Kinds::new(&own));
    let mut out = vec![0; BIRTH_BYTES_MAX];
    let bytes = to_hex(birth.write(&mut out).expect("room"));
    demand(golden("messages", "birth"), json!({ "bytes": bytes, "json": birth_json(&birth) }));
    for (name, status) in statuses() {
        let bytes = to_hex(status.write(&mut [0; STATUS_BYTES_MAX]).expect("room"));
        demand(golden("messages", name), json!({ "bytes": bytes, "json": status_json(&status) }));
    }
}

/// An event that is written, and read as what it was.
fn round_trip<'a, E>(event: &E, body: &'a mut [u8; BODY_BYTES_MAX])
where
    E: EventType + Deserialize<'a> + PartialEq + std::fmt::Debug,
{
    let bytes = postcard::to_slice(event, body).expect("it fits in a body");
    let (read, rest) = postcard::take_from_bytes::<E>(bytes).expect("a body");
    assert_eq!((&read, rest.len()), (event, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_event_of_a_ready_type_is_read_as_it_was_written(
        a in any::<(i32, i32, i32, u64)>(),
        b in any::<[Option<u16>; 5]>(),
        c in any::<(u8, bool, u32, i16, i8)>(),
        text in "\\PC{0,100}",
    ) {
        let mut body = [0; BODY_BYTES_MAX];
        round_trip(&Loss { first_seq: c.2, count: c.0.into(), reason: LossReason::Storage }, &mut body);
        round_trip(&Climate { temperature: c.3, humidity: c.0.into(), pressure: c.2 }, &mut body);
        round_trip(&AirQuality { co2: b[0], pm2_5: b[1], pm10: b[2], voc_index: b[3] }, &mut body);
        round_trip(&Power { voltage: a.0, current: a.1, power: a.2, energy: a.3 }, &mut body);
        round_trip(&Motion { acceleration: [c.3, 0, -1], moving: c.1 }, &mut body);
        let altitude = c.1.then_some(a.2);
        round_trip(&Location { latitude: a.0, longitude: a.1, altitude, accuracy: b[4], speed: b[0] }, &mut body);
        round_trip(&Contact { contact: c.0, open: c.1, openings: c.2 }, &mut body);
        let (battery, temperature, signal) = (Some(c.0), Some(c.3), Some(c.4));
        let status =
            DeviceStatus { supply: b[0], battery, temperature, signal, memory_free: Some(c.2), queued_events: 0 };
        round_trip(&status, &mut body);
        round_trip(&Alarm { code: 0, severity: Severity::Warning, active: c.1 }, &mut body);
        round_trip(&Panic { boot: c.2, file: &text, line: c.2, message: &text }, &mut body);
    }
}
