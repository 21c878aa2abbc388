//! The door's limits, over loopback: who is above one waits, or is told, and nobody else notices.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::Path, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate::{
    broker::CONNECTED_WILLS_BYTES_MAX,
    clock,
    ingest::{self, ListenerSettings, Payload, Route, Settings, limits::WAITING_MAX},
    mqtt,
    store::{self, Store},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(30);
const CONNECTED: [u8; 4] = [0x20, 2, 0, 0];

/// A door on a free port, with a store behind it.
struct House {
    _store: Store,
    port: u16,
    shutdown: CancellationToken,
    door: JoinHandle<()>,
}

impl House {
    async fn open(folder: &Path, settings: Settings) -> Self {
        let store_settings = store::Settings::new(folder);
        let store = Store::open(store_settings, &[]).unwrap();
        let route = Route { filter: "#".into(), payload: Payload::Opaque, urgent: false, device_level: None };
        let settings = Settings { routes: vec![route], ..settings };
        let bound = ingest::bind(&ListenerSettings::new("127.0.0.1:0".parse().unwrap())).await.unwrap();
        let port = bound.local_addr().port();
        let shutdown = CancellationToken::new();
        let door = tokio::spawn(ingest::run(vec![bound], (&store).into(), settings, shutdown.clone()));
        House { _store: store, port, shutdown, door }
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// MQTT 3.1.1 with a keep-alive of a second, unless it is refused.
    async fn client(&self, id: u8) -> Result<TcpStream, [u8; 4]> {
        let mut stream = self.dial().await;
        stream.write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 1, 0, 1, id]).await.unwrap();
        let mut connack = [0; 4];
        match timeout(LIMIT, stream.read_exact(&mut connack)).await.unwrap() {
            Ok(_) if connack == CONNECTED => Ok(stream),
            _ => Err(connack),
        }
    }

    async fn close(self) {
        self.shutdown.cancel();
        timeout(LIMIT, self.door).await.unwrap().unwrap();
    }
}

fn publish(packet_id: u16, payload_bytes: usize) -> Vec<u8> {
    let length = 2 + 1 + 2 + payload_bytes;
    let mut out = vec![0x32, length as u8 | 0x80, (length >> 7) as u8, 0, 1, b't'];
    out.extend(packet_id.to_be_bytes());
    out.resize(out.len() + payload_bytes, b'x');
    out
}

/// Reads until the connection is closed or reset by the door.
async fn demand_closed(stream: &mut TcpStream) {
    let mut rest = vec![];
    let _ = timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty(), "{rest:02x?}");
}

/// Sends `count` publishes and a PINGREQ in one go; gives how long it took until all were answered,
/// in order.
async fn flood(house: &House, count: u16, payload_bytes: usize) -> Duration {
    let stream = house.client(b'f').await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let start = clock::monotonic();
    let mut bytes: Vec<u8> = (1..=count).flat_map(|id| publish(id, payload_bytes)).collect();
    bytes.extend([0xc0, 0]);
    let writing = tokio::spawn(async move {
        write.write_all(&bytes).await.unwrap();
        write
    });
    let mut acks = vec![0; 4 * usize::from(count)];
    let mut ping = [0; 2];
    let answers = async {
        // PINGRESP waits for no commit, so it may overtake the last acknowledgements.
        let (mut at, mut has_ping) = (0, false);
        while at < acks.len() || !has_ping {
            read.read_exact(&mut ping).await.unwrap();
            if ping == [0xd0, 0] {
                has_ping = true;
            } else {
                acks[at..at + 2].copy_from_slice(&ping);
                read.read_exact(&mut acks[at + 2..at + 4]).await.unwrap();
                at += 4;
            }
        }
    };
    timeout(LIMIT, answers).await.expect("a client above its limit is slowed down, not cut off");
    for (i, ack) in acks.chunks(4).enumerate() {
        assert_eq!((ack[0], u16::from_be_bytes([ack[2], ack[3]])), (0x40, i as u16 + 1));
    }
    drop(writing.await.unwrap());
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_above_its_publishes_per_second_waits_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { publishes_per_s_max: Some(100), ..Settings::default() };
    let house = House::open(folder.path(), settings).await;
    // Longer than 1.5 keep-alives of a second: what is not read cannot keep a connection alive.
    let took = flood(&house, 400, 60).await;
    assert!(
        took >= Duration::from_millis(2500),
        "{took:?} for 400 publishes at 100 per second, 100 of them at once"
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_above_its_bytes_per_second_waits_and_its_neighbour_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { bytes_per_s_max: Some(64 * 1024), ..Settings::default() };
    let house = House::open(folder.path(), settings).await;
    let neighbour = async {
        let mut stream = house.client(b'n').await.unwrap();
        for id in 1..=20 {
            stream.write_all(&publish(id, 10)).await.unwrap();
            let mut ack = [0; 4];
            timeout(Duration::from_secs(10), stream.read_exact(&mut ack)).await.unwrap().unwrap();
        }
        clock::monotonic()
    };
    let flood = async { (flood(&house, 300, 1000).await, clock::monotonic()) };
    let ((took, flood_end), neighbour_end) = tokio::join!(flood, neighbour);
    // 4.6 s, less the burst and what the last read held.
    assert!(took >= Duration::from_millis(2500), "{took:?} for 300 KB at 64 KiB per second");
    assert!(neighbour_end < flood_end);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_take_no_place_from_those_that_speak() {
    // Both ends of each connection are in this process.
    let files = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { connections_max: 2, connections_per_s_max: 1_000_000, ..Settings::default() };
    let house = House::open(folder.path(), settings).await;
    let mut first = house.client(b'1').await.unwrap();
    let mut silent = vec![];
    for _ in 0..WAITING_MAX + 100 {
        silent.push(house.dial().await);
    }
    // The oldest have given way, long before their time to CONNECT is over; the others have not.
    demand_closed(&mut silent[0]).await;
    let _second = house.client(b'2').await.expect("a client that speaks gets the seat that is free");
    assert_eq!(house.client(b'3').await.err(), Some([0x20, 2, 0, 3]), "and one more is told");
    silent.last_mut().unwrap().write_all(&[0xc0, 0]).await.unwrap();
    demand_closed(silent.last_mut().unwrap()).await;
    first.write_all(&[0xc0, 0]).await.unwrap();
    let mut pong = [0; 2];
    timeout(LIMIT, first.read_exact(&mut pong)).await.unwrap().unwrap();
    house.close().await;
}

#[tokio::test]
async fn more_connections_from_one_address_than_allowed_are_closed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { connections_per_address_max: Some(2), ..Settings::default() };
    let house = House::open(folder.path(), settings).await;
    let first = house.client(b'1').await.unwrap();
    let _second = house.client(b'2').await.unwrap();
    demand_closed(&mut house.dial().await).await;
    drop(first);
    let again = async { while house.client_or_closed(b'3').await.is_none() {} };
    timeout(LIMIT, again).await.expect("a place that is free again is given");
    house.close().await;
}

impl House {
    async fn client_or_closed(&self, id: u8) -> Option<TcpStream> {
        let mut stream = self.dial().await;
        let connect = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 1, 0, 1, id];
        stream.write_all(&connect).await.ok()?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).await.ok()?;
        Some(stream)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_rate_wait_and_are_all_served() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { connections_per_s_max: 20, ..Settings::default() };
    let house = House::open(folder.path(), settings).await;
    let start = clock::monotonic();
    let mut clients = vec![];
    // A burst of two seconds' worth is free.
    for id in 0..60 {
        clients.push(house.client(id + 32).await.unwrap());
    }
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    house.close().await;
}

