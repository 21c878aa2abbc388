//! Packets of megabytes: camera pictures and zigbee2mqtt's list of devices come through whole, and
//! whoever abuses them costs no more memory than there is for them, and holds up nobody who sends a
//! little.

use std::{net::SocketAddr, sync::LazyLock, time::Duration};

use tidegate_tests::{
    brokers::Mosquitto,
    client::Client,
    clock::{now, wait_for},
    codec::{self, Ack, Connect, Packet, Publish, Version},
    gateway::{Gateway, Setup, Uplink},
};
use tokio::task::JoinSet;

/// As `config/tidegate.service` has it: what was freed goes back to the system.
const ENVIRONMENT: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "65536"), ("MALLOC_TRIM_THRESHOLD_", "131072")];
/// Of the whole process, in bytes: what `config/tidegate.service` gives it, less some to spare.
const MEMORY_MAX: u64 = 240 << 20;
const LIMIT: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;

fn gateway(upstream: &Mosquitto) -> Gateway {
    let mut setup = Setup::new(Uplink::new(&upstream.url(), Version::V5));
    setup.routes = vec![("stored/#".into(), "opaque".into())];
    setup.environment = ENVIRONMENT.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Gateway::start(setup)
}

async fn connect(address: SocketAddr, client_id: &str) -> Client {
    let connect = Connect { version: Version::V5, client_id, clean: true, keep_alive_s: 60 };
    Client::connect(address, &connect).await.expect("the broker accepts")
}

fn publish<'a>(topic: &'a str, payload: &'a [u8], qos: u8) -> Publish<'a> {
    Publish { topic, payload, qos, packet_id: u16::from(qos > 0), dup: false, user_properties: &[] }
}

/// Bytes of which no two stretches are alike.
fn picture(bytes: usize) -> &'static [u8] {
    static LARGEST: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..10 * MIB as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect());
    &LARGEST[..bytes]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_of_ten_megabytes_reaches_subscribers_and_the_upstream_whole() {
    let upstream = Mosquitto::start();
    let mut gateway = gateway(&upstream);
    let picture = picture(10 * MIB - 100);
    let mut cloud = connect(upstream.address, "cloud").await;
    cloud.subscribe("up/#").await;
    let mut screen = connect(gateway.mqtt, "screen").await;
    screen.subscribe("+/camera").await;
    let mut camera = connect(gateway.mqtt, "camera").await;
    for (topic, qos) in [("live/camera", 0), ("live/camera", 1), ("stored/camera", 1)] {
        camera.put_publish(&publish(topic, picture, qos));
        let begun = now();
        camera.flush().await.expect("the connection is open");
        let seen = screen.next_publish().await;
        println!("{topic}, QoS {qos}: {:?}", begun.elapsed());
        assert_eq!((&*seen.topic, seen.payload == picture), (topic.as_bytes(), true), "{topic}, QoS {qos}");
        if qos == 1 {
            assert_eq!(camera.next().await, Packet::Ack { ack: Ack::PubAck, packet_id: 1, reason: 0 });
        }
    }
    let seen = cloud.next_publish().await;
    assert_eq!((&*seen.topic, seen.payload == picture), (&b"up/stored/camera"[..], true));
    // One that is retained comes to who subscribes later.
    let publish = publish("live/still", picture, 1);
    codec::put_retained(&mut camera.output, Version::V5, &publish);
    camera.flush().await.expect("the connection is open");
    assert!(matches!(camera.next().await, Packet::Ack { ack: Ack::PubAck, .. }));
    gateway.kill();
    gateway.restart();
    let mut late = connect(gateway.mqtt, "late").await;
    late.subscribe("live/#").await;
    let seen = late.next_publish().await;
    assert_eq!((&*seen.topic, seen.payload == picture), (&b"live/still"[..], true));
    println!("memory: {} MiB at the most", gateway.usage().resident_peak_bytes >> 20);
}

