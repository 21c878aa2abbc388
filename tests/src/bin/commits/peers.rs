//! What makes events durable, each in the same folder and in this process: Tidegate's store, with
//! its journal and without, a bare file that grows and one that is preallocated, SQLite.
//!
//! Each is given the same events, and returns from a commit when they would survive a power cut.
//! None of them is tuned: the store and SQLite as they are used, the file as the least that a log
//! can be.

use std::{fs::File, io::Write as _, os::unix::fs::FileExt as _, path::Path, time::Duration};

use rusqlite::Connection;
use tidegate::store::{AppendError, Batch, Intake, JOURNAL_BYTES_MAX, Record, Settings, Store, Watermark};
use tidegate_tests::load::PAYLOAD_BYTES;
use tokio::{runtime::Runtime, sync::watch};

/// Where a segment ends, in bytes: what the configuration has unless told otherwise.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Of the file that is there before it is written.
const PREALLOCATED_BYTES: u64 = 4 << 20;
/// It is written in pieces of this.
const PAGE_BYTES: usize = 4096;
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

/// Opens the store as the gateway does, without a wear budget; with a journal of so many bytes.
pub fn open_store(folder: &Path, journal_bytes: u64) -> Store {
    let settings = Settings {
        segment_bytes: SEGMENT_BYTES,
        journal_bytes,
        retain: Duration::from_secs(3_600),
        linger_max: Duration::from_secs(1),
        ..Settings::new(folder)
    };
    Store::open(settings, &[UPLINK.into()]).expect("the store opens")
}

/// Tidegate's store: one append, and the wait for the watermark.
pub struct Tidegate {
    name: &'static str,
    runtime: Runtime,
    store: Store,
    intake: Intake,
    watermark: watch::Receiver<Watermark>,
    batch: Batch,
}

impl Tidegate {
    /// Opens it.
    pub fn open(folder: &Path) -> Self {
        Self::open_with(folder, "**Tidegate**", JOURNAL_BYTES_MAX)
    }

    /// Opens it without a journal, in a folder of its own: every commit is a transaction.
    pub fn open_without_journal(folder: &Path) -> Self {
        Self::open_with(&folder.join("segments-alone"), "Tidegate, segments alone", 0)
    }

    fn open_with(folder: &Path, name: &'static str, journal_bytes: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let store = open_store(folder, journal_bytes);
        let intake = store.intake();
        Self { name, runtime, watermark: intake.watermark(), intake, store, batch: Batch::default() }
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
        self.name
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

/// The same bytes appended to a file, and `fdatasync`. It cannot be read back after a torn write.
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

/// The same into a file that is there already, from its beginning again when it is full: nothing
/// but bytes changes.
pub struct Preallocated {
    file: File,
    at: u64,
    bytes: Vec<u8>,
}

impl Preallocated {
    /// Makes it.
    pub fn open(folder: &Path) -> Self {
        let file = File::create(folder.join("preallocated")).expect("the folder is writable");
        file.write_all_at(&vec![0; PREALLOCATED_BYTES as usize], 0).expect("the disk of a benchmark holds");
        file.sync_all().expect("the disk of a benchmark holds");
        // A page of a large piece of the cache would be written with all of that piece.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("the cache lets go of it");
        Self { file, at: 0, bytes: Vec::new() }
    }
}

impl Peer for Preallocated {
    fn name(&self) -> &'static str {
        "bare file, preallocated + fdatasync"
    }

    fn commit(&mut self, events: u64) {
        self.bytes.clear();
        (0..events).for_each(|_| event().write(&mut self.bytes));
        let bytes = self.bytes.len().next_multiple_of(PAGE_BYTES);
        self.bytes.resize(bytes, 0);
        if self.at + bytes as u64 > PREALLOCATED_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(&self.bytes, self.at).expect("the disk of a benchmark holds");
        self.file.sync_data().expect("the disk of a benchmark holds");
        self.at += bytes as u64;
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
