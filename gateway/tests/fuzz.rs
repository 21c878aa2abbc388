//! Bytes that nobody should send, at whatever reads bytes from outside: no panic, and no memory
//! that grows with them.
//!
//! Inputs are made from good ones by chance, from a seed: bits flipped, pieces of others put in,
//! lengths that lie, ends cut off. A target is a line in [`TARGETS`]. On a failure the target, the
//! seed and the input are printed; `TEST_SEED` repeats it. `TEST_FUZZ_INPUTS` says how many inputs
//! there are in all: `tests/run --soak` takes ten million.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use random::Random;
use tidegate::{
    access::{Acl, Users, acl::Subject},
    broker::Broker,
    catalog::{Catalog, Decoder, JSON_BYTES_MAX, Lock, Values, from_hex, lint_birth},
    clock, config,
    ingest::{
        self, ListenerSettings, Payload, Route, Settings,
        session::{Now, OUT_BYTES_MAX, Opening, Session, Sink},
    },
    mqtt::topics,
    store::{self, Record, Store, Watermark},
};
use tidegate_protocol::{Birth, FrameReader, FrameWriter, Kinds, ResetReason, events};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

#[expect(dead_code, reason = "the chance of the simulated disk is not needed here")]
#[path = "simulated_disk/random.rs"]
mod random;

const INPUTS: u64 = 600_000;
/// Changes to one input at most.
const CHANGES_MAX: u64 = 6;
/// Longest input, in bytes.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// How much memory may grow, in bytes, once the first tenth of the inputs has warmed everything up.
const GROWTH_MAX: u64 = 20 << 20;
/// One of so many inputs goes through a live door, on a connection of its own.
const LIVE_SHARE: u64 = 200;
/// A catalog of births made by chance begins anew here, in bytes, so that what it may keep is no
/// growth.
const CATALOG_BYTES_MAX: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(30);
const SHIPPED: &str = include_str!("../../config/gateway.toml");
const SHIPPED_ACL: &str = include_str!("../../config/acl.toml");

/// Something that reads bytes from outside.
struct Target {
    name: &'static str,
    /// Of a thousand inputs, so many are for it.
    share: u64,
    /// Good inputs.
    seeds: fn() -> Vec<Vec<u8>>,
    /// Must take anything.
    take: fn(&[u8], &mut Random),
}

const TARGETS: &[Target] = &[
    Target { name: "session", share: 440, seeds: conversations, take: play },
    Target { name: "frame", share: 250, seeds: frames, take: read_frame },
    Target { name: "definition", share: 100, seeds: definitions, take: read_definition },
    Target { name: "birth", share: 50, seeds: births, take: read_birth },
    Target { name: "body", share: 100, seeds: bodies, take: read_body },
    Target { name: "topics", share: 40, seeds: filters, take: match_topics },
    Target { name: "config", share: 10, seeds: configs, take: read_config },
    Target { name: "acl", share: 5, seeds: acls, take: read_acl },
    Target { name: "users", share: 5, seeds: users_files, take: read_users },
];

fn inputs() -> u64 {
    std::env::var("TEST_FUZZ_INPUTS").map_or(INPUTS, |text| text.parse().unwrap())
}

fn seed() -> u64 {
    let seed = std::env::var("TEST_SEED").map_or_else(|_| clock::wall_ms(), |text| text.parse().unwrap());
    eprintln!("TEST_SEED={seed} repeats it");
    seed
}

/// One test at a time: memory is measured.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resident memory, in bytes.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
}

/// What there was to begin with, and a demand for later.
struct Memory(u64);

impl Memory {
    fn now() -> Self {
        Self(resident_bytes())
    }

    fn demand_no_growth(&self, what: &str) {
        let grown = resident_bytes().saturating_sub(self.0);
        eprintln!("{what}: {} KiB of memory more", grown >> 10);
        assert!(grown < GROWTH_MAX, "{what}: memory grew by {grown} bytes");
    }
}

