//! What is written into a segment: its beginning, and the commits of the active one.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use redb::{Database, Table, WriteTransaction};

use super::{
    Beginning, FORMAT, Part,
    tables::{CURSORS, GAPS, IDS, JOURNAL_EPOCH, JOURNAL_OPEN, META, PENDING, ROWS, SEEN},
};
use crate::store::{
    disk::home::{Home, MARKS},
    error::StoreError,
    record::{epochs::Epochs, gaps::Gaps, pending::Pending},
};

/// A transaction in the active segment. Dropped without [`Commit::finish`], it leaves nothing.
pub struct Commit {
    transaction: WriteTransaction,
    path: PathBuf,
}

impl Commit {
    pub(super) fn new(transaction: WriteTransaction, path: PathBuf) -> Self {
        Self { transaction, path }
    }

    /// Adds rows, each with the offset of its first record.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn rows<'a>(&self, rows: impl Iterator<Item = (u64, &'a [u8])>) -> Result<(), StoreError> {
        self.with(|transaction| {
            let mut table = transaction.open_table(ROWS)?;
            for (key, row) in rows {
                table.insert(key, row)?;
            }
            Ok(())
        })
    }

    /// Replaces the cursors.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn cursors(&self, cursors: &[(String, u64)]) -> Result<(), StoreError> {
        self.with(|transaction| {
            let mut table = transaction.open_table(CURSORS)?;
            table.retain(|name, _| cursors.iter().any(|(kept, _)| kept == name))?;
            for (name, offset) in cursors {
                table.insert(name.as_str(), *offset)?;
            }
            Ok(())
        })
    }

    /// Replaces the pending QoS 2 ids of the clients that `changed` with those that are `pending`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn pending(&self, pending: &Pending, changed: &BTreeSet<Box<str>>) -> Result<(), StoreError> {
        self.with(|transaction| {
            let mut table = transaction.open_table(PENDING)?;
            for client in changed {
                match pending.ids(client) {
                    [] => drop(table.remove(&**client)?),
                    ids => drop(table.insert(&**client, &*bytes_of(ids))?),
                }
            }
            Ok(())
        })
    }

    /// Replaces what is known to be missing.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn gaps(&self, gaps: &Gaps) -> Result<(), StoreError> {
        self.with(|transaction| {
            let mut table = transaction.open_table(GAPS)?;
            table.retain(|_, _| false)?;
            for gap in gaps.iter() {
                table.insert(gap.start, gap.end)?;
            }
            Ok(())
        })
    }

    /// Notes which epochs of the journal are in segments, and which one is open.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn epochs(&self, epochs: Epochs) -> Result<(), StoreError> {
        self.with(|transaction| {
            let mut meta = transaction.open_table(META)?;
            meta.insert(JOURNAL_EPOCH, epochs.over)?;
            meta.insert(JOURNAL_OPEN, epochs.open)?;
            Ok(())
        })
    }

    /// Makes it durable: on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it may be acknowledged, and the segment takes nothing more until
    /// it is reopened.
    pub fn finish(self) -> Result<(), StoreError> {
        self.transaction.commit().map_err(|error| StoreError::disk(&self.path, error.into()))
    }

    fn with(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        change(&self.transaction).map_err(|error| StoreError::disk(&self.path, error))
    }
}

/// Takes the rows of a segment that is being made.
pub struct Filler<'t, 'p> {
    table: Table<'t, u64, &'static [u8]>,
    path: &'p Path,
}

impl Filler<'_, '_> {
    /// Adds a row, under the offset of its first record.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn row(&mut self, first: u64, row: &[u8]) -> Result<(), StoreError> {
        self.table.insert(first, row).map_err(|error| StoreError::disk(self.path, error.into()))?;
        Ok(())
    }
}

/// Writes what a new segment begins with, and its first rows, durably.
///
/// # Errors
/// [`StoreError`]: nothing of it is durable.
pub fn begin(
    db: &Database,
    path: &Path,
    beginning: &Beginning<'_>,
    home: &Home,
    fill: impl FnOnce(&mut Filler<'_, '_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let fail = |error: redb::Error| StoreError::disk(path, error);
    let transaction = db.begin_write().map_err(|error| fail(error.into()))?;
    tables(&transaction, beginning, home).map_err(fail)?;
    {
        let table = transaction.open_table(ROWS).map_err(|error| fail(error.into()))?;
        fill(&mut Filler { table, path })?;
    }
    transaction.commit().map_err(|error| fail(error.into()))
}

/// Packet ids as they are stored.
fn bytes_of(ids: &[u16]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

fn tables(transaction: &WriteTransaction, beginning: &Beginning<'_>, home: &Home) -> Result<(), redb::Error> {
    let mut meta = transaction.open_table(META)?;
    meta.insert("format", FORMAT)?;
    meta.insert("store", u64::from(beginning.store))?;
    meta.insert("first", beginning.first)?;
    meta.insert("events_before", beginning.events_before)?;
    meta.insert("bytes_before", beginning.bytes_before)?;
    let part = match beginning.part {
        Part::Whole => 0,
        Part::Salvaged => 1,
        Part::Urgent => 2,
    };
    meta.insert("part", part)?;
    meta.insert(JOURNAL_EPOCH, beginning.epochs.over)?;
    meta.insert(JOURNAL_OPEN, beginning.epochs.open)?;
    for ((name, _), mark) in MARKS.iter().zip(home.0) {
        meta.insert(*name, mark)?;
    }
    let mut ids = transaction.open_table(IDS)?;
    for (from, id) in beginning.ids.iter() {
        ids.insert(from, id)?;
    }
    let mut cursors = transaction.open_table(CURSORS)?;
    for (name, offset) in beginning.cursors {
        cursors.insert(name.as_str(), *offset)?;
    }
    let mut pending = transaction.open_table(PENDING)?;
    for (client, ids) in beginning.pending.iter() {
        pending.insert(client, &*bytes_of(ids))?;
    }
    let mut seen = transaction.open_table(SEEN)?;
    for (piece, bytes) in (0..).zip(beginning.seen) {
        seen.insert(piece, bytes.as_slice())?;
    }
    let mut gaps = transaction.open_table(GAPS)?;
    for gap in beginning.gaps.iter() {
        gaps.insert(gap.start, gap.end)?;
    }
    Ok(())
}
