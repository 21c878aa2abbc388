//! QoS 2 packet ids whose PUBREL never comes: they are bounded, for each client and in all, and
//! take no store's room for good.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(unused_imports, reason = "the other tests use the rest")]
mod simulated_disk;

use std::{path::Path, time::Duration};

use simulated_disk::SimulatedDisk;
use tidegate::{
    clock,
    ingest::{self, ListenerSettings, Payload, Route, Settings, limits::UNRELEASED_PER_INFLIGHT},
    store::{self, Batch, Record, Step, Store, WhenFull},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);
const UPLINK: &str = "cloud";
/// More than there is room for.
const CLIENTS: usize = 400;

fn open(folder: &Path) -> Store {
    let settings =
        store::Settings { max_bytes: 32 << 20, segment_bytes: 8 << 20, ..store::Settings::new(folder) };
    Store::open(settings, &[UPLINK.to_owned()]).unwrap()
}

fn record<'a>(client: &'a str, payload: &'a [u8]) -> Record<'a> {
    Record {
        events: 1,
        qos: 2,
        received_ms: clock::wall_ms(),
        client,
        topic: "t",
        payload,
        ..Record::default()
    }
}

/// Appends what waits in the batch and waits until it is durable; false where the store is full.
async fn append(store: &Store, batch: &mut Batch) -> bool {
    let (intake, tickets) = (store.intake(), batch.tickets());
    let Ok(first) = intake.append(batch) else { return false };
    let mut watermark = intake.watermark();
    let durable = watermark.wait_for(|watermark| watermark.committed >= first + tickets);
    timeout(LIMIT, durable).await.unwrap().unwrap();
    true
}

async fn receive(store: &Store, client: &str, ids: std::ops::RangeInclusive<u16>) {
    let mut batch = Batch::default();
    ids.for_each(|id| batch.push_exactly_once(&record(client, b"x"), id));
    assert!(append(store, &mut batch).await, "the store is full");
}

/// A client id as long as one may be that is still told from the others.
fn long_name(number: usize) -> String {
    format!("{number:01000}")
}

#[tokio::test]
async fn ids_that_are_never_released_do_not_fill_a_store_whose_events_are_all_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut reader = store.reader(UPLINK).unwrap();
    for client in 0..16 {
        for first in (1..=992).step_by(124) {
            receive(&store, &long_name(client), first..=first + 123).await;
        }
        while reader.position() < store.status().next_offset {
            let end = timeout(LIMIT, reader.next()).await.unwrap().unwrap().end();
            reader.release(end);
        }
    }
    let (payload, start) = (vec![7; 1 << 20], clock::monotonic());
    loop {
        let mut batch = Batch::default();
        (0..3).for_each(|_| batch.push(&record("other", &payload)));
        let is_taken = append(&store, &mut batch).await;
        while reader.position() < store.status().next_offset {
            let end = timeout(LIMIT, reader.next()).await.unwrap().unwrap().end();
            reader.release(end);
        }
        let status = store.status();
        // An empty segment, what ids are in it, the last event, and the dead letters' file.
        if is_taken && status.used_bytes < 12 << 20 {
            break;
        }
        assert!(start.elapsed() < LIMIT, "{} bytes are used with nothing to deliver", status.used_bytes);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!((0..16).all(|client| store.intake().has_pending(&long_name(client))), "each is known still");
    store.close();
    let store = open(folder.path());
    assert!((0..16).all(|client| store.intake().has_pending(&long_name(client))), "after a restart as well");
}

#[tokio::test]
async fn beyond_the_bound_in_all_the_clients_away_longest_are_forgotten_and_none_that_is_connected() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let connected = store.intake().attach(long_name(0).into());
    // A 1,000 B name counts 1,066 B with an id. A segment is a 16th of the room, and the ids are an
    // 8th of it: 256 KiB. Beyond that so many go that an 8th of it is free.
    for client in 0..CLIENTS {
        receive(&store, &long_name(client), 1..=1).await;
    }
    let known =
        |store: &Store| (0..CLIENTS).filter(|client| store.intake().has_pending(&long_name(*client))).count();
    let count = known(&store);
    assert!((214..=246).contains(&count), "{count}");
    assert!(store.intake().has_pending(&long_name(0)), "it is connected");
    assert!(!store.intake().has_pending(&long_name(1)), "it is away longest");
    assert!(store.intake().has_pending(&long_name(CLIENTS - 1)));
    drop(connected);
    store.crash();
    let store = open(folder.path());
    assert_eq!(known(&store), count, "a restart finds the same");
}