/// A good input with some changes.
fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let pick = |random: &mut Random| &seeds[random.below(seeds.len() as u64) as usize];
    let mut bytes = pick(random).clone();
    for _ in 0..random.below(CHANGES_MAX + 1) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let until = (at + random.below(40) as usize).min(bytes.len());
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => {
                bytes[at] = [0, 1, 2, 0x7f, 0x80, 0xff, 0x10, 0x30][random.below(8) as usize];
            }
            // A length of one to four bytes, as MQTT and LEB128 write them.
            2 => {
                let size = random.below(4) as usize;
                let lie: Vec<u8> =
                    (0..=size).map(|i| random.draw() as u8 | u8::from(i < size) << 7).collect();
                bytes.splice(at..(at + 1).min(bytes.len()), lie);
            }
            // A length of two bytes, as MQTT's text has it.
            3 if at + 1 < bytes.len() => {
                let lie = [0, 1, 0x7fff, 0xffff, random.draw() as u16][random.below(5) as usize];
                bytes[at..at + 2].copy_from_slice(&lie.to_be_bytes());
            }
            4 => {
                let other = pick(random);
                let from = random.below(other.len() as u64 + 1) as usize;
                let to = (from + random.below(200) as usize).min(other.len());
                bytes.splice(at..until, other[from..to].iter().copied());
            }
            5 => {
                let piece = bytes[at..until].to_vec();
                let piece = piece.repeat(1 + random.below(20) as usize);
                bytes.splice(at..at, piece);
            }
            6 => drop(bytes.drain(at..until)),
            _ => bytes.truncate(at.max(1)),
        }
        bytes.truncate(INPUT_BYTES_MAX);
    }
    bytes
}

