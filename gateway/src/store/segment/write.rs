//! What is written into a segment: its beginning, and the commits of the active one.

use std::path::PathBuf;

use redb::{Database, WriteTransaction};

use super::{
    Beginning, FORMAT,
    tables::{CURSORS, META, PENDING, ROWS, SEEN},
};
use crate::store::error::StoreError;

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

    /// Adds (`true`) or removes (`false`) pending QoS 2 ids.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn pending(&self, changes: &[(Box<str>, u16, bool)]) -> Result<(), StoreError> {
        self.with(|transaction| {
            let mut table = transaction.open_table(PENDING)?;
            for (client, packet_id, added) in changes {
                if *added {
                    table.insert((&**client, *packet_id), ())?;
                } else {
                    table.remove((&**client, *packet_id))?;
                }
            }
            Ok(())
        })
    }

    /// Makes it durable: on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it may be acknowledged, and the segment takes nothing more until it is reopened.
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

/// Writes what a new segment begins with, durably.
///
/// # Errors
/// redb's.
pub fn begin(db: &Database, beginning: &Beginning<'_>) -> Result<(), redb::Error> {
    let transaction = db.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("store", u64::from(beginning.store))?;
        meta.insert("first", beginning.first)?;
        meta.insert("events_before", beginning.events_before)?;
        meta.insert("bytes_before", beginning.bytes_before)?;
        transaction.open_table(ROWS)?;
        let mut cursors = transaction.open_table(CURSORS)?;
        for (name, offset) in &beginning.cursors {
            cursors.insert(name.as_str(), *offset)?;
        }
        let mut pending = transaction.open_table(PENDING)?;
        for (client, packet_id) in beginning.pending.all() {
            pending.insert((client, packet_id), ())?;
        }
        let mut seen = transaction.open_table(SEEN)?;
        for (piece, bytes) in (0..).zip(&beginning.seen) {
            seen.insert(piece, bytes.as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(())
}
