//! Stores as every release has left them, cleanly closed and crashed: each is opened by the program
//! as it is now.
//!
//! They lie in `released/`, whose README.md says how they are made. What must be found in one lies
//! beside it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "released/listed.rs"]
mod listed;
#[path = "released/make.rs"]
mod make;
#[path = "released/packed.rs"]
mod packed;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use redb::{Database, TableDefinition};
use serde_json::Value;
use tempfile::TempDir;
use tidegate::store::{Batch, Block, Kind, Reader, Record, Settings, Store, StoreError};
use tidegate_protocol::{DeviceName, FrameWriter, Leaf, Topic};

const LIMIT: Duration = Duration::from_secs(20);
const UPLINK: &str = "cloud";
/// Small, so that a store of some records has several segments.
const SEGMENT_BYTES: u64 = 2_000;
/// Names the release whose stores are to be made, in place of being tested.
const MAKE: &str = "TIDEGATE_MAKE_RELEASED";

fn settings(folder: &Path) -> Settings {
    Settings {
        segment_bytes: SEGMENT_BYTES,
        // What is delivered stays, so that it can be compared.
        retain: Duration::MAX,
        linger_max: Duration::from_secs(1),
        dead_letters_max_bytes: 1 << 20,
        ..Settings::new(folder)
    }
}

fn open(folder: &Path) -> Result<Store, StoreError> {
    Store::open(settings(folder), &[UPLINK.into()])
}

/// Appends, and waits until it is durable.
async fn append(store: &Store, batch: &mut Batch) {
    let tickets = batch.tickets();
    let end = store.intake().append(batch).unwrap() + tickets;
    let mut watermark = store.intake().watermark();
    let durable = watermark.wait_for(|watermark| watermark.committed >= end || watermark.closed);
    let reached = tokio::time::timeout(LIMIT, durable).await.expect("a commit within the limit").unwrap();
    assert!(reached.committed >= end, "the store closed before it was durable");
}

async fn next(reader: &mut Reader) -> Arc<Block> {
    tokio::time::timeout(LIMIT, reader.next()).await.expect("a block within the limit").unwrap()
}

/// Everything before `end`, listed.
async fn list(reader: &mut Reader, end: u64) -> Vec<Value> {
    reader.seek(0);
    let mut records = Vec::new();
    while (records.len() as u64) < end {
        let from = reader.position();
        let block = next(reader).await;
        records.extend(block.records_from(from).map(|(offset, record)| listed::record(offset, &record)));
    }
    records
}

/// The topic and the payload of a frame of two events.
fn frame(device: &str, boot: u32, first_seq: u32) -> (String, Vec<u8>) {
    let (mut topic, mut buffer) = ([0; 64], [0; 256]);
    let name = Topic { device: DeviceName::new(device).unwrap(), leaf: Leaf::Events };
    let topic = name.write(&mut topic).unwrap().to_owned();
    let mut writer = FrameWriter::new(&mut buffer, boot, first_seq, 0, false);
    writer.push(1, 1, b"abc").unwrap();
    writer.push(2, 1, b"abd").unwrap();
    (topic, writer.finish().to_vec())
}

fn released() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/released")
}

/// Every store of every release, by name, with what must be found in it.
fn stores() -> Vec<(String, PathBuf, Value)> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let all = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.is_dir()).collect()
    };
    let mut stores = Vec::new();
    for store in folders(&released()).iter().flat_map(|release| folders(release)) {
        let name = store.strip_prefix(released()).unwrap().display().to_string();
        let text = std::fs::read_to_string(store.join("expected.json")).unwrap();
        stores.push((name, store, serde_json::from_str(&text).unwrap()));
    }
    stores.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    stores
}

fn unpacked(store: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    packed::unpack(&std::fs::read(store.join("store.packed")).unwrap(), folder.path());
    folder
}

fn names_in(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = files.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name != "LOCK");
    names.sort();
    names
}

