//! A device author's mistakes, each of which is told: what cannot be read, kinds that were not
//! announced, numbers that are used twice, two definitions of one name, units that nobody knows.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::Value;
use tidegate_protocol::{
    Birth, FrameWriter, Kind, Kinds, ResetReason,
    events::{EventType, Loss},
};
use tidegate_tests::{
    client::Client,
    clock::wait_for,
    codec::{Ack, Connect, Packet, Publish, Version},
    gateway::{Gateway, Setup, Uplink},
    oracle::Recorder,
    program,
    upstream::{Inbox, Upstream},
};

const LIMIT: Duration = Duration::from_secs(30);
/// A byte.
const DEPTH: Kind = Kind { name: "depth", version: 1, definition: b"\x01\x05depth\x01\x02" };
/// The same name and version, and another type: a signed byte.
const DEPTH_SIGNED: Kind = Kind { name: "depth", version: 1, definition: b"\x01\x05depth\x01\x06" };

/// A struct with a byte `t` in `°C`, which is no unit of SenML.
const WARMTH: Kind =
    Kind { name: "warmth", version: 1, definition: b"\x01\x06warmth\x01\x11\x01\x01t\x03\xc2\xb0C\x00\x02" };
/// The same in `C`, which is the coulomb.
const WARMTH_IN_COULOMB: Kind =
    Kind { name: "charge", version: 1, definition: b"\x01\x06charge\x01\x11\x01\x01t\x01C\x00\x02" };

async fn connect(gateway: &Gateway, client_id: &str) -> Client {
    let connect = Connect { version: Version::V311, client_id, clean: true, keep_alive_s: 60 };
    Client::connect(gateway.mqtt, &connect).await.expect("the gateway is there")
}

/// Publishes at QoS 1, and waits for the PUBACK.
async fn publish(client: &mut Client, topic: &str, payload: &[u8], packet_id: u16) {
    let (dup, user_properties) = (false, &[][..]);
    client.put_publish(&Publish { topic, payload, qos: 1, packet_id, dup, user_properties });
    client.flush().await.expect("it is not cut off");
    assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id, reason: 0 });
}

/// The birth of boot 1.
fn birth(kinds: Kinds<'_>) -> Vec<u8> {
    let (firmware, version, build, reset) = ("clay", "1", "b", ResetReason::PowerOn);
    let birth =
        Birth { boot: 1, connection: 1, uptime_ms: 9, wall_ms: None, reset, firmware, version, build, kinds };
    birth.write(&mut [0; 512]).expect("a birth that may be written").to_vec()
}

/// A frame of boot 1 with these bodies of kind 1.
fn frame(schema_set: u32, first_seq: u32, bodies: &[&[u8]]) -> Vec<u8> {
    let mut buffer = [0; 512];
    let mut writer = FrameWriter::new(&mut buffer, 1, first_seq, schema_set, false);
    for (at_ms, body) in (10..).zip(bodies) {
        writer.push(at_ms, 1, body).expect("it fits");
    }
    writer.finish().to_vec()
}

/// What the program says when it asks the gateway.
fn said(gateway: &Gateway, words: &[&str]) -> String {
    let http = gateway.http.to_string();
    let words = words.iter().copied().chain(["--http", &http]);
    String::from_utf8(program::run(words).stdout).expect("UTF-8")
}

/// The events of these devices that came upstream as JSON, in their order.
fn events(inbox: &Mutex<Inbox>) -> Vec<Value> {
    let inbox = inbox.lock();
    let of_events = inbox.messages.iter().filter(|message| message.topic.ends_with(b"/e"));
    of_events.map(|message| serde_json::from_slice(&message.payload).expect("JSON came")).collect()
}

