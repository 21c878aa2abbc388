//! What outlives the connections of clients, in `sessions.redb`: sessions with their subscriptions,
//! the messages that they are owed, wills, and retained messages.
//!
//! ```text
//!   log ──followed──▶ the broker ──save, some seconds later──▶ sessions.redb: position, sessions, owed, retained
//!                          ▲ load at the start; the log behind `position` is followed again
//! ```
//! The log is the truth and this file is a point from which to follow it: changes and the position
//! they belong to are one transaction, so a message from the log is neither missing nor twice in
//! it, whenever the power goes. The file is made at the first start: without a position, what is
//! retained first would be missing after a power cut.
//!
//! Limits: the broker bounds the sessions, their messages and the retained ones to
//! [`held_bytes_max`]; on the disk the file takes at most [`FILE_FACTOR`] times that, and it is
//! copied into a new one when it holds much less. A file with more, of a version that did not bound
//! it, is read as far as that goes. A damaged file gets another name and a new one is begun:
//! subscribers lose their queues then, the log and the uplinks nothing.
//!
//! Versions: in format 1 the times were of the wall clock. It is read, and what is saved first then
//! says everything, in format 2.

mod rows;
#[cfg(test)]
mod tests;
mod times;

use std::collections::BTreeMap;

use parking_lot::Mutex;
use redb::{
    AccessGuard, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};
use serde::{Serialize, de::DeserializeOwned};

pub use self::rows::{
    Change, KeptSessions, MessageRow, SessionRow, StandingWillRow, SubscriptionRow, UnackedRow, WillRow,
};
use self::times::Times;
use super::{
    file::{Budget, META, SideFile, copy_table, number, row_bytes},
    lazy_db::LazyDb,
};
use crate::{
    clock::{Reading, Timeline},
    store::{disk::Files, error::StoreError},
};

/// The file's name in the data folder.
pub const FILE: &str = "sessions.redb";
/// The name of one that is damaged.
pub const DAMAGED_FILE: &str = "sessions.redb.damaged";
/// The file.
pub const SIDE_FILE: SideFile = SideFile {
    what: "the sessions of local subscribers and the retained messages",
    name: FILE,
    old_name: None,
    new_name: "sessions.redb.new",
    damaged_name: DAMAGED_FILE,
    format: 2,
    format_oldest: 1,
    make_tables,
    copy_tables,
    check_rows: check,
};

const SESSIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sessions");
const UNACKED: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("owed");
const WILLS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("wills");
const RETAINED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("retained");
const POSITION: &str = "position";

/// Times what it holds that the file may take on the disk: rows and what a transaction writes take
/// up to twice their bytes in redb's pages, and a file is left alone up to three times what it
/// holds.
pub const FILE_FACTOR: u64 = 8;
/// One part in this of the room of the store is what the file may take.
pub const STORE_PART: u64 = 4;
const BUDGET: Budget = Budget { store_part: STORE_PART * FILE_FACTOR, bytes_least: 0 };

/// Bytes that the broker may hold of what is kept in the file of a store that has so much room.
#[must_use]
pub fn held_bytes_max(store_room_bytes: u64) -> u64 {
    BUDGET.bytes(u64::MAX, store_room_bytes)
}

/// The file, opened when it is needed.
#[derive(Debug)]
pub struct SessionFile {
    db: LazyDb,
    timeline: Timeline,
    /// Bytes of its rows; `None` until they were read.
    held: Mutex<Option<u64>>,
}

impl SessionFile {
    /// The file of the store with this identity, whose times are of that timeline. Nothing is
    /// opened.
    pub fn new(files: Files, store: u32, timeline: Timeline) -> Self {
        Self { db: LazyDb::new(SIDE_FILE, files, store), timeline, held: Mutex::new(None) }
    }