#[tokio::test]
async fn every_release_is_opened_read_and_gone_on_with() {
    if let Ok(name) = std::env::var(MAKE) {
        make::make(&released().join(name)).await;
        return;
    }
    let stores = stores();
    assert!(stores.len() >= 2 && stores.len().is_multiple_of(2), "each release has two: {stores:?}");
    for (name, store, expected) in stores {
        let folder = unpacked(&store);
        let records = expected["records"].as_array().unwrap().clone();
        for round in 0..2 {
            let store = open(folder.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
            let status = listed::status(&store.status());
            let known = ["next_offset", "events", "segments", "set_aside", "backlog"];
            let expected: Value = known.iter().map(|key| (*key, expected[key].clone())).collect();
            assert_eq!(status, expected, "{name}, opened {} times", round + 1);
            let mut reader = store.reader(UPLINK).unwrap();
            assert_eq!(list(&mut reader, records.len() as u64).await, records, "{name}");
            drop(reader);
            let names = names_in(folder.path());
            assert!(names.iter().all(|name| name != "state.redb"), "{name}: {names:?}");
            if round == 0 { store.close() } else { store.crash() }
        }
        demand_that_it_goes_on(&name, folder.path(), &expected, &records).await;
    }
}

async fn demand_that_it_goes_on(name: &str, folder: &Path, expected: &Value, records: &[Value]) {
    let store = open(folder).unwrap();
    assert_eq!(store.reader(UPLINK).unwrap().position(), expected["released"], "{name}: the cursor");
    let mut batch = Batch::default();
    // What is known already: every frame, and the QoS 2 messages whose ids are pending.
    let listed: Vec<_> = records.iter().map(Owned::new).collect();
    for owned in listed.iter().filter(|owned| owned.kind == Kind::Frame) {
        batch.push(&owned.record());
    }
    let pending: Vec<(String, u16)> = serde_json::from_value(expected["pending"].clone()).unwrap();
    for (client, packet_id) in &pending {
        assert!(store.intake().has_pending(client), "{name}: {client} {packet_id}");
        batch.push_exactly_once(&Record { client, ..listed[1].record() }, *packet_id);
        batch.push_release(client, *packet_id);
    }
    append(&store, &mut batch).await;
    assert_eq!(store.status().next_offset, expected["next_offset"], "{name}: a copy was stored");
    assert!(pending.iter().all(|(client, _)| !store.intake().has_pending(client)), "{name}");

    for owned in &listed {
        batch.push(&Record { kind: Kind::Opaque, events: 1, ..owned.record() });
    }
    append(&store, &mut batch).await;
    store.close();
    let store = open(folder).unwrap();
    let mut reader = store.reader(UPLINK).unwrap();
    let all = list(&mut reader, 2 * records.len() as u64).await;
    assert_eq!(all[..records.len()], *records, "{name}");
    for (new, old) in all[records.len()..].iter().zip(records) {
        assert_eq!(new["payload"], old["payload"], "{name}");
    }
}

/// A listed record.
struct Owned {
    kind: Kind,
    events: u8,
    client: String,
    topic: String,
    payload: Vec<u8>,
    received_ms: u64,
}

impl Owned {
    fn new(listed: &Value) -> Self {
        let text = |key: &str| listed[key].as_str().unwrap().to_owned();
        Self {
            kind: match listed["kind"].as_str() {
                Some("frame") => Kind::Frame,
                Some("json") => Kind::Json,
                _ => Kind::Opaque,
            },
            events: listed["events"].as_u64().unwrap() as u8,
            client: text("client"),
            topic: text("topic"),
            payload: listed::bytes(&text("payload")),
            received_ms: listed["received_ms"].as_u64().unwrap(),
        }
    }

    fn record(&self) -> Record<'_> {
        Record {
            kind: self.kind,
            events: self.events,
            qos: 0,
            received_ms: self.received_ms,
            client: &self.client,
            topic: &self.topic,
            payload: &self.payload,
            ..Record::default()
        }
    }
}

#[tokio::test]
async fn a_store_of_a_newer_format_is_refused_untouched_with_what_to_do() {
    for (name, store, expected) in stores() {
        let folder = unpacked(&store);
        let newest =
            names_in(folder.path()).into_iter().filter(|name| name.starts_with("seg-")).max().unwrap();
        // As it was called up to format 2.
        let has_old_name = names_in(folder.path()).contains(&"state.redb".to_owned());
        let letters = if has_old_name { "state.redb" } else { "dead_letters.redb" };
        for file in [newest.as_str(), letters] {
            let path = folder.path().join(file);
            let known = set_format(&path, 1_000);
            let before = names_in(folder.path());
            let error = open(folder.path()).unwrap_err();
            assert!(matches!(error, StoreError::Format { .. }), "{name}: {error}");
            let text = error.to_string();
            assert!(text.contains(file) && text.contains("use the version that wrote it"), "{name}: {text}");
            assert_eq!(names_in(folder.path()), before, "{name}: {file}");
            assert_eq!(set_format(&path, known), 1_000, "{name}: {file} was changed");
        }
        let records = expected["records"].as_array().unwrap();
        let store = open(folder.path()).unwrap();
        let mut reader = store.reader(UPLINK).unwrap();
        assert_eq!(list(&mut reader, records.len() as u64).await, *records, "{name}");
        drop(reader);
        store.close();
        demand_that_it_goes_on(&name, folder.path(), &expected, records).await;
    }
}

/// Makes a database say that it has another format, and gives the one that it had.
fn set_format(path: &Path, format: u64) -> u64 {
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let transaction = Database::open(path).unwrap().begin_write().unwrap();
    let known = transaction.open_table(META).unwrap().insert("format", format).unwrap().unwrap().value();
    transaction.commit().unwrap();
    known
}

#[test]
fn what_is_packed_is_unpacked_the_same() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mixed: Vec<u8> = (0..10_000_u32).map(|n| if n / 50 % 3 == 0 { n as u8 } else { 0xFF }).collect();
    let files: [(&str, &[u8]); 6] = [
        ("empty", b""),
        ("zeros", &[0; 1_000]),
        ("a", b"a"),
        ("few", b"a\0\0b\0"),
        ("LOCK", b""),
        ("mixed", &mixed),
    ];
    for (name, bytes) in files {
        std::fs::write(from.path().join(name), bytes).unwrap();
    }
    packed::unpack(&packed::pack(from.path(), &["LOCK"]), to.path());
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), files.len() - 1);
    for (name, bytes) in files.iter().filter(|(name, _)| *name != "LOCK") {
        assert_eq!(std::fs::read(to.path().join(name)).unwrap(), *bytes, "{name}");
    }
}
