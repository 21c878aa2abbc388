//! Events that are described: JSON and CloudEvents, one message for each, and what becomes of those
//! that cannot be.

use serde_json::{Value, json};
use tidegate_protocol::{
    Birth, FrameWriter, Kind as EventKind, Kinds, ResetReason, State, Status,
    events::{Climate, EventType, Loss},
    schema_set,
};

use super::{
    super::{FormatName, Template, engine::mqtt::Version},
    broker::{ACCEPTED_V5, ACCEPTED_V311, Arrival, Broker, Reply},
    formats::user_properties,
    *,
};
use crate::{
    catalog::Values,
    presence::{BIRTH_TOPIC, HEALTH_TOPIC, STATUS_TOPIC},
    store::gap,
};

const KINDS: [EventKind; 2] = [Loss::KIND, Climate::KIND];
/// The user properties begin behind these: text payload, and `application/json` as the content
/// type.
const JSON_PROPERTIES: &[u8] = b"\x01\x01\x03\x00\x10application/json";

fn climate(temperature: i16) -> Vec<u8> {
    postcard::to_allocvec(&Climate { temperature, humidity: 4520, pressure: 101_325 }).unwrap()
}

/// A frame of these bodies, one a second.
fn frame(first_seq: u32, bodies: &[Vec<u8>]) -> Owned {
    let mut buffer = [0; 1024];
    let mut writer = FrameWriter::new(&mut buffer, 17, first_seq, schema_set(&KINDS), false);
    for (at_ms, body) in (3_600_123..).step_by(1000).zip(bodies) {
        writer.push(at_ms, 1, body).unwrap();
    }
    let events = bodies.len() as u8;
    Owned { kind: Kind::Frame, events, ..Owned::new("tg/stall-3/e", writer.finish()) }
}

fn birth() -> Birth<'static> {
    Birth {
        boot: 17,
        connection: 1,
        uptime_ms: 500,
        wall_ms: None,
        reset: ResetReason::PowerOn,
        firmware: "stall",
        version: "1.2.0",
        build: "a1b2",
        kinds: Kinds::new(&KINDS),
    }
}

fn informed() -> EventContext {
    let context = EventContext::default();
    context.catalog.learn("stall-3", &birth()).unwrap();
    context
}

/// What `records` become, and what was set aside.
async fn send(
    change: impl FnOnce(&mut Settings),
    connack: &[u8],
    records: &[Owned],
    context: &EventContext,
    script: impl FnMut(usize, &broker::Came) -> Reply + Send + 'static,
) -> (Vec<Arrival>, Vec<(u64, String)>) {
    let broker = Broker::start(connack, script).await;
    let mut chosen = super::settings(broker.port);
    chosen.broker().version = Version::V5;
    chosen.format = FormatName::Json;
    change(&mut chosen);
    let log = Log::default();
    records.iter().for_each(|record| log.push(record.clone()));
    let uplink = Running::start_knowing(chosen, log.clone(), context);
    uplink.released(records.len() as u64).await;
    uplink.stop().await;
    (broker.arrivals().into_iter().map(|(_, arrival)| arrival).collect(), log.aside())
}

fn parsed(arrival: &Arrival) -> Value {
    serde_json::from_slice(&arrival.payload).unwrap()
}

fn acks(_: usize, _: &broker::Came) -> Reply {
    Reply::Ack
}

