//! What shape a foreign payload has upstream: one for each route, in every format, and what its
//! publisher says that it is beside it.

use serde_json::{Value, json};

use super::{
    super::{FormatName, engine::mqtt::Version},
    broker::{ACCEPTED_V5, ACCEPTED_V311, Arrival, Broker, Reply},
    *,
};

/// A payload that came on a route of `kind`, said to be `given`, and what becomes of it.
struct Case {
    kind: Kind,
    payload: &'static [u8],
    given: Option<&'static str>,
    /// The member `data` or `data_base64` of JSON, and of CloudEvents in structured mode.
    member: (&'static str, Value),
    /// The member `content_type` of JSON.
    said: Value,
    /// `datacontenttype` of CloudEvents.
    media_type: &'static str,
}

fn table() -> Vec<Case> {
    let (json, text, opaque) = (Kind::Json, Kind::Text, Kind::Opaque);
    let (plain, binary, csv) = ("text/plain", "application/octet-stream", "text/csv");
    let case = |(kind, payload, given, member, said, media_type)| Case {
        kind,
        payload,
        given,
        member,
        said,
        media_type,
    };
    let data = |value: Value| ("data", value);
    let base64 = |text: &str| ("data_base64", json!(text));
    let none = Value::Null;
    [
        (json, &b"21.5"[..], None, data(json!(21.5)), none.clone(), "application/json"),
        (json, b" {\"on\": true}", None, data(json!({"on": true})), none.clone(), "application/json"),
        (
            json,
            b"[1]",
            Some("application/senml+json"),
            data(json!([1])),
            json!("application/senml+json"),
            "application/senml+json",
        ),
        (json, b"online", None, data(json!("online")), json!(plain), plain),
        (json, "21.5 °C".as_bytes(), Some("application/json"), data(json!("21.5 °C")), json!(plain), plain),
        (json, b"a;b", Some(csv), data(json!("a;b")), json!(csv), csv),
        (json, b"\xff\x00", None, base64("/wA="), json!(binary), binary),
        (json, b"\"\xff\"", None, base64("Iv8i"), json!(binary), binary),
        (text, b"21.5", None, data(json!("21.5")), none.clone(), plain),
        (text, b"online", None, data(json!("online")), none.clone(), plain),
        (text, b"{\"on\":true}", None, data(json!("{\"on\":true}")), none.clone(), plain),
        (text, b"a;b", Some(csv), data(json!("a;b")), json!(csv), csv),
        (text, b"1", Some("application/json"), data(json!("1")), json!("application/json"), plain),
        (text, b"\xff\x00", None, base64("/wA="), json!(binary), binary),
        (opaque, b"21.5", None, base64("MjEuNQ=="), none.clone(), binary),
        (opaque, b"online", None, base64("b25saW5l"), none.clone(), binary),
        (
            opaque,
            b"{\"on\":1}",
            Some("application/json"),
            base64("eyJvbiI6MX0="),
            json!("application/json"),
            "application/json",
        ),
        (opaque, b"\xff\xd8", Some("image/jpeg"), base64("/9g="), json!("image/jpeg"), "image/jpeg"),
    ]
    .map(case)
    .into()
}

fn records() -> Vec<Owned> {
    let record = |case: Case| {
        let property = |given: &str| [&[0x03, 0, given.len() as u8], given.as_bytes()].concat();
        let properties = case.given.map(property).unwrap_or_default();
        Owned { kind: case.kind, properties, ..Owned::new("house/mode", case.payload) }
    };
    table().into_iter().map(record).collect()
}

/// What `records` become in this format.
async fn send(format: FormatName, version: Version, records: &[Owned]) -> Vec<Arrival> {
    let connack = if version == Version::V5 { ACCEPTED_V5 } else { ACCEPTED_V311 };
    let broker = Broker::start(connack, |_, _| Reply::Ack).await;
    let mut settings = super::settings(broker.port);
    (settings.broker().version, settings.format) = (version, format);
    let log = Log::default();
    records.iter().for_each(|record| log.push(record.clone()));
    let uplink = Running::start(settings, log);
    uplink.released(records.len() as u64).await;
    assert_eq!(uplink.log.aside(), []);
    uplink.stop().await;
    broker.arrivals().into_iter().map(|(_, arrival)| arrival).collect()
}

fn members(arrival: &Arrival) -> Value {
    serde_json::from_slice(&arrival.payload).unwrap()
}

/// The payload format indicator and the content type that `properties` begin with.
fn said(properties: &[u8]) -> (bool, Option<&str>) {
    let is_text = properties.starts_with(&[0x01, 1]);
    let rest = if is_text { &properties[2..] } else { properties };
    let content_type = rest.strip_prefix(&[0x03]).map(|field| {
        let bytes = usize::from(u16::from_be_bytes([field[0], field[1]]));
        std::str::from_utf8(&field[2..2 + bytes]).unwrap()
    });
    (is_text, content_type)
}

#[tokio::test]
async fn each_route_has_one_shape_as_json_and_what_the_publisher_says_is_beside_it() {
    let arrivals = send(FormatName::Json, Version::V5, &records()).await;
    assert_eq!(arrivals.len(), table().len());
    for (case, arrival) in table().iter().zip(&arrivals) {
        let event = members(arrival);
        let other = if case.member.0 == "data" { "data_base64" } else { "data" };
        assert_eq!((&event[case.member.0], &event[other]), (&case.member.1, &Value::Null), "{event}");
        assert_eq!(
            (&event["type"], &event["content_type"]),
            (&json!(case.kind.name()), &case.said),
            "{event}"
        );
        assert_eq!(said(&arrival.properties), (true, Some("application/json")), "of the message itself");
    }
}

#[tokio::test]
async fn each_route_has_one_shape_as_cloudevents_and_the_content_type_is_the_publishers_where_it_can_be() {
    let arrivals = send(FormatName::CloudEvents, Version::V5, &records()).await;
    assert_eq!(arrivals.len(), table().len());
    for (case, arrival) in table().iter().zip(&arrivals) {
        assert_eq!(arrival.payload, case.payload);
        let is_text = case.member.0 == "data";
        assert_eq!(said(&arrival.properties), (is_text, Some(case.media_type)), "{arrival:?}");
    }
    let arrivals = send(FormatName::CloudEvents, Version::V311, &records()).await;
    assert_eq!(arrivals.len(), table().len());
    for (case, arrival) in table().iter().zip(&arrivals) {
        let event = members(arrival);
        let other = if case.member.0 == "data" { "data_base64" } else { "data" };
        assert_eq!((&event[case.member.0], &event[other]), (&case.member.1, &Value::Null), "{event}");
        assert_eq!(event["datacontenttype"], case.media_type, "{event}");
        assert_eq!(event["type"], format!("tidegate.{}", case.kind.name()));
    }
}

#[tokio::test]
async fn what_the_publisher_says_of_its_bytes_goes_on_as_it_came_in_raw_and_only_if_true_in_cloudevents() {
    let utf_8 = |payload: &[u8]| Owned {
        properties: b"\x01\x01\x03\0\x08text/csv".to_vec(),
        ..Owned::new("house/mode", payload)
    };
    let records = [utf_8(b"a;b"), utf_8(b"\xff")];
    for arrival in send(FormatName::Raw, Version::V5, &records).await {
        assert!(arrival.properties.ends_with(&records[0].properties), "{arrival:?}");
    }
    let arrivals = send(FormatName::CloudEvents, Version::V5, &records).await;
    assert_eq!(said(&arrivals[0].properties), (true, Some("text/csv")));
    assert_eq!(said(&arrivals[1].properties), (false, Some("text/csv")));
}