/// A gateway that sends JSON, and what comes of it.
async fn gateway_to(inbox: &Arc<Mutex<Inbox>>) -> (Upstream, Gateway) {
    let upstream = Upstream::start(inbox.clone()).await;
    let uplink = Uplink { format: "json".into(), ..Uplink::new(&upstream.url(), Version::V311) };
    let gateway = Gateway::start(Setup::new(uplink));
    (upstream, gateway)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_author_is_told_what_cannot_be_read_and_it_is_still_known_after_a_restart() {
    let recorder = Arc::new(Mutex::new(Recorder::new("up/")));
    let upstream = Upstream::start(recorder).await;
    let mut gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V311)));
    let mut client = connect(&gateway, "clay-1").await;
    // Births that end after their boot number, a status of another kind, and frames that begin with
    // a wrong byte.
    let birth: (&str, &[u8]) = ("tg/clay-1/b", b"\x12\x00\x01");
    let frame: (&str, &[u8]) = ("tg/clay-1/e", br#"{"temperature":21.5,"humidity":40}"#);
    let status: (&str, &[u8]) = ("tg/clay-1/s", b"\x12\x00\x01");
    let sent = [birth, birth, birth, birth, birth, status, frame, frame, frame, ("tg/clay-1/s", b"")];
    for (packet_id, (topic, payload)) in (1..).zip(sent) {
        publish(&mut client, topic, payload, packet_id).await;
    }
    let text = |gateway: &Gateway| said(gateway, &["devices", "show", "clay-1"]);
    wait_for("all of it to be counted", LIMIT, || text(&gateway).contains("unreadable    9\n")).await;
    let last = "was a frame: the frame has version 7, this program reads version 1\n";
    assert!(text(&gateway).contains(last), "{}", text(&gateway));
    let log = gateway.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("cannot be read")).collect();
    let wanted = ["birth", "birth", "birth", "status", "frame", "frame"];
    assert_eq!(told.len(), wanted.len(), "the 1st, 2nd, 4th and 8th, and the first of each kind: {told:?}");
    for (line, what) in told.iter().zip(wanted) {
        assert!(line.contains("WARN") && line.contains(&format!("a {what} cannot be read: ")), "{line}");
    }
    assert!(told[0].contains("a birth cannot be read: byte 3: "), "{}", told[0]);
    assert!(told[3].contains("a status cannot be read: byte 0: "), "{}", told[3]);
    gateway.terminate();
    gateway.restart();
    assert!(text(&gateway).contains("unreadable    9\n"), "{}", text(&gateway));
    assert!(text(&gateway).contains(last), "{}", text(&gateway));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_of_a_schema_set_that_was_not_announced_names_the_one_that_was() {
    let recorder = Arc::new(Mutex::new(Recorder::new("up/")));
    let upstream = Upstream::start(recorder).await;
    let uplink = Uplink { format: "json".into(), ..Uplink::new(&upstream.url(), Version::V311) };
    let gateway = Gateway::start(Setup::new(uplink));
    let mut client = connect(&gateway, "clay-2").await;
    let kinds = Kinds::new(&[Loss::KIND]);
    publish(&mut client, "tg/clay-2/b", &birth(kinds), 1).await;
    publish(&mut client, "tg/clay-2/e", &frame(0xdead_beef, 0, &[b"x"]), 2).await;
    let letters = || said(&gateway, &["dead-letters", "list"]);
    let announced = kinds.schema_set();
    let reason = format!("(schema set deadbeef; its last birth announced {announced:08x})");
    wait_for("a dead letter whose reason names both", LIMIT, || letters().contains(&reason)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_whose_boot_number_does_not_grow_is_told_and_its_second_events_are_marked() {
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    let (_upstream, mut gateway) = gateway_to(&inbox).await;
    let kinds = [Loss::KIND, DEPTH];
    let kinds = Kinds::new(&kinds);
    let set = kinds.schema_set();
    let mut client = connect(&gateway, "clay-3").await;
    publish(&mut client, "tg/clay-3/b", &birth(kinds), 1).await;
    let first = frame(set, 0, &[&[1], &[2], &[3], &[4]]);
    // The frame comes twice, as from a device that saw no PUBACK: no second event.
    publish(&mut client, "tg/clay-3/e", &first, 2).await;
    publish(&mut client, "tg/clay-3/e", &first, 3).await;
    // A reset, after which its numbers begin again: three of the five are used twice, and the last
    // one is new.
    let mut client = connect(&gateway, "clay-3").await;
    publish(&mut client, "tg/clay-3/e", &frame(set, 0, &[&[11], &[12]]), 4).await;
    publish(&mut client, "tg/clay-3/e", &frame(set, 3, &[&[14], &[15]]), 5).await;
    wait_for("all of it upstream", LIMIT, || events(&inbox).len() >= 8).await;
    let seen: Vec<_> = events(&inbox).iter().map(mark).collect();
    let (no, yes) = (false, true);
    let expected = [
        (0, 1, no),
        (1, 2, no),
        (2, 3, no),
        (3, 4, no),
        (0, 11, yes),
        (1, 12, yes),
        (3, 14, yes),
        (4, 15, no),
    ];
    assert_eq!(seen, expected);
    wait_for("it to be counted", LIMIT, || {
        said(&gateway, &["devices", "show", "clay-3"]).contains("same numbers  3\n")
    })
    .await;
    let log = gateway.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("begin again")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("WARN") && told[0].contains("clay-3") && told[0].contains("boot=1"),
        "{}",
        told[0]
    );
    assert_eq!(gateway.metric("tidegate_reused_identities_total"), 3.0);
    gateway.terminate();
    gateway.restart();
    let list = said(&gateway, &["devices", "list"]);
    assert!(list.contains("DUPLICATE IDS: 3 events"), "{list}");
    // And it goes on after the restart.
    let mut client = connect(&gateway, "clay-3").await;
    publish(&mut client, "tg/clay-3/e", &frame(set, 2, &[&[13]]), 6).await;
    wait_for("the last of it upstream", LIMIT, || events(&inbox).len() >= 9).await;
    assert_eq!(mark(&events(&inbox)[8]), (2, 13, yes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_definitions_of_one_name_and_version_are_told_and_each_event_names_its_own() {
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    let (_upstream, gateway) = gateway_to(&inbox).await;
    // What one counts without a sign the others count with one.
    for (name, kind) in [("clay-4", DEPTH), ("clay-5", DEPTH_SIGNED), ("clay-6", DEPTH_SIGNED)] {
        let kinds = [Loss::KIND, kind];
        let kinds = Kinds::new(&kinds);
        let mut client = connect(&gateway, name).await;
        publish(&mut client, &format!("tg/{name}/b"), &birth(kinds), 1).await;
        publish(&mut client, &format!("tg/{name}/e"), &frame(kinds.schema_set(), 0, &[&[7]]), 2).await;
    }
    wait_for("all of it upstream", LIMIT, || events(&inbox).len() >= 3).await;
    let events = events(&inbox);
    let definition = |at: usize| events[at]["definition"].as_str().expect("a text").to_owned();
    assert_ne!(definition(0), definition(1));
    assert_eq!(definition(1), definition(2));
    let log = gateway.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("with another definition")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let line = told[0];
    for part in ["WARN", "clay-5", "depth@1", &definition(0), &definition(1)] {
        assert!(line.contains(part), "{part:?} is not in {line}");
    }
    // The hashes are those of the list.
    let list = said(&gateway, &["schemas", "list"]);
    assert!(list.contains(&definition(0)) && list.contains(&definition(1)), "{list}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_readers_do_not_know_is_told_once_and_the_events_are_taken() {
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    let (_upstream, gateway) = gateway_to(&inbox).await;
    for name in ["clay-7", "clay-8"] {
        let kinds = [Loss::KIND, WARMTH, WARMTH_IN_COULOMB];
        let kinds = Kinds::new(&kinds);
        let mut client = connect(&gateway, name).await;
        publish(&mut client, &format!("tg/{name}/b"), &birth(kinds), 1).await;
        publish(&mut client, &format!("tg/{name}/e"), &frame(kinds.schema_set(), 0, &[&[7]]), 2).await;
    }
    wait_for("all of it upstream", LIMIT, || events(&inbox).len() >= 2).await;
    assert_eq!(events(&inbox)[1]["data"]["t"], 7);
    let log = gateway.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("the unit")).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    for (line, place) in told.iter().zip(["warmth@1.t", "charge@1.t"]) {
        let parts = ["WARN", "clay-7", place, "degrees Celsius are \"Cel\"", "schemas lint"];
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
}

/// Number, value, and whether it says that another event has the same id.
fn mark(event: &Value) -> (u64, u64, bool) {
    let number = |value: &Value| value.as_u64().expect("a number");
    (number(&event["seq"]), number(&event["data"]), event["duplicate_identity"] == true)
}
