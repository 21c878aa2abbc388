//! MQTT over WebSocket at the door, over loopback and with the real store behind it. Client and
//! frames are a few bytes by hand, so that nothing of the gateway's own code, nor its library,
//! judges it. Foreign clients are in `tests/scenarios/foreign_clients.rs`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ca;

use std::{path::Path, sync::Arc, time::Duration};

use ca::{Ca, Wish};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tempfile::TempDir;
use tidegate::{
    clock,
    ingest::{self, ClientCert, ListenerSettings, Payload, Protocol, Route, Settings, TlsSettings},
    store::{self, Store},
    telemetry,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(20);
const UPLINK: &str = "cloud";
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const PINGREQ: [u8; 2] = [0xc0, 0];
const PINGRESP: [u8; 2] = [0xd0, 0];
const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: gate\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: mqtt\r\n\r\n";

/// A door with a plain listener and one for WebSocket, and a store behind it.
struct House {
    folder: TempDir,
    store: Store,
    mqtt: u16,
    websocket: u16,
    shutdown: CancellationToken,
    _door: JoinHandle<()>,
}

impl House {
    async fn open() -> Self {
        Self::open_with(Settings::default(), |_| None).await
    }

    async fn open_with(settings: Settings, tls: impl FnOnce(&Path) -> Option<TlsSettings>) -> Self {
        telemetry::recorder();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(store::Settings::new(folder.path().join("data")), &[UPLINK.into()]).unwrap();
        let plain = ListenerSettings::new("127.0.0.1:0".parse().unwrap());
        let listener =
            ListenerSettings { protocol: Protocol::WebSocket, tls: tls(folder.path()), ..plain.clone() };
        let bound = vec![ingest::bind(&plain).await.unwrap(), ingest::bind(&listener).await.unwrap()];
        let [mqtt, websocket] = [0, 1].map(|at: usize| bound[at].local_addr().port());
        let shutdown = CancellationToken::new();
        let route =
            Route { filter: "s/#".into(), payload: Payload::Opaque, urgent: false, device_level: None };
        let settings = Settings { routes: vec![route], ..settings };
        let door = tokio::spawn(ingest::run(bound, (&store).into(), settings, shutdown.clone()));
        House { folder, store, mqtt, websocket, shutdown, _door: door }
    }

    async fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.websocket)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A client that is accepted.
    async fn client(&self, version: u8, id: u8) -> Client<TcpStream> {
        let mut client = Client::upgrade(self.dial().await).await;
        client.enter(version, id).await;
        client
    }
}

/// A client over WebSocket.
struct Client<Io> {
    io: Io,
    /// MQTT that came and was not looked at.
    came: Vec<u8>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Client<Io> {
    async fn upgrade(mut io: Io) -> Self {
        io.write_all(REQUEST.as_bytes()).await.unwrap();
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(LIMIT, io.read_u8()).await.unwrap().unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        Client { io, came: vec![] }
    }

    async fn enter(&mut self, version: u8, id: u8) {
        self.send(&frame(BINARY, &connect(version, id))).await;
        let wanted: &[u8] = if version == 5 { &[0x20] } else { &[0x20, 2, 0, 0] };
        let connack = self.mqtt(wanted.len()).await;
        assert_eq!(connack, wanted);
        self.came.clear();
    }

    async fn send(&mut self, bytes: &[u8]) {
        timeout(LIMIT, self.io.write_all(bytes)).await.unwrap().unwrap();
    }

    /// The next frame: its first byte and its payload; `None` when the connection has ended.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let reading = async {
            let first = self.io.read_u8().await.ok()?;
            let length = match self.io.read_u8().await.unwrap() {
                127 => self.io.read_u64().await.unwrap(),
                126 => self.io.read_u16().await.unwrap().into(),
                short => short.into(),
            };
            let mut payload = vec![0; length as usize];
            self.io.read_exact(&mut payload).await.unwrap();
            Some((first, payload))
        };
        timeout(LIMIT, reading).await.unwrap()
    }

    /// The next `bytes` of MQTT.
    async fn mqtt(&mut self, bytes: usize) -> Vec<u8> {
        while self.came.len() < bytes {
            let (first, payload) = self.frame().await.unwrap();
            assert_eq!(first, BINARY, "{payload:02x?}");
            self.came.extend(payload);
        }
        self.came.drain(..bytes).collect()
    }

    async fn ping(&mut self) {
        self.send(&frame(BINARY, &PINGREQ)).await;
        assert_eq!(self.mqtt(2).await, PINGRESP);
    }
}

