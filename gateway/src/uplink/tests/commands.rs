//! Commands from the upstream: a scripted one that sends again and refuses, and mosquitto, which
//! keeps a session.

use std::{process::Command as Process, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        CommandTopic, Health, Settings,
        engine::{
            dial::{
                tests::certificates::{Ca, Kind},
                tls::{Tls, TlsSettings},
            },
            mqtt::{
                Version,
                send::{PINGREQ, Properties, Publish},
            },
        },
        receive,
    },
    PATIENCE, eventually,
    mosquitto::Mosquitto,
    settings,
};
use crate::{
    clock,
    store::{Change, CommandFilter, Outbox, Settings as StoreSettings, Store},
};

/// A receiver at work over a real outbox.
struct Receiving {
    health: Arc<Health>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Receiving {
    fn start(port: u16, version: Version, outbox: Outbox) -> Self {
        Self::start_with(port, version, outbox, Duration::from_secs(30))
    }

    fn start_with(port: u16, version: Version, outbox: Outbox, keep_alive: Duration) -> Self {
        let mut settings = settings(port);
        settings.broker().keep_alive = keep_alive;
        settings.broker().version = version;
        Self::start_by(settings, outbox)
    }

    fn start_by(mut settings: Settings, outbox: Outbox) -> Self {
        settings.commands = Some(CommandTopic::parse("sites/{gateway}/{device}/c", "barn-7").unwrap());
        settings.check().unwrap();
        let (health, shutdown) = (Arc::new(Health::default()), CancellationToken::new());
        let task = tokio::spawn(receive(
            settings,
            outbox,
            health.clone(),
            crate::uplink::Pause::default(),
            shutdown.clone(),
        ));
        Self { health, shutdown, task }
    }

    /// Waits until this is why no commands come.
    async fn fails(&self, is_it: impl Fn(&str) -> bool) {
        let why = || self.health.view().commands_outage.map(|outage| outage.why).unwrap_or_default();
        eventually(|| is_it(&why()), why).await;
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").unwrap();
    }
}

fn store(folder: &tempfile::TempDir, max_bytes: u64) -> Store {
    let settings = StoreSettings {
        segment_bytes: 1 << 20,
        max_bytes,
        dead_letters_max_bytes: 1 << 20,
        ..StoreSettings::new(folder.path().join("data"))
    };
    Store::open(settings, &[]).unwrap()
}

/// Device, id and payload of all commands, oldest first.
fn all(outbox: &Outbox) -> Vec<(String, String, String)> {
    let mut commands: Vec<_> = outbox
        .list(&CommandFilter::default(), 1000)
        .iter()
        .map(|c| (c.device.clone(), c.id.clone(), String::from_utf8_lossy(&c.payload).into_owned()))
        .collect();
    commands.reverse();
    commands
}

/// The upstream's side of a connection, after the handshake.
struct Upstream {
    socket: TcpStream,
    version: Version,
}

impl Upstream {
    async fn accept(listener: &TcpListener, version: Version, suback: u8) -> Self {
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("it connects");
        let mut upstream = Self { socket: accepted.unwrap().0, version };
        let connect = upstream.packet().await;
        let keeps = connect[2 + 2 + 4 + 1] & 0b10 == 0;
        assert!(keeps, "a session that is kept");
        let (connack, subscribed): (&[u8], &[u8]) = match version {
            Version::V311 => (&[0x20, 2, 0, 0], &[0x90, 3, 0, 1, suback]),
            Version::V5 => (&[0x20, 3, 0, 0, 0], &[0x90, 4, 0, 1, 0, suback]),
        };
        upstream.socket.write_all(connack).await.unwrap();
        let subscribe = upstream.packet().await;
        assert!(subscribe.windows(16).any(|part| part == b"sites/barn-7/+/c"), "{subscribe:?}");
        upstream.socket.write_all(subscribed).await.unwrap();
        upstream
    }

    /// A packet of the receiver that is no ping; none of them is long. Empty at the end of the
    /// connection.
    async fn packet(&mut self) -> Vec<u8> {
        loop {
            let mut packet = vec![0; 2];
            let read = tokio::time::timeout(PATIENCE, self.socket.read_exact(&mut packet)).await;
            if read.expect("it says something").is_err() {
                return vec![];
            }
            packet.resize(2 + usize::from(packet[1]), 0);
            self.socket.read_exact(&mut packet[2..]).await.unwrap();
            if packet[..] != PINGREQ {
                return packet;
            }
        }
    }

