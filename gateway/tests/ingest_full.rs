//! The door while the disk stands still: `cargo test -p tidegate --features failpoints --test
//! ingest_full`. A file of its own, because a failpoint holds for the whole process.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tidegate::{
    ingest::{self, ListenerSettings, Payload, Route, Settings},
    store::{self, INTAKE_BYTES_MAX, Store},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(30);
const PAYLOAD_BYTES: usize = 60_000;
/// Far more than the intake and the kernel's buffers on both sides hold.
const PUBLISHES: u16 = (8 * INTAKE_BYTES_MAX / PAYLOAD_BYTES) as u16;
/// Publishes of a client that sends a little.
const OTHERS: u8 = 8;

async fn connect(port: u16, id: u8) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 1, 0, 1, id]).await.unwrap();
    expect(&mut stream, &[0x20, 2, 0, 0]).await;
    stream
}

async fn expect(stream: &mut TcpStream, wanted: &[u8]) {
    let mut got = vec![0; wanted.len()];
    timeout(LIMIT, stream.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, wanted);
}

fn publish(packet_id: u16) -> Vec<u8> {
    let length = 2 + 1 + 2 + PAYLOAD_BYTES;
    let mut out =
        vec![0x32, length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8, 0, 1, b't'];
    out.extend(packet_id.to_be_bytes());
    out.resize(out.len() + PAYLOAD_BYTES, b'x');
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_intake_stops_the_reading_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store_settings =
        store::Settings { linger_max: Duration::from_secs(1), ..store::Settings::new(folder.path()) };
    let store = Store::open(store_settings, &[]).unwrap();
    let listener = ListenerSettings::new("127.0.0.1:0".parse().unwrap());
    let bound = ingest::bind(&listener).await.unwrap();
    let port = bound.local_addr().port();
    let route = Route { filter: "t".into(), payload: Payload::Opaque, urgent: false, device_level: None };
    let settings = Settings { routes: vec![route], ..Settings::default() };
    let shutdown = CancellationToken::new();
    let door = tokio::spawn(ingest::run(vec![bound], (&store).into(), settings, shutdown.clone()));

    let (mut reads, mut writes) = connect(port, b'a').await.into_split();
    let mut other = connect(port, b'b').await;
    fail::cfg("store-sync", "pause").unwrap();
    let sending = tokio::spawn(async move {
        for id in 1..=PUBLISHES {
            writes.write_all(&publish(id)).await.unwrap();
        }
        writes
    });
    // Longer than 1.5 times the keep-alive of one second: neither client may be ended for it. The
    // one that sends a little is read from all the time, for its events are taken in beside those
    // that fill the intake.
    for id in 1..=OTHERS {
        tokio::time::sleep(Duration::from_millis(250)).await;
        other.write_all(&[&[0x32, 6, 0, 1, b't', 0, id, b'x'][..], &[0xc0, 0]].concat()).await.unwrap();
        expect(&mut other, &[0xd0, 0]).await;
    }
    assert!(!sending.is_finished(), "the door reads on although nothing can be stored");
    let mut one = [0];
    assert!(
        timeout(Duration::from_millis(100), reads.read(&mut one)).await.is_err(),
        "a PUBACK without a sync"
    );

    fail::remove("store-sync");
    for id in 1..=PUBLISHES {
        let mut puback = [0; 4];
        timeout(LIMIT, reads.read_exact(&mut puback)).await.unwrap().unwrap();
        assert_eq!(puback, [0x40, 2, (id >> 8) as u8, id as u8]);
    }
    sending.await.unwrap();
    for id in 1..=OTHERS {
        expect(&mut other, &[0x40, 2, 0, id]).await;
    }
    assert_eq!(store.status().events, u64::from(PUBLISHES) + u64::from(OTHERS));
    shutdown.cancel();
    timeout(LIMIT, door).await.unwrap().unwrap();
}
