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
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Serialize, de::DeserializeOwned};

pub use self::rows::{Change, Kept, MessageRow, OwedRow, SessionRow, SubscriptionRow, WillRow};
use super::{
    disk::Files,
    error::StoreError,
    guard::{guarded, guarded_redb},
    side_file::{META, SideFile, number},
};

/// The file's name in the data folder.
pub const FILE: &str = "sessions.redb";
/// The name of one that is damaged.
pub const DAMAGED_FILE: &str = "sessions.redb.damaged";
const SIDE_FILE: SideFile =
    SideFile { name: FILE, new_name: "sessions.redb.new", damaged_name: DAMAGED_FILE, format: 1 };

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
        if !SIDE_FILE.is_there(&self.files)? {
            return Ok(None);
        }
        let path = self.files.path_of(FILE);
        let opened = SIDE_FILE.open(&self.files, self.store).and_then(|db| {
            let kept = guarded(&path, || read(&db).map_err(|error| StoreError::disk(&path, error)))?;
            Ok((db, kept))
        });
        match opened {
            Ok((db, kept)) => {
                *state = State::Open(db);
                Ok(Some(kept))
            }
            Err(error) if error.is_damage() => {
                SIDE_FILE.set_aside(&self.files)?;
                tracing::error!(
                    file = %self.files.path_of(DAMAGED_FILE).display(),
                    "the sessions of local subscribers are damaged and get another name: {error}; going on with none"
                );
                Ok(None)
            }
            Err(error) => Err(error),
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
        let saved = guarded_redb(|| {
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
        if SIDE_FILE.is_there(&self.files)? {
            return SIDE_FILE.open(&self.files, self.store);
        }
        SIDE_FILE.make(&self.files, self.store, |transaction| {
            transaction.open_table(SESSIONS)?;
            transaction.open_table(OWED)?;
            transaction.open_table(RETAINED)?;
            Ok(())
        })
    }
}

fn read(db: &Database) -> Result<Kept, redb::Error> {
    let transaction = db.begin_read()?;
    let position = number(db, POSITION)?.unwrap_or_default();
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
        Change::Clear => {
            transaction.open_table(SESSIONS)?.retain(|_, _| false)?;
            transaction.open_table(OWED)?.retain(|_, _| false)?;
            transaction.open_table(RETAINED)?.retain(|_, _| false)?;
        }
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
    let _ = guarded_redb(|| {
        drop(state);
        Ok(())
    });
}