#[test]
fn no_input_panics_or_is_kept() {
    let _alone = alone();
    let seed = seed();
    for target in TARGETS {
        let seeds = (target.seeds)();
        let inputs = (inputs() * target.share / 1000).max(100);
        let start = clock::monotonic();
        let mut memory = None;
        for n in 0..inputs {
            if n == inputs / 10 {
                memory = Some(Memory::now());
            }
            let mut random = Random::new(seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let input = mutated(&seeds, &mut random);
            if catch_unwind(AssertUnwindSafe(|| (target.take)(&input, &mut random))).is_err() {
                let hex = input.iter().fold(String::new(), |mut hex, byte| {
                    write!(hex, "{byte:02x}").unwrap();
                    hex
                });
                panic!("{}: TEST_SEED={seed}, input {n}: {hex}", target.name);
            }
        }
        eprintln!("{}: {inputs} inputs in {:.1} s", target.name, start.elapsed().as_secs_f64());
        memory.unwrap().demand_no_growth(target.name);
    }
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut out = vec![first];
    let mut length = body.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(body);
    out
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn connect(version: u8, flags: u8, rest: &[&[u8]]) -> Vec<u8> {
    let properties: &[u8] = if version == 5 { &[8, 0x11, 0, 0, 0, 60, 0x21, 0, 10] } else { &[] };
    packet(0x10, &[&text("MQTT"), &[version, flags, 0, 60], properties, &text("client"), &rest.concat()])
}

/// What clients say, from the first byte to the last.
fn conversations() -> Vec<Vec<u8>> {
    let mut all =
        vec![b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]];
    for version in [4u8, 5] {
        let none: &[u8] = if version == 5 { &[0] } else { &[] };
        let some: &[u8] = if version == 5 {
            &[15, 0x01, 1, 0x02, 0, 0, 0, 9, 0x26, 0, 1, b'k', 0, 2, b'v', b'w']
        } else {
            &[]
        };
        let will_properties: &[u8] = if version == 5 { &[7, 0x18, 0, 0, 0, 5, 0x01, 1] } else { &[] };
        let publish = |first: u8, topic: &str, id: &[u8], properties: &[u8], payload: &[u8]| {
            packet(first, &[&text(topic), id, properties, payload])
        };
        let plain = connect(version, 2, &[]);
        let rich = connect(
            version,
            0xee,
            &[will_properties, &text("s/will"), &text("gone"), &text("user"), &text("password")],
        );
        let frame = &frames()[0];
        let rest = [
            publish(0x30, "s/a", &[], none, b"zero"),
            publish(0x32, "s/a", &[0, 1], some, b"one"),
            publish(0x3a, "s/a", &[0, 1], some, b"one"),
            publish(0x34, "json/a", &[0, 2], none, b"{\"a\":1}"),
            packet(0x62, &[&[0, 2]]),
            publish(0x33, "tg/client/e", &[0, 3], none, frame),
            publish(0x32, "nowhere", &[0, 4], none, &[7; 300]),
            packet(0x82, &[&[0, 9], none, &text("a/+/#"), &[1], &text("$share/g/b"), &[2]]),
            packet(0xa2, &[&[0, 10], none, &text("a/+/#")]),
            packet(0x40, &[&[0, 1]]),
            packet(0xc0, &[]),
            packet(0xe0, &[]),
        ]
        .concat();
        all.push([&plain[..], &rest].concat());
        all.push([&rich[..], &rest].concat());
        all.push(plain);
        all.push(rich);
    }
    all
}

/// Counts what comes, and keeps nothing.
#[derive(Default)]
struct Count {
    tickets: u64,
}

impl Sink for Count {
    fn push(&mut self, record: &Record<'_>) {
        self.tickets += 1;
        assert!(!record.topic.is_empty() && record.client.len() <= 1024);
    }
    fn push_exactly_once(&mut self, record: &Record<'_>, packet_id: u16) {
        self.push(record);
        assert_ne!(packet_id, 0);
    }
    fn push_release(&mut self, _client: &str, _packet_id: u16) {
        self.tickets += 1;
    }
}

fn settings() -> Settings {
    let route =
        |filter: &str, payload| Route { filter: filter.into(), payload, urgent: false, device_level: None };
    Settings {
        routes: vec![route("s/#", Payload::Opaque), route("json/#", Payload::Json)],
        inflight_max: 20,
        ..Settings::default()
    }
}

/// A session from CONNECT to its end, with a store that commits at once.
fn play(input: &[u8], random: &mut Random) {
    let now = Now { at: clock::monotonic(), wall_ms: 1_000_000, steady_ms: 1_000_000 };
    let settings = Arc::new(settings());
    let mut session = Session::new(settings.clone(), Broker::new(settings.broker()), now);
    let (mut sink, mut held, mut rest) = (Count::default(), vec![], input);
    while !rest.is_empty() && !session.has_ended() {
        let piece = 1 + random.below(rest.len() as u64) as usize;
        held.extend_from_slice(&rest[..piece]);
        rest = &rest[piece..];
        loop {
            let first = sink.tickets;
            let taken = session.handle_input(now, &held, &mut sink);
            held.drain(..taken);
            session.handle_appended(first);
            session.handle_watermark(now, Watermark { committed: sink.tickets, closed: false });
            assert!(session.output().len() <= OUT_BYTES_MAX + INPUT_BYTES_MAX);
            session.handle_written(now, session.output().len());
            let Some(connect) = session.take_connect() else {
                if taken == 0 {
                    break;
                }
                continue;
            };
            let present = random.coin();
            let opening = Opening { present, ..Opening::fresh("client".into()) };
            session.accept(now, *connect, opening);
        }
        assert!(held.len() <= INPUT_BYTES_MAX);
        drop((session.take_counts(), session.take_events(), session.poll_timeout()));
    }
    session.handle_lost();
    session.handle_end(now, random.coin(), &mut sink);
}

fn frames() -> Vec<Vec<u8>> {
    [1u32, 60]
        .map(|events| {
            let mut buffer = [0; 4096];
            let mut writer = FrameWriter::new(&mut buffer, 7, 1000, 0x1234_5678, events > 1);
            for n in 0..events {
                let body = [1, 0x80 | n as u8, 1, 3, n as u8 & 0x7f];
                writer.push(u64::from(n) * 1000, n as u8 % 3, &body).unwrap();
            }
            writer.finish().to_vec()
        })
        .into()
}

fn read_frame(input: &[u8], _random: &mut Random) {
    let Ok(mut reader) = FrameReader::new(input) else { return };
    let mut events = 0;
    while let Some(Ok(event)) = reader.next_event() {
        events += 1;
        assert!(events <= u32::from(u8::MAX));
        let _ = event.decode::<(u32, i64, f32)>();
    }
}

/// The ready types, and one with everything that a definition can have.
fn definitions() -> Vec<Vec<u8>> {
    let everything = b"\x01\x01a\x01\x11\x05\x01b\x01m\xff\x0e\x10\x02\x01\x0b\
        \x01c\x00\x00\x0f\x12\x02\x01x\x0d\x01y\x11\x01\x01z\x00\x00\x08\
        \x01d\x00\x00\x0c\x01e\x00\x00\x0a\x01f\x00\x00\x0f\x0f\x0d";
    events::ALL.iter().map(|known| known.kind.definition.to_vec()).chain([everything.to_vec()]).collect()
}

/// A definition that can be read decodes whatever comes: here its own bytes.
fn read_definition(input: &[u8], _random: &mut Random) {
    if let Ok(decoder) = Decoder::compile(input) {
        decode(&decoder, input);
        decode(&decoder, &[0; 64]);
    }
}

/// Either it is JSON within its limit, or nothing was written.
fn decode(decoder: &Decoder, body: &[u8]) {
    let mut json = vec![];
    match decoder.to_json(body, Values::Scaled, &mut json) {
        Ok(()) => {
            assert!(json.len() <= JSON_BYTES_MAX);
            serde_json::from_slice::<serde::de::IgnoredAny>(&json).unwrap();
        }
        Err(_) => assert!(json.is_empty()),
    }
}

fn births() -> Vec<Vec<u8>> {
    let kinds: Vec<_> = events::ALL.iter().map(|known| known.kind).collect();
    [1, kinds.len()]
        .map(|count| {
            let birth = Birth {
                boot: 7,
                connection: 2,
                uptime_ms: 90_000,
                wall_ms: Some(1_795_507_200_000),
                reset: ResetReason::Watchdog,
                firmware: "barn",
                version: "1.2.3",
                build: "0123abcd",
                kinds: Kinds::new(&kinds[..count]),
            };
            birth.write(&mut [0; 8192]).unwrap().to_vec()
        })
        .into()
}

/// One catalog for all of them, as a gateway has: what it may hold is bounded, and so is this test.
fn read_birth(input: &[u8], random: &mut Random) {
    static CATALOG: LazyLock<Mutex<Catalog>> = LazyLock::new(Mutex::default);
    let _ = lint_birth(input, &Lock::default());
    let Ok(birth) = Birth::parse(input) else { return };
    let mut catalog = CATALOG.lock().unwrap();
    if catalog.kinds_bytes() > CATALOG_BYTES_MAX {
        *catalog = Catalog::default();
    }
    let device = format!("barn-{}", random.below(100));
    if catalog.learn(&device, &birth).is_ok() {
        let set = catalog.kinds(&device, birth.kinds.schema_set()).expect("it was just learned");
        assert_eq!(set.all().len(), birth.kinds.len());
        decode(&set.all()[set.all().len() - 1].decoder, input);
    }
    drop(catalog.take_unsaved());
}

fn bodies() -> Vec<Vec<u8>> {
    let mut all: Vec<_> = ["d224a823cd9706", "783c01", "100b7372632f6d61696e2e7273d001096e6f2073656e736f72"]
        .map(|hex| from_hex(hex).unwrap())
        .into();
    all.push(b"\x01\x05\x02hi\x02\x00\x01\x07\x03abc\x00\x00\x00\x00\x00\x00\xf0\x3f\x02\x01\x02".to_vec());
    all
}

fn read_body(input: &[u8], random: &mut Random) {
    static DECODERS: LazyLock<Vec<Decoder>> = LazyLock::new(|| {
        definitions().iter().map(|definition| Decoder::compile(definition).unwrap()).collect()
    });
    decode(&DECODERS[random.below(DECODERS.len() as u64) as usize], input);
}

fn filters() -> Vec<Vec<u8>> {
    ["a/+/c/#", "#", "+/+", "$SYS/broker/#", "tg/barn-7/e", "/", "zigbee2mqtt/living room/büro"]
        .map(|text| text.as_bytes().to_vec())
        .into()
}

fn match_topics(input: &[u8], random: &mut Random) {
    let (filter, topic) = input.split_at(random.below(input.len() as u64 + 1) as usize);
    let _ = tidegate_protocol::Topic::parse(&String::from_utf8_lossy(topic));
    if let (Ok(filter), Some(topic)) = (std::str::from_utf8(filter), topics::name(topic))
        && topics::check_filter(filter).is_ok()
    {
        let _ = topics::matches(filter, topic);
    }
}

fn configs() -> Vec<Vec<u8>> {
    let sections = SHIPPED.split("\n\n").map(|section| format!("[gateway]\nid = \"a\"\n{section}\n"));
    sections.chain([SHIPPED.to_owned()]).map(String::into_bytes).collect()
}

fn read_config(input: &[u8], _random: &mut Random) {
    let text = String::from_utf8_lossy(input);
    if let Err(error) = config::parse(&text, Path::new("/nowhere/g.toml"), &|_| None) {
        assert!(!error.to_string().is_empty());
    }
}

fn acls() -> Vec<Vec<u8>> {
    let rule = "[[rule]]\nwho = \"a\"\npublish = [\"tg/{identity}/+/{client_id}/#\"]\nsubscribe = [\"#\"]\n";
    vec![SHIPPED_ACL.as_bytes().to_vec(), rule.as_bytes().to_vec()]
}

/// Rules that could be read are asked as well, about names and topics that come from the same
/// bytes.
fn read_acl(input: &[u8], random: &mut Random) {
    let text = String::from_utf8_lossy(input);
    let Ok(acl) = Acl::parse(&text, Path::new("/nowhere/acl.toml")) else { return };
    let (identity, topic) = text.split_at(text.floor_char_boundary(random.below(40) as usize));
    let permissions = acl.permissions(&Subject { identity, roles: &["viewer".into()], client_id: identity });
    let _ =
        (permissions.may_publish(topic), permissions.may_subscribe(topic), permissions.may_receive(topic));
}

fn users_files() -> Vec<Vec<u8>> {
    let user = "[[user]]\nname = \"barn-3\"\nroles = [\"viewer\"]\n\
                password = \"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc\"\n";
    vec![user.as_bytes().to_vec(), user.repeat(3).into_bytes()]
}

fn read_users(input: &[u8], _random: &mut Random) {
    let text = String::from_utf8_lossy(input);
    match Users::parse(&text, Path::new("/nowhere/users.toml")) {
        Ok(users) => assert!(users.iter().count() == users.len()),
        Err(error) => assert!(!error.to_string().contains("CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")),
    }
}

/// A client that publishes for as long as it may, and gets every acknowledgement.
async fn neighbour(port: u16, stop: Arc<AtomicBool>) -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b'n']).await.unwrap();
    let mut answer = [0; 4];
    timeout(LIMIT, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0]);
    let mut acked = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = (acked % 65_535 + 1) as u16;
        stream.write_all(&packet(0x32, &[&text("s/n"), &id.to_be_bytes(), b"payload"])).await.unwrap();
        timeout(LIMIT, stream.read_exact(&mut answer)).await.unwrap().expect("the neighbour is not cut off");
        assert_eq!(answer, [0x40, 2, (id >> 8) as u8, id as u8]);
        acked += 1;
    }
    acked
}