#[tokio::test]
async fn each_event_of_a_frame_is_a_json_object_with_its_values_in_their_units() {
    let records = [frame(300, &[climate(2345), climate(-5)])];
    let (arrivals, aside) = send(|_| (), ACCEPTED_V5, &records, &informed(), acks).await;
    assert_eq!((arrivals.len(), aside.len()), (2, 0));
    let mut first = parsed(&arrivals[0]);
    let known = first.as_object_mut().unwrap();
    for key in ["time", "time_quality", "uncertainty_ms"] {
        known.remove(key);
    }
    assert_eq!(
        first,
        json!({
            "id": "stall-3/17/300", "device": "stall-3", "boot": 17, "seq": 300, "type": "climate", "version": 1,
            "definition": "f8b063dcae0b",
            "uptime_ms": 3_600_123, "received": "2023-11-14T22:13:20.123Z",
            "data": {"temperature": 23.45, "humidity": 45.2, "pressure": 101_325},
        })
    );
    let second = parsed(&arrivals[1]);
    assert_eq!((&second["id"], &second["data"]["temperature"]), (&json!("stall-3/17/301"), &json!(-0.05)));
    let properties = arrivals[0].properties.strip_prefix(JSON_PROPERTIES).expect("a text, and of JSON");
    assert_eq!(user_properties(properties, &[]), [("tidegate-id", "stall-3/17/300")]);
    assert_eq!(arrivals[0].topic, "tg/stall-3/e");
}

#[tokio::test]
async fn values_may_go_as_the_device_counts_and_the_topic_may_name_the_type() {
    let change = |settings: &mut Settings| {
        settings.values = Values::Raw;
        settings.topic = Template::parse("{gateway}/{device}/{type}").unwrap();
    };
    let (arrivals, _) = send(change, ACCEPTED_V5, &[frame(0, &[climate(2345)])], &informed(), acks).await;
    assert_eq!(arrivals[0].topic, "barn-7/stall-3/climate");
    assert_eq!(
        parsed(&arrivals[0])["data"],
        json!({"temperature": 2345, "humidity": 4520, "pressure": 101_325})
    );
}

#[tokio::test]
async fn thingsboard_gets_values_by_device_and_time() {
    let json_of = |payload: &[u8]| Owned { kind: Kind::Json, ..Owned::new("hall/2", payload) };
    let records = [
        frame(300, &[climate(2345)]),
        json_of(b" {\"open\": true}"),
        json_of(b"21.5"),
        Owned { kind: Kind::Text, ..Owned::new("hall/2", b"say \"on\"") },
        Owned::new("modbus", b"\xff\x00"),
        json_of(gap::TOPIC.as_bytes()),
        Owned { retain: true, ..json_of(b"") },
        Owned::new("tg/stall-3/s", b"no status"),
        Owned::new("tg/stall-3/r", b"{\"done\":1}"),
        Owned { kind: Kind::Json, ..Owned::new(HEALTH_TOPIC, b"{\"backlog_events\":7}") },
        Owned { kind: Kind::Json, ..Owned::new(STATUS_TOPIC, b"{\"state\":\"stopping\"}") },
    ];
    let change = |settings: &mut Settings| {
        settings.format = FormatName::ThingsBoard;
        settings.topic = Template::parse("v1/gateway/telemetry").unwrap();
    };
    let (arrivals, aside) = send(change, ACCEPTED_V5, &records, &informed(), acks).await;
    assert_eq!(aside, []);
    assert!(arrivals.iter().all(|arrival| arrival.topic == "v1/gateway/telemetry"));
    let (devices, values): (Vec<_>, Vec<_>) = arrivals
        .iter()
        .map(|arrival| {
            let whole = parsed(arrival);
            let (device, points) = whole.as_object().unwrap().iter().next().unwrap();
            let [point] = &points.as_array().unwrap()[..] else { panic!("{whole}") };
            assert!(point["ts"].as_u64().unwrap() > 1_600_000_000_000, "{whole}");
            assert_eq!(point.as_object().unwrap().len(), 2);
            (device.clone(), point["values"].clone())
        })
        .unzip();
    assert_eq!((&devices[0][..], &devices[1][..], &devices[7][..]), ("stall-3", "client", "stall-3"));
    let expected = [
        json!({"temperature": 23.45, "humidity": 45.2, "pressure": 101_325}),
        json!({"open": true}),
        json!({"value": 21.5}),
        json!({"value": "say \"on\""}),
        json!({"value": "/wA="}),
        json!({"value": gap::TOPIC}),
        json!({}),
        json!({"status": "bm8gc3RhdHVz"}),
        json!({"reply": {"done": 1}}),
        json!({"backlog_events": 7}),
        json!({"status": {"state": "stopping"}}),
    ];
    assert_eq!(values, expected);
}

