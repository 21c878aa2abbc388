//! What the door promises, over loopback and with the real store behind it. The client is a few
//! bytes by hand, so that nothing of the gateway's own code judges it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::Path, time::Duration};

use tidegate::{
    ingest::{self, BindError, ListenerSettings, Payload, Route, Settings},
    store::{self, Store},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(20);
const UPLINK: &str = "cloud";

fn store_settings(folder: &Path) -> store::Settings {
    store::Settings { linger_max: Duration::from_secs(1), ..store::Settings::new(folder) }
}

fn settings() -> Settings {
    let route = |filter: &str, urgent| Route {
        filter: filter.into(),
        payload: Payload::Opaque,
        urgent,
        device_level: None,
    };
    Settings { routes: vec![route("s/#", false), route("urgent/#", true)], ..Settings::default() }
}

/// A door on a free port, with a store behind it.
struct House {
    store: Store,
    port: u16,
    shutdown: CancellationToken,
    door: JoinHandle<()>,
}

impl House {
    async fn open(folder: &Path) -> Self {
        Self::open_with(store_settings(folder), settings()).await
    }

    async fn open_with(store: store::Settings, settings: Settings) -> Self {
        let store = Store::open(store, &[UPLINK.into()]).unwrap();
        let listener = ListenerSettings::new("127.0.0.1:0".parse().unwrap());
        let bound = ingest::bind(&listener).await.unwrap();
        let port = bound.local_addr().port();
        let shutdown = CancellationToken::new();
        let door = tokio::spawn(ingest::run(vec![bound], (&store).into(), settings, shutdown.clone()));
        House { store, port, shutdown, door }
    }

    async fn client(&self, version: u8, id: &str, clean: bool) -> Client {
        let mut client = Client::dial(self.port).await;
        client.send(&connect(version, id, clean, None)).await;
        let connack = client.packet().await;
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
        client.session_present = connack[2] == 1;
        client
    }

    /// `topic payload` of all records, in order.
    async fn records(&self, wanted: usize) -> Vec<String> {
        let mut reader = self.store.reader(UPLINK).unwrap();
        let mut records = vec![];
        while records.len() < wanted {
            let position = reader.position();
            let block = timeout(LIMIT, reader.next()).await.unwrap().unwrap();
            records.extend(
                block.records_from(position).map(|(_, record)| {
                    format!("{} {}", record.topic, String::from_utf8_lossy(record.payload))
                }),
            );
        }
        records
    }

    async fn stop_door(&mut self) {
        self.shutdown.cancel();
        timeout(LIMIT, &mut self.door).await.unwrap().unwrap();
    }
}

struct Client {
    stream: TcpStream,
    session_present: bool,
}

impl Client {
    async fn dial(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, session_present: false }
    }

    async fn send(&mut self, bytes: &[u8]) {
        timeout(LIMIT, self.stream.write_all(bytes)).await.unwrap().unwrap();
    }

    /// The next packet, whole; empty when the door closed.
    async fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        match timeout(LIMIT, self.stream.read_exact(&mut packet)).await.unwrap() {
            Ok(_) => {}
            Err(_) => return vec![],
        }
        assert!(packet[1] < 128, "longer than these tests expect");
        let mut body = vec![0; packet[1].into()];
        timeout(LIMIT, self.stream.read_exact(&mut body)).await.unwrap().unwrap();
        packet.extend(body);
        packet
    }

    /// Sends PINGREQ and wants PINGRESP as the very next packet.
    async fn ping(&mut self) {
        self.send(&[0xc0, 0]).await;
        assert_eq!(self.packet().await, [0xd0, 0]);
    }
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    assert!(body.len() < 16_384);
    let mut out = vec![first];
    if body.len() < 128 {
        out.push(body.len() as u8);
    } else {
        out.extend([body.len() as u8 | 0x80, (body.len() >> 7) as u8]);
    }
    out.extend(body);
    out
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn connect(version: u8, id: &str, clean: bool, will: Option<(&str, &str)>) -> Vec<u8> {
    let flags = u8::from(clean) << 1 | u8::from(will.is_some()) << 2;
    let none: &[u8] = if version == 5 { &[0] } else { &[] };
    // A session that is to be continued is kept for an hour.
    let properties: &[u8] = if version == 5 && !clean { &[5, 0x11, 0, 0, 14, 16] } else { none };
    let will = will.map_or(vec![], |(topic, payload)| [none, &text(topic), &text(payload)].concat());
    packet(0x10, &[&text("MQTT"), &[version, flags, 0, 60], properties, &text(id), &will])
}