/// Sends `input`, and reads until the door closes or has nothing more to say.
async fn hostile(port: u16, input: Vec<u8>, closes: bool) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = stream.write_all(&input).await;
    if closes {
        let _ = stream.shutdown().await;
    }
    let mut answer = [0; 512];
    while let Ok(Ok(1..)) = timeout(Duration::from_millis(200), stream.read(&mut answer)).await {}
}

#[test]
fn hostile_connections_do_not_disturb_their_neighbour_or_stay_in_memory() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(rage(seed()));
}

async fn rage(seed: u64) {
    const AT_ONCE: u64 = 32;
    let folder = tempfile::tempdir().unwrap();
    let store_settings = store::Settings {
        segment_bytes: 4 << 20,
        max_bytes: 1 << 30,
        when_full: store::WhenFull::DropOldest,
        dead_letters_max_bytes: 1 << 20,
        ..store::Settings::new(folder.path())
    };
    let store = Store::open(store_settings, &[]).unwrap();
    let bound = ingest::bind(&ListenerSettings::new("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let port = bound.local_addr().port();
    let (shutdown, stop) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let settings = Settings { connections_per_s_max: 1_000_000, ..settings() };
    let door = tokio::spawn(ingest::run(vec![bound], (&store).into(), settings, shutdown.clone()));
    let neighbour = tokio::spawn(neighbour(port, stop.clone()));

    let (seeds, count) = (Arc::new(conversations()), (inputs() / LIVE_SHARE).max(AT_ONCE));
    let (next, memory) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
    let hostiles = (0..AT_ONCE).map(|_| {
        let (next, seeds, memory) = (next.clone(), seeds.clone(), memory.clone());
        tokio::spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return;
                }
                if n == count / 10 {
                    *memory.lock().unwrap() = Some(Memory::now());
                }
                let mut random = Random::new(seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                hostile(port, mutated(&seeds, &mut random), random.coin()).await;
            }
        })
    });
    for task in hostiles.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let acked = timeout(LIMIT, neighbour).await.unwrap().expect("TEST_SEED above repeats it");
    eprintln!("{count} hostile connections, {acked} publishes of the neighbour acknowledged meanwhile");
    assert!(acked > 0);
    memory.lock().unwrap().take().unwrap().demand_no_growth("the door");
    shutdown.cancel();
    timeout(LIMIT, door).await.unwrap().unwrap();
}
