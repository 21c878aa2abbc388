//! What outlives the connections of local subscribers, in `sessions.redb`: sessions with their subscriptions, the messages that
//! they are owed, and retained messages.
//!
//! ```text
//!   log ──followed──▶ the door's bus ──save, some seconds later──▶ sessions.redb: position, sessions, owed, retained
//!                          ▲ load at the start; the log behind `position` is followed again
//! ```
//! The log is the truth and this file is a point from which to follow it: changes and the position they belong to are one
//! transaction, so a message from the log is neither missing nor twice in it, whenever the power goes. The file is made at
//! the first start: without a position, what is retained first would be missing after a power cut.
//!
//! Limits: the bus bounds the sessions, their messages and the retained ones. A damaged file gets another name and a new one is
//! begun: subscribers lose their queues then, the log and the uplinks nothing.

mod rows;

use parking_lot::Mutex;
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, WriteTransaction,
};
use serde::{Serialize, de::DeserializeOwned};

pub use self::rows::{Change, Kept, MessageRow, OwedRow, SessionRow, SubscriptionRow, WillRow};
use super::{
    disk::Files,
    error::StoreError,
    guard::{guarded_redb as guarded, is_damage},
};

/// The file's name in the data folder.
pub const FILE: &str = "sessions.redb";
/// The name of one that is damaged.
pub const DAMAGED_FILE: &str = "sessions.redb.damaged";
const NEW_FILE: &str = "sessions.redb.new";
/// Version of the file's format.
const FORMAT: u64 = 1;
const CACHE_BYTES: usize = 512 * 1024;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SESSIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sessions");
const OWED: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("owed");
const RETAINED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("retained");
const POSITION: &str = "position";

/// The file, opened when it is needed.
pub struct SessionFile {
    files: Files,
    store: u32,
    state: Mutex<State>,
}

enum State {
    Open(Database),
    /// Not opened, or shut after a failure: the next operation opens it.
    Shut,
    /// For good.
    Closed,
}

impl std::fmt::Debug for SessionFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionFile").finish_non_exhaustive()
    }
}

impl SessionFile {
    /// The file of the store with this identity. Nothing is opened.
    pub fn new(files: Files, store: u32) -> Self {
        Self { files, store, state: Mutex::new(State::Shut) }
    }

    /// All that is kept; `None` where nothing ever was, or where it was damaged.
    ///
    /// # Errors
    /// [`StoreError`]: it can not be read now, or a newer version wrote it. It is as it was.
    pub fn load(&self) -> Result<Option<Kept>, StoreError> {
        let mut state = self.state.lock();
        if let State::Closed = *state {
            return Err(StoreError::Closed);
        }
        if !self.files.names()?.iter().any(|name| name == FILE) {
            return Ok(None);
        }
        match self.open_existing() {
            Ok((db, kept)) => {
                *state = State::Open(db);
                Ok(Some(kept))
            }
            Err(Refusal::Error(error)) => Err(error),
            Err(Refusal::Damaged(why)) => {
                self.files.rename(FILE, DAMAGED_FILE)?;
                tracing::error!(
                    file = %self.files.path_of(DAMAGED_FILE).display(),
                    "the sessions of local subscribers are damaged and get another name: {why}; going on with none"
                );
                Ok(None)
            }
        }
    }