fn publish(version: u8, first: u8, topic: &str, packet_id: u16, payload: &str) -> Vec<u8> {
    let none: &[u8] = if version == 5 { &[0] } else { &[] };
    packet(0x30 | first, &[&text(topic), &packet_id.to_be_bytes(), none, payload.as_bytes()])
}

fn puback(packet_id: u16) -> Vec<u8> {
    [&[0x40, 2][..], &packet_id.to_be_bytes()].concat()
}

const QOS1: u8 = 2;
const QOS2: u8 = 4;
const DUP: u8 = 8;

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash() {
    for version in [4, 5] {
        let folder = tempfile::tempdir().unwrap();
        let house = House::open(folder.path()).await;
        let mut client = house.client(version, "c", true).await;
        for id in 1..=3 {
            client.send(&publish(version, QOS1, "s/a", id, &id.to_string())).await;
            assert_eq!(client.packet().await, puback(id));
        }
        house.store.crash();
        let house = House::open(folder.path()).await;
        assert_eq!(house.records(3).await, ["s/a 1", "s/a 2", "s/a 3"]);
    }
}

#[tokio::test]
async fn no_puback_without_a_commit_and_pingresp_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    // Without a budget, everything that is not urgent lingers for an hour.
    let frugal = store::Settings {
        wear_budget_bytes_per_day: Some(1),
        linger_max: Duration::from_secs(3_600),
        ..store_settings(folder.path())
    };
    let house = House::open_with(frugal, settings()).await;
    let mut client = house.client(5, "c", true).await;
    client.send(&publish(5, QOS1, "s/first", 1, "spends the budget")).await;
    assert_eq!(client.packet().await, puback(1));
    client.send(&publish(5, QOS1, "s/a", 2, "lingers")).await;
    client.send(&publish(5, QOS1, "nobody", 3, "keeps its place")).await;
    for _ in 0..3 {
        client.ping().await;
    }
    client.send(&publish(5, QOS1, "urgent/a", 4, "commits all")).await;
    assert_eq!(client.packet().await, puback(2));
    assert_eq!(client.packet().await, [0x40, 3, 0, 3, 0x10]);
    assert_eq!(client.packet().await, puback(4));
}