#[test]
fn a_disk_that_somebody_else_fills_costs_no_ids_until_a_write_waits_for_room_that_does_not_come() {
    let disk = SimulatedDisk::new(7);
    let settings = store::Settings { segment_bytes: 16 << 20, ..store::Settings::new("/simulated") };
    let mut now = clock::now();
    let (store, mut committer) =
        Store::open_stepwise(disk.folder(), settings.clone(), &[UPLINK.to_owned()], now).unwrap();
    let mut receive = |client: usize, payload: &[u8]| {
        let mut batch = Batch::default();
        batch.push_exactly_once(&record(&long_name(client), payload), 1);
        store.intake().append(&mut batch).unwrap();
        now.at += Duration::from_secs(1);
        committer.step(now)
    };
    let known = |clients: usize| {
        (0..clients).filter(|client| store.intake().has_pending(&long_name(*client))).count()
    };
    for client in 0..CLIENTS {
        assert_eq!(receive(client, b"x"), Step::Committed);
    }
    // In so little room a segment is 1 MiB, and its ids would be an 8th of it.
    disk.set_capacity_bytes(Some(disk.all_used_bytes() + (4 << 20)));
    for client in CLIENTS..CLIENTS + 2 {
        assert_eq!(receive(client, b"x"), Step::Committed);
    }
    assert_eq!(known(CLIENTS + 2), CLIENTS + 2, "the disk was never full");
    disk.set_capacity_bytes(Some(disk.all_used_bytes()));
    assert!(matches!(receive(CLIENTS + 2, &[7; 1 << 20]), Step::Stuck(_)));
    assert_eq!(known(CLIENTS + 2), CLIENTS + 2, "it may have room in a second");
    for _ in 0..3 {
        now.at += LIMIT;
        assert!(matches!(committer.step(now), Step::Stuck(_)));
    }
    let left = known(CLIENTS + 3);
    assert!((80..=130).contains(&left), "{left}: a segment begins with all of them");
    disk.set_capacity_bytes(None);
    now.at += LIMIT;
    assert_eq!(committer.step(now), Step::Idle, "what waited is stored");
    assert_eq!(store.intake().watermark().borrow().committed, CLIENTS as u64 + 3);
    assert_eq!(known(CLIENTS + 3), left);
    committer.finish(now);
    store.close();
    let (store, _committer) =
        Store::open_stepwise(disk.folder(), settings, &[UPLINK.to_owned()], now).unwrap();
    let found = (0..CLIENTS + 3).filter(|client| store.intake().has_pending(&long_name(*client))).count();
    assert_eq!(found, left, "a restart finds the same");
}

#[test]
fn a_store_that_drops_the_oldest_forgets_ids_before_it_drops_an_event_for_them() {
    let known = known_once_the_disk_is_full(0);
    assert!((80..=130).contains(&known), "{known}");
    // A journal that is over makes room for more of them.
    let known = known_once_the_disk_is_full(store::JOURNAL_BYTES_MAX);
    assert!((80..=200).contains(&known), "{known}");
}

/// How many clients' ids are known behind a write that had to wait for room, in a store with a
/// journal of so many bytes.
fn known_once_the_disk_is_full(journal_bytes: u64) -> usize {
    let disk = SimulatedDisk::new(7);
    let settings = store::Settings {
        segment_bytes: 4 << 20,
        journal_bytes,
        when_full: WhenFull::DropOldest,
        ..store::Settings::new("/simulated")
    };
    let mut now = clock::now();
    let (store, mut committer) =
        Store::open_stepwise(disk.folder(), settings, &[UPLINK.to_owned()], now).unwrap();
    let mut step = |client: &str, payload: &[u8]| {
        let mut batch = Batch::default();
        batch.push_exactly_once(&record(client, payload), 1);
        store.intake().append(&mut batch).unwrap();
        now.at += Duration::from_secs(1);
        let first = committer.step(now);
        let mut last = first;
        for _ in 0..60 {
            if !matches!(last, Step::Stuck(_)) {
                break;
            }
            now.at += Duration::from_secs(1);
            last = committer.step(now);
        }
        (first, last)
    };
    for client in 0..CLIENTS {
        assert_eq!(step(&long_name(client), b"x").0, Step::Committed);
    }
    for part in 0..8 {
        assert_eq!(step(&format!("large-{part}"), &[7; 1 << 20]).0, Step::Committed);
    }
    // The next write begins a segment, and there is room for it, but not for all ids beside it.
    disk.set_capacity_bytes(Some(disk.all_used_bytes() + (400 << 10)));
    let (first, last) = step("last", b"x");
    assert!(matches!(first, Step::Stuck(_)), "{first:?}");
    assert_eq!(last, Step::Idle, "what waited is stored");
    let known = (0..CLIENTS).filter(|client| store.intake().has_pending(&long_name(*client))).count();
    assert_eq!(store.status().dropped_events, 0);
    known
}