    /// All that is kept; `None` where nothing ever was, or where it was damaged. If sessions are
    /// owed more than `owed_bytes_max` in all, those that are owed least get all of it, the others
    /// an equal share of what is left, and the rest is left out. `now` is the time of it, for what
    /// is kept by the wall clock alone.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be read now, or a newer version wrote it. It is as it was.
    pub fn load(&self, now: &Reading, owed_bytes_max: u64) -> Result<Option<KeptSessions>, StoreError> {
        let mut held = self.held.lock();
        let found = self.db.read(|db| read(db, owed_bytes_max))?;
        let Some((mut kept, held_bytes)) = found else {
            *held = Some(0);
            return Ok(None);
        };
        *held = Some(held_bytes);
        // A copy would be in the new format, with rows of the old one.
        if !kept.is_old {
            self.db.tidy(held_bytes);
        }
        let wall_ms = kept.is_old.then_some(now.wall_ms as u64);
        Times::new(self.timeline.present(now), wall_ms).read(&mut kept);
        Ok(Some(kept))
    }

    /// The position that was saved last; `None` as with [`SessionFile::load`].
    ///
    /// # Errors
    /// As [`SessionFile::load`].
    pub fn position(&self) -> Result<Option<u64>, StoreError> {
        self.db.read(|db| number(db, POSITION)).map(Option::flatten)
    }

    /// Makes `changes` and the position durable, together.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it is kept. It can be tried again.
    pub fn save(&self, changes: Vec<Change>, position: u64) -> Result<(), StoreError> {
        let mut held = self.held.lock();
        let mut now = *held;
        self.db.change(|transaction| {
            let times = Times::new(self.timeline.looked(), None);
            for change in changes {
                make(transaction, &times.written(change), &mut now)?;
            }
            transaction.open_table(META)?.insert(POSITION, position)?;
            Ok(())
        })?;
        *held = now;
        if let Some(held) = now {
            self.db.tidy(held);
        }
        Ok(())
    }

    /// Closes the file, for good.
    pub fn close(&self) {
        self.db.close();
    }
}

/// Makes the tables of a new file.
fn make_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(SESSIONS)?;
    transaction.open_table(UNACKED)?;
    transaction.open_table(WILLS)?;
    transaction.open_table(RETAINED)?;
    Ok(())
}

fn copy_tables(old: &ReadTransaction, new: &WriteTransaction) -> Result<(), redb::Error> {
    copy_table(old, new, SESSIONS)?;
    copy_table(old, new, UNACKED)?;
    copy_table(old, new, WILLS)?;
    copy_table(old, new, RETAINED)
}

/// Reads every row, one at a time, also of what is owed to a session that is not there.
fn check(db: &Database) -> Result<(), redb::Error> {
    let transaction = db.begin_read()?;
    for entry in transaction.open_table(SESSIONS)?.iter()? {
        decode::<SessionRow>(entry?.1.value())?;
    }
    for entry in transaction.open_table(UNACKED)?.iter()? {
        decode::<UnackedRow>(entry?.1.value())?;
    }
    if number(db, "format")?.is_some_and(|format| format >= SIDE_FILE.format) {
        for entry in transaction.open_table(WILLS)?.iter()? {
            decode::<StandingWillRow>(entry?.1.value())?;
        }
    }
    for entry in transaction.open_table(RETAINED)?.iter()? {
        decode::<MessageRow>(entry?.1.value())?;
    }
    Ok(())
}

/// What is kept, and the bytes of all rows.
fn read(db: &Database, owed_bytes_max: u64) -> Result<(KeptSessions, u64), redb::Error> {
    let transaction = db.begin_read()?;
    let position = number(db, POSITION)?.unwrap_or_default();
    let is_old = number(db, "format")?.is_some_and(|format| format < SIDE_FILE.format);
    let mut kept = KeptSessions { position, is_old, ..KeptSessions::default() };
    let owed = transaction.open_table(UNACKED)?;
    let sessions = transaction.open_table(SESSIONS)?;
    let mut wanted = BTreeMap::<String, u64>::new();
    for entry in owed.iter()? {
        let (key, row) = entry?;
        *wanted.entry(key.value().0.to_owned()).or_default() += row_bytes(row.value().len());
    }
    let mut held = wanted.values().sum();
    let share = share(wanted.into_values().collect(), owed_bytes_max);
    for entry in sessions.iter()? {
        let (client, row) = entry?;
        held += row_bytes(row.value().len());
        let client = client.value().to_owned();
        let (mut messages, mut taken) = (Vec::new(), 0);
        for entry in owed.range((client.as_str(), 0)..=(client.as_str(), u64::MAX))? {
            let (key, row) = entry?;
            let bytes = row_bytes(row.value().len());
            if taken + bytes > share {
                kept.left_out += 1;
                continue;
            }
            taken += bytes;
            messages.push((key.value().1, decode(row.value())?));
        }
        let row: SessionRow = decode(row.value())?;
        if let Some(WillRow { due_ms, message }) = row.will.clone() {
            kept.wills.push((client.clone(), StandingWillRow { delay_s: 0, due_ms: Some(due_ms), message }));
        }
        kept.sessions.push((client, row, messages));
    }
    // Format 1 has none.
    if !is_old {
        for entry in transaction.open_table(WILLS)?.iter()? {
            let (client, row) = entry?;
            held += row_bytes(row.value().len());
            kept.wills.push((client.value().to_owned(), decode(row.value())?));
        }
    }
    for entry in transaction.open_table(RETAINED)?.iter()? {
        let (_, row) = entry?;
        held += row_bytes(row.value().len());
        kept.retained.push(decode(row.value())?);
    }
    Ok((kept, held))
}

