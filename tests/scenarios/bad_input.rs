//! Whatever comes in that should not: a clear error with the right exit code, no panic, nothing
//! lost.

use std::{process::Command, sync::Arc, time::Duration};

use bytes::BytesMut;
use parking_lot::Mutex;
use tidegate_tests::{
    client::Client,
    clock::{wait_for, within},
    codec::{self, Ack, Connect, Packet, Publish, Received, Version},
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle::{self, Recorder},
    ports,
    program::{self, Build},
    rng::Rng,
    upstream::{Cloud, Inbox, Reply, Upstream},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const LIMIT: Duration = Duration::from_secs(30);

/// Exit codes after BSD's `sysexits.h`.
const UNAVAILABLE: i32 = 69;
const CAN_NOT_CREATE: i32 = 73;
const CONFIG: i32 = 78;

/// What must close a connection, as bytes: its name, the version of a CONNECT to send before, the
/// bytes.
const MALFORMED: &[(&str, Option<Version>, &[u8])] = &[
    ("a PUBLISH before CONNECT [MQTT-3.1.0-1]", None, b"\x30\x03\x00\x01a"),
    ("HTTP", None, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("another protocol's name [MQTT-3.1.2-1]", None, b"\x10\x0d\x00\x04MQTX\x04\x02\x00\x3c\x00\x01c"),
    ("an unknown level [MQTT-3.1.2-2]", None, b"\x10\x0d\x00\x04MQTT\x09\x02\x00\x3c\x00\x01c"),
    ("the reserved flag of CONNECT [MQTT-3.1.2-3]", None, b"\x10\x0d\x00\x04MQTT\x04\x03\x00\x3c\x00\x01c"),
    ("a CONNECT cut short", None, b"\x10\x05\x00\x04MQT"),
    ("a length of five bytes [MQTT5] 1.5.5", None, b"\x10\xff\xff\xff\xff\x01"),
    (
        "a second CONNECT [MQTT-3.1.0-2]",
        Some(Version::V311),
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c",
    ),
    ("CONNACK from a client", Some(Version::V5), b"\x20\x03\x00\x00\x00"),
    ("a packet of type 0", Some(Version::V311), b"\x00\x00"),
    ("a packet of type 15 on 3.1.1", Some(Version::V311), b"\xf0\x00"),
    ("a PUBLISH of 256 MiB", Some(Version::V5), b"\x32\xff\xff\xff\x7f\x00\x01a"),
    ("QoS 3 [MQTT-3.3.1-4]", Some(Version::V311), b"\x36\x06\x00\x01a\x00\x01x"),
    ("packet id 0 [MQTT-2.2.1-3]", Some(Version::V311), b"\x32\x06\x00\x01a\x00\x00x"),
    ("a wildcard in a topic [MQTT-3.3.2-2]", Some(Version::V311), b"\x32\x08\x00\x03a/#\x00\x01x"),
    ("an empty topic without alias", Some(Version::V5), b"\x32\x06\x00\x00\x00\x01\x00x"),
    ("a topic that is not UTF-8 [MQTT-1.5.4-1]", Some(Version::V311), b"\x32\x06\x00\x01\xff\x00\x01x"),
    ("NUL in a topic [MQTT-1.5.4-2]", Some(Version::V311), b"\x32\x06\x00\x01\x00\x00\x01x"),
    ("a topic longer than its packet", Some(Version::V311), b"\x32\x06\x00\x09a\x00\x01x"),
    ("properties longer than their packet", Some(Version::V5), b"\x32\x07\x00\x01a\x00\x01\x7fx"),
    ("an unknown property", Some(Version::V5), b"\x32\x08\x00\x01a\x00\x01\x02\x7f\x01"),
    ("a topic alias that was never allowed", Some(Version::V5), b"\x32\x09\x00\x01a\x00\x01\x03\x23\xff\xff"),
    (
        "SUBSCRIBE without its reserved flags [MQTT-3.8.1-1]",
        Some(Version::V311),
        b"\x80\x06\x00\x01\x00\x01a\x00",
    ),
    ("SUBSCRIBE without a filter [MQTT-3.8.3-2]", Some(Version::V311), b"\x82\x02\x00\x01"),
    ("PUBREL without its reserved flags", Some(Version::V311), b"\x60\x02\x00\x01"),
];

async fn chain() -> (Arc<Mutex<Inbox>>, Upstream, Gateway) {
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    let upstream = Upstream::start(inbox.clone()).await;
    let gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V5)));
    (inbox, upstream, gateway)
}

