//! A redb file beside the segments: checked when it is opened, made whole before it gets its name.
//!
//! ```text
//!  open ─┬─ whole, ours, a format that is known ─▶ the database
//!        ├─ newer, or an I/O error ──────────────▶ refused, left as it is
//!        └─ empty, damaged, of another store ────▶ refused as damage: whoever asks decides what becomes of it
//!  make ─▶ NAME.new ─ tables and meta, durable ─▶ NAME
//! ```
//! Its table `meta` holds numbers by name, `format` and `store` among them. Limits: the check at opening reads the whole file, which
//! whoever fills it bounds. A crash leaves an unfinished file under its other name at the most, which the next one replaces.

use redb::{Builder, Database, ReadableDatabase, StorageBackend, TableDefinition, WriteTransaction};

use super::{disk::Files, error::StoreError, guard::guarded};

/// Numbers by name.
pub const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const CACHE_BYTES: usize = 512 * 1024;

/// What such a file is called.
#[derive(Debug, Clone, Copy)]
pub struct SideFile {
    /// In the data folder.
    pub name: &'static str,
    /// Until it is whole.
    pub new_name: &'static str,
    /// Once it is damaged.
    pub damaged_name: &'static str,
    /// Version of its format.
    pub format: u64,
}

impl SideFile {
    /// Whether it is there.
    ///
    /// # Errors
    /// [`StoreError`]: the folder can not be read.
    pub fn is_there(&self, files: &Files) -> Result<bool, StoreError> {
        Ok(files.names()?.iter().any(|name| name == self.name))
    }

    /// Opens the file of the store with this identity.
    ///
    /// # Errors
    /// [`StoreError`]: it is as it was; [`StoreError::is_damage`] says whether it can not be trusted.
    pub fn open(&self, files: &Files, store: u32) -> Result<Database, StoreError> {
        let path = files.path_of(self.name);
        files.settle(self.name);
        // A sync that failed when it got its name may have left the name in memory only.
        files.sync()?;
        let disk = files.open(self.name)?;
        if disk.len().map_err(|error| StoreError::io(&path, error))? == 0 {
            // redb would make an empty database of it, and say nothing.
            return Err(StoreError::Empty { path });
        }
        let redb = |error: redb::Error| StoreError::disk(&path, error);
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let db = guarded(&path, || builder.create_with_backend(disk).map_err(|error| redb(error.into())))?;
        let numbers = || -> Result<[u64; 2], redb::Error> {
            Ok([number(&db, "format")?.unwrap_or_default(), number(&db, "store")?.unwrap_or_default()])
        };
        let [format, owner] = guarded(&path, || numbers().map_err(redb))?;
        match format {
            0 => Err(StoreError::Unreadable { path }),
            format if format != self.format => Err(StoreError::Format { path, format }),
            _ if owner != u64::from(store) => Err(StoreError::Stray { path }),
            _ => Ok(db),
        }
    }

    /// Makes the file, with what `fill` puts into it: durable, under its own name, when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: at most an unfinished file is there.
    pub fn make(
        &self,
        files: &Files,
        store: u32,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<Database, StoreError> {
        let path = files.path_of(self.new_name);
        let disk = files.create(self.new_name)?;
        let make = || -> Result<Database, redb::Error> {
            let db = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(disk)?;
            let transaction = db.begin_write()?;
            {
                let mut meta = transaction.open_table(META)?;
                meta.insert("format", self.format)?;
                meta.insert("store", u64::from(store))?;
            }
            fill(&transaction)?;
            transaction.commit()?;
            Ok(db)
        };
        let db = guarded(&path, || make().map_err(|error| StoreError::disk(&path, error)))?;
        files.rename(self.new_name, self.name)?;
        Ok(db)
    }

    /// Puts a damaged one out of the way; one that was there before it is gone.
    ///
    /// # Errors
    /// [`StoreError`]: it is where it was.
    pub fn set_aside(&self, files: &Files) -> Result<(), StoreError> {
        files.rename(self.name, self.damaged_name)
    }
}

/// A number of `meta`.
///
/// # Errors
/// What redb says.
pub fn number(db: &Database, name: &str) -> Result<Option<u64>, redb::Error> {
    Ok(db.begin_read()?.open_table(META)?.get(name)?.map(|number| number.value()))
}
