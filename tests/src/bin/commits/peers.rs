//! What makes events durable, each in the same folder and in this process: Tidegate's store, a bare
//! file, SQLite.
//!
//! Each is given the same events, and returns from a commit when they would survive a power cut.
//! None of them is tuned: the store and SQLite as they are used, the file as the least that a log
//! can be.

use std::{fs::File, io::Write as _, path::Path, time::Duration};

use rusqlite::Connection;
use tidegate::store::{AppendError, Batch, Intake, Kind, Record, Settings, Store, Watermark};
use tidegate_tests::load::PAYLOAD_BYTES;
use tokio::{runtime::Runtime, sync::watch};

/// Where a segment ends, in bytes: what the configuration has unless told otherwise.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// The uplink that delivers nothing, so that nothing is deleted.
pub const UPLINK: &str = "cloud";
/// When the events came in: what they hold is all the same.
const RECEIVED_MS: u64 = 1_764_000_000_000;

/// Something that makes events durable.
pub trait Peer {
    /// As the table names it.
    fn name(&self) -> &'static str;

    /// Makes so many more events durable in one go.
    fn commit(&mut self, events: u64);
}

/// The event that everybody stores.
fn event() -> Record<'static> {
    Record {
        events: 1,
        qos: 0,
        received_ms: RECEIVED_MS,
        client: "client-1",
        topic: "bench/t",
        payload: &[7; PAYLOAD_BYTES],
        ..Record::default()
    }
}

/// Opens the store as the gateway does, without a wear budget.
pub fn open_store(folder: &Path) -> Store {
    let settings = Settings {
        segment_bytes: SEGMENT_BYTES,
        retain: Duration::from_secs(3_600),
        linger_max: Duration::from_secs(1),
        ..Settings::new(folder)
    };
    Store::open(settings, &[UPLINK.into()]).expect("the store opens")
}

/// Tidegate's store: one append, and the wait for the watermark.
pub struct Tidegate {
    runtime: Runtime,
    store: Store,
    intake: Intake,
    watermark: watch::Receiver<Watermark>,
    batch: Batch,
}

impl Tidegate {
    /// Opens it.
    pub fn open(folder: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let store = open_store(folder);
        let intake = store.intake();
        Self { runtime, watermark: intake.watermark(), intake, store, batch: Batch::default() }
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Ends as SIGKILL would.
    pub fn crash(self) {
        self.store.crash();
    }
}

impl Peer for Tidegate {
    fn name(&self) -> &'static str {
        "**Tidegate**"
    }

    fn commit(&mut self, events: u64) {
        (0..events).for_each(|_| self.batch.push(&event()));
        let Self { runtime, intake, watermark, batch, .. } = self;
        let tickets = batch.tickets();
        runtime.block_on(async {
            let first = loop {
                match intake.append(batch) {
                    Ok(first) => break first,
                    Err(AppendError::Full) => intake.room(batch).await,
                    Err(error) => panic!("the store of a benchmark stays open: {error}"),
                }
            };
            let durable = watermark.wait_for(|mark| mark.committed >= first + tickets).await;
            drop(durable.expect("the store of a benchmark stays open"));
        });
    }
}

/// The same bytes appended to a file, and `fdatasync`. It cannot be read back after a torn write;
/// it is the floor.
pub struct RawFile {
    file: File,
    bytes: Vec<u8>,
}

impl RawFile {
    /// Makes it.
    pub fn open(folder: &Path) -> Self {
        let file = File::create(folder.join("raw")).expect("the folder is writable");
        Self { file, bytes: Vec::new() }
    }
}

impl Peer for RawFile {
    fn name(&self) -> &'static str {
        "bare file, append + fdatasync"
    }

    fn commit(&mut self, events: u64) {
        self.bytes.clear();
        (0..events).for_each(|_| event().write(&mut self.bytes));
        self.file.write_all(&self.bytes).expect("the disk of a benchmark holds");
        self.file.sync_data().expect("the disk of a benchmark holds");
    }
}

/// SQLite with a write-ahead log and a sync for each transaction: a row for each event.
pub struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    /// Makes it.
    pub fn open(folder: &Path) -> Self {
        let connection = Connection::open(folder.join("events.sqlite")).expect("SQLite opens");
        let made = connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE events (id INTEGER PRIMARY KEY, received_ms INTEGER, client TEXT, topic TEXT, payload BLOB);",
        );
        made.expect("SQLite takes its settings");
        let mode: String = connection
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .expect("SQLite says how it works");
        assert_eq!(mode, "wal");
        Self { connection }
    }

    fn insert(&self, events: u64) -> rusqlite::Result<()> {
        let transaction = self.connection.unchecked_transaction()?;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO events (received_ms, client, topic, payload) VALUES (?1, ?2, ?3, ?4)",
        )?;
        for _ in 0..events {
            let event = event();
            insert.execute((event.received_ms as i64, event.client, event.topic, event.payload))?;
        }
        drop(insert);
        transaction.commit()
    }
}

impl Peer for Sqlite {
    fn name(&self) -> &'static str {
        "SQLite, WAL, FULL"
    }

    fn commit(&mut self, events: u64) {
        self.insert(events).expect("the disk of a benchmark holds");
    }
}
