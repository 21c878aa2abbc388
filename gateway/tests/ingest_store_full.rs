//! The door while the store holds as much as it may, over loopback and with the real store behind
//! it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tidegate::{
    ingest::{self, ListenerSettings, Payload, Route, Settings},
    store::{self, AppendError, Batch, Reader, Record, Store},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(30);
/// No reply comes within this, where none may come.
const QUIET: Duration = Duration::from_millis(200);
const UPLINK: &str = "cloud";
/// One part in sixteen, kept for what is urgent, is more than a new segment takes.
const MAX_BYTES: u64 = 32 << 20;
const SEGMENT_BYTES: u64 = 2 << 20;
const PAYLOAD_BYTES: usize = 2000;
const QUOTA_EXCEEDED: u8 = 0x97;
const QOS1: u8 = 2;
const QOS2: u8 = 4;

/// A door on a free port, with a store behind it whose uplink releases nothing.
struct House {
    store: Store,
    reader: Reader,
    port: u16,
    _folder: tempfile::TempDir,
}

impl House {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store_settings = store::Settings {
            segment_bytes: SEGMENT_BYTES,
            max_bytes: MAX_BYTES,
            when_full: store::WhenFull::Reject,
            ..store::Settings::new(folder.path())
        };
        let store = Store::open(store_settings, &[UPLINK.into()]).unwrap();
        let listener = ListenerSettings::new("127.0.0.1:0".parse().unwrap());
        let bound = ingest::bind(&listener).await.unwrap();
        let port = bound.local_addr().port();
        let route = |filter: &str, urgent| Route {
            filter: filter.into(),
            payload: Payload::Opaque,
            urgent,
            device_level: None,
        };
        let routes = vec![route("s", false), route("alarm", true)];
        let settings = Settings { routes, ..Settings::default() };
        tokio::spawn(ingest::run(vec![bound], (&store).into(), settings, CancellationToken::new()));
        House { reader: store.reader(UPLINK).unwrap(), store, port, _folder: folder }
    }

    /// Fills the store, the last of it through the door.
    async fn fill(&self) {
        let intake = self.store.intake();
        let mut watermark = intake.watermark();
        for payload_bytes in [200_000, 20_000, 2 * PAYLOAD_BYTES] {
            let payload = vec![0; payload_bytes];
            let mut appended = 0;
            loop {
                let mut batch = Batch::default();
                batch.push(&record(&payload));
                let is_full = match intake.append(&mut batch) {
                    Ok(ticket) => {
                        appended = ticket + 1;
                        false
                    }
                    Err(error) => {
                        assert_eq!(error, AppendError::StoreFull);
                        watermark.borrow().committed >= appended
                    }
                };
                if is_full {
                    break;
                }
                // One by one, so that the store does not take in more than it knows of.
                timeout(LIMIT, watermark.wait_for(|w| w.committed >= appended)).await.unwrap().unwrap();
            }
        }
        let mut client = self.client(5, "filler", true).await;
        let until = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < until, "the store does not fill up");
            client.send(&publish(5, QOS1, "s", 1)).await;
            if client.packet().await.get(4) == Some(&QUOTA_EXCEEDED) {
                break;
            }
        }
    }

    /// The uplink delivers all there is.
    async fn deliver(&mut self) {
        let end = self.store.status().next_offset;
        while self.reader.position() < end {
            let block = timeout(LIMIT, self.reader.next()).await.unwrap().unwrap();
            self.reader.release(block.end());
        }
    }

    async fn client(&self, version: u8, id: &str, clean: bool) -> Client {
        let mut client = Client(TcpStream::connect(("127.0.0.1", self.port)).await.unwrap());
        client.0.set_nodelay(true).unwrap();
        let properties: &[u8] = match (version, clean) {
            (4, _) => &[],
            (_, true) => &[0],
            (_, false) => &[5, 0x11, 0, 0, 14, 16],
        };
        let connect =
            [&text("MQTT")[..], &[version, u8::from(clean) << 1, 0, 60], properties, &text(id)].concat();
        client.send(&packet(0x10, &connect)).await;
        let connack = client.packet().await;
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
        client
    }
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        timeout(LIMIT, self.0.write_all(bytes)).await.unwrap().unwrap();
    }

    async fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        timeout(LIMIT, self.0.read_exact(&mut packet)).await.unwrap().unwrap();
        let mut body = vec![0; packet[1].into()];
        timeout(LIMIT, self.0.read_exact(&mut body)).await.unwrap().unwrap();
        packet.extend(body);
        packet
    }

    async fn is_told_nothing(&mut self) {
        assert!(timeout(QUIET, self.0.read_u8()).await.is_err(), "a reply although the store is full");
    }

    async fn ping(&mut self) {
        self.send(&[0xc0, 0]).await;
        assert_eq!(self.packet().await, [0xd0, 0]);
    }
}