/// A client's frame, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn connect(version: u8, id: u8) -> Vec<u8> {
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    let rest = [b"\x00\x04MQTT", &[version, 2, 0, 60][..], properties, &[0, 1, id]].concat();
    [&[0x10, rest.len() as u8][..], &rest].concat()
}

/// QoS 1, with a payload of one byte.
fn publish(packet_id: u8, payload: u8) -> Vec<u8> {
    vec![0x32, 8, 0, 3, b's', b'/', b'x', 0, packet_id, payload]
}

fn failures(reason: &str) -> u64 {
    let line = format!("tidegate_websocket_failures_total{{reason=\"{reason}\"}} ");
    let text = telemetry::recorder().unwrap().render();
    text.lines().find_map(|l| l.strip_prefix(&line)).map_or(0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn packets_in_pieces_of_frames_and_frames_of_packets_are_acknowledged_from_the_store() {
    let house = House::open().await;
    let mut client = Client::upgrade(house.dial().await).await;
    // One message of frames with a byte each, and pings in between.
    let connect = connect(4, b'a');
    for (at, byte) in connect.iter().enumerate() {
        let first = if at == 0 { 0x02 } else { 0x00 } | if at + 1 == connect.len() { 0x80 } else { 0 };
        client.send(&[frame(first, &[*byte]), frame(PING, &[at as u8])].concat()).await;
    }
    let mut pongs = vec![];
    let connack = loop {
        match client.frame().await.unwrap() {
            (PONG, payload) => pongs.extend(payload),
            other => break other,
        }
    };
    assert_eq!(connack, (BINARY, vec![0x20, 2, 0, 0]));
    assert!(pongs.is_sorted(), "{pongs:?}");
    // The last ping is answered in any case, but perhaps behind the CONNACK.
    if pongs.last() != Some(&(connect.len() as u8 - 1)) {
        assert_eq!(client.frame().await, Some((PONG, vec![connect.len() as u8 - 1])));
    }
    let two = [publish(1, b'1'), publish(2, b'2')].concat();
    let third = publish(3, b'3');
    client
        .send(&[frame(BINARY, &[&two[..], &third[..5]].concat()), frame(BINARY, &third[5..])].concat())
        .await;
    for packet_id in 1..=3 {
        assert_eq!(client.mqtt(4).await, [0x40, 2, 0, packet_id]);
    }
    let mut reader = house.store.reader(UPLINK).unwrap();
    let mut payloads = vec![];
    while payloads.len() < 3 {
        let position = reader.position();
        let block = timeout(LIMIT, reader.next()).await.unwrap().unwrap();
        payloads.extend(block.records_from(position).flat_map(|(_, record)| record.payload.to_vec()));
    }
    assert_eq!(payloads, b"123");
}

#[tokio::test]
async fn bad_frames_end_their_connection_with_the_right_code_and_cost_nobody_else_anything() {
    let house = House::open().await;
    let mut bystander = house.client(4, b'b').await;
    let mut plain = TcpStream::connect(("127.0.0.1", house.mqtt)).await.unwrap();
    plain.write_all(&connect(4, b'p')).await.unwrap();
    assert_eq!(timeout(LIMIT, plain.read_u32()).await.unwrap().unwrap(), 0x2002_0000);
    let long = |first: u8| [&[first, 0xff][..], &(1u64 << 63).to_be_bytes(), &[0; 4]].concat();
    for (bad, code, reason) in [
        (vec![BINARY, 2, 0xc0, 0], 1002u16, "unmasked"),
        (frame(0x81, b"text"), 1003, "text"),
        (frame(BINARY | 0x40, &PINGREQ), 1002, "reserved_bits"),
        (long(BINARY), 1002, "frame_length"),
        (frame(PING, &[0; 126]), 1002, "control_frame"),
        (frame(0x80, &PINGREQ), 1002, "sequence"),
        (frame(0x83, b""), 1002, "opcode"),
        (frame(CLOSE, b"\x00"), 1002, "close_code"),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007, "close_reason"),
    ] {
        let before = failures(reason);
        let mut client = house.client(4, b'c').await;
        // What follows is not looked at, and does not keep the client from reading why.
        client.send(&[bad, frame(BINARY, &publish(1, b'x')), vec![0; 20_000]].concat()).await;
        assert_eq!(client.frame().await, Some((CLOSE, code.to_be_bytes().to_vec())), "{reason}");
        assert_eq!(client.frame().await, None, "{reason}");
        assert_eq!(failures(reason), before + 1);
        bystander.ping().await;
        plain.write_all(&PINGREQ).await.unwrap();
        assert_eq!(timeout(LIMIT, plain.read_u16()).await.unwrap().unwrap(), 0xd000);
    }
}

#[tokio::test]
async fn a_close_frame_is_answered_and_so_is_every_other_end() {
    let house = House::open().await;
    for (last, answer) in [
        (frame(CLOSE, b"\x03\xe9bye"), &b"\x03\xe9"[..]),
        (frame(CLOSE, b""), b""),
        // DISCONNECT, with a close frame behind it and without.
        ([frame(BINARY, &[0xe0, 0]), frame(CLOSE, b"\x03\xe8")].concat(), b"\x03\xe8"),
        (frame(BINARY, &[0xe0, 0]), b"\x03\xe8"),
    ] {
        let mut client = house.client(4, b'c').await;
        client.send(&last).await;
        assert_eq!(client.frame().await, Some((CLOSE, answer.to_vec())));
        assert_eq!(client.frame().await, None);
    }
    let mut client = house.client(5, b'v').await;
    house.shutdown.cancel();
    assert_eq!(client.mqtt(2).await[0], 0xe0, "DISCONNECT, as the gateway stops");
    client.came.clear();
    assert_eq!(client.frame().await, Some((CLOSE, b"\x03\xe8".to_vec())));
}

#[tokio::test]
async fn a_request_that_leads_to_no_websocket_is_answered_in_words() {
    let house = House::open().await;
    for (request, status, words, reason) in [
        (
            "GET / HTTP/1.1\r\nHost: gate\r\n\r\n".to_owned(),
            "HTTP/1.1 426 ",
            "asks for no WebSocket",
            "no_upgrade",
        ),
        ("POST /publish HTTP/1.1\r\n\r\n".to_owned(), "HTTP/1.1 405 ", "only GET", "method"),
        (REQUEST.replace(": mqtt", ": foo"), "HTTP/1.1 400 ", "\"mqtt\"", "subprotocol"),
        (REQUEST.replace(": 13", ": 8"), "HTTP/1.1 426 ", "version 13", "version"),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(100_000)), "HTTP/1.1 431 ", "8192 bytes", "too_long"),
    ] {
        let before = failures(reason);
        let mut stream = house.dial().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with(status) && answer.contains(words), "{answer}");
        assert_eq!(failures(reason), before + 1);
    }
    // A client that is set up for another protocol does not wait for an answer.
    for (sent, reason) in [(connect(5, b'c'), "mqtt"), (b"\x16\x03\x01\x02\x00\x01".to_vec(), "tls")] {
        let mut stream = house.dial().await;
        stream.write_all(&sent).await.unwrap();
        let _ = timeout(LIMIT, stream.read_to_end(&mut vec![])).await.unwrap();
        assert_eq!(failures(reason), 1);
    }
}