async fn connect(gateway: &Gateway, version: Version) -> Client {
    let connect = Connect { version, client_id: "c", clean: true, keep_alive_s: 60 };
    Client::connect(gateway.mqtt, &connect).await.expect("the gateway accepts")
}

/// Publishes with QoS 1 and demands the acknowledgement.
async fn publish(client: &mut Client, topic: &str, payload: &[u8]) {
    client.put_publish(&Publish { topic, payload, qos: 1, packet_id: 9, dup: false, user_properties: &[] });
    client.flush().await.expect("the connection is open");
    assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id: 9, reason: 0 }, "{topic}");
}

/// Looks at the good device only: what noise sends may arrive or not.
struct Good(Recorder);

impl Cloud for Good {
    fn take(&mut self, publish: &Received) -> Reply {
        if publish.topic.starts_with(b"up/plant/") {
            self.0.record(publish);
        }
        Reply::Ack
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_malformed_packet_closes_its_own_connection_and_no_other() {
    let recorder = Arc::new(Mutex::new(Good(Recorder::new("up/"))));
    let upstream = Upstream::start(recorder.clone()).await;
    let mut gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V5)));
    let good = Fleet::start(gateway.mqtt, [Device { window: 10, ..Device::new("good", Version::V5) }]);
    for (what, version, bytes) in MALFORMED {
        let mut client = Client::open(gateway.mqtt, version.unwrap_or(Version::V311)).await.unwrap();
        if let Some(version) = version {
            let connect = Connect { version: *version, client_id: "bad", clean: true, keep_alive_s: 60 };
            codec::put_connect(&mut client.output, &connect);
            client.flush().await.unwrap();
            assert!(matches!(client.next().await, Packet::ConnAck { reason: 0, .. }));
        }
        client.output.extend_from_slice(bytes);
        client.flush().await.unwrap();
        let closing = tokio::time::timeout(LIMIT / 3, client.until_closed()).await;
        let said = closing.unwrap_or_else(|_| panic!("{what}: the connection stays open"));
        let acknowledged = said.iter().any(|packet| matches!(packet, Packet::Ack { reason: 0, .. }));
        assert!(!acknowledged, "{what}: {said:?}");
    }
    random_bytes(&gateway).await;
    let ledgers = good.finish(LIMIT).await;
    wait_for("the good device's events", LIMIT, || oracle::is_complete(&ledgers, &recorder.lock().0)).await;
    oracle::judge(&ledgers, &recorder.lock().0).demand();
    assert!(gateway.metric("tidegate_protocol_errors_total") >= 10.0);
    gateway.terminate();
}