#[tokio::test]
async fn fifty_clients_are_acknowledged_in_order_and_everything_is_stored() {
    const CLIENTS: u16 = 50;
    const EACH: u16 = 200;
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path()).await;
    let mut tasks = vec![];
    for i in 0..CLIENTS {
        let version = 4 + (i % 2) as u8;
        let mut client = house.client(version, &format!("c{i}"), true).await;
        tasks.push(tokio::spawn(async move {
            let all: Vec<u8> =
                (1..=EACH).flat_map(|id| publish(version, QOS1, "s/a", id, &format!("{i}-{id}"))).collect();
            client.send(&all).await;
            for id in 1..=EACH {
                assert_eq!(client.packet().await, puback(id));
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let wanted = usize::from(CLIENTS) * usize::from(EACH);
    let mut records = house.records(wanted).await;
    records.sort();
    records.dedup();
    assert_eq!(records.len(), wanted);
}

#[tokio::test]
async fn qos_2_is_stored_once_across_a_reconnect_and_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path()).await;
    let mut client = house.client(4, "c", false).await;
    assert!(!client.session_present);
    client.send(&publish(4, QOS2, "s/a", 9, "once")).await;
    assert_eq!(client.packet().await, [0x50, 2, 0, 9]);
    drop(client);
    house.store.crash();

    let house = House::open(folder.path()).await;
    let mut client = house.client(5, "c", false).await;
    assert!(client.session_present, "the store knows the packet id");
    client.send(&publish(5, QOS2 | DUP, "s/a", 9, "once")).await;
    assert_eq!(client.packet().await, [0x50, 2, 0, 9]);
    client.send(&[0x62, 2, 0, 9]).await;
    assert_eq!(client.packet().await, [0x70, 2, 0, 9]);
    client.send(&publish(5, QOS2, "s/a", 9, "again")).await;
    assert_eq!(client.packet().await, [0x50, 2, 0, 9]);
    drop(client);
    let mut client = house.client(5, "c", true).await;
    assert!(!client.session_present);
    client.send(&publish(5, QOS2, "s/a", 9, "after a clean start")).await;
    assert_eq!(client.packet().await, [0x50, 2, 0, 9]);
    assert_eq!(house.records(3).await, ["s/a once", "s/a again", "s/a after a clean start"]);
}

#[tokio::test]
async fn a_second_connection_takes_over_and_the_firsts_will_comes_before_what_it_publishes() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path()).await;
    let mut first = Client::dial(house.port).await;
    first.send(&connect(5, "tg/x+y#", true, Some(("s/status", "offline")))).await;
    assert_eq!(first.packet().await[3], 0);
    let mut second = house.client(4, "tg/x+y#", true).await;
    let disconnect = first.packet().await;
    assert_eq!((disconnect[0], disconnect[2]), (0xe0, 0x8e));
    assert!(first.packet().await.is_empty());
    second.send(&publish(4, QOS1, "s/status", 1, "online")).await;
    assert_eq!(second.packet().await, puback(1));
    assert_eq!(house.records(2).await, ["s/status offline", "s/status online"]);
}

#[tokio::test]
async fn one_client_too_many_is_told_so_and_one_that_leaves_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let one = Settings { connections_max: 1, ..settings() };
    let house = House::open_with(store_settings(folder.path()), one).await;
    let first = house.client(4, "a", true).await;
    for (version, code) in [(4, 3), (5, 0x89)] {
        let mut client = Client::dial(house.port).await;
        client.send(&connect(version, "b", true, None)).await;
        let connack = client.packet().await;
        assert_eq!((connack[0], connack[3]), (0x20, code));
        assert!(client.packet().await.is_empty());
    }
    house.client(4, "a", true).await;
    drop(first);
    let free = async {
        loop {
            let mut client = Client::dial(house.port).await;
            client.send(&connect(4, "b", true, None)).await;
            if client.packet().await == [0x20, 2, 0, 0] {
                return;
            }
        }
    };
    timeout(LIMIT, free).await.unwrap();
}

#[tokio::test]
async fn silence_and_nonsense_end_alone() {
    let folder = tempfile::tempdir().unwrap();
    let hasty = Settings { connect_timeout: Duration::from_millis(100), ..settings() };
    let house = House::open_with(store_settings(folder.path()), hasty).await;
    let mut good = house.client(5, "good", true).await;
    let mut silent = Client::dial(house.port).await;
    assert!(silent.packet().await.is_empty());
    for nonsense in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 2, 0, 1], &[0; 64], &[0xff; 64], &[0x20, 2, 0, 0]]
    {
        let mut client = Client::dial(house.port).await;
        client.send(nonsense).await;
        assert!(client.packet().await.is_empty(), "{nonsense:02x?}");
    }
    let mut broken = house.client(5, "broken", true).await;
    broken.send(&[0x30, 0xff, 0xff, 0xff, 0x7f]).await;
    let disconnect = broken.packet().await;
    assert_eq!((disconnect[0], disconnect[2]), (0xe0, 0x95));
    good.ping().await;
}

#[tokio::test]
async fn a_closed_store_gives_no_puback() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path()).await;
    let mut client = house.client(5, "c", true).await;
    let port = house.port;
    house.store.crash();
    client.send(&publish(5, QOS1, "s/a", 1, "")).await;
    let disconnect = client.packet().await;
    assert_eq!((disconnect[0], disconnect[2]), (0xe0, 0x97));
    assert!(client.packet().await.is_empty());
    let mut client = Client::dial(port).await;
    client.send(&connect(4, "d", true, None)).await;
    client.packet().await;
    client.send(&publish(4, QOS1, "s/a", 1, "")).await;
    assert!(client.packet().await.is_empty());
}

