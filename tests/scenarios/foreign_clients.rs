//! Clients and brokers that know nothing of Tidegate: mosquitto's tools and paho-mqtt before it,
//! mosquitto and rumqttd behind it, MQTT 3.1.1 and 5; mosquitto's tools on MQTT 3.1, mosquitto as a
//! bridge, and MQTT.js over WebSocket.

use std::{
    io::{BufRead, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_tests::{
    brokers::{self, Mosquitto},
    ca::Ca,
    client::Client,
    clock::{wait_blocking, wait_for},
    codec::{Ack, Connect, Packet, Publish, Version},
    enclosed::Network,
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle::{self, Recorder},
    paho::Paho,
    ports, program, tools,
};

const LIMIT: Duration = Duration::from_secs(30);
const VERSIONS: [(Version, &str); 2] = [(Version::V311, "mqttv311"), (Version::V5, "mqttv5")];

/// A `mosquitto_sub` on an upstream, MQTT 5, one JSON object for each message.
struct Subscriber {
    child: Child,
    messages: Receiver<Value>,
}

impl Subscriber {
    fn start(upstream: SocketAddr, filter: &str) -> Self {
        Self::start_with(upstream, filter, &["-V", "mqttv5", "-x", "3600"])
    }

    fn start_with(broker: SocketAddr, filter: &str, arguments: &[&str]) -> Self {
        // Line by line, though its output is no terminal.
        let mut child = Command::new(tools::find("stdbuf"))
            .arg("-oL")
            .arg(tools::find("mosquitto_sub"))
            .args(["-h", "127.0.0.1", "-p", &broker.port().to_string(), "-d"])
            .args(["-q", "1", "-t", filter, "-F", "%j", "-i", "watcher", "-c"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_sub can be started");
        let lines = BufReader::new(child.stdout.take().expect("standard output is a pipe")).lines();
        let (messages_in, messages) = channel();
        let (granted_in, granted) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.starts_with("Subscribed") {
                    let _ = granted_in.send(());
                } else if let Ok(message @ Value::Object(_)) = serde_json::from_str(&line) {
                    let _ = messages_in.send(message);
                }
            }
        });
        let subscriber = Self { child, messages };
        granted.recv_timeout(LIMIT).expect("the broker grants the subscription");
        subscriber
    }

    fn next(&self) -> Value {
        self.messages.recv_timeout(LIMIT).expect("a message arrives")
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mosquitto_pub(gateway: &Gateway, arguments: &[&str]) {
    mosquitto_pub_to(gateway.mqtt, arguments);
}

fn mosquitto_pub_to(broker: SocketAddr, arguments: &[&str]) {
    let output = Command::new(tools::find("mosquitto_pub"))
        .args(["-h", "127.0.0.1", "-p", &broker.port().to_string()])
        .args(arguments)
        .output()
        .expect("mosquitto_pub can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_mosquitto_pub_sends_reaches_mosquitto_sub_with_its_identity() {
    let upstream = Mosquitto::start();
    let subscriber = Subscriber::start(upstream.address, "up/#");
    let gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V5)));
    let mut ids = vec![];
    for (version, name) in VERSIONS {
        for qos in ["0", "1", "2"] {
            let (topic, client) = (format!("barn/{name}/{qos}"), format!("tool-{name}-{qos}"));
            let mut arguments = vec!["-V", name, "-q", qos, "-t", &topic, "-i", &client, "-m", "21.5 °C"];
            if version == Version::V5 {
                arguments.extend(["-D", "publish", "user-property", "room", "stable"]);
            }
            mosquitto_pub(&gateway, &arguments);
            let message = subscriber.next();
            assert_eq!(message["topic"], format!("up/{topic}"));
            assert_eq!(message["payload"], "21.5 °C");
            let properties = &message["properties"]["user-properties"];
            assert_eq!(properties["tidegate-device"], client, "{message}");
            let received = properties["tidegate-received"].as_str().unwrap_or_default();
            assert!(received.starts_with("20") && received.ends_with('Z'), "{message}");
            let own = if version == Version::V5 { Value::from("stable") } else { Value::Null };
            assert_eq!(properties["room"], own, "{message}");
            ids.push(properties[oracle::ID_PROPERTY].as_str().unwrap().to_owned());
        }
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "ids are for one event each: {ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mosquitto_stops_and_comes_back_and_gets_everything_in_order() {
    let mut upstream = Mosquitto::start();
    let first = Subscriber::start(upstream.address, "up/#");
    let gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V311)));
    mosquitto_pub(&gateway, &["-q", "1", "-t", "barn/door", "-m", "0"]);
    assert_eq!(first.next()["payload"], "0");
    drop(first);
    upstream.stop();
    for count in 1..=50 {
        mosquitto_pub(&gateway, &["-q", "1", "-t", "barn/door", "-m", &count.to_string()]);
    }
    assert!(gateway.metric("tidegate_backlog_events") >= 50.0);
    upstream.restart();
    let second = Subscriber::start(upstream.address, "up/#");
    let mut counts: Vec<u64> = vec![];
    while counts.last() != Some(&50) {
        counts.push(second.next()["payload"].as_str().unwrap().parse().unwrap());
    }
    counts.dedup();
    assert_eq!(counts, (1..=50).collect::<Vec<_>>());
    wait_blocking("the backlog to be gone", LIMIT, || gateway.metric("tidegate_backlog_events") == 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rumqttd_gets_everything_by_both_versions() {
    let (v4, v5) = brokers::start_rumqttd();
    for (version, address) in [(Version::V311, v4), (Version::V5, v5)] {
        let connect = Connect { version, client_id: "watcher", clean: true, keep_alive_s: 60 };
        let mut watcher = Client::connect(address, &connect).await.unwrap();
        watcher.subscribe("up/#").await;
        let gateway = Gateway::start(Setup::new(Uplink::new(&format!("mqtt://{address}"), version)));
        let device = Device { count_max: 5_000, ..Device::new("d", Version::V5) };
        let ledgers = Fleet::start(gateway.mqtt, [device]).all(LIMIT).await;
        let mut recorder = Recorder::new("up/");
        while !oracle::is_complete(&ledgers, &recorder) {
            recorder.record(&watcher.next_publish().await);
        }
        oracle::judge(&ledgers, &recorder).demand();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn paho_mqtt_is_served_in_both_versions_and_every_qos() {
    let upstream = Mosquitto::start();
    let connect = Connect { version: Version::V5, client_id: "watcher", clean: true, keep_alive_s: 60 };
    let mut watcher = Client::connect(upstream.address, &connect).await.unwrap();
    watcher.subscribe("up/#").await;
    let gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V5)));
    let mut pahos = vec![];
    for (version, _) in VERSIONS {
        for qos in 0..=2 {
            let name = format!("paho-{}-{qos}", version as u8);
            let device = Device { qos, count_max: 500, window: 20, ..Device::new(&name, version) };
            pahos.push(Paho::start(gateway.mqtt, &device));
        }
    }
    let ledgers: Vec<_> = pahos.into_iter().map(|paho| paho.all(LIMIT)).collect();
    let mut recorder = Recorder::new("up/");
    while !oracle::is_complete(&ledgers, &recorder) {
        recorder.record(&watcher.next_publish().await);
    }
    let verdict = oracle::judge(&ledgers, &recorder);
    verdict.demand();
    assert_eq!((verdict.acknowledged, verdict.arrived), (3000, 3000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_publish_that_no_route_takes_is_acknowledged_with_no_matching_subscribers() {
    let upstream = Mosquitto::start();
    let uplink = Uplink::new(&upstream.url(), Version::V5);
    let routes = vec![("barn/+/temperature".into(), "opaque".into())];
    let gateway = Gateway::start(Setup { routes, ..Setup::new(uplink) });
    for (version, unrouted) in [(Version::V311, 0), (Version::V5, 0x10)] {
        let connect = Connect { version, client_id: "c", clean: true, keep_alive_s: 60 };
        let mut client = Client::connect(gateway.mqtt, &connect).await.unwrap();
        for (packet_id, topic, reason) in
            [(1, "barn/7/temperature", 0), (2, "barn/7/door", unrouted), (3, "barn/8/temperature", 0)]
        {
            let publish =
                Publish { topic, payload: b"1", qos: 1, packet_id, dup: false, user_properties: &[] };
            client.put_publish(&publish);
            client.flush().await.unwrap();
            assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id, reason }, "{topic}");
        }
    }
    wait_for("the counters", LIMIT, || {
        let metric = |name: &str| gateway.metric(name);
        metric("tidegate_unrouted_messages_total") == 2.0 && metric("tidegate_delivered_events_total") == 4.0
    })
    .await;
    assert_eq!(gateway.log().matches("barn/7/door").count(), 1, "said once per topic: {}", gateway.log());
}

/// A gateway for local clients: its upstream is not there.
fn gateway_for_the_site() -> Gateway {
    Gateway::start(Setup::new(Uplink::new("mqtt://127.0.0.1:1", Version::V5)))
}

#[test]
fn mosquittos_tools_are_served_on_mqtt_3_1() {
    let gateway = gateway_for_the_site();
    let subscriber = Subscriber::start_with(gateway.mqtt, "barn/#", &["-V", "mqttv31"]);
    for qos in ["0", "1", "2"] {
        mosquitto_pub(&gateway, &["-V", "mqttv31", "-q", qos, "-t", "barn/plc", "-m", qos]);
        assert_eq!(subscriber.next()["payload"], qos);
    }
    drop(subscriber);
    mosquitto_pub(&gateway, &["-V", "mqttv31", "-q", "1", "-t", "barn/plc", "-m", "while it was away"]);
    let subscriber = Subscriber::start_with(gateway.mqtt, "barn/#", &["-V", "mqttv31"]);
    assert_eq!(subscriber.next()["payload"], "while it was away");
}

#[test]
fn a_mosquitto_with_a_default_bridge_to_the_gateway_has_each_message_once() {
    let gateway = gateway_for_the_site();
    mosquitto_pub(&gateway, &["-q", "1", "-r", "-t", "barn/there", "-m", "before the bridge"]);
    let site = Mosquitto::start_with(|_| {
        format!("connection tide\naddress 127.0.0.1:{}\ntopic barn/# both 1", gateway.mqtt.port())
    });
    let at_mosquitto = Subscriber::start_with(site.address, "barn/#", &[]);
    // The bridge is there, and has subscribed.
    assert_eq!(at_mosquitto.next()["payload"], "before the bridge");
    let at_gateway = Subscriber::start_with(gateway.mqtt, "barn/#", &["-i", "gateway's watcher"]);
    assert_eq!(at_gateway.next()["payload"], "before the bridge");
    for payload in ["1", "2", "3"] {
        mosquitto_pub_to(site.address, &["-q", "1", "-t", "barn/up", "-m", payload]);
        assert_eq!(at_gateway.next()["payload"], payload);
        mosquitto_pub(&gateway, &["-q", "1", "-r", "-t", "barn/down", "-m", payload]);
        assert_eq!(at_gateway.next()["payload"], payload);
        // What came back from the gateway would be in between.
        assert_eq!(at_mosquitto.next()["topic"], "barn/up");
        assert_eq!(at_mosquitto.next()["topic"], "barn/down");
    }
    // Retained here, retained there.
    let later = Subscriber::start_with(site.address, "barn/down", &["-i", "later"]);
    let kept = later.next();
    assert_eq!((&kept["payload"], &kept["retain"]), (&"3".into(), &1.into()));
}

#[test]
fn mosquitto_sub_is_granted_as_many_filters_as_home_assistant_has() {
    let gateway = gateway_for_the_site();
    let filters: Vec<_> = (0..1103).map(|n| format!("zigbee/lamp-{n}/state")).collect();
    let mut arguments = vec!["-V", "mqttv311"];
    filters.iter().for_each(|filter| arguments.extend(["-t", filter]));
    let subscriber = Subscriber::start_with(gateway.mqtt, "barn/#", &arguments);
    for (n, filter) in filters.iter().enumerate() {
        if n % 100 == 2 {
            mosquitto_pub(&gateway, &["-q", "1", "-t", filter, "-m", filter]);
            assert_eq!(subscriber.next()["payload"], **filter);
        }
    }
    assert!(!gateway.log().contains("is refused"), "{}", gateway.log());
}

/// `mosquitto_pub -l`: a message with QoS 0 for each line, as fast as it can.
fn publish_lines(broker: SocketAddr, topic: &str, lines: &str) {
    let mut child = Command::new(tools::find("mosquitto_pub"))
        .args(["-h", "127.0.0.1", "-p", &broker.port().to_string(), "-t", topic, "-l"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("mosquitto_pub can be started");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    stdin.write_all(lines.as_bytes()).expect("mosquitto_pub reads its input");
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn five_thousand_lines_of_mosquitto_pub_reach_mosquitto_sub_whole_and_in_order_as_at_mosquitto() {
    let mosquitto = Mosquitto::start();
    let mut setup = Setup::new(Uplink::new("mqtt://127.0.0.1:1", Version::V5));
    setup.routes = vec![("stored/#".into(), "opaque".into())];
    let gateway = Gateway::start(setup);
    let lines: String = (1..=5000).map(|n| format!("{n}\n")).collect();
    for (who, broker, topic) in [
        ("mosquitto", mosquitto.address, "local/n"),
        ("the gateway, and no route stores it", gateway.mqtt, "local/n"),
        ("the gateway, and a route stores it", gateway.mqtt, "stored/n"),
    ] {
        let subscriber = Subscriber::start_with(broker, topic, &["-q", "0"]);
        publish_lines(broker, topic, &lines);
        for n in 1..=5000 {
            assert_eq!(subscriber.next()["payload"], n.to_string(), "{who}");
        }
    }
    assert_eq!(gateway.metric("tidegate_local_dropped_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_on_as_many_topics_as_a_victron_gx_has_reaches_a_subscriber_that_reads() {
    let mut setup = Setup::new(Uplink::new("mqtt://127.0.0.1:1", Version::V5));
    setup.routes = vec![("stored/#".into(), "opaque".into())];
    let gateway = Gateway::start(setup);
    for place in ["local", "stored"] {
        let subscriber =
            Subscriber::start_with(gateway.mqtt, &format!("{place}/N/#"), &["-q", "0", "-i", place]);
        let connect = Connect { version: Version::V311, client_id: "gx", clean: true, keep_alive_s: 60 };
        let mut gx = Client::connect(gateway.mqtt, &connect).await.expect("the gateway accepts");
        let topics: Vec<_> =
            (0..1501).map(|n| format!("{place}/N/c0619ab1/system/{n}/Dc/Battery/Soc")).collect();
        for topic in &topics {
            let payload = b"{\"value\":93.4}";
            gx.put_publish(&Publish {
                topic,
                payload,
                qos: 0,
                packet_id: 0,
                dup: false,
                user_properties: &[],
            });
        }
        gx.flush().await.expect("the connection is open");
        for topic in &topics {
            assert_eq!(subscriber.next()["topic"], **topic);
        }
    }
    assert_eq!(gateway.metric("tidegate_local_dropped_total"), 0.0);
}

#[test]
fn a_client_that_is_refused_for_want_of_room_is_named_in_the_log_with_the_key_that_raises_it() {
    let limits = "subscriptions = 3\nretained_messages = 1\nqueued_messages = 2\npacket_bytes = \"4 KiB\"\n";
    let uplink = Uplink::new("mqtt://127.0.0.1:1", Version::V5);
    let gateway = Gateway::start(Setup { limits: limits.into(), ..Setup::new(uplink) });
    let told = |words: &[&str]| {
        let is_told = |line: &str| line.contains("WARN") && words.iter().all(|word| line.contains(word));
        wait_blocking(&format!("the log to tell {words:?}"), LIMIT, || gateway.log().lines().any(is_told));
    };
    let filters: Vec<_> = (0..10).map(|n| format!("lamp/{n}")).collect();
    let mut arguments = vec!["-i", "hoarder"];
    filters.iter().for_each(|filter| arguments.extend(["-t", filter]));
    drop(Subscriber::start_with(gateway.mqtt, "barn/#", &arguments));
    let key = "[limits] subscriptions = 3";
    for (filter, times) in [("lamp/2", "times=1"), ("lamp/3", "times=2"), ("lamp/5", "times=4")] {
        told(&["a subscription is refused", key, "client=hoarder", &format!("topic=\"{filter}\""), times]);
    }
    assert_eq!(gateway.log().matches(key).count(), 4, "8 in all: {}", gateway.log());
    // The hoarder is away, and its session is kept.
    for n in 0..4 {
        mosquitto_pub(&gateway, &["-q", "1", "-t", "barn/door", "-m", &n.to_string()]);
    }
    told(&[
        "loses a message",
        "[limits] queued_messages = 2",
        "client=hoarder",
        "topic=\"barn/door\"",
        "times=2",
    ]);
    for topic in ["barn/a", "barn/b"] {
        mosquitto_pub(&gateway, &["-q", "1", "-r", "-t", topic, "-m", "x", "-i", "keeper"]);
    }
    told(&["not retained", "[limits] retained_messages = 1", "client=keeper", "topic=\"barn/b\"", "times=1"]);
    let camera = Command::new(tools::find("mosquitto_pub"))
        .args(["-h", "127.0.0.1", "-p", &gateway.mqtt.port().to_string(), "-i", "camera"])
        .args(["-q", "1", "-t", "barn/picture", "-m", &"x".repeat(5000)])
        .output();
    assert!(camera.is_ok_and(|camera| !camera.status.success()), "it is too long");
    told(&["a packet of 5019 bytes", "[limits] packet_bytes = 4096", "client=camera", "times=1"]);
}

/// `tests/clients/mqtt_over_websocket.js` with these arguments, and the lines that it says.
struct OverWebSocket {
    child: Child,
    said: Receiver<Value>,
}

impl OverWebSocket {
    fn start(mut node: Command, mode: &str, more: [&str; 4]) -> Self {
        let mut child = node
            .env("NODE_PATH", tools::node_modules())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/mqtt_over_websocket.js"))
            .arg(mode)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node can be started");
        let lines = BufReader::new(child.stdout.take().expect("standard output is a pipe")).lines();
        let (said_in, said) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = said_in.send(serde_json::from_str(&line).expect("JSON"));
            }
        });
        Self { child, said }
    }

    fn next(&self) -> Value {
        self.said.recv_timeout(LIMIT).expect("the client goes on")
    }

    /// All that it says to its end.
    fn all(mut self) -> Vec<Value> {
        let mut all = vec![];
        while let Ok(line) = self.said.recv_timeout(LIMIT) {
            all.push(line);
        }
        wait_blocking("the client to end", LIMIT, || matches!(self.child.try_wait(), Ok(Some(_))));
        all
    }
}

impl Drop for OverWebSocket {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A mosquitto with ports for WebSocket. Debian's listens for it on all addresses, whatever it is
/// told.
struct WebSocketPeer {
    network: Network,
    folder: TempDir,
    mosquitto: Option<Child>,
}

/// What `exchange` says.
const EXCHANGE_LINES: usize = 11;
const PEER_WS: u16 = 9001;
const PEER_WSS: u16 = 9002;

impl WebSocketPeer {
    /// With the certificate and the key that lie in the folder.
    fn start(folder: TempDir) -> Self {
        let at = folder.path().display();
        let text = format!(
            "user root\nallow_anonymous true\npersistence true\npersistence_location {at}/\nlistener 1883 127.0.0.1\n\
             max_queued_messages 0\nmax_inflight_messages 1000\n\
             listener {PEER_WS} 127.0.0.1\nprotocol websockets\n\
             listener {PEER_WSS} 127.0.0.1\nprotocol websockets\n\
             certfile {at}/server.pem\nkeyfile {at}/server.key\n"
        );
        std::fs::write(folder.path().join("mosquitto.conf"), text).expect("the folder is writable");
        let mut peer = Self { network: Network::make(), folder, mosquitto: None };
        peer.restart();
        peer
    }

    /// SIGTERM, upon which it saves its sessions, and a start on them.
    fn restart(&mut self) {
        if let Some(mut child) = self.mosquitto.take() {
            program::signal(child.id(), "TERM");
            child.wait().expect("it is our child");
        }
        let command = self.network.command(&tools::find("mosquitto"));
        self.mosquitto = Some(brokers::spawn_mosquitto(command, self.folder.path()));
        for port in [PEER_WS, PEER_WSS] {
            self.network.wait_listening(port);
        }
    }

    fn client(&self, mode: &str, more: [&str; 4]) -> OverWebSocket {
        OverWebSocket::start(self.network.command(&tools::find("node")), mode, more)
    }
}

impl Drop for WebSocketPeer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.mosquitto {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A folder with a CA and what a server called `localhost` needs.
fn certificates() -> TempDir {
    let folder = tempfile::Builder::new().prefix("certificates-").tempdir_in(program::scratch());
    let folder = folder.expect("the scratch folder is writable");
    let ca = Ca::new().expect("there are random numbers");
    ca.write(&folder.path().join("ca.pem")).expect("the folder is writable");
    let (cert, key) = (folder.path().join("server.pem"), folder.path().join("server.key"));
    ca.server().map(|pair| pair.write(&cert, &key)).expect("it is signed").expect("and written");
    folder
}

/// A gateway that listens for WebSocket alone, without TLS and with it, and the address of the
/// second.
fn gateway_for_browsers(certificates: &TempDir) -> (Gateway, SocketAddr) {
    let mut setup = Setup::new(Uplink::new("mqtt://127.0.0.1:1", Version::V5));
    let (wss, at) = (ports::free_address(), certificates.path().display());
    setup.listener = format!(
        "protocol = \"ws\"\n\n[[listener]]\naddress = \"{wss}\"\nprotocol = \"ws\"\n\
         tls = {{ cert = \"{at}/server.pem\", key = \"{at}/server.key\" }}\n"
    );
    (Gateway::start(setup), wss)
}

#[test]
fn an_mqtt_js_client_over_websocket_gets_what_it_gets_at_mosquitto_with_tls_and_without() {
    let certificates = certificates();
    let ca = certificates.path().join("ca.pem").display().to_string();
    let (gateway, wss) = gateway_for_browsers(&certificates);
    let peer = WebSocketPeer::start(certificates);
    let url = |tls, ws: u16, wss: u16| {
        if tls { format!("wss://localhost:{wss}/mqtt") } else { format!("ws://127.0.0.1:{ws}") }
    };
    for version in ["3.1.1", "5"] {
        for (tls, ca) in [(false, "-"), (true, &*ca)] {
            let name = if tls { "wss" } else { "ws" };
            let more = [&url(tls, PEER_WS, PEER_WSS), version, &format!("{name}-{version}"), ca];
            let theirs = peer.client("exchange", more).all();
            let more =
                [&url(tls, gateway.mqtt.port(), wss.port()), version, &format!("{name}-{version}"), ca];
            let ours = OverWebSocket::start(Command::new(tools::find("node")), "exchange", more).all();
            assert_eq!(ours, theirs, "{name}, MQTT {version}");
            assert_eq!(ours.len(), EXCHANGE_LINES, "{ours:?}");
        }
    }
    assert_eq!(gateway.metric("tidegate_local_dropped_total"), 0.0);
    assert!(!gateway.log().contains("no WebSocket"), "{}", gateway.log());
}

#[test]
fn an_mqtt_js_client_over_websocket_misses_nothing_when_the_gateway_is_killed_in_mid_flow() {
    let certificates = certificates();
    let (mut gateway, _) = gateway_for_browsers(&certificates);
    let url = format!("ws://127.0.0.1:{}", gateway.mqtt.port());
    let client = OverWebSocket::start(Command::new(tools::find("node")), "flow", [&url, "5", "flow", "-"]);
    assert_eq!(client.next(), "half");
    gateway.kill();
    gateway.restart();
    let ours = client.all();
    let mut peer = WebSocketPeer::start(certificates);
    let client = peer.client("flow", [&format!("ws://127.0.0.1:{PEER_WS}"), "5", "flow", "-"]);
    assert_eq!(client.next(), "half");
    peer.restart();
    let theirs = client.all();
    // The gateway was killed, and mosquitto was asked to stop.
    let whole = json!([{ "acknowledged": 400 }, { "came": 400, "QoS 2 twice": 0 }]);
    assert_eq!((Value::from(ours), Value::from(theirs)), (whole.clone(), whole));
}
