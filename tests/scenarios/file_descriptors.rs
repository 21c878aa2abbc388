//! More idle connections than the system has file descriptors for, at the door and at the HTTP
//! port: the store still opens its segments, a device's events are stored and delivered, another
//! device connects, and metrics are answered.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidegate_tests::{
    client::Client,
    clock::{wait_for, within},
    codec::{Ack, Connect, Packet, Publish, Version},
    crowd,
    gateway::{Gateway, Setup, Uplink},
    load::Sink,
    ports,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What the system lets the gateway have.
const FILES: u32 = 256;
/// At each port.
const ATTACKERS: usize = 300;
/// Twelve segments of them.
const EVENTS: u16 = 200;
const EVENT_BYTES: usize = 64 << 10;
const LIMIT: Duration = Duration::from_secs(60);

/// Connections to `target` that say `words` and no more, and come again when they are closed.
fn attack(target: SocketAddr, words: &'static [u8], stop: &Arc<AtomicBool>) -> Arc<AtomicUsize> {
    let tried = Arc::new(AtomicUsize::new(0));
    for _ in 0..ATTACKERS {
        let (stop, tried) = (stop.clone(), tried.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let Ok(mut stream) = TcpStream::connect(target).await else { continue };
                tried.fetch_add(1, Ordering::Relaxed);
                let _ = stream.write_all(words).await;
                while matches!(stream.read(&mut [0; 256]).await, Ok(1..)) {}
            }
        });
    }
    tried
}

async fn connect(gateway: &Gateway, client_id: &str) -> Client {
    let connect = Connect { version: Version::V5, client_id, clean: true, keep_alive_s: 60 };
    within("a device to get in", LIMIT, async {
        loop {
            match Client::connect(gateway.mqtt, &connect).await {
                Ok(client) => return client,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await
}

async fn publish(client: &mut Client, packet_id: u16, payload: &[u8]) {
    client.put_publish(&Publish {
        topic: "a/b",
        payload,
        qos: 1,
        packet_id,
        dup: false,
        user_properties: &[],
    });
    client.flush().await.expect("the device is not cut off");
    let answer = client.next().await;
    assert_eq!(answer, Packet::Ack { ack: Ack::PubAck, packet_id, reason: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_at_both_ports_leave_the_store_its_files() {
    crowd::raise_file_limit().expect("the system allows more files");
    let address = ports::free_address();
    let sink = Sink::start(address);
    let mut setup = Setup::new(Uplink::new(&format!("mqtt://{address}"), Version::V311));
    setup.files_max = Some(FILES);
    setup.store += "segment_bytes = \"1 MiB\"\nretain = \"0s\"\n";
    let gateway = Gateway::start(setup);
    assert!(gateway.log().contains("the system allows 256"), "it says what there is: {}", gateway.log());
    let mut device = connect(&gateway, "device").await;
    publish(&mut device, u16::MAX, b"before").await;

    let quiet = gateway.open_files();

    let stop = Arc::new(AtomicBool::new(false));
    let door = attack(gateway.mqtt, b"\x10", &stop);
    let http = attack(gateway.http, b"GET /metrics HTTP/1.1\r\n", &stop);
    let all_came = || [&door, &http].iter().all(|tried| tried.load(Ordering::Relaxed) >= ATTACKERS);
    wait_for("the attackers to have come", LIMIT, all_came).await;

    let payload = vec![b'x'; EVENT_BYTES];
    let mut most = 0;
    for packet_id in 1..=EVENTS {
        within("a PUBACK beside them", LIMIT, publish(&mut device, packet_id, &payload)).await;
        most = most.max(gateway.open_files());
    }
    let mut other = connect(&gateway, "another").await;
    within("a PUBACK for one that came late", LIMIT, publish(&mut other, 1, &payload)).await;
    assert_eq!(gateway.metric("tidegate_store_failures_total"), 0.0, "{}", gateway.log());
    let all = u64::from(EVENTS) + 2;
    wait_for("everything to be delivered", LIMIT, || sink.delivered() >= all).await;
    eprintln!(
        "at most {most} of {FILES} file descriptors open; the door was tried {} times and HTTP {}",
        door.load(Ordering::Relaxed),
        http.load(Ordering::Relaxed)
    );
    assert!(most < FILES as usize, "some are left over");
    assert!(!gateway.log().contains("os error 24"), "{}", gateway.log());

    stop.store(true, Ordering::Relaxed);
    let before = gateway.open_files();
    wait_for("the attackers' descriptors to be free again", LIMIT, || gateway.open_files() < quiet + 8).await;
    eprintln!("{before} file descriptors at the end of the attack, {} after it", gateway.open_files());
}