#[tokio::test]
async fn a_client_whose_will_finds_no_room_is_told_so_and_one_that_leaves_makes_room() {
    const WILL_BYTES: usize = 60_000;
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path(), Settings::default()).await;
    let with_will = async |id: usize| {
        let mut stream = house.dial().await;
        let head = [&[0, 4][..], b"MQTT", &[4, 0b0000_0110, 0, 60, 0, 3]].concat();
        let body = [&head[..], format!("{id:03}").as_bytes(), &[0, 1, b'w']].concat();
        let will = [&(WILL_BYTES as u16).to_be_bytes()[..], &vec![b'x'; WILL_BYTES]].concat();
        let bytes = body.len() + will.len();
        let length = [bytes as u8 | 0x80, (bytes >> 7) as u8 | 0x80, (bytes >> 14) as u8];
        stream.write_all(&[&[0x10][..], &length, &body, &will].concat()).await.unwrap();
        let mut connack = [0; 4];
        timeout(LIMIT, stream.read_exact(&mut connack)).await.unwrap().unwrap();
        (stream, connack)
    };
    let (mut clients, most) = (vec![], CONNECTED_WILLS_BYTES_MAX / WILL_BYTES);
    for id in 0..=most {
        let (stream, connack) = with_will(id).await;
        // "Server unavailable".
        if connack != CONNECTED {
            assert_eq!(connack, [0x20, 2, 0, 3]);
            break;
        }
        clients.push(stream);
    }
    assert!((most - 2..=most).contains(&clients.len()), "{} of {most}", clients.len());
    drop(clients.pop());
    let one_more = async { while with_will(255).await.1 != CONNECTED {} };
    timeout(LIMIT, one_more).await.unwrap();
    house.close().await;
}

#[tokio::test]
async fn a_topic_beyond_its_limits_ends_the_connection_that_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let topics = mqtt::topics::TopicLimits { bytes: 4, levels: 2 };
    let house = House::open(folder.path(), Settings { topics, ..Settings::default() }).await;
    for (topic, fits) in [(&b"a/bc"[..], true), (b"abcde", false), (b"a/b/", false)] {
        let mut client = house.client(b'c').await.unwrap();
        let head = [0x32, 2 + topic.len() as u8 + 2, 0, topic.len() as u8];
        client.write_all(&[&head, topic, &[0, 1]].concat()).await.unwrap();
        let mut ack = [0; 4];
        let answer = timeout(LIMIT, client.read_exact(&mut ack)).await.unwrap();
        assert_eq!(answer.is_ok(), fits, "{}", String::from_utf8_lossy(topic));
    }
    house.close().await;
}