#[tokio::test]
async fn a_stop_ends_every_client_after_its_acknowledgements() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = House::open(folder.path()).await;
    let mut idle = house.client(4, "idle", true).await;
    let mut busy = house.client(5, "busy", true).await;
    let all: Vec<u8> = (1..=100).flat_map(|id| publish(5, QOS1, "s/a", id, "x")).collect();
    busy.send(&all).await;
    // Its first PUBACK says that the whole read was appended.
    assert_eq!(busy.packet().await, puback(1));
    house.stop_door().await;
    assert!(idle.packet().await.is_empty());
    let mut acknowledged = 1;
    let disconnect = loop {
        let packet = busy.packet().await;
        if packet[0] != 0x40 {
            break packet;
        }
        acknowledged += 1;
    };
    assert_eq!((disconnect[0], disconnect[2]), (0xe0, 0x8b));
    assert!(house.store.status().events >= acknowledged);
    assert!(TcpStream::connect(("127.0.0.1", house.port)).await.is_err());
}

#[tokio::test]
async fn a_port_that_cannot_be_had_is_refused_with_the_reason() {
    let listen = |address: &str| ListenerSettings::new(address.parse().unwrap());
    for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:1883"] {
        let error = ingest::bind(&listen(open)).await.unwrap_err();
        assert!(matches!(error, BindError::NotLoopback(_)));
        assert!(error.to_string().contains("listen on 127.0.0.1"), "{error}");
    }
    let bound = ingest::bind(&listen("127.0.0.1:0")).await.unwrap();
    let taken = bound.local_addr().to_string();
    let error = ingest::bind(&listen(&taken)).await.unwrap_err().to_string();
    assert!(error.contains(&taken) && error.contains("another program listens there"), "{error}");
}

/// A store whose wear budget is spent with its first commit: everything else lingers for an hour.
async fn frugal_house(folder: &Path) -> House {
    let frugal = store::Settings {
        wear_budget_bytes_per_day: Some(1),
        linger_max: Duration::from_secs(3_600),
        ..store_settings(folder)
    };
    let house = House::open_with(frugal, settings()).await;
    let mut client = house.client(4, "spender", true).await;
    client.send(&publish(4, QOS1, "s/first", 1, "spends the budget")).await;
    assert_eq!(client.packet().await, puback(1));
    house
}

/// One that subscribes to `filter` with QoS 1, and keeps nothing if `clean`.
async fn subscriber(house: &House, id: &str, clean: bool, filter: &str) -> Client {
    let mut client = house.client(4, id, clean).await;
    client.send(&packet(0x82, &[&[0, 1], &text(filter), &[1]])).await;
    assert_eq!(client.packet().await, [0x90, 3, 0, 1, 1]);
    client
}

/// The payload of the PUBLISH that comes next.
async fn payload(client: &mut Client) -> String {
    let got = client.packet().await;
    assert_eq!(got[0] >> 4, 3, "{got:02x?}");
    let topic_bytes = usize::from(u16::from_be_bytes([got[2], got[3]]));
    let at = 4 + topic_bytes + if got[0] & 6 == 0 { 0 } else { 2 };
    String::from_utf8_lossy(&got[at..]).into_owned()
}