    /// Makes `changes` and the position durable, together.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it is kept. It can be tried again.
    pub fn save(&self, changes: &[Change], position: u64) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if let State::Shut = *state {
            *state = State::Open(self.open_or_make()?);
        }
        let State::Open(db) = &*state else { return Err(StoreError::Closed) };
        let saved = guarded(|| {
            let transaction = db.begin_write()?;
            changes.iter().try_for_each(|change| make(&transaction, change))?;
            transaction.open_table(META)?.insert(POSITION, position)?;
            Ok(transaction.commit()?)
        });
        saved.map_err(|error| {
            // redb answers none of the calls after an error.
            shut(std::mem::replace(&mut *state, State::Shut));
            StoreError::disk(&self.files.path_of(FILE), error)
        })
    }

    /// Closes the file, for good.
    pub fn close(&self) {
        shut(std::mem::replace(&mut *self.state.lock(), State::Closed));
    }

    fn open_or_make(&self) -> Result<Database, StoreError> {
        if self.files.names()?.iter().any(|name| name == FILE) {
            return match self.open_existing() {
                Ok((db, _)) => Ok(db),
                Err(Refusal::Error(error)) => Err(error),
                Err(Refusal::Damaged(why)) => {
                    Err(StoreError::disk(&self.files.path_of(FILE), redb::Error::Corrupted(why)))
                }
            };
        }
        self.make_file()
    }

    fn open_existing(&self) -> Result<(Database, Kept), Refusal> {
        let path = self.files.path_of(FILE);
        let judge = |error: redb::Error| match is_damage(&error) {
            true => Refusal::Damaged(error.to_string()),
            false => Refusal::Error(StoreError::disk(&path, error)),
        };
        self.files.settle(FILE);
        let disk = self.files.open(FILE).map_err(Refusal::Error)?;
        if disk.len().map_err(|error| Refusal::Error(StoreError::io(&path, error)))? == 0 {
            // redb would make an empty database of it, and say nothing.
            return Err(Refusal::Damaged("it is empty".into()));
        }
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let db = guarded(|| Ok(builder.create_with_backend(disk)?)).map_err(judge)?;
        let (format, store) = guarded(|| meta_of(&db)).map_err(judge)?;
        match format {
            Some(format) if format > FORMAT => {
                return Err(Refusal::Error(StoreError::Format { path, format }));
            }
            Some(FORMAT) => {}
            _ => return Err(Refusal::Damaged("it is not a file of sessions".into())),
        }
        if store != u64::from(self.store) {
            return Err(Refusal::Damaged("it belongs to another store".into()));
        }
        let kept = guarded(|| read(&db)).map_err(judge)?;
        Ok((db, kept))
    }

    /// Makes the file: durable, under its own name, when this returns.
    fn make_file(&self) -> Result<Database, StoreError> {
        let disk = self.files.create(NEW_FILE)?;
        let made = guarded(|| {
            let db = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(disk)?;
            let transaction = db.begin_write()?;
            {
                let mut meta = transaction.open_table(META)?;
                meta.insert("format", FORMAT)?;
                meta.insert("store", u64::from(self.store))?;
            }
            transaction.open_table(SESSIONS)?;
            transaction.open_table(OWED)?;
            transaction.open_table(RETAINED)?;
            transaction.commit()?;
            Ok(db)
        });
        let made = made.map_err(|error| StoreError::disk(&self.files.path_of(NEW_FILE), error))?;
        self.files.rename(NEW_FILE, FILE)?;
        Ok(made)
    }
}

/// Why a file is not opened.
enum Refusal {
    /// What it held can not be trusted.
    Damaged(String),
    /// It is as it was.
    Error(StoreError),
}

fn meta_of(db: &Database) -> Result<(Option<u64>, u64), redb::Error> {
    let meta = db.begin_read()?.open_table(META)?;
    let number =
        |name| -> Result<Option<u64>, redb::Error> { Ok(meta.get(name)?.map(|number| number.value())) };
    Ok((number("format")?, number("store")?.unwrap_or_default()))
}

fn read(db: &Database) -> Result<Kept, redb::Error> {
    let transaction = db.begin_read()?;
    let position = transaction.open_table(META)?.get(POSITION)?.map_or(0, |position| position.value());
    let mut kept = Kept { position, ..Kept::default() };
    let owed = transaction.open_table(OWED)?;
    for entry in transaction.open_table(SESSIONS)?.iter()? {
        let (client, row) = entry?;
        let client = client.value().to_owned();
        let mut messages = Vec::new();
        for entry in owed.range((client.as_str(), 0)..=(client.as_str(), u64::MAX))? {
            let (key, row) = entry?;
            messages.push((key.value().1, decode(row.value())?));
        }
        kept.sessions.push((client, decode(row.value())?, messages));
    }
    for entry in transaction.open_table(RETAINED)?.iter()? {
        kept.retained.push(decode(entry?.1.value())?);
    }
    Ok(kept)
}

fn make(transaction: &WriteTransaction, change: &Change) -> Result<(), redb::Error> {
    match change {
        Change::Session(client, row) => {
            transaction.open_table(SESSIONS)?.insert(client.as_str(), encode(row)?.as_slice())?;
        }
        Change::SessionGone(client) => {
            transaction.open_table(SESSIONS)?.remove(client.as_str())?;
            let all = (client.as_str(), 0)..=(client.as_str(), u64::MAX);
            transaction.open_table(OWED)?.retain_in(all, |_, _| false)?;
        }
        Change::Owed(client, number, row) => {
            transaction.open_table(OWED)?.insert((client.as_str(), *number), encode(row)?.as_slice())?;
        }
        Change::Settled(client, number) => {
            transaction.open_table(OWED)?.remove((client.as_str(), *number))?;
        }
        Change::Retained(topic, Some(row)) => {
            transaction.open_table(RETAINED)?.insert(topic.as_str(), encode(row)?.as_slice())?;
        }
        Change::Retained(topic, None) => {
            transaction.open_table(RETAINED)?.remove(topic.as_str())?;
        }
    }
    Ok(())
}

fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>, redb::Error> {
    postcard::to_allocvec(row).map_err(|_| redb::Error::Corrupted("a session can not be written".into()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, redb::Error> {
    postcard::from_bytes(bytes).map_err(|_| redb::Error::Corrupted("a session can not be read".into()))
}

/// Closes what is open; whatever that meets on its way, there is nothing left to do about it.
fn shut(state: State) {
    let _ = guarded(|| {
        drop(state);
        Ok(())
    });
}
