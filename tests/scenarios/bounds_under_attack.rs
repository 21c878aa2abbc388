//! A hundred attackers, a few for each row of `docs/limits.md`, against the default configuration:
//! the gateway's memory and `sessions.redb` stay within their bounds, an innocent device is served
//! beside them, and when they have gone everything is free again without a restart.
//!
//! Every attacker is a client that the configuration lets in, for an anonymous client on loopback
//! may do everything. TLS handshakes that are left half done are in `slow_attackers`.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use rustix::process::setpriority_process;
use tidegate_protocol::{
    Birth, FrameWriter, Kinds, ResetReason,
    events::{EventType, Loss},
};
use tidegate_tests::{
    client::Client,
    clock::{now, wait_for, within},
    codec::{self, Ack, Connect, Packet, Publish, Version},
    gateway::{Gateway, Setup, Uplink},
    load::Sink,
    ports,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    task::JoinSet,
    time::{interval, sleep},
};

/// As `config/tidegate.service` has it: what was freed goes back to the system.
const ENVIRONMENT: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "65536"), ("MALLOC_TRIM_THRESHOLD_", "131072")];
/// Of the whole process, in bytes.
const MEMORY_MAX: u64 = 128 << 20;
/// Of `sessions.redb`, in bytes: three times what sessions are owed, what is retained, wills and
/// subscriptions at the most.
const SESSIONS_FILE_MAX: u64 = (3 * (12 + 16 + 4 + 12)) << 20;
/// How long the innocent device is measured: alone, while the attackers fill every bound as fast as
/// they can, and while they keep it full.
const ALONE: Duration = Duration::from_secs(6);
const FILLING: Duration = Duration::from_secs(12);
const HOLDING: Duration = Duration::from_secs(8);
/// Attackers that hold a bound wait so many times longer between two attempts: on two cores that
/// they share with the gateway, what is measured is then what full bounds cost, and not who gets
/// the processor.
const HOLDING_FACTOR: u32 = 10;
/// The innocent device is judged by windows of this length, and by the median of them: other
/// programs may disturb one.
const WINDOW: Duration = Duration::from_secs(2);
/// Between two publishes of the innocent device.
const PACE: Duration = Duration::from_millis(10);
/// Between two connections of an attacker.
const ROUND_PAUSE: Duration = Duration::from_millis(150);
/// The 99th percentile of an innocent device's wait at the most, with much to spare: how long it is
/// in fact is a benchmark, see `docs/benchmarks.md`.
const FILLING_WAIT_MAX: Duration = Duration::from_secs(1);
const HOLDING_WAIT_MAX: Duration = Duration::from_millis(100);
/// What the attackers come to at the least, if they are attackers: a part of what they were seen
/// to.
const REACHED: [(&str, f64); 6] = [
    ("tidegate_local_sessions", 200.0),
    ("tidegate_local_dropped_total", 1_000.0),
    ("tidegate_retained_messages", 1_000.0),
    ("tidegate_commands_pending", 50.0),
    ("tidegate_dead_letters", 1_000.0),
    ("tidegate_devices", 1_000.0),
];
const LIMIT: Duration = Duration::from_secs(60);
/// MQTT 5: a session that never expires.
const FOR_EVER: u32 = u32::MAX;

