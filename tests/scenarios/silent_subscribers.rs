//! Subscribers that read and never acknowledge, at the default limits, in a store of 256 MiB: what
//! they are owed is bounded in memory and on disk, devices are acknowledged all the time, and when
//! their sessions are over everything is free again, without a restart and with one.

use std::{os::unix::fs::MetadataExt, time::Duration};

use tidegate_tests::{
    client::Client,
    clock::{now, wait_for},
    codec::{Ack, Connect, Packet, Publish, Version},
    gateway::{Gateway, Setup, Uplink},
    load::Sink,
    ports,
};
use tokio::task::JoinHandle;

/// Messages that are to make the gateway hold more than its store may take.
const MESSAGES: u16 = 400;
const PAYLOAD_BYTES: usize = 250_000;
const SUBSCRIBERS: u8 = 3;
/// Promised under attackers, in `docs/limits.md`.
const RESIDENT_BYTES_MAX: u64 = 128 << 20;
/// A quarter of the store.
const SESSIONS_FILE_BYTES_MAX: u64 = 64 << 20;
/// Of a file that holds hardly anything.
const SMALL_FILE_BYTES_MAX: u64 = 2 << 20;
/// In this time what is owed is saved, and the store looks at what its files take.
const WATCHED: Duration = Duration::from_secs(8);
const LIMIT: Duration = Duration::from_secs(30);

async fn connect(gateway: &Gateway, client_id: &str, clean: bool) -> Client {
    let connect = Connect { version: Version::V5, client_id, clean, keep_alive_s: 60 };
    Client::connect(gateway.mqtt, &connect).await.expect("the gateway accepts")
}

/// Takes all it gets, and answers nothing.
async fn silent(gateway: &Gateway, number: u8) -> JoinHandle<()> {
    let mut client = connect(gateway, &format!("silent-{number}"), false).await;
    client.subscribe("big/#").await;
    tokio::spawn(async move { while client.read_packet().await.is_ok() {} })
}

/// A device's publish, acknowledged as stored.
async fn publish(device: &mut Client, topic: &str, payload: &[u8], packet_id: u16) {
    device.put_publish(&Publish { topic, payload, qos: 1, packet_id, dup: false, user_properties: &[] });
    device.flush().await.expect("the connection is open");
    let answer = device.next().await;
    let Packet::Ack { ack: Ack::PubAck, packet_id: of, reason } = answer else { panic!("{answer:?}") };
    assert!(of == packet_id && reason < 0x80, "publish {packet_id} is answered {reason:#x}");
}

/// Bytes that the sessions' file takes on the disk.
fn file_bytes(gateway: &Gateway) -> u64 {
    let file = gateway.data_dir().join("sessions.redb");
    std::fs::metadata(file).map_or(0, |metadata| metadata.blocks() * 512)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_that_never_acknowledge_take_no_room_from_devices_and_leave_none_taken() {
    let upstream = ports::free_address();
    let _sink = Sink::start(upstream);
    let mut setup = Setup::new(Uplink::new(&format!("mqtt://{upstream}"), Version::V311));
    setup.store += "max_bytes = \"256 MiB\"\n";
    setup.routes = vec![("plant/#".into(), "opaque".into())];
    let mut gateway = Gateway::start(setup);
    let mut subscribers = vec![];
    for number in 0..SUBSCRIBERS {
        subscribers.push(silent(&gateway, number).await);
    }
    let mut device = connect(&gateway, "device", true).await;
    let payload = vec![b'x'; PAYLOAD_BYTES];
    let mut largest_file = 0;
    for packet_id in 1..=MESSAGES {
        publish(&mut device, "big/1", &payload, packet_id).await;
        publish(&mut device, "plant/1/v", b"21.5", MESSAGES + packet_id).await;
        largest_file = largest_file.max(file_bytes(&gateway));
    }
    let begun = now();
    while begun.elapsed() < WATCHED {
        publish(&mut device, "plant/1/v", b"21.6", 1).await;
        largest_file = largest_file.max(file_bytes(&gateway));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let resident = gateway.usage().resident_peak_bytes;
    eprintln!("at the most {} MiB of memory, {} MiB of sessions.redb", resident >> 20, largest_file >> 20);
    assert!(resident <= RESIDENT_BYTES_MAX, "{} MiB of memory", resident >> 20);
    assert!(largest_file <= SESSIONS_FILE_BYTES_MAX, "{} MiB of sessions.redb", largest_file >> 20);
    assert!(
        gateway.metric("tidegate_local_dropped_total") > 0.0,
        "the copies that found no room are counted"
    );

    for (number, subscriber) in subscribers.into_iter().enumerate() {
        subscriber.abort();
        connect(&gateway, &format!("silent-{number}"), true).await;
    }
    wait_for("a small file", LIMIT, || file_bytes(&gateway) <= SMALL_FILE_BYTES_MAX).await;
    wait_for("no session", LIMIT, || gateway.metric("tidegate_local_sessions") == 0.0).await;
    publish(&mut device, "plant/1/v", b"21.7", 2).await;
    gateway.terminate();
    gateway.restart();
    assert!(file_bytes(&gateway) <= SMALL_FILE_BYTES_MAX, "{} bytes", file_bytes(&gateway));
    let mut device = connect(&gateway, "device", true).await;
    publish(&mut device, "plant/1/v", b"21.8", 1).await;
    gateway.terminate();
}