#[tokio::test]
async fn one_time_limit_covers_the_request_and_connect() {
    let connect_timeout = Duration::from_secs(3);
    let house = House::open_with(Settings { connect_timeout, ..Settings::default() }, |_| None).await;
    let start = clock::monotonic();
    let (mut silent, mut half, late) = (house.dial().await, house.dial().await, house.dial().await);
    half.write_all(&REQUEST.as_bytes()[..50]).await.unwrap();
    sleep(connect_timeout * 2 / 3).await;
    let mut late = Client::upgrade(late).await;
    for stream in [&mut silent, &mut half] {
        let mut answer = String::new();
        timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    assert_eq!(late.frame().await, Some((CLOSE, 1000u16.to_be_bytes().to_vec())));
    assert_eq!(late.frame().await, None);
    let took = start.elapsed();
    // A limit of its own would have been over at five thirds.
    assert!(took >= connect_timeout && took < connect_timeout * 5 / 3, "{took:?}");
}

#[tokio::test]
async fn requests_that_do_not_come_to_an_end_take_no_room_from_those_that_do() {
    let settings = Settings { waiting_max: 2, connections_per_address_max: Some(4), ..Settings::default() };
    let house = House::open_with(settings, |_| None).await;
    let seated = house.client(4, b's').await;
    let (mut first, second) = (house.dial().await, house.dial().await);
    first.write_all(&REQUEST.as_bytes()[..30]).await.unwrap();
    let mut client = house.client(4, b'c').await;
    assert_eq!(timeout(LIMIT, first.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0, "pushed out");
    client.ping().await;
    // Those with a client count for their address as well.
    let (_third, mut beyond) = (house.dial().await, house.dial().await);
    assert_eq!(timeout(LIMIT, beyond.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0, "one too many");
    drop((seated, second));
}

#[tokio::test]
async fn frames_without_payload_hold_nobody_up_and_are_no_sign_of_life() {
    let connect_timeout = Duration::from_secs(1);
    let house = House::open_with(Settings { connect_timeout, ..Settings::default() }, |_| None).await;
    let mut bystander = house.client(4, b'b').await;
    let flooder = Client::upgrade(house.dial().await).await.io.into_std().unwrap();
    flooder.set_nonblocking(false).unwrap();
    let frames = [frame(BINARY, b""), frame(PING, b""), frame(PONG, b"unasked")].concat().repeat(10_000);
    let flood = tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        while (&flooder).write_all(&frames).is_ok() {}
    });
    let mut flood = std::pin::pin!(timeout(LIMIT, flood));
    loop {
        tokio::select! {
            biased;
            closed = &mut flood => return closed.expect("it is closed, for it never sent CONNECT").unwrap(),
            () = bystander.ping() => {}
        }
    }
}

#[tokio::test]
async fn over_tls_a_browser_gets_in_and_reads_why_it_does_not_stay() {
    let ca = Ca::new("servers", (-1, 900));
    let tls = |folder: &Path| {
        let (cert, key) = ca.sign(Wish::server(1)).write(folder, "server");
        let client_cert = ClientCert::None;
        Some(TlsSettings { cert, key, client_ca: None, client_cert, crl: None, max_record_bytes: Some(512) })
    };
    let house = House::open_with(Settings::default(), tls).await;
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate.der().clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // As browsers ask.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector.connect(name, house.dial().await).await.unwrap();
    let mut client = Client::upgrade(stream).await;
    client.enter(4, b't').await;
    client.ping().await;
    client.send(&frame(PING, b"there?")).await;
    assert_eq!(client.frame().await, Some((PONG, b"there?".to_vec())));
    client.send(&frame(BINARY, &publish(1, b'1'))).await;
    assert_eq!(client.mqtt(4).await, [0x40, 2, 0, 1]);
    client.send(&frame(0x81, b"text")).await;
    assert_eq!(client.frame().await, Some((CLOSE, 1003u16.to_be_bytes().to_vec())));
    assert_eq!(client.frame().await, None);
    drop(house.folder);
}