#[tokio::test]
async fn what_nobody_keeps_waits_for_no_commit_and_for_what_its_connection_is_owed_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let house = frugal_house(folder.path()).await;
    let mut now = subscriber(&house, "now", true, "lamp/#").await;
    let mut client = house.client(4, "c", true).await;
    let stored = house.store.status();
    for id in 1..=50 {
        client.send(&publish(4, QOS1, "lamp/1", id, &id.to_string())).await;
        assert_eq!(client.packet().await, puback(id));
        assert_eq!(payload(&mut now).await, id.to_string());
    }
    client.send(&publish(4, QOS2, "lamp/2", 60, "on")).await;
    assert_eq!(client.packet().await, [0x50, 2, 0, 60]);
    assert_eq!(payload(&mut now).await, "on");
    client.send(&[0x62, 2, 0, 60]).await;
    assert_eq!(client.packet().await, [0x70, 2, 0, 60]);
    let after = house.store.status();
    assert_eq!((after.next_offset, after.written_bytes), (stored.next_offset, stored.written_bytes));

    // It is delivered at once all the same, and acknowledged in its place.
    client.send(&publish(4, QOS1, "s/a", 61, "lingers")).await;
    client.send(&publish(4, QOS1, "lamp/1", 62, "off")).await;
    assert_eq!(payload(&mut now).await, "off");
    client.ping().await;
    client.send(&publish(4, QOS1, "urgent/a", 63, "commits all")).await;
    for id in 61..=63 {
        assert_eq!(client.packet().await, puback(id));
    }
}

#[tokio::test]
async fn what_a_session_keeps_is_acknowledged_when_it_is_on_disk_and_soon() {
    let folder = tempfile::tempdir().unwrap();
    let house = frugal_house(folder.path()).await;
    let mut kept = subscriber(&house, "kept", false, "lamp/#").await;
    let mut client = house.client(4, "c", true).await;
    for id in 1..=10 {
        client.send(&publish(4, QOS1, "lamp/1", id, &id.to_string())).await;
        assert_eq!(client.packet().await, puback(id));
        assert_eq!(payload(&mut kept).await, id.to_string());
    }
    drop(kept);
    for id in 11..=20 {
        client.send(&publish(4, QOS1, "lamp/1", id, &id.to_string())).await;
        assert_eq!(client.packet().await, puback(id));
    }
    house.store.crash();
    let house = House::open(folder.path()).await;
    let mut kept = house.client(4, "kept", false).await;
    assert!(kept.session_present);
    for id in 1..=20 {
        assert_eq!(payload(&mut kept).await, id.to_string());
    }
}

#[tokio::test]
async fn messages_of_one_client_on_one_topic_come_in_their_order_whichever_way_they_take() {
    let folder = tempfile::tempdir().unwrap();
    let house = frugal_house(folder.path()).await;
    let mut now = subscriber(&house, "now", true, "lamp/#").await;
    let mut client = house.client(4, "c", true).await;
    const RETAIN: u8 = 1;
    let qos0 = |first: u8, payload: &str| packet(0x30 | first, &[&text("lamp/1"), payload.as_bytes()]);
    for round in 0..20 {
        let texts: Vec<_> = (0..5).map(|n| format!("{round}-{n}")).collect();
        client.send(&qos0(RETAIN, &texts[0])).await;
        client.send(&qos0(0, &texts[1])).await;
        client.send(&publish(4, QOS1, "lamp/1", 5, &texts[2])).await;
        client.send(&publish(4, QOS1 | RETAIN, "lamp/1", 6, &texts[3])).await;
        client.send(&qos0(0, &texts[4])).await;
        for text in &texts {
            assert_eq!(&payload(&mut now).await, text);
        }
        assert_eq!([client.packet().await, client.packet().await], [puback(5), puback(6)]);
    }
}

#[tokio::test]
async fn a_device_that_is_back_is_shown_as_there_and_not_as_away() {
    let folder = tempfile::tempdir().unwrap();
    let house = frugal_house(folder.path()).await;
    let mut now = subscriber(&house, "now", true, "there/#").await;
    let mut connect = connect(4, "device", true, Some(("there/device", "away")));
    // The will is retained, and so goes through the log.
    connect[9] |= 0x20;
    let mut devices = vec![];
    for round in 0..20 {
        let mut device = Client::dial(house.port).await;
        device.send(&connect).await;
        assert_eq!(device.packet().await, [0x20, 2, 0, 0]);
        if round > 0 {
            // It took over from itself, and its will is on its way.
            device.send(&packet(0x30, &[&text("there/device"), b"there"])).await;
            assert_eq!([payload(&mut now).await, payload(&mut now).await], ["away", "there"], "{round}");
        }
        devices.push(device);
    }
}