/// Who attacks, and how many of each.
const ATTACKERS: [(Kind, usize); 15] = [
    (Kind::NeverAcknowledges, 18),
    (Kind::NeverReads, 10),
    (Kind::Floods, 8),
    (Kind::Subscribes, 8),
    (Kind::Retains, 6),
    (Kind::NeverReleases, 10),
    (Kind::ChangesItsName, 10),
    (Kind::AddsProperties, 4),
    (Kind::Announces, 8),
    (Kind::IsManyDevices, 6),
    (Kind::SaysConnectSlowly, 4),
    (Kind::IdlesOverHttp, 2),
    (Kind::AsksSlowly, 2),
    (Kind::PostsSlowly, 2),
    (Kind::Commands, 2),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Subscribes to everything with the largest Receive Maximum, reads, and never acknowledges.
    NeverAcknowledges,
    /// Subscribes to everything and does not read its socket.
    NeverReads,
    /// Large messages.
    Floods,
    /// As many and as long filters as it may, in a session that never expires.
    Subscribes,
    /// More retained messages than there is room for.
    Retains,
    /// QoS 2 without PUBREL, under one client id after the other.
    NeverReleases,
    /// One session that never expires after the other, each with a long filter and a large will
    /// that is delayed.
    ChangesItsName,
    /// As many user properties as a packet holds.
    AddsProperties,
    /// Births of one device after the other, each with kinds of its own.
    Announces,
    /// Frames that no birth explains, each from another device.
    IsManyDevices,
    /// A byte of its CONNECT each second.
    SaysConnectSlowly,
    /// Connects and asks for nothing.
    IdlesOverHttp,
    /// The head of a request, a byte at a time.
    AsksSlowly,
    /// The body of a request, as long as it may be, and not its end.
    PostsSlowly,
    /// Large commands to devices that are not there.
    Commands,
}

/// What an attacker knows.
#[derive(Clone)]
struct Attacker {
    kind: Kind,
    /// Of its kind.
    number: usize,
    mqtt: SocketAddr,
    http: SocketAddr,
    stop: Arc<AtomicBool>,
    /// The bounds are full: keep them so.
    holds: Arc<AtomicBool>,
    /// Rounds of all attackers of its kind.
    rounds: Arc<AtomicU64>,
}

/// CONNECT of MQTT 5 with a session that is kept, a Receive Maximum of 65,535, and a will of so
/// many bytes that waits for a day.
fn connect(client_id: &str, expiry_s: u32, will_bytes: usize) -> BytesMut {
    let mut body = BytesMut::new();
    codec::put_text(&mut body, "MQTT");
    let flags = if will_bytes > 0 { 0b0000_1100 } else { 0 } | u8::from(expiry_s == 0) << 1;
    body.put_slice(&[5, flags, 0, 0, 8, 0x11]);
    body.put_u32(expiry_s);
    body.put_slice(&[0x21, 0xff, 0xff]);
    codec::put_text(&mut body, client_id);
    if will_bytes > 0 {
        body.put_slice(&[5, 0x18]);
        body.put_u32(86_400);
        codec::put_text(&mut body, "will");
        codec::put_text(&mut body, &"w".repeat(will_bytes));
    }
    let mut out = BytesMut::new();
    codec::put_packet(&mut out, 0x10, &body);
    out
}

fn put(
    out: &mut BytesMut,
    topic: &str,
    qos: u8,
    packet_id: u16,
    payload: &[u8],
    properties: &[(&str, &str)],
) {
    let publish = Publish { topic, payload, qos, packet_id, dup: false, user_properties: properties };
    codec::put_publish(out, Version::V5, &publish);
}

/// A filter of 64 levels and about a thousand bytes, unlike any other.
fn long_filter(owner: usize, number: usize) -> String {
    let mut filter = format!("f{owner}-{number}");
    for level in 1..64 {
        filter += &format!("/{level}-{}", "l".repeat(11));
    }
    filter
}

/// A birth whose 31 kinds nobody else has: each about as long as a definition may be.
fn birth(device: &str) -> Vec<u8> {
    let birth = Birth {
        boot: 1,
        connection: 1,
        uptime_ms: 1000,
        wall_ms: None,
        reset: ResetReason::PowerOn,
        firmware: "barn",
        version: "1.2.3",
        build: "0123456789abcdef",
        kinds: Kinds::new(&[Loss::KIND]),
    };
    let mut out = birth.write(&mut [0; 1024]).expect("a birth that may be written").to_vec();
    let count = out.len() - Loss::KIND.definition.len() - 2;
    assert_eq!(out[count], 1, "one kind, whose length is a byte");
    out[count] += 31;
    for kind in 0..31 {
        // The format, a name, a version, a struct of 24 fields: a name, no unit, no exponent, a
        // scalar.
        let name = format!("k{kind}");
        let mut definition = vec![1, name.len() as u8];
        definition.extend(name.as_bytes());
        definition.extend([1, 17, 24]);
        for field in 0..24 {
            let name = format!("{device}-{field}-{}", "f".repeat(63))[..63].to_owned();
            definition.push(63);
            definition.extend(name.as_bytes());
            definition.extend([0, 0, 3]);
        }
        out.extend([definition.len() as u8 | 0x80, (definition.len() >> 7) as u8]);
        out.extend(definition);
    }
    out
}