/// Valid packets with some bytes changed, and pure noise: anything may happen to the connection,
/// nothing to the gateway.
async fn random_bytes(gateway: &Gateway) {
    let mut rng = Rng::from_environment("random bytes");
    for round in 0..200 {
        let mut bytes = BytesMut::new();
        let version = if round % 2 == 0 { Version::V311 } else { Version::V5 };
        codec::put_connect(&mut bytes, &Connect { version, client_id: "n", clean: true, keep_alive_s: 9 });
        let topic = "noise/n";
        for packet_id in 1..20 {
            let publish =
                Publish { topic, payload: b"noise", qos: 1, packet_id, dup: false, user_properties: &[] };
            codec::put_publish(&mut bytes, version, &publish);
        }
        for _ in 0..rng.between(1, 20) {
            let at = rng.between(0, bytes.len() as u64 - 1) as usize;
            bytes[at] = rng.next_u64() as u8;
        }
        let mut stream = TcpStream::connect(gateway.mqtt).await.expect("the gateway listens");
        // It may close at once, or wait for the rest of a packet: both are right.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = vec![];
        let reading = stream.read_to_end(&mut answer);
        let _ = within("the gateway to close after the client did", LIMIT, reading).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_frame_that_is_no_frame_is_stored_as_it_came_and_counted() {
    let (inbox, _upstream, gateway) = chain().await;
    let mut client = connect(&gateway, Version::V5).await;
    let payloads: [&[u8]; 4] = [b"", b"\xff\xff\xff\xff", b"\x10", b"{\"not\":\"a frame\"}"];
    for payload in payloads {
        publish(&mut client, "tg/press-7/e", payload).await;
    }
    wait_for("all of them upstream", LIMIT, || inbox.lock().messages.len() == payloads.len()).await;
    for (message, payload) in inbox.lock().messages.iter().zip(payloads) {
        assert_eq!((&message.topic[..], &message.payload[..]), (&b"up/tg/press-7/e"[..], payload));
    }
    assert_eq!(gateway.metric("tidegate_malformed_frames_total"), payloads.len() as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn strange_but_legal_clients_are_served() {
    let (inbox, _upstream, gateway) = chain().await;
    for (version, client_id, keep_alive_s) in [
        (Version::V311, "", 0),
        (Version::V5, "", 0),
        (Version::V5, "a/b+c#d", 0),
        (Version::V311, "a-name-much-longer-than-the-23-bytes-of-old", 65_535),
    ] {
        let connect = Connect { version, client_id, clean: true, keep_alive_s };
        let mut client = Client::connect(gateway.mqtt, &connect).await.expect(client_id);
        publish(&mut client, "é/ / ", b"").await;
    }
    wait_for("all of them upstream", LIMIT, || inbox.lock().messages.len() == 4).await;
}

/// A change to a good configuration: what it is, how, and what the error must name.
type Wrong = (&'static str, fn(&str) -> String, &'static [&'static str]);

const WRONG_CONFIGS: &[Wrong] = &[
    ("not TOML", |good| format!("{good}\n[[["), &["gateway.toml"]),
    (
        "an unknown key",
        |good| good.replace("wear_budget", "ware_budget"),
        &["ware_budget", "wear_budget", ":6:"],
    ),
    ("an unknown table", |good| format!("{good}\n[stroe]\n"), &["stroe"]),
    ("no id", |good| good.replace("id = \"gate\"\n", ""), &["id"]),
    ("a number for a text", |good| good.replace("id = \"gate\"", "id = 7"), &["id"]),
    ("anonymous on an open address", open_to_all, &["0.0.0.0", "loopback"]),
    ("a scheme that is not spoken", |good| good.replace("mqtt://", "gopher://"), &["gopher"]),
    ("a filter that is none", |good| good.replace("\"#\"", "\"a/#/b\""), &["a/#/b"]),
    ("an unknown payload", |good| good.replace("\"opaque\"", "\"opak\""), &["opak"]),
    ("a template without sense", |good| good.replace("{topic}", "{topci}"), &["topci"]),
    ("two uplinks of one name", two_of_a_name, &["cloud"]),
];

fn open_to_all(good: &str) -> String {
    good.replacen("address = \"127.0.0.1", "address = \"0.0.0.0", 1)
}

fn two_of_a_name(good: &str) -> String {
    let uplink = &good[good.find("[[uplink]]").expect("there is one")..];
    format!("{good}\n{uplink}")
}

#[test]
fn a_wrong_configuration_is_told_with_its_place_before_anything_is_made() {
    let mut gateway = Gateway::prepare(Setup::new(Uplink::new("mqtt://127.0.0.1:1", Version::V5)));
    gateway.restart();
    gateway.terminate();
    std::fs::remove_dir_all(gateway.data_dir()).unwrap();
    let good = std::fs::read_to_string(gateway.config_path()).unwrap();
    for (what, change, named) in WRONG_CONFIGS {
        let bad = change(&good);
        assert_ne!(bad, good, "{what}");
        std::fs::write(gateway.config_path(), bad).unwrap();
        let run = gateway.run_to_end();
        let check = tidegate(&["check", &gateway.config_path().to_string_lossy()]);
        for (command, output) in [("run", run), ("check", check)] {
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(CONFIG), "{command}, {what}: {said}");
            for word in *named {
                assert!(said.contains(word), "{command}, {what}: no {word} in: {said}");
            }
            assert!(said.contains("gateway.toml"), "{command}, {what}: no file in: {said}");
            assert!(!said.contains("panicked"), "{said}");
        }
        assert!(!gateway.data_dir().exists(), "{what}: it made its folder before it checked");
    }
    let missing = tidegate(&["run", "--config", "/nowhere/gateway.toml"]);
    assert_eq!(missing.status.code(), Some(CONFIG));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/gateway.toml"));
    assert_eq!(tidegate(&["rum"]).status.code(), Some(64));
}

fn tidegate(arguments: &[&str]) -> std::process::Output {
    Command::new(program::gateway(Build::Shipped)).args(arguments).output().expect("it can be started")
}

/// Demands that a start fails with the code, saying the words, without a panic.
fn refuses(gateway: &mut Gateway, code: i32, words: &[&str]) {
    let output = gateway.run_to_end();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word} in: {said}");
    }
}

#[test]
fn a_folder_of_somebody_else_is_left_alone() {
    let mut gateway = Gateway::prepare(Setup::new(Uplink::new("mqtt://127.0.0.1:1", Version::V5)));
    let data = gateway.data_dir();
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("holiday.jpg"), b"not ours").unwrap();
    refuses(&mut gateway, CONFIG, &["holiday.jpg", "data_dir"]);
    let names: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["holiday.jpg"]);
    assert_eq!(std::fs::read(data.join("holiday.jpg")).unwrap(), b"not ours");
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let mut gateway = Gateway::prepare(Setup::new(Uplink::new("mqtt://127.0.0.1:1", Version::V5)));
    // A file in its place: permissions would not stop root.
    std::fs::write(gateway.data_dir(), b"").unwrap();
    let data = gateway.data_dir();
    refuses(&mut gateway, CAN_NOT_CREATE, &[&data.to_string_lossy()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_second_gateway_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let (inbox, _upstream, mut gateway) = chain().await;
    let mut client = connect(&gateway, Version::V5).await;
    publish(&mut client, "a", b"before").await;
    let mut second = Gateway::prepare(gateway.setup.clone());
    let config = std::fs::read_to_string(gateway.config_path()).unwrap();
    let config = config.replace(&gateway.mqtt.to_string(), &ports::free_address().to_string());
    let config = config.replace(&gateway.http.to_string(), &ports::free_address().to_string());
    std::fs::write(second.config_path(), config).unwrap();
    refuses(&mut second, UNAVAILABLE, &["in use by another gateway", "data_dir"]);
    publish(&mut client, "a", b"after").await;
    wait_for("both events upstream", LIMIT, || inbox.lock().messages.len() == 2).await;
    gateway.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_port_in_use_is_told_with_its_address() {
    let (_inbox, _upstream, gateway) = chain().await;
    for taken in [gateway.mqtt, gateway.http] {
        let mut second = Gateway::prepare(gateway.setup.clone());
        let port = second.mqtt;
        if taken == gateway.mqtt {
            second.mqtt = taken;
        } else {
            second.http = taken;
        }
        refuses(&mut second, UNAVAILABLE, &[&taken.to_string()]);
        // What it had bound before it failed is free again.
        assert!(taken == gateway.mqtt || std::net::TcpListener::bind(port).is_ok());
    }
    assert!(gateway.is_ready());
}

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_nobody() {
    let inbox = Arc::<Mutex<Inbox>>::default();
    let upstream = Upstream::start(inbox.clone()).await;
    let uplink = Uplink::new(&upstream.url(), Version::V311);
    // Every write to it fails for want of space.
    let mut gateway = Gateway::start(Setup { log: Some("/dev/full".into()), ..Setup::new(uplink) });
    let hello = Connect { version: Version::V311, client_id: "c", clean: true, keep_alive_s: 60 };
    let mut client = Client::connect(gateway.mqtt, &hello).await.expect("the door is open");
    let publish =
        Publish { topic: "t", payload: b"told", qos: 1, packet_id: 1, dup: false, user_properties: &[] };
    client.put_publish(&publish);
    client.flush().await.expect("the connection is open");
    let answer = within("a PUBACK", LIMIT, client.next()).await;
    assert_eq!(answer, Packet::Ack { ack: Ack::PubAck, packet_id: 1, reason: 0 });
    wait_for("the event", LIMIT, || !inbox.lock().messages.is_empty()).await;
    assert!(gateway.is_running());
}
