//! Connections that take a place and say nothing, or one byte a second, or that leave a TLS
//! handshake half done, and come again as soon as they are closed: a device connects beside them,
//! its event is stored, and they cost the gateway little.
//!
//! The gateway has seats for fewer clients than there are attackers. How long the device waits is
//! printed.

use std::{
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidegate_tests::{
    client::Client,
    clock::{now, wait_for, within},
    codec::{Connect, Packet, Publish, Version},
    crowd,
    gateway::{Gateway, Setup, Uplink},
    ports, tools,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SILENT: usize = 1000;
const SLOW: usize = 200;
/// Half of them send the beginning of a ClientHello, half of them all of it, and no more.
const HALF_HANDSHAKES: usize = 200;
const ATTACKERS: usize = SILENT + SLOW + HALF_HANDSHAKES;
const SEATS: usize = 100;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTS: usize = 100;
/// A CONNECT that a slow one sends, a byte a second: it has not come to its end when its time is
/// over.
const SLOW_CONNECT: &[u8] = b"\x10\x1a\x00\x04MQTT\x04\x02\x00\x3c\x00\x0ea-slow-sensor-";
const SLOW_EVERY: Duration = Duration::from_secs(1);
/// Far above what these connections need, far below what they would take if each had a large
/// buffer.
const MEMORY_MAX: u64 = 32 << 20;
const LIMIT: Duration = Duration::from_secs(60);

/// Attackers, until they are told to stop; then they wait until they are closed.
struct Attack {
    stop: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl Attack {
    fn start(plain: SocketAddr, tls: SocketAddr) -> Self {
        let attack = Attack { stop: Arc::default(), open: Arc::default(), closed: Arc::default() };
        let hello = client_hello();
        for n in 0..ATTACKERS {
            let (target, at_once, slowly) = match n {
                0..SILENT => (plain, vec![], &[][..]),
                _ if n < SILENT + SLOW => (plain, vec![], SLOW_CONNECT),
                _ if n.is_multiple_of(2) => (tls, hello[..20].to_vec(), &[][..]),
                _ => (tls, hello.clone(), &[][..]),
            };
            let (stop, open, closed) = (attack.stop.clone(), attack.open.clone(), attack.closed.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(stream) = TcpStream::connect(target).await else { continue };
                    open.fetch_add(1, Ordering::Relaxed);
                    hang(stream, &at_once, slowly).await;
                    open.fetch_sub(1, Ordering::Relaxed);
                    closed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        attack
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// A ClientHello of TLS 1.2 that is answered: RFC 5246, section 7.4.1.2.
fn client_hello() -> Vec<u8> {
    // ECDHE over P-256 or X25519 with ECDSA, AES-128-GCM.
    let extensions = [
        &[0, 10, 0, 6, 0, 4, 0, 23, 0, 29][..],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 4, 0, 2, 4, 3],
        &[0, 23, 0, 0],
    ]
    .concat();
    let suites = [0, 0, 2, 0xc0, 0x2b, 1, 0, 0];
    let body = [&[3, 3][..], &[7; 32], &suites, &[extensions.len() as u8], &extensions].concat();
    let handshake = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    [&[0x16, 3, 1, 0, handshake.len() as u8][..], &handshake].concat()
}

/// Holds a connection until it is closed.
async fn hang(mut stream: TcpStream, at_once: &[u8], slowly: &[u8]) {
    let mut answer = [0; 2048];
    let _ = stream.write_all(at_once).await;
    for byte in slowly {
        let _ = stream.write_all(&[*byte]).await;
        if let Ok(read) = tokio::time::timeout(SLOW_EVERY, stream.read(&mut answer)).await
            && !matches!(read, Ok(1..))
        {
            return;
        }
    }
    while matches!(stream.read(&mut answer).await, Ok(1..)) {}
}

/// A gateway that listens twice, with and without TLS, and where.
fn start() -> (Gateway, SocketAddr) {
    let mut gateway = Gateway::prepare(Setup::new(Uplink::new("mqtt://127.0.0.1:1", Version::V5)));
    let (config, tls) = (gateway.config_path(), ports::free_address());
    let made = Command::new(tools::find("openssl"))
        .current_dir(config.parent().expect("the file lies in a folder"))
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=gateway", "-keyout", "server.key", "-out", "server.pem"])
        .output()
        .expect("openssl can be started");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = format!(
        "[gateway]\nid = \"gate\"\ndata_dir = \"data\"\n\
         [limits]\nconnections = {SEATS}\nconnect_timeout = \"{CONNECT_TIMEOUT:?}\"\ntls_timeout = \"{CONNECT_TIMEOUT:?}\"\n\
         [[listener]]\naddress = \"{}\"\n\
         [[listener]]\naddress = \"{tls}\"\ntls = {{ cert = \"server.pem\", key = \"server.key\" }}\n\
         [http]\naddress = \"{}\"\n[[route]]\nfilter = \"#\"\n",
        gateway.mqtt, gateway.http
    );
    std::fs::write(config, text).expect("the folder is writable");
    gateway.restart();
    (gateway, tls)
}

/// Connects, publishes, and waits for the acknowledgement.
async fn device(gateway: &Gateway) {
    let connect = Connect { version: Version::V5, client_id: "device", clean: true, keep_alive_s: 60 };
    let mut client = Client::connect(gateway.mqtt, &connect).await.expect("a device that speaks is accepted");
    let publish =
        Publish { topic: "a/b", payload: b"23.4", qos: 1, packet_id: 1, dup: false, user_properties: &[] };
    client.put_publish(&publish);
    client.flush().await.expect("the connection is open");
    assert!(matches!(client.next().await, Packet::Ack { packet_id: 1, reason: 0, .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_connects_beside_connections_that_say_nothing_and_those_are_closed_in_time() {
    crowd::raise_file_limit().expect("the system allows more files");
    let (gateway, tls) = start();
    device(&gateway).await;
    let before = gateway.usage().resident_bytes;
    let attack = Attack::start(gateway.mqtt, tls);
    wait_for("the attackers to be there", LIMIT, || attack.open() > ATTACKERS / 2).await;

    let mut waits = vec![];
    for _ in 0..CONNECTS {
        let start = now();
        within("a device to get its PUBACK", LIMIT, device(&gateway)).await;
        waits.push(start.elapsed());
        // Not all at one moment of the attack.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    waits.sort_unstable();
    let grown = gateway.usage().resident_peak_bytes.saturating_sub(before);
    eprintln!(
        "{} attackers, {} of their connections closed meanwhile; from connecting to PUBACK p50 {:?}, p99 {:?}, longest {:?}; \
         {} KiB of memory more at the most",
        attack.open(),
        attack.closed.load(Ordering::Relaxed),
        waits[CONNECTS / 2],
        waits[CONNECTS * 99 / 100 - 1],
        waits[CONNECTS - 1],
        grown >> 10
    );
    assert!(grown < MEMORY_MAX, "{grown} bytes");

    attack.stop.store(true, Ordering::Relaxed);
    let start = now();
    wait_for("the attackers to be closed", CONNECT_TIMEOUT + LIMIT, || attack.open() == 0).await;
    eprintln!("all closed {:.1} s after the last came", start.elapsed().as_secs_f64());
    assert!(gateway.metric("tidegate_refused_connections_total") >= SILENT as f64);
    device(&gateway).await;
}