    async fn send(&mut self, dup: bool, id: u16, device: &str, payload: &[u8]) {
        let topic = format!("sites/barn-7/{device}/c");
        let properties = (self.version == Version::V5).then(Properties::default);
        let mut bytes = vec![];
        Publish { topic: topic.as_bytes(), id, retain: false, properties, payload }.write(&mut bytes);
        bytes[0] |= u8::from(dup) << 3;
        self.socket.write_all(&bytes).await.unwrap();
    }
}

#[tokio::test]
async fn a_message_that_is_sent_again_is_no_second_command_and_the_same_meant_twice_is() {
    for version in [Version::V311, Version::V5] {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder, 1 << 40);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiving = Receiving::start(listener.local_addr().unwrap().port(), version, store.outbox());
        let mut upstream = Upstream::accept(&listener, version, 1).await;
        upstream.send(false, 7, "stall-3", b"on").await;
        assert_eq!(upstream.packet().await, [0x40, 2, 0, 7]);
        assert_eq!(all(&store.outbox()).len(), 1, "it is durable before it is acknowledged");
        drop(upstream);
        // The acknowledgement did not get through.
        let mut upstream = Upstream::accept(&listener, version, 1).await;
        upstream.send(true, 7, "stall-3", b"on").await;
        assert_eq!(upstream.packet().await, [0x40, 2, 0, 7]);
        assert_eq!(all(&store.outbox()).len(), 1);
        upstream.send(false, 8, "stall-3", b"on").await;
        upstream.packet().await;
        upstream.send(false, 7, "stall-3", b"on").await;
        upstream.packet().await;
        assert_eq!(all(&store.outbox()).len(), 3);
        receiving.stop().await;
    }
}

#[tokio::test]
async fn what_is_never_a_command_is_acknowledged_with_a_reason_and_holds_nothing_up() {
    for version in [Version::V311, Version::V5] {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder, 1 << 40);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiving = Receiving::start(listener.local_addr().unwrap().port(), version, store.outbox());
        let mut upstream = Upstream::accept(&listener, version, 1).await;
        for (id, device, payload, reason) in [
            (1, "Stall", vec![1], 0x90),
            (2, "stall-3", vec![1; 70_000], 0x97),
            (3, "stall-3", vec![1; 500_000], 0x97),
        ] {
            upstream.send(false, id, device, &payload).await;
            let expected = match version {
                Version::V311 => vec![0x40, 2, 0, id as u8],
                Version::V5 => vec![0x40, 3, 0, id as u8, reason],
            };
            assert_eq!(upstream.packet().await, expected);
        }
        upstream.send(false, 4, "stall-3", b"on").await;
        assert_eq!(upstream.packet().await, [0x40, 2, 0, 4]);
        assert_eq!(all(&store.outbox()).len(), 1);
        receiving.stop().await;
    }
}

#[tokio::test]
async fn without_room_a_command_is_not_acknowledged_and_is_taken_once_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder, 8 << 20);
    let outbox = store.outbox();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let version = Version::V5;
    let receiving = Receiving::start(listener.local_addr().unwrap().port(), version, outbox.clone());
    let mut upstream = Upstream::accept(&listener, version, 1).await;
    let (mut id, large) = (1, vec![7; 64 * 1024]);
    loop {
        upstream.send(false, id, "stall-3", &large).await;
        if upstream.packet().await.is_empty() {
            break;
        }
        id += 1;
    }
    assert_eq!(all(&outbox).len(), usize::from(id - 1));
    eventually(|| receiving.health.view().commands_outage.is_some(), || "no word of it".into()).await;
    let why = receiving.health.view().commands_outage.unwrap().why;
    assert!(why.contains("bytes of commands may wait"), "{why}");
    let first = outbox.pending("stall-3", 0)[0].id.clone();
    outbox.apply(&[Change::Delivered { device: "stall-3", id: &first }], crate::clock::wall_ms()).unwrap();
    let mut upstream = Upstream::accept(&listener, version, 1).await;
    upstream.send(true, id, "stall-3", &large).await;
    assert_eq!(upstream.packet().await, [0x40, 2, 0, id as u8]);
    eventually(|| receiving.health.view().commands_outage.is_none(), || "it is well again".into()).await;
    receiving.stop().await;
}

#[tokio::test]
async fn a_connection_without_commands_pings_once_in_a_keep_alive() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder, 1 << 40);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, keep_alive) = (listener.local_addr().unwrap().port(), Duration::from_secs(1));
    let receiving = Receiving::start_with(port, Version::V5, store.outbox(), keep_alive);
    let mut upstream = Upstream::accept(&listener, Version::V5, 1).await;
    let begun = clock::monotonic();
    for _ in 0..4 {
        let mut ping = [0; 2];
        let read = tokio::time::timeout(PATIENCE, upstream.socket.read_exact(&mut ping)).await;
        read.expect("it pings").unwrap();
        assert_eq!(ping, PINGREQ);
        upstream.socket.write_all(&[0xD0, 0]).await.unwrap();
    }
    let took = begun.elapsed();
    assert!(took >= keep_alive * 2, "four pings within {took:?}");
    receiving.stop().await;
}