fn frame(number: u32) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let mut writer = FrameWriter::new(&mut buffer, 1, number, 0xdead_beef, false);
    writer.push(1000, 1, &[7; 100]).expect("it fits");
    writer.finish().to_vec()
}

impl Attacker {
    /// Attacks until it is told to stop; what ends its connection only makes it come again.
    async fn run(self) {
        for round in 0_usize.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let _ = tokio::select! {
                ended = self.round(round) => ended,
                () = self.stopped() => return,
            };
            self.rounds.fetch_add(1, Ordering::Relaxed);
            self.pause(ROUND_PAUSE).await;
        }
    }

    async fn pause(&self, pause: Duration) {
        let holds = self.holds.load(Ordering::Relaxed);
        let pause = if holds { pause * HOLDING_FACTOR } else { pause };
        tokio::select! {
            () = sleep(pause) => {}
            () = self.stopped() => {}
        }
    }

    async fn stopped(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The client ids that it has used by its `rounds`th round.
    fn client_id(&self, round: usize) -> String {
        match self.kind {
            Kind::NeverReleases | Kind::ChangesItsName => format!("{:?}-{}-{round}", self.kind, self.number),
            _ => format!("{:?}-{}", self.kind, self.number),
        }
    }

    async fn round(&self, round: usize) -> std::io::Result<()> {
        match self.kind {
            Kind::SaysConnectSlowly => self.slowly(self.mqtt, &connect("slow", 0, 0)).await,
            Kind::IdlesOverHttp => self.slowly(self.http, b"").await,
            Kind::AsksSlowly => self.slowly(self.http, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n").await,
            Kind::PostsSlowly => {
                let head = "POST /api/commands HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n";
                let mut stream = TcpStream::connect(self.http).await?;
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&vec![b' '; 499_999]).await?;
                drain(stream).await
            }
            Kind::Commands => self.command(round).await,
            _ => self.over_mqtt(round).await,
        }
    }

    async fn slowly(&self, target: SocketAddr, words: &[u8]) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(target).await?;
        for byte in words {
            stream.write_all(&[*byte]).await?;
            sleep(Duration::from_millis(500)).await;
        }
        drain(stream).await
    }

    async fn command(&self, round: usize) -> std::io::Result<()> {
        let body = format!(
            "{{\"device\":\"absent-{}-{round}\",\"payload\":\"{}\",\"expires_in\":\"30s\"}}",
            self.number,
            "c".repeat(60_000)
        );
        let request = format!(
            "POST /api/commands HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.http).await?;
        stream.write_all(request.as_bytes()).await?;
        drain(stream).await
    }

    async fn over_mqtt(&self, round: usize) -> std::io::Result<()> {
        let will_bytes = if matches!(self.kind, Kind::ChangesItsName) { 32_000 } else { 0 };
        let mut stream = TcpStream::connect(self.mqtt).await?;
        stream.write_all(&connect(&self.client_id(round), FOR_EVER, will_bytes)).await?;
        let mut connack = [0; 5];
        stream.read_exact(&mut connack).await?;
        if connack[3] != 0 {
            return drain(stream).await;
        }
        let (number, mut out) = (self.number, BytesMut::new());
        match self.kind {
            Kind::NeverAcknowledges | Kind::NeverReads => {
                codec::put_subscribe(
                    &mut out,
                    Version::V5,
                    1,
                    "#",
                    (number % 2 + 1) as u8 - u8::from(number == 9),
                );
                stream.write_all(&out).await?;
                if matches!(self.kind, Kind::NeverReads) {
                    self.stopped().await;
                }
                drain(stream).await
            }
            Kind::ChangesItsName => {
                codec::put_subscribe(&mut out, Version::V5, 1, &long_filter(number + 1000, round), 1);
                stream.write_all(&out).await?;
                // The SUBACK; then the connection is dropped, and its will waits.
                stream.read_exact(&mut [0; 6]).await.map(|_| ())
            }
            Kind::NeverReleases => {
                for packet_id in 1..=1000 {
                    put(&mut out, "q", 2, packet_id, b"never", &[]);
                }
                stream.write_all(&out).await?;
                // Each of them is answered with PUBREC of four bytes.
                stream.read_exact(&mut vec![0; 4000]).await.map(|_| ())
            }
            _ => {
                let (mut reader, mut writer) = stream.into_split();
                tokio::select! {
                    sent = self.publish(round, &mut writer) => sent,
                    read = async {
                        let mut answers = vec![0; 65_536];
                        while reader.read(&mut answers).await? > 0 {}
                        Ok(())
                    } => read,
                }
            }
        }
    }

    /// Publishes or subscribes, one burst after the other.
    async fn publish(
        &self,
        round: usize,
        writer: &mut tokio::net::tcp::OwnedWriteHalf,
    ) -> std::io::Result<()> {
        let (number, mut out) = (self.number, BytesMut::new());
        let long = "p".repeat(1000);
        for burst in 0_usize.. {
            let serial = round * 1_000_000 + burst;
            let packet_id = (burst % 900) as u16 + 1;
            let pause_ms = match self.kind {
                Kind::Floods => {
                    put(&mut out, &format!("flood/{number}"), 1, packet_id, &vec![b'x'; 200_000], &[]);
                    1000
                }
                Kind::Subscribes => {
                    codec::put_subscribe(&mut out, Version::V5, packet_id, &long_filter(number, burst), 1);
                    if burst < 150 { 20 } else { 1000 }
                }
                Kind::Retains => {
                    let topic = format!("retained/{number}/{burst}");
                    let payload = &[b'r'; 1600];
                    let (qos, dup, user_properties) = (1, false, &[][..]);
                    let publish = Publish { topic: &topic, payload, qos, packet_id, dup, user_properties };
                    codec::put_retained(&mut out, Version::V5, &publish);
                    5
                }
                Kind::AddsProperties => {
                    put(&mut out, "p", 1, packet_id, b"", &[("name", long.as_str()); 15]);
                    100
                }
                Kind::Announces => {
                    let device = format!("a{number}-{serial}");
                    put(&mut out, &format!("tg/{device}/b"), 1, packet_id, &birth(&device), &[]);
                    1000
                }
                _ => {
                    for n in 0..20 {
                        let topic = format!("tg/m{number}-{serial}-{n}/e");
                        put(&mut out, &topic, 0, 0, &frame(burst as u32), &[]);
                    }
                    100
                }
            };
            writer.write_all(&out).await?;
            out.clear();
            self.pause(Duration::from_millis(pause_ms)).await;
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(())
    }

    /// Ends every session that it has begun, as a client would: it comes with a new one that is
    /// over at once.
    async fn end_sessions(self, rounds: usize) -> std::io::Result<()> {
        let names = match self.kind {
            Kind::NeverReleases | Kind::ChangesItsName => rounds,
            _ => 1,
        };
        let mut ending = JoinSet::new();
        for client_id in (0..names).map(|round| self.client_id(round)) {
            ending.spawn(async move {
                let mut stream = TcpStream::connect(self.mqtt).await?;
                stream.write_all(&connect(&client_id, 0, 0)).await?;
                stream.read_exact(&mut [0; 5]).await?;
                let mut out = BytesMut::new();
                codec::put_disconnect(&mut out);
                stream.write_all(&out).await?;
                drain(stream).await
            });
        }
        for ended in ending.join_all().await {
            ended?;
        }
        Ok(())
    }
}

/// Reads until the gateway closes.
async fn drain(mut stream: TcpStream) -> std::io::Result<()> {
    let mut dropped = vec![0; 65_536];
    while stream.read(&mut dropped).await? > 0 {}
    Ok(())
}

/// What the publishes of the innocent device waited for their acknowledgements.
struct Waits {
    /// Of each window, sorted.
    windows: Vec<Vec<Duration>>,
}

impl Waits {
    /// The median over the windows.
    fn p(&self, percent: usize) -> Duration {
        let of_window = |waits: &Vec<Duration>| waits[(waits.len() * percent / 100).min(waits.len() - 1)];
        let mut all: Vec<_> = self.windows.iter().map(of_window).collect();
        all.sort_unstable();
        all[all.len() / 2]
    }
}

/// An innocent device, on a thread of its own: the attackers of this process share no queue with
/// it.
async fn innocent(gateway: SocketAddr, duration: Duration) -> Waits {
    let publishes = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(publish_for(gateway, duration))
    };
    tokio::task::spawn_blocking(publishes).await.expect("the device is served")
}