#[tokio::test]
async fn a_frame_that_no_birth_explains_is_set_aside_whole_and_what_is_behind_it_goes_on() {
    let records = [frame(0, &[climate(1), climate(2)]), Owned::new("door", b"open")];
    let (arrivals, aside) = send(|_| (), ACCEPTED_V5, &records, &EventContext::default(), acks).await;
    assert_eq!(arrivals.len(), 1);
    assert_eq!(aside.len(), 1);
    assert!(
        aside[0].1.starts_with("no birth of its device says what its events are (schema set "),
        "{aside:?}"
    );
}

#[tokio::test]
async fn an_event_over_which_the_upstream_closes_is_set_aside_though_no_birth_explains_those_before_it() {
    let unborn = (0..12).map(|n| Owned { topic: format!("tg/s-{n}/e"), ..frame(0, &[climate(n)]) });
    let behind = ["bad", "door", "door"].map(|topic| Owned::new(topic, b"open"));
    let records: Vec<_> = unborn.chain(behind).collect();
    let closes = |_: usize, came: &broker::Came| match came {
        broker::Came::Publish(arrival) if arrival.topic == "bad" => Reply::Close,
        _ => Reply::Ack,
    };
    let (arrivals, aside) = send(|_| (), ACCEPTED_V5, &records, &EventContext::default(), closes).await;
    assert!(arrivals.iter().any(|arrival| arrival.topic == "door"));
    let (bad, unexplained): (Vec<_>, Vec<_>) = aside.iter().partition(|(offset, _)| *offset == 12);
    assert_eq!((unexplained.len(), bad.len()), (12, 1), "{aside:?}");
    assert_eq!(bad[0].1, "the upstream closed the connection over it");
}

#[tokio::test]
async fn an_event_that_is_not_what_its_kind_says_is_left_out_and_the_others_of_its_frame_go() {
    let records = [frame(7, &[climate(1), vec![0xff; 3], climate(3)])];
    let (arrivals, aside) = send(|_| (), ACCEPTED_V5, &records, &informed(), acks).await;
    let ids: Vec<_> = arrivals.iter().map(|arrival| parsed(arrival)["id"].clone()).collect();
    assert_eq!(ids, ["stall-3/17/7", "stall-3/17/9"]);
    assert!(aside[0].1.starts_with("event 17-8 is no climate 1: "), "{aside:?}");
}