fn record(payload: &[u8]) -> Record<'_> {
    Record { events: 1, qos: 0, received_ms: 1, client: "filler", topic: "s", payload, ..Record::default() }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 16_384);
    [&[first, body.len() as u8 | 0x80, (body.len() >> 7) as u8][..], body].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn publish(version: u8, qos: u8, topic: &str, packet_id: u16) -> Vec<u8> {
    let none: &[u8] = if version == 5 { &[0] } else { &[] };
    packet(0x30 | qos, &[&text(topic), &packet_id.to_be_bytes()[..], none, &[7; PAYLOAD_BYTES]].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_refuses_version_5_by_packet_until_there_is_room() {
    let mut house = House::open().await;
    let mut client = house.client(5, "c", false).await;
    client.send(&publish(5, QOS2, "s", 5)).await;
    assert_eq!(client.packet().await, [0x50, 2, 0, 5]);
    house.fill().await;
    let stored = house.store.status().events;

    client.send(&publish(5, QOS1, "s", 1)).await;
    assert_eq!(client.packet().await, [0x40, 3, 0, 1, QUOTA_EXCEEDED]);
    client.ping().await;
    for _ in 0..2 {
        client.send(&publish(5, QOS2, "s", 2)).await;
        assert_eq!(
            client.packet().await,
            [0x50, 3, 0, 2, QUOTA_EXCEEDED],
            "the id is free, no PUBREL follows"
        );
    }
    assert!(house.store.intake().has_pending("c"));
    let mixed = [
        publish(5, QOS1, "s", 3),
        vec![0x62, 2, 0, 5],
        publish(5, QOS1, "alarm", 4),
        publish(5, QOS2, "s", 6),
        publish(5, QOS1, "s", 7),
    ];
    client.send(&mixed.concat()).await;
    assert_eq!(client.packet().await, [0x40, 3, 0, 3, QUOTA_EXCEEDED]);
    assert_eq!(client.packet().await, [0x70, 2, 0, 5], "a release is never refused");
    assert_eq!(client.packet().await, [0x40, 2, 0, 4], "a part of the store is kept for what is urgent");
    assert_eq!(client.packet().await, [0x50, 3, 0, 6, QUOTA_EXCEEDED]);
    assert_eq!(client.packet().await, [0x40, 3, 0, 7, QUOTA_EXCEEDED]);
    assert!(!house.store.intake().has_pending("c"));
    assert_eq!(house.store.status().events, stored + 1);

    house.deliver().await;
    let until = Instant::now() + LIMIT;
    loop {
        client.send(&publish(5, QOS2, "s", 8)).await;
        let reply = client.packet().await;
        if reply == [0x50, 2, 0, 8] {
            break;
        }
        assert_eq!(reply, [0x50, 3, 0, 8, QUOTA_EXCEEDED]);
        assert!(Instant::now() < until, "there is no room again");
    }
    client.send(&[0x62, 2, 0, 8]).await;
    assert_eq!(client.packet().await, [0x70, 2, 0, 8]);
    assert_eq!(house.store.status().events, stored + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_holds_version_3_1_1_until_there_is_room() {
    let mut house = House::open().await;
    house.fill().await;
    let stored = house.store.status().events;
    let mut client = house.client(4, "c", true).await;
    let mut other = house.client(4, "other", true).await;
    client.send(&publish(4, QOS1, "s", 1)).await;
    client.is_told_nothing().await;
    other.send(&publish(4, QOS1, "alarm", 1)).await;
    assert_eq!(other.packet().await, [0x40, 2, 0, 1]);
    client.send(&[0xc0, 0]).await;
    client.is_told_nothing().await;
    assert_eq!(house.store.status().events, stored + 1);

    house.deliver().await;
    // PINGRESP does not wait for the commit.
    assert_eq!(client.packet().await, [0xd0, 0]);
    assert_eq!(client.packet().await, [0x40, 2, 0, 1]);
    assert_eq!(house.store.status().events, stored + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_batch_is_given_up_with_its_connection_but_for_its_releases() {
    let house = House::open().await;
    let mut client = house.client(4, "c", false).await;
    client.send(&publish(4, QOS2, "s", 5)).await;
    assert_eq!(client.packet().await, [0x50, 2, 0, 5]);
    house.fill().await;
    let stored = house.store.status().events;
    client.send(&[publish(4, QOS1, "s", 1), vec![0x62, 2, 0, 5]].concat()).await;
    client.is_told_nothing().await;
    let intake = house.store.intake();
    assert!(intake.has_pending("c"));

    let mut client = house.client(4, "c", false).await;
    let released = async {
        while intake.has_pending("c") {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, released).await.expect("the release was lost with its batch");
    client.ping().await;
    assert_eq!(house.store.status().events, stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_stored_before_is_not_refused_when_it_is_sent_again() {
    let house = House::open().await;
    let mut client = house.client(5, "c", false).await;
    client.send(&publish(5, QOS2, "s", 5)).await;
    assert_eq!(client.packet().await, [0x50, 2, 0, 5]);
    house.fill().await;
    let stored = house.store.status().events;
    let mut client = house.client(5, "c", false).await;
    client.send(&publish(5, QOS2 | 8, "s", 5)).await;
    assert_eq!(client.packet().await, [0x50, 2, 0, 5]);
    client.send(&[0x62, 2, 0, 5]).await;
    assert_eq!(client.packet().await, [0x70, 2, 0, 5]);
    assert_eq!(house.store.status().events, stored);
}