#[test]
fn on_a_small_disk_connected_clients_have_no_more_ids_than_a_segment_of_it_may_begin_with() {
    let disk = SimulatedDisk::new(7);
    disk.set_capacity_bytes(Some(8 << 20));
    let mut now = clock::now();
    let (settings, uplinks) = (store::Settings::new("/simulated"), [UPLINK.to_owned()]);
    let (store, mut committer) = Store::open_stepwise(disk.folder(), settings, &uplinks, now).unwrap();
    let mut connected = Vec::new();
    let taken = (0..CLIENTS).take_while(|client| {
        connected.push(store.intake().attach(long_name(*client).into()));
        let mut batch = Batch::default();
        batch.push_exactly_once(&record(&long_name(*client), b"x"), 1);
        let is_taken = store.intake().append(&mut batch).is_ok();
        now.at += Duration::from_secs(1);
        assert!(!matches!(committer.step(now), Step::Stuck(_)));
        is_taken
    });
    // A segment is 1 MiB there, and its ids are an 8th of it.
    let count = taken.count();
    assert_eq!(count, 123);
    assert!((0..count).all(|client| store.intake().has_pending(&long_name(client))));
}

/// MQTT 3.1.1, a session that outlives the connection.
async fn connect(port: u16, session_present: u8) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0, 0, 1, b'q']).await.unwrap();
    let mut connack = [0; 4];
    timeout(LIMIT, stream.read_exact(&mut connack)).await.unwrap().unwrap();
    assert_eq!(connack, [0x20, 2, session_present, 0]);
    stream
}

fn publish(id: u16, dup: bool) -> [u8; 8] {
    let [high, low] = id.to_be_bytes();
    [0x34 | u8::from(dup) << 3, 6, 0, 1, b't', high, low, b'x']
}

/// Reads acknowledgements until there are `count`, or the connection ends; gives their packet ids.
async fn acknowledged(stream: &mut TcpStream, first: u8, count: usize) -> Vec<u16> {
    let (mut ids, mut packet) = (Vec::new(), [0; 4]);
    while ids.len() < count && timeout(LIMIT, stream.read_exact(&mut packet)).await.unwrap().is_ok() {
        assert_eq!(packet[..2], [first, 2]);
        ids.push(u16::from_be_bytes([packet[2], packet[3]]));
    }
    ids
}

#[tokio::test]
async fn a_client_that_releases_nothing_is_closed_at_its_bound_and_goes_on_where_it_was_once_it_does() {
    const INFLIGHT: u16 = 5;
    const BOUND: u16 = INFLIGHT * UNRELEASED_PER_INFLIGHT as u16;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let route = Route { filter: "#".into(), payload: Payload::Opaque, urgent: false, device_level: None };
    let settings = Settings { routes: vec![route], inflight_max: INFLIGHT, ..Settings::default() };
    let bound = ingest::bind(&ListenerSettings::new("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let (port, shutdown) = (bound.local_addr().port(), CancellationToken::new());
    let door = tokio::spawn(ingest::run(vec![bound], (&store).into(), settings, shutdown.clone()));

    let mut stream = connect(port, 0).await;
    let all = 1..=2 * BOUND;
    let bytes: Vec<u8> = all.clone().flat_map(|id| publish(id, false)).collect();
    stream.write_all(&bytes).await.unwrap();
    let received = acknowledged(&mut stream, 0x50, usize::from(2 * BOUND)).await;
    let count = received.len() as u16;
    assert!(count <= BOUND, "{count} are received, and none was released");
    assert_eq!(received, (1..=count).collect::<Vec<_>>());
    // As it is told to: in order, and what was received only released.
    let mut stream = connect(port, 1).await;
    let known: Vec<u16> = (1..=count).collect();
    for id in &known {
        let [high, low] = id.to_be_bytes();
        stream.write_all(&[0x62, 2, high, low]).await.unwrap();
    }
    assert_eq!(acknowledged(&mut stream, 0x70, known.len()).await, known);
    let mut from = count + 1;
    while from <= 2 * BOUND {
        let to = (from + BOUND - 1).min(2 * BOUND);
        for id in from..=to {
            stream.write_all(&publish(id, true)).await.unwrap();
        }
        assert_eq!(
            acknowledged(&mut stream, 0x50, usize::from(to - from + 1)).await,
            (from..=to).collect::<Vec<_>>()
        );
        for id in from..=to {
            let [high, low] = id.to_be_bytes();
            stream.write_all(&[0x62, 2, high, low]).await.unwrap();
        }
        acknowledged(&mut stream, 0x70, usize::from(to - from + 1)).await;
        from = to + 1;
    }
    assert_eq!(store.status().events, u64::from(2 * BOUND), "each is stored once");
    assert!(!store.intake().has_pending("q"));
    shutdown.cancel();
    timeout(LIMIT, door).await.unwrap().unwrap();
}