#[tokio::test]
async fn a_frame_with_more_events_than_the_window_goes_out_whole() {
    let bodies: Vec<_> = (0..40).map(climate).collect();
    let narrow = |settings: &mut Settings| settings.window = std::num::NonZeroU16::new(3).unwrap();
    let records = [frame(0, &bodies), frame(40, &bodies)];
    let (arrivals, aside) = send(narrow, ACCEPTED_V5, &records, &informed(), acks).await;
    let seqs: Vec<_> = arrivals.iter().map(|arrival| parsed(arrival)["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (0..80).collect::<Vec<_>>());
    assert_eq!(aside, []);
}

#[tokio::test]
async fn a_connection_that_breaks_within_a_frame_sends_all_of_it_again_with_the_same_ids() {
    let bodies: Vec<_> = (0..5).map(climate).collect();
    let mut publishes = 0;
    let breaks = move |_: usize, came: &broker::Came| {
        publishes += u32::from(matches!(came, broker::Came::Publish(_)));
        if publishes == 3 { Reply::Close } else { Reply::Ack }
    };
    let (arrivals, _) = send(|_| (), ACCEPTED_V5, &[frame(0, &bodies)], &informed(), breaks).await;
    let mut seqs: Vec<_> = arrivals.iter().map(|arrival| parsed(arrival)["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs[seqs.len() - 5..], [0, 1, 2, 3, 4], "{seqs:?}");
    seqs.dedup();
    assert!(seqs.len() > 5, "nothing was sent twice: the connection did not break within the frame");
}

#[tokio::test]
async fn cloudevents_on_mqtt_5_are_in_binary_mode() {
    let change = |settings: &mut Settings| settings.format = FormatName::CloudEvents;
    let records = [frame(300, &[climate(2345)]), Owned::new("door/ä", b"\xff\x00")];
    let (arrivals, _) = send(change, ACCEPTED_V5, &records, &informed(), acks).await;
    assert_eq!(parsed(&arrivals[0]), json!({"temperature": 23.45, "humidity": 45.2, "pressure": 101_325}));
    let properties = arrivals[0].properties.strip_prefix(JSON_PROPERTIES).expect("a text, and of JSON");
    let attributes = user_properties(properties, &[]);
    for expected in [
        ("specversion", "1.0"),
        ("id", "stall-3/17/300"),
        ("source", "/tidegate/barn-7/stall-3"),
        ("type", "tidegate.climate.v1"),
        ("subject", "tg/stall-3/e"),
        ("receivedtime", "2023-11-14T22:13:20.123Z"),
        ("boot", "17"),
        ("sequence", "300"),
        ("uptimems", "3600123"),
    ] {
        assert!(attributes.contains(&expected), "{expected:?} is not in {attributes:?}");
    }
    let binary = b"\x03\x00\x18application/octet-stream";
    let attributes = user_properties(arrivals[1].properties.strip_prefix(binary).expect("bytes"), &[]);
    assert!(attributes.contains(&("type", "tidegate.opaque")) && attributes.contains(&("subject", "door/ä")));
    assert_eq!(arrivals[1].payload, b"\xff\x00");
}

#[tokio::test]
async fn cloudevents_on_mqtt_3_1_1_are_in_structured_mode() {
    let change = |settings: &mut Settings| {
        settings.format = FormatName::CloudEvents;
        settings.broker().version = Version::V311;
    };
    let topics = ["Tür", "\"Tür", "T\\r", "T\u{1}r"];
    let foreign = topics.map(|topic| Owned::new(topic, b"\xff\x00"));
    let records = [&[frame(300, &[climate(2345)])], &foreign[..]].concat();
    let (arrivals, _) = send(change, ACCEPTED_V311, &records, &informed(), acks).await;
    let event = parsed(&arrivals[0]);
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["datacontenttype"], "application/json");
    assert_eq!(event["data"]["pressure"], 101_325);
    let event = parsed(&arrivals[1]);
    let subjects: Vec<_> = arrivals[1..].iter().map(|arrival| parsed(arrival)["subject"].clone()).collect();
    assert_eq!(subjects, topics);
    assert_eq!(
        (&event["datacontenttype"], &event["data_base64"]),
        (&json!("application/octet-stream"), &json!("/wA="))
    );
}

#[tokio::test]
async fn what_is_no_event_type_of_ours_goes_as_json_or_in_base64() {
    let status = Status {
        boot: 17,
        connection: 1,
        state: State::Sleeping,
        uptime_ms: 9,
        wall_ms: None,
        next_contact_s: Some(60),
        battery_percent: None,
        signal_dbm: Some(-70),
    };
    let mut buffer = [0; 1024];
    let born = birth().write(&mut buffer).unwrap().to_vec();
    let status = status.write(&mut buffer).unwrap().to_vec();
    let reply = |topic: &str| Owned::new(topic, b"\"done\"");
    let json_of = |topic: &str, payload: &[u8]| Owned { kind: Kind::Json, ..Owned::new(topic, payload) };
    let records = [
        json_of("zigbee/door", b" {\"open\": true}"),
        json_of("zigbee/door", b"{broken"),
        Owned::new("modbus", b"\xff\x00"),
        json_of(gap::TOPIC, b"{\"reason\":\"store-full\"}"),
        Owned::new("tg/stall-3/b", &born),
        Owned::new("tg/stall-3/s", &status),
        Owned { properties: b"\x26\0\x01a\0\x01b\x01\x01\x09\0\x06fan-17".to_vec(), ..reply("tg/stall-3/r") },
        Owned::new("tg/stall-3/s", b"no status"),
        reply("tg/stall-3/r"),
        Owned { properties: b"\x09\0\x02\xff\0".to_vec(), ..reply("tg/stall-3/r") },
        json_of(BIRTH_TOPIC, b"{\"version\":\"0.1.0\"}"),
        json_of(HEALTH_TOPIC, b"{\"ready\":true}"),
        json_of(STATUS_TOPIC, b"{\"state\":\"stopping\"}"),
    ];
    let (arrivals, aside) = send(|_| (), ACCEPTED_V5, &records, &EventContext::default(), acks).await;
    assert_eq!(aside, []);
    let found: Vec<_> = arrivals.iter().map(parsed).collect();
    let types: Vec<_> = found.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        ["json", "json", "opaque", "gap", "birth", "status", "reply", "status", "reply", "reply"]
            .into_iter()
            .chain(["birth", "health", "status"])
            .collect::<Vec<_>>()
    );
    assert_eq!(found[11]["data"], json!({"ready": true}));
    assert_eq!(found[0]["data"], json!({"open": true}));
    assert_eq!((&found[1]["data"], &found[1]["content_type"]), (&json!("{broken"), &json!("text/plain")));
    assert_eq!(found[2]["id"], "barn-7/0badcafe-2");
    assert_eq!(found[2]["topic"], "modbus");
    assert_eq!(found[4]["data"]["kinds"][1], json!({"name": "climate", "version": 1}));
    assert_eq!(found[4]["data"]["reset"], "power-on");
    assert_eq!(found[5]["data"]["state"], "sleeping");
    assert_eq!(found[5]["data"]["signal_dbm"], -70);
    assert_eq!((&found[6]["data"], &found[6]["command"]), (&json!("done"), &json!("fan-17")));
    assert_eq!(
        (&found[8]["command"], &found[9]["command"]),
        (&Value::Null, &Value::Null),
        "no id of a command"
    );
    assert_eq!(found[7]["data_base64"], "bm8gc3RhdHVz");
}

#[tokio::test]
async fn an_event_that_the_upstream_refuses_sets_its_frame_aside_and_the_rest_arrives() {
    let refuse = |_: usize, came: &broker::Came| match came {
        broker::Came::Publish(arrival) if arrival.payload.windows(9).any(|part| part == b"\"seq\":41,") => {
            Reply::Bytes(vec![0x40, 3, (arrival.id >> 8) as u8, arrival.id as u8, 0x99])
        }
        _ => Reply::Ack,
    };
    let records = [frame(40, &[climate(1), climate(2), climate(3)])];
    let (arrivals, aside) = send(|_| (), ACCEPTED_V5, &records, &informed(), refuse).await;
    assert_eq!(arrivals.len(), 3);
    assert_eq!(aside.len(), 1);
    assert!(aside[0].1.starts_with("the upstream refused it"), "{aside:?}");
}

#[tokio::test]
async fn the_events_of_a_frame_that_is_refused_are_counted_once_and_it_is_one_dead_letter() {
    let events = 22;
    let refuse = |_: usize, came: &broker::Came| match came {
        broker::Came::Publish(_) => Reply::Refuse(0x99),
        _ => Reply::Ack,
    };
    let broker = Broker::start(ACCEPTED_V5, refuse).await;
    let mut settings = super::settings(broker.port);
    (settings.broker().version, settings.format) = (Version::V5, FormatName::Json);
    let log = Log::default();
    log.push(frame(0, &vec![climate(1); events]));
    let uplink = Running::start_knowing(settings, log, &informed());
    uplink.released(1).await;
    let view = uplink.health.view();
    assert_eq!((view.set_aside_events, view.delivered_events), (events as u64, 0));
    assert_eq!((uplink.log.aside().len(), uplink.log.tries()), (1, vec![1]));
    assert_eq!(broker.arrivals().len(), events);
    uplink.stop().await;
}
