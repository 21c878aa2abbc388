//! Devices that describe themselves: an event type that the gateway never heard of arrives as JSON,
//! also when its birth comes late, and as CloudEvents that are valid by the specification's schema.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::Value;
use tidegate_tests::{
    brokers::Mosquitto,
    client::Client,
    clock::wait_for,
    codec::{Connect, Packet, Publish, Version},
    gateway::{Gateway, Setup, Uplink},
    program, tools,
    upstream::{Inbox, Upstream},
};

const LIMIT: Duration = Duration::from_secs(60);
/// Events that the device of the firmware's example sends.
const EVENTS: usize = 12;
const DEVICE: &str = "soil-1";
const CONNECT: Connect<'_> =
    Connect { version: Version::V5, client_id: DEVICE, clean: true, keep_alive_s: 0 };

/// The firmware's example, an event type of its author's own, run to its end.
fn run_example(gateway: SocketAddr) {
    let output = Command::new(program::example("soil"))
        .args(["--gateway", &gateway.to_string(), "--count", &EVENTS.to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("the example can be started");
    assert!(output.status.success(), "{output:?}");
}

/// A gateway with one uplink of this format.
fn gateway(upstream: &str, version: Version, format: &str) -> Gateway {
    let uplink = Uplink { format: format.to_owned(), ..Uplink::new(upstream, version) };
    Gateway::start(Setup::new(uplink))
}

/// What came on the topic of the device's events, as JSON.
fn events(inbox: &Mutex<Inbox>) -> Vec<Value> {
    let inbox = inbox.lock();
    let of_device =
        inbox.messages.iter().filter(|message| message.topic == format!("up/tg/{DEVICE}/e").as_bytes());
    of_device.map(|message| serde_json::from_slice(&message.payload).expect("JSON came")).collect()
}

fn soil(inbox: &Mutex<Inbox>) -> Vec<Value> {
    events(inbox).into_iter().filter(|event| event["type"] == "soil").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_event_type_of_the_firmware_arrives_as_json_without_a_change_or_a_restart_of_the_gateway() {
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    let upstream = Upstream::start(inbox.clone()).await;
    let gateway = gateway(&upstream.url(), Version::V5, "json");
    let (pid, config) = (gateway.pid(), std::fs::read(gateway.config_path()).unwrap());
    run_example(gateway.mqtt);
    wait_for("all events as JSON", LIMIT, || soil(&inbox).len() >= EVENTS).await;
    for (seq, event) in soil(&inbox).iter().enumerate() {
        assert_eq!(event["device"], DEVICE);
        assert_eq!(event["seq"], seq as u64, "{event}");
        assert_eq!(event["time_quality"], "mapped", "{event}");
        assert!(event["uncertainty_ms"].as_u64().is_some_and(|ms| ms < 5_000), "{event}");
        let moisture = event["data"]["moisture"].as_f64().expect("a number in its unit");
        assert!((0.0..=100.0).contains(&moisture), "{event}");
    }
    assert_eq!((gateway.pid(), std::fs::read(gateway.config_path()).unwrap()), (pid, config));
    assert_eq!(gateway.starts(), 1);
    let (status, catalog) = gateway.get("/api/schemas").expect("the HTTP server is there");
    let catalog: Value = serde_json::from_str(&catalog).expect("JSON");
    let types = catalog["types"].as_array().expect("a list");
    assert!(status == 200 && types.iter().any(|kind| kind["name"] == "soil"), "{catalog}");
}

/// What a device said, as it came: births, and frames.
async fn recorded() -> (Vec<u8>, Vec<Vec<u8>>) {
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    let upstream = Upstream::start(inbox.clone()).await;
    let gateway = gateway(&upstream.url(), Version::V5, "raw");
    run_example(gateway.mqtt);
    wait_for("all of it", LIMIT, || {
        gateway.metric("tidegate_backlog_events") == 0.0 && !inbox.lock().messages.is_empty()
    })
    .await;
    let of = |leaf: &str| -> Vec<Vec<u8>> {
        let topic = format!("up/tg/{DEVICE}/{leaf}");
        let inbox = inbox.lock();
        let on_topic = inbox.messages.iter().filter(|message| message.topic == topic.as_bytes());
        on_topic.map(|message| message.payload.to_vec()).collect()
    };
    (of("b").pop().expect("a birth"), of("e"))
}

/// Publishes at QoS 1, and waits for the PUBACK.
async fn publish(client: &mut Client, leaf: &str, payload: &[u8], id: u16) {
    let topic = format!("tg/{DEVICE}/{leaf}");
    let publish = Publish { topic: &topic, payload, qos: 1, packet_id: id, dup: false, user_properties: &[] };
    client.put_publish(&publish);
    client.flush().await.expect("the gateway keeps the connection");
    while !matches!(client.next().await, Packet::Ack { packet_id, .. } if packet_id == id) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_before_their_birth_are_asked_for_and_sent_when_it_comes() {
    let (birth, frames) = recorded().await;
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    let upstream = Upstream::start(inbox.clone()).await;
    let mut gateway = gateway(&upstream.url(), Version::V5, "json");
    let mut device = Client::connect(gateway.mqtt, &CONNECT).await.unwrap();
    device.subscribe(&format!("tg/{DEVICE}/c")).await;
    for (id, frame) in (1..).zip(&frames) {
        publish(&mut device, "e", frame, id).await;
    }
    let asked = device.next_publish().await;
    assert_eq!(&asked.payload[..], b"birth");
    wait_for("the frames to be set aside", LIMIT, || {
        gateway.metric("tidegate_dead_letters") >= frames.len() as f64
    })
    .await;
    assert_eq!(events(&inbox).len(), 0);

    // What waits is on disk.
    gateway.kill();
    gateway.restart();
    // The kill may have taken its place from the uplink, which comes upon them once more.
    wait_for("them to be set aside again", LIMIT, || gateway.metric("tidegate_backlog_events") == 0.0).await;
    let mut device = Client::connect(gateway.mqtt, &CONNECT).await.unwrap();
    publish(&mut device, "b", &birth, 1).await;
    wait_for("all events as JSON", LIMIT, || soil(&inbox).len() >= EVENTS).await;
    wait_for("no letter to be left", LIMIT, || gateway.metric("tidegate_dead_letters") == 0.0).await;
    assert!(soil(&inbox).iter().all(|event| event["replayed"].is_string()));
}

/// `tests/clients/cloudevents_tool.js`: what it says of each message. Killed with the value.
struct Validator {
    child: Child,
    said: Arc<Mutex<Vec<Value>>>,
}

impl Validator {
    fn start(broker: SocketAddr, version: Version, count: usize) -> Self {
        let version = if version == Version::V5 { "5" } else { "4" };
        let mut child = Command::new(tools::find("node"))
            .env("NODE_PATH", tools::node_modules())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/cloudevents_tool.js"))
            .args([&broker.port().to_string(), version, &count.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node can be started");
        let said = Arc::new(Mutex::new(Vec::new()));
        let (kept, output) = (said.clone(), child.stdout.take().expect("standard output is a pipe"));
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                kept.lock().push(serde_json::from_str(&line).expect("it prints JSON"));
            }
        });
        Self { child, said }
    }
}

impl Drop for Validator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn demand_valid_cloudevents(version: Version, mode: &str) {
    let broker = Mosquitto::start();
    let validator = Validator::start(broker.address, version, EVENTS);
    wait_for("the subscription", LIMIT, || !validator.said.lock().is_empty()).await;
    let gateway = gateway(&broker.url(), version, "cloudevents");
    run_example(gateway.mqtt);
    wait_for("all events", LIMIT, || validator.said.lock().len() > EVENTS).await;
    let said = validator.said.lock();
    for answer in &said[1..] {
        assert_eq!(answer["valid"], true, "{answer}");
        assert_eq!(answer["mode"], mode);
        assert!(answer["event"]["id"].as_str().is_some_and(|id| id.contains('/')), "{answer}");
    }
    let types: Vec<_> = said[1..].iter().filter_map(|answer| answer["event"]["type"].as_str()).collect();
    assert!(types.contains(&"tidegate.soil.v1") && types.contains(&"tidegate.birth"), "{types:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cloudevents_in_binary_mode_are_valid_by_the_specifications_schema() {
    demand_valid_cloudevents(Version::V5, "binary").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cloudevents_in_structured_mode_are_valid_by_the_specifications_schema() {
    demand_valid_cloudevents(Version::V311, "structured").await;
}