/// Sends an event each 20 ms and gives the longest wait for an acknowledgement.
async fn innocent(address: SocketAddr, duration: Duration) -> Duration {
    let mut device = connect(address, "innocent").await;
    let (begun, mut longest) = (now(), Duration::ZERO);
    while begun.elapsed() < duration {
        let sent = now();
        device.put_publish(&publish("stored/1", b"21.5", 1));
        device.flush().await.expect("the connection is open");
        assert_eq!(device.next().await, Packet::Ack { ack: Ack::PubAck, packet_id: 1, reason: 0 });
        longest = longest.max(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    longest
}

/// Half of a large packet, and then nothing; gives up once it is closed.
async fn sends_half(address: SocketAddr, number: usize) {
    let mut client = connect(address, &format!("half-{number}")).await;
    client.put_publish(&publish("stored/half", picture(10 * MIB - 100), 1));
    let half = client.output.len() / 2;
    client.output.truncate(half);
    while let Ok(is_sent) = client.fill_or_send().await {
        if is_sent && client.read_packet().await.is_err() {
            return;
        }
    }
}

/// Subscribes to everything, and reads nothing.
async fn never_reads(address: SocketAddr, number: usize) {
    let mut client = connect(address, &format!("deaf-{number}")).await;
    client.subscribe("live/#").await;
    std::future::pending().await
}

/// One large message after the other.
async fn floods(address: SocketAddr, number: usize) {
    let mut client = connect(address, &format!("flood-{number}")).await;
    let picture = picture((1 + number % 9) * MIB);
    loop {
        client.put_publish(&publish(
            if number.is_multiple_of(2) { "live/flood" } else { "stored/flood" },
            picture,
            1,
        ));
        if client.flush().await.is_err() || client.read_packet().await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_packets_by_the_dozen_stay_within_their_memory_and_hold_up_nobody_who_sends_a_little() {
    const DURATION: Duration = Duration::from_secs(7);
    const HELD_UP_MAX: Duration = Duration::from_secs(2);
    let upstream = Mosquitto::start();
    let gateway = gateway(&upstream);
    let mut attackers = JoinSet::new();
    for number in 0..30 {
        attackers.spawn(never_reads(gateway.mqtt, number));
        attackers.spawn(floods(gateway.mqtt, number));
    }
    let flooded = innocent(gateway.mqtt, DURATION).await;
    for number in 0..30 {
        attackers.spawn(sends_half(gateway.mqtt, number));
    }
    let held = innocent(gateway.mqtt, DURATION).await;
    let peak = gateway.usage().resident_peak_bytes;
    println!(
        "memory {} MiB at the most; an innocent device waited {flooded:?} at the longest beside those that flood, {held:?} beside \
         those that send half a packet",
        peak >> 20
    );
    assert!(peak < MEMORY_MAX, "{peak}");
    assert!(flooded.max(held) < HELD_UP_MAX, "{flooded:?} {held:?}");
    wait_for("one that goes on too slowly to be closed", LIMIT, || {
        let (_, metrics) = gateway.get("/metrics").expect("the HTTP server is there");
        metrics.lines().any(|line| {
            line.starts_with("tidegate_closed_connections_total{reason=\"packet_timeout\"}")
                && !line.ends_with(" 0")
        })
    })
    .await;
    attackers.shutdown().await;
    // The room is free again.
    let mut camera = connect(gateway.mqtt, "camera").await;
    let picture = picture(9 * MIB);
    camera.put_publish(&publish("stored/after", picture, 1));
    camera.flush().await.expect("the connection is open");
    assert_eq!(camera.next().await, Packet::Ack { ack: Ack::PubAck, packet_id: 1, reason: 0 });
    wait_for("memory to go back", LIMIT, || gateway.usage().resident_bytes < 96 << 20).await;
    println!("memory {} MiB afterwards", gateway.usage().resident_bytes >> 20);
}
