//! What outlives the connections of clients, in `sessions.redb`: sessions with their subscriptions, the messages that they are owed,
//! wills, and retained messages.
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

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Serialize, de::DeserializeOwned};

pub use self::rows::{
    Change, Kept, MessageRow, OwedRow, SessionRow, StandingWillRow, SubscriptionRow, WillRow,
};
use super::{
    disk::Files,
    error::StoreError,
    side_file::{Keeper, META, SideFile, number},
};

/// The file's name in the data folder.
pub const FILE: &str = "sessions.redb";
/// The name of one that is damaged.
pub const DAMAGED_FILE: &str = "sessions.redb.damaged";
const SIDE_FILE: SideFile =
    SideFile { name: FILE, new_name: "sessions.redb.new", damaged_name: DAMAGED_FILE, format: 2 };

/// Its wills are those that wait for their delay, in the rows of their sessions.
const FORMAT_WITHOUT_WILLS: u64 = 1;

const SESSIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sessions");
const OWED: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("owed");
const WILLS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("wills");
const RETAINED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("retained");
const POSITION: &str = "position";

/// The file, opened when it is needed.
#[derive(Debug)]
pub struct SessionFile {
    keeper: Keeper,
}

impl SessionFile {
    /// The file of the store with this identity. Nothing is opened.
    pub fn new(files: Files, store: u32) -> Self {
        Self { keeper: Keeper::new(SIDE_FILE, tables, files, store).reading(FORMAT_WITHOUT_WILLS) }
    }

    /// All that is kept; `None` where nothing ever was, or where it was damaged.
    ///
    /// # Errors
    /// [`StoreError`]: it can not be read now, or a newer version wrote it. It is as it was.
    pub fn load(&self) -> Result<Option<Kept>, StoreError> {
        self.keeper.look(read)
    }

    /// Makes `changes` and the position durable, together.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it is kept. It can be tried again.
    pub fn save(&self, changes: &[Change], position: u64) -> Result<(), StoreError> {
        self.keeper.change(|transaction| {
            changes.iter().try_for_each(|change| make(transaction, change))?;
            transaction.open_table(META)?.insert(POSITION, position)?;
            Ok(())
        })
    }

    /// Closes the file, for good.
    pub fn close(&self) {
        self.keeper.close();
    }
}

/// Makes the tables of a new file, and those that one of format 1 does not have.
fn tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(SESSIONS)?;
    transaction.open_table(OWED)?;
    transaction.open_table(WILLS)?;
    transaction.open_table(RETAINED)?;
    Ok(())
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
        let row: SessionRow = decode(row.value())?;
        if let Some(WillRow { due_ms, message }) = row.will.clone() {
            kept.wills.push((client.clone(), StandingWillRow { delay_s: 0, due_ms: Some(due_ms), message }));
        }
        kept.sessions.push((client, row, messages));
    }
    for entry in transaction.open_table(WILLS)?.iter()? {
        let (client, row) = entry?;
        kept.wills.push((client.value().to_owned(), decode(row.value())?));
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
            transaction.open_table(WILLS)?.retain(|_, _| false)?;
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
        Change::Will(client, Some(row)) => {
            transaction.open_table(WILLS)?.insert(client.as_str(), encode(row)?.as_slice())?;
        }
        Change::Will(client, None) => {
            transaction.open_table(WILLS)?.remove(client.as_str())?;
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