async fn publish_for(gateway: SocketAddr, duration: Duration) -> Waits {
    let connect = Connect { version: Version::V311, client_id: "innocent", clean: true, keep_alive_s: 60 };
    let mut client = within("the device to get in", LIMIT, async {
        loop {
            match Client::connect(gateway, &connect).await {
                Ok(client) => return client,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await;
    let (mut pace, start, mut windows, mut count) = (interval(PACE), now(), vec![], 0);
    while start.elapsed() < duration {
        let (begin, mut waits) = (now(), vec![]);
        while begin.elapsed() < WINDOW.min(duration) {
            pace.tick().await;
            count += 1;
            let (packet_id, sent) = (count % 1000 + 1, now());
            let payload = b"a reading of forty bytes, more or less..";
            let (topic, dup) = ("innocent/reading", false);
            client.put_publish(&Publish { topic, payload, qos: 1, packet_id, dup, user_properties: &[] });
            client.flush().await.expect("it is not cut off");
            let answer = within("a PUBACK", LIMIT, client.next()).await;
            assert_eq!(answer, Packet::Ack { ack: Ack::PubAck, packet_id, reason: 0 });
            waits.push(sent.elapsed());
        }
        waits.sort_unstable();
        windows.push(waits);
    }
    Waits { windows }
}

fn bytes_of(folder: &Path, name: &str) -> u64 {
    std::fs::metadata(folder.join(name)).map_or(0, |file| file.len())
}

/// Where the attackers run. They are elsewhere: their own work gives way to the gateway's and to
/// the innocent device's, so that what is measured is what they cost the gateway.
fn elsewhere() -> Runtime {
    let give_way = || setpriority_process(None, 19).expect("a thread may give way");
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().on_thread_start(give_way).build().expect("a runtime")
}

/// Bytes of the files beside the log, by name.
fn side_files(gateway: &Gateway) -> String {
    let names = ["sessions.redb", "fleet.redb", "commands.redb", "dead_letters.redb"];
    names.map(|name| format!("{name} {} KiB", bytes_of(&gateway.data_dir(), name) >> 10)).join(", ")
}

fn start() -> (Sink, Gateway) {
    let address = ports::free_address();
    let sink = Sink::start(address);
    let mut setup = Setup::new(Uplink::new(&format!("mqtt://{address}"), Version::V311));
    // The default configuration, with an uplink that decodes as well: what no birth explains
    // becomes a dead letter. But for the budget of a card's wear: once the attackers have used it
    // up, commits linger for everybody, as they are to.
    setup.environment.extend(ENVIRONMENT.map(|(name, value)| (name.into(), value.into())));
    setup.uplinks.push(Uplink { name: "lake".into(), format: "json".into(), ..setup.uplinks[0].clone() });
    (sink, Gateway::start(setup))
}

/// Says what the attackers have reached, and what is left of it afterwards.
fn show(when: &str, gateway: &Gateway) {
    let usage = gateway.usage();
    let metric = |name: &str| gateway.metric(&format!("tidegate_{name}"));
    eprintln!(
        "{when}: {} MiB, at most {} MiB; {} files; {}\n    sessions {}, queued {}, retained {}, commands {}, dead letters {}, \
         devices {}, store {} MiB in {} segments",
        usage.resident_bytes >> 20,
        usage.resident_peak_bytes >> 20,
        gateway.open_files(),
        side_files(gateway),
        metric("local_sessions"),
        metric("local_queued"),
        metric("retained_messages"),
        metric("commands_pending"),
        metric("dead_letters"),
        metric("devices"),
        metric("store_bytes") as u64 >> 20,
        metric("segments"),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_attackers_stay_within_the_bounds_and_leave_nothing_behind() {
    let (_sink, gateway) = start();
    let alone = innocent(gateway.mqtt, ALONE).await;
    show("before", &gateway);
    let quiet_files = gateway.open_files();

    let (stop, holds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (elsewhere, mut attack, mut attackers) = (elsewhere(), JoinSet::new(), vec![]);
    for (kind, count) in ATTACKERS {
        for number in 0..count {
            let (mqtt, http, rounds) = (gateway.mqtt, gateway.http, Arc::default());
            let (stop, holds) = (stop.clone(), holds.clone());
            let attacker = Attacker { kind, number, mqtt, http, stop, holds, rounds };
            attack.spawn_on(attacker.clone().run(), elsewhere.handle());
            attackers.push(attacker);
        }
    }
    assert_eq!(attackers.len(), 100);
    let filling = innocent(gateway.mqtt, FILLING).await;
    show("filled", &gateway);
    let filled_bytes = bytes_of(&gateway.data_dir(), "sessions.redb");
    holds.store(true, Ordering::Relaxed);
    sleep(ROUND_PAUSE * HOLDING_FACTOR).await;
    let holding = innocent(gateway.mqtt, HOLDING).await;
    show("held", &gateway);
    for (name, least) in REACHED {
        let reached = gateway.metric(name);
        assert!(reached >= least, "the attackers came to {reached} {name}");
    }
    let sessions_bytes = filled_bytes.max(bytes_of(&gateway.data_dir(), "sessions.redb"));
    for (kind, count) in ATTACKERS {
        let of_kind =
            attackers.iter().filter(|attacker| format!("{:?}", attacker.kind) == format!("{kind:?}"));
        let rounds: u64 = of_kind.map(|attacker| attacker.rounds.load(Ordering::Relaxed)).sum();
        eprintln!("    {count:>2} {kind:?}: {rounds} rounds");
    }
    for (when, waits) in [("alone", &alone), ("while they fill", &filling), ("while they hold", &holding)] {
        eprintln!("innocent device {when}: p50 {:?}, p99 {:?}", waits.p(50), waits.p(99));
    }
    let peak = gateway.usage().resident_peak_bytes;
    assert_eq!(gateway.metric("tidegate_store_failures_total"), 0.0, "{}", gateway.log());

    stop.store(true, Ordering::Relaxed);
    attack.join_all().await;
    elsewhere.shutdown_background();
    let start = now();
    let mut ending = JoinSet::new();
    for attacker in attackers {
        let rounds = attacker.rounds.load(Ordering::Relaxed) as usize + 1;
        ending.spawn(attacker.end_sessions(rounds));
    }
    within("the sessions to be ended", LIMIT, ending.join_all()).await;
    wait_for("their queues and descriptors to be free", LIMIT, || {
        gateway.metric("tidegate_local_queued") == 0.0
            && gateway.metric("tidegate_local_sessions") == 0.0
            && gateway.open_files() < quiet_files + 16
    })
    .await;
    show(&format!("{:.1} s after", start.elapsed().as_secs_f64()), &gateway);
    innocent(gateway.mqtt, Duration::from_secs(1)).await;
    assert!(peak <= MEMORY_MAX, "{} MiB of memory", peak >> 20);
    assert!(sessions_bytes <= SESSIONS_FILE_MAX, "{} MiB of sessions.redb", sessions_bytes >> 20);
    assert!(filling.p(99) <= FILLING_WAIT_MAX, "the innocent device waits too long");
    assert!(holding.p(99) <= HOLDING_WAIT_MAX, "full bounds slow the innocent device down");
}
