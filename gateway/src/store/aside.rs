//! What an upstream can not take: kept whole, with its reason, in `state.redb`.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | number: `format`, `store` |
//! | `aside` | uplink, offset | postcard of reason, set aside at, received at (both in milliseconds since 1970), record |
//!
//! An entry is durable before its event counts as delivered, so it is never in neither place. The file also
//! carries the store's identity: a folder with it is ours.

use std::path::PathBuf;

use parking_lot::Mutex;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::{disk::Files, error::StoreError, overlay::Overlay, record::Record};

/// The file's name in the data folder.
pub const FILE: &str = "state.redb";
/// Version of the file's format.
const FORMAT: u64 = 1;
const CACHE_BYTES: usize = 512 * 1024;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const ASIDE: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("aside");

/// The events set aside.
pub struct Aside {
    path: PathBuf,
    /// `None` once closed.
    db: Mutex<Option<Database>>,
}

impl std::fmt::Debug for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aside").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Aside {
    /// Opens the file, or makes it for the store with this identity.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn open(files: &Files, store: u32) -> Result<Self, StoreError> {
        let path = files.path_of(FILE);
        let is_there = files.names()?.iter().any(|name| name == FILE);
        let disk = if is_there { files.open(FILE)? } else { files.create(FILE)? };
        let fail = |error: redb::Error| StoreError::disk(&path, error);
        let db = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(disk)
            .map_err(|error| fail(error.into()))?;
        let format = begin(&db, store).map_err(fail)?;
        if format != FORMAT {
            return Err(StoreError::Format { path, format });
        }
        files.sync()?;
        Ok(Self { path, db: Mutex::new(Some(db)) })
    }

    /// Keeps a record aside: durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: it is not kept, so it must not be released.
    pub fn put(
        &self,
        uplink: &str,
        offset: u64,
        record: &Record<'_>,
        reason: &str,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let mut bytes = Vec::with_capacity(record.size());
        record.write(&mut bytes);
        let put = |db: &Database| -> Result<(), redb::Error> {
            let value = postcard::to_allocvec(&(reason, now_ms, record.received_ms, bytes.as_slice()))
                .map_err(|error| redb::Error::Io(std::io::Error::other(error)))?;
            let transaction = db.begin_write()?;
            transaction.open_table(ASIDE)?.insert((uplink, offset), value.as_slice())?;
            transaction.commit()?;
            Ok(())
        };
        self.with(put)
    }

    /// How many records are set aside.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn count(&self) -> Result<u64, StoreError> {
        self.with(|db| Ok(db.begin_read()?.open_table(ASIDE)?.len()?))
    }

    /// Closes the file.
    pub fn close(&self) {
        *self.db.lock() = None;
    }

    fn with<T>(&self, act: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let db = self.db.lock();
        act(db.as_ref().ok_or(StoreError::Closed)?).map_err(|error| StoreError::disk(&self.path, error))
    }
}

/// The store that the file says it belongs to, if it can be read.
pub fn identity(files: &Files) -> Option<u32> {
    let overlay = Overlay::new(files.open_to_read(FILE).ok()?).ok()?;
    let db = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(overlay).ok()?;
    let store = db.begin_read().ok()?.open_table(META).ok()?.get("store").ok()??.value();
    Some(store as u32)
}

/// Writes what a new file needs, and gives the format of the file.
fn begin(db: &Database, store: u32) -> Result<u64, redb::Error> {
    let transaction = db.begin_write()?;
    let format = {
        let mut meta = transaction.open_table(META)?;
        transaction.open_table(ASIDE)?;
        let known = meta.get("format")?.map(|format| format.value());
        if known.is_none() {
            meta.insert("format", FORMAT)?;
            meta.insert("store", u64::from(store))?;
        }
        known
    };
    match format {
        Some(format) => {
            transaction.abort()?;
            Ok(format)
        }
        None => {
            transaction.commit()?;
            Ok(FORMAT)
        }
    }
}