/// The most that each may have, where together they have at most `max`: who wants less leaves the
/// rest to the others.
fn share(mut wanted: Vec<u64>, max: u64) -> u64 {
    wanted.sort_unstable();
    let (mut left, mut others) = (max, wanted.len() as u64);
    for wanted in wanted {
        if wanted > left / others {
            return left / others;
        }
        left -= wanted;
        others -= 1;
    }
    u64::MAX
}

/// Makes a change, and keeps `held` right where it is known.
fn make(transaction: &WriteTransaction, change: &Change, held: &mut Option<u64>) -> Result<(), redb::Error> {
    let (mut gone, mut come) = (0, 0);
    match change {
        Change::Clear => {
            transaction.open_table(SESSIONS)?.retain(|_, _| false)?;
            transaction.open_table(UNACKED)?.retain(|_, _| false)?;
            transaction.open_table(WILLS)?.retain(|_, _| false)?;
            transaction.open_table(RETAINED)?.retain(|_, _| false)?;
            transaction.open_table(META)?.insert("format", SIDE_FILE.format)?;
            *held = Some(0);
        }
        Change::Session(client, row) => {
            let row = encode(row)?;
            come = row_bytes(row.len());
            gone = old(transaction.open_table(SESSIONS)?.insert(client.as_str(), row.as_slice())?);
        }
        Change::SessionGone(client) => {
            gone = old(transaction.open_table(SESSIONS)?.remove(client.as_str())?);
            let all = (client.as_str(), 0)..=(client.as_str(), u64::MAX);
            transaction.open_table(UNACKED)?.retain_in(all, |_, row| {
                gone += row_bytes(row.len());
                false
            })?;
        }
        Change::Unacked(client, number, row) => {
            let row = encode(row)?;
            come = row_bytes(row.len());
            gone =
                old(transaction.open_table(UNACKED)?.insert((client.as_str(), *number), row.as_slice())?);
        }
        Change::Settled(client, number) => {
            gone = old(transaction.open_table(UNACKED)?.remove((client.as_str(), *number))?);
        }
        Change::Will(client, Some(row)) => {
            let row = encode(row)?;
            come = row_bytes(row.len());
            gone = old(transaction.open_table(WILLS)?.insert(client.as_str(), row.as_slice())?);
        }
        Change::Will(client, None) => {
            gone = old(transaction.open_table(WILLS)?.remove(client.as_str())?);
        }
        Change::Retained(topic, Some(row)) => {
            let row = encode(row)?;
            come = row_bytes(row.len());
            gone = old(transaction.open_table(RETAINED)?.insert(topic.as_str(), row.as_slice())?);
        }
        Change::Retained(topic, None) => {
            gone = old(transaction.open_table(RETAINED)?.remove(topic.as_str())?);
        }
    }
    *held = held.map(|held| (held + come).saturating_sub(gone));
    Ok(())
}

/// What a row that is no more counted.
fn old(row: Option<AccessGuard<'_, &[u8]>>) -> u64 {
    row.map_or(0, |row| row_bytes(row.value().len()))
}

fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>, redb::Error> {
    postcard::to_allocvec(row).map_err(|_| redb::Error::Corrupted("a session cannot be written".into()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, redb::Error> {
    postcard::from_bytes(bytes).map_err(|_| redb::Error::Corrupted("a session cannot be read".into()))
}