#[tokio::test]
async fn a_refused_subscription_is_said_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder, 1 << 40);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let receiving = Receiving::start(listener.local_addr().unwrap().port(), Version::V5, store.outbox());
    let refusing = Upstream::accept(&listener, Version::V5, 0x87).await;
    let error = || receiving.health.view().commands_outage.map(|outage| outage.why);
    eventually(|| error().is_some(), || "no word of it".into()).await;
    let why = error().unwrap();
    assert!(why.contains("refuses the subscription to \"sites/barn-7/+/c\": not authorized"), "{why}");
    drop(refusing);
    let _upstream = Upstream::accept(&listener, Version::V5, 1).await;
    eventually(|| error().is_none(), || "it is well again".into()).await;
    receiving.stop().await;
}

#[tokio::test]
async fn mosquitto_keeps_what_is_sent_while_the_uplink_is_away() {
    let mosquitto = Mosquitto::start("");
    for (version, protocol) in [(Version::V311, "311"), (Version::V5, "5")] {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder, 1 << 40);
        let outbox = store.outbox();
        let port = mosquitto.port.to_string();
        let publish = |device: &str, payload: &str, more: &[&str]| {
            let topic = format!("sites/barn-7/{device}/c");
            let mut pub_ = Process::new("mosquitto_pub");
            pub_.args(["-p", &port, "-q", "1", "-V", protocol, "-t", &topic, "-m", payload]).args(more);
            assert!(pub_.status().unwrap().success());
        };
        let receiving = Receiving::start(mosquitto.port, version, outbox.clone());
        let subscribed = async {
            while all(&outbox).is_empty() {
                publish("ready", "ready", &[]);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, subscribed).await.expect("it subscribes");
        receiving.stop().await;
        for payload in ["one", "two", "two"] {
            publish("stall-3", payload, &[]);
        }
        let mut expected = vec!["one", "two", "two"];
        if version == Version::V5 {
            let named = [
                "-D",
                "publish",
                "correlation-data",
                "x-1",
                "-D",
                "publish",
                "message-expiry-interval",
                "60",
            ];
            (0..2).for_each(|_| publish("stall-3", "three", &named));
            expected.push("three");
        }
        let receiving = Receiving::start(mosquitto.port, version, outbox.clone());
        let waiting = || -> Vec<String> {
            let commands = all(&outbox).into_iter().filter(|(device, ..)| device == "stall-3");
            commands.map(|(.., payload)| payload).collect()
        };
        eventually(|| waiting().len() >= expected.len(), || format!("{:?}", waiting())).await;
        publish("last", "last", &[]);
        eventually(|| outbox.has_pending("last"), || format!("{:?}", all(&outbox))).await;
        assert_eq!(waiting(), expected);
        if let Some(named) = outbox.get("stall-3", "x-1") {
            assert!(named.expires_ms - named.created_ms <= 60_000);
        } else {
            assert_eq!(version, Version::V311);
        }
        receiving.stop().await;
    }
}

#[tokio::test]
async fn the_step_in_which_a_connect_ran_out_of_time_is_told_and_what_ended_tls() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder, 1 << 40);
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings(silent.local_addr().unwrap().port());
    settings.connect_timeout = Duration::from_millis(100);
    let words = format!("no answer from {}, which took the connection", silent.local_addr().unwrap());
    let inner = words.replace("no answer", "no answer within 100ms");
    let receiving = Receiving::start_by(settings.clone(), store.outbox());
    receiving.fails(|why| why == format!("no connection within 100ms: {words}") || why == inner).await;
    receiving.stop().await;
    // With TLS 1.3 it judges us when we are done.
    let ca = Ca::new("Test CA");
    ca.write(&folder.path().join("ca.pem"));
    let server = ca.server("localhost", |_| ());
    let address = Kind { clients: Some(&ca), ..Kind::new(&server) }.serve().await;
    let tls = TlsSettings { ca: Some(folder.path().join("ca.pem")), ..TlsSettings::default() };
    settings.connect_timeout = PATIENCE;
    let broker = settings.broker();
    (broker.host, broker.port) = ("localhost".to_owned(), address.port());
    broker.layers.tls = Some(Arc::new(Tls::new("cloud", tls)));
    let receiving = Receiving::start_by(settings, store.outbox());
    receiving.fails(|why| why == "the server wants a client certificate: set tls.cert and tls.key").await;
    receiving.stop().await;
}
