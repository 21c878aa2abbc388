//! A redb file beside the segments: checked when it is opened, made whole before it gets its name.
//!
//! ```text
//!  open ─┬─ whole, ours, a format that is known ─▶ the database
//!        ├─ newer, or an I/O error ──────────────▶ refused, left as it is
//!        └─ empty, damaged, of another store ────▶ refused as damage: whoever asks decides what becomes of it
//!  make ─▶ NAME.new ─ tables and meta, durable ─▶ NAME
//! ```
//! It is copied into a new file when it takes several times the room of what it holds: redb gives
//! hardly any of it back, and copying costs what is held, not what is taken. Where the disk has no
//! room for the copy, the file is made smaller where it is. When it is opened and closed, and what
//! follows from a failure, is in `lazy_db.rs`.
//!
//! Its table `meta` holds numbers by name, `format` and `store` among them. Limits: the check at
//! opening reads the whole file, which whoever fills it bounds; on the disk it takes up to
//! [`SPARSE_FACTOR`] times what it holds and [`SPARSE_BYTES_MIN`], and twice what one transaction
//! writes. A crash leaves an unfinished file under its other name at the most, which the next one
//! replaces: it is before the copy, or after it.

use redb::{
    Builder, Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, TableHandle, Value, WriteTransaction,
};

use crate::store::{
    disk::{
        Files,
        guard::{PanicSafeDb, guarded},
    },
    error::StoreError,
};

/// Numbers by name.
pub const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Of each such file's database.
pub const CACHE_BYTES: usize = 512 * 1024;
/// A file that takes fewer bytes than this is left as it is, however little it holds.
pub const SPARSE_BYTES_MIN: u64 = 1024 * 1024;
/// A file that takes more than so many times what it holds is copied into a new one.
pub const SPARSE_FACTOR: u64 = 3;
/// What a row takes beside its value, in bytes: its key, and its share of the pages.
const ROW_BYTES: u64 = 64;

/// What a file takes on the disk and what it holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    used: u64,
    held: u64,
}

impl Size {
    /// Whether it is worth a copy, after one that came to `last`: where that did not help, the next
    /// waits until it may.
    fn is_sparse(self, last: Option<Size>) -> bool {
        let may_help = |last: Size| self.used > last.used.saturating_mul(2) || self.held < last.held / 2;
        self.used > SPARSE_BYTES_MIN.saturating_add(self.held.saturating_mul(SPARSE_FACTOR))
            && last.is_none_or(may_help)
    }
}

/// What a row with a value of this length counts.
#[must_use]
pub fn row_bytes(value_bytes: usize) -> u64 {
    value_bytes as u64 + ROW_BYTES
}

/// What is one file's own: what it is called, and what is in it.
#[derive(Debug, Clone, Copy)]
pub struct SideFile {
    /// What it holds, in a message.
    pub what: &'static str,
    /// In the data folder.
    pub name: &'static str,
    /// What earlier versions called it, if they called it otherwise.
    pub old_name: Option<&'static str>,
    /// Until it is whole.
    pub new_name: &'static str,
    /// Once it is damaged.
    pub damaged_name: &'static str,
    /// Version of its format.
    pub format: u64,
    /// The oldest that is still read.
    pub format_oldest: u64,
    /// Makes its tables, empty, but for `meta`.
    pub make_tables: fn(&WriteTransaction) -> Result<(), redb::Error>,
    /// Copies all tables but `meta` into a new file.
    pub copy_tables: fn(&ReadTransaction, &WriteTransaction) -> Result<(), redb::Error>,
    /// Reads every row and writes nothing: how it is checked where nobody has it open (see
    /// `inspect`).
    pub check_rows: fn(&Database) -> Result<(), redb::Error>,
}

/// What part of the room of the store the contents of a side file get.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// One part in this.
    pub store_part: u64,
    /// So many bytes at least, however small the store is.
    pub bytes_least: u64,
}

impl Budget {
    /// Bytes that the contents may take in a store that has so much room, where `bytes_max` is the
    /// most in any.
    #[must_use]
    pub fn bytes(self, bytes_max: u64, store_room_bytes: u64) -> u64 {
        bytes_max.min((store_room_bytes / self.store_part).max(self.bytes_least))
    }
}

impl SideFile {
    /// Whether a file of this name is it, under its own name or the old one.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        name == self.name || self.old_name == Some(name)
    }

    /// The name that it has among these, its own first.
    #[must_use]
    pub fn name_in(&self, names: &[String]) -> Option<&'static str> {
        [Some(self.name), self.old_name]
            .into_iter()
            .flatten()
            .find(|own| names.iter().any(|name| name == own))
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// [`StoreError`]: the folder cannot be read.
    pub fn is_there(&self, files: &Files) -> Result<bool, StoreError> {
        Ok(files.names()?.iter().any(|name| name == self.name))
    }

    /// Opens the file of the store with this identity.
    ///
    /// # Errors
    /// [`StoreError`]: it is as it was; [`StoreError::is_damage`] says whether it cannot be
    /// trusted.
    pub fn open(&self, files: &Files, store: u32) -> Result<PanicSafeDb, StoreError> {
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
        let db = PanicSafeDb::new(db);
        let numbers = || -> Result<[u64; 2], redb::Error> {
            let number = |name| Ok::<_, redb::Error>(number(db.get()?, name)?.unwrap_or_default());
            Ok([number("format")?, number("store")?])
        };
        let [format, owner] = guarded(&path, || numbers().map_err(redb))?;
        match format {
            0 => Err(StoreError::Unreadable { path }),
            format if !(self.format_oldest..=self.format).contains(&format) => {
                Err(StoreError::Format { path, format })
            }
            _ if owner != u64::from(store) => Err(StoreError::Stray { path }),
            _ => Ok(db),
        }
    }

    /// Makes the file, with its tables and what `fill` puts into them: durable, under its own name,
    /// when this returns. Gives what `fill` gives.
    ///
    /// # Errors
    /// [`StoreError`]: the file that has the name, if there is one, is whole: the one before, or
    /// this.
    pub fn make<T>(
        &self,
        files: &Files,
        store: u32,
        fill: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<(PanicSafeDb, T), StoreError> {
        self.make_with(files, store, |transaction| {
            (self.make_tables)(transaction)?;
            fill(transaction)
        })
    }

    fn make_with<T>(
        &self,
        files: &Files,
        store: u32,
        fill: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<(PanicSafeDb, T), StoreError> {
        let path = files.path_of(self.new_name);
        let disk = files.create(self.new_name)?;
        let make = || -> Result<(PanicSafeDb, T), redb::Error> {
            let db = PanicSafeDb::new(Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(disk)?);
            let transaction = db.get()?.begin_write()?;
            {
                let mut meta = transaction.open_table(META)?;
                meta.insert("format", self.format)?;
                meta.insert("store", u64::from(store))?;
            }
            let filled = fill(&transaction)?;
            transaction.commit()?;
            Ok((db, filled))
        };
        let made = guarded(&path, || make().map_err(|error| StoreError::disk(&path, error)));
        made.and_then(|made| files.rename(self.new_name, self.name).map(|()| made)).inspect_err(|_| {
            // What it takes may be all that a full disk had left.
            let _ = files.remove(self.new_name);
        })
    }

    /// Copies what `old` holds into a new file, which takes its place.
    ///
    /// # Errors
    /// [`StoreError`]: one of them has the name, whole. It is to be opened anew.
    fn copied(&self, files: &Files, store: u32, old: PanicSafeDb) -> Result<PanicSafeDb, StoreError> {
        let made = self.make_with(files, store, move |new| {
            let old = old.get()?.begin_read()?;
            copy_table(&old, new, META)?;
            (self.copy_tables)(&old, new)?;
            let copied: Vec<_> = new.list_tables()?.map(|table| table.name().to_owned()).collect();
            let left_out = old.list_tables()?.find(|table| !copied.iter().any(|name| name == table.name()));
            // One of a later version, or one that whoever lists them has forgotten: then the old
            // file stays.
            left_out.map_or(Ok(()), |table| Err(redb::Error::TableDoesNotExist(table.name().to_owned())))
        })?;
        Ok(made.0)
    }

    /// Gives back to the disk what an open file takes for nothing, if it is worth it after a copy
    /// that came to `last`, now that it holds so many bytes. `None`: that failed, which was said,
    /// and the file is to be opened anew; nothing is lost.
    pub fn tidied(
        &self,
        (files, store): (&Files, u32),
        db: PanicSafeDb,
        held: u64,
        last: &mut Option<Size>,
    ) -> Option<PanicSafeDb> {
        let size = || Size { used: files.used_bytes(self.name), held };
        let before = size();
        if !before.is_sparse(*last) {
            return Some(db);
        }
        let copied = self.copied(files, store, db).or_else(|error| match error.is_no_space() {
            true => self.compacted(files, store),
            false => Err(error),
        });
        match copied {
            Ok(new) => {
                let now = size();
                *last = Some(now);
                tracing::debug!(file = self.name, before = before.used, now = now.used, "takes less now");
                Some(new)
            }
            Err(error) => {
                *last = Some(before);
                let error = files.failed(error);
                if !matches!(error, StoreError::Closed) {
                    tracing::warn!(file = self.name, "takes more room than it needs, for now: {error}");
                }
                None
            }
        }
    }

    /// Makes the file itself smaller, page by page, where the disk has no room for a copy.
    fn compacted(&self, files: &Files, store: u32) -> Result<PanicSafeDb, StoreError> {
        let mut db = self.open(files, store)?;
        let path = files.path_of(self.name);
        guarded(&path, || {
            let done = db.get_mut().and_then(|db| Ok(db.compact()?));
            done.map_err(|error| StoreError::disk(&path, error))
        })?;
        Ok(db)
    }

    /// Puts a damaged one out of the way; one that was there before it is gone.
    ///
    /// # Errors
    /// [`StoreError`]: it is where it was.
    pub fn rename_aside(&self, files: &Files) -> Result<(), StoreError> {
        files.rename(self.name, self.damaged_name)
    }
}

/// Copies a table.
///
/// # Errors
/// What redb says.
pub fn copy_table<K: Key + 'static, V: Value + 'static>(
    old: &ReadTransaction,
    new: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), redb::Error> {
    let mut to = new.open_table(table)?;
    for row in old.open_table(table)?.iter()? {
        let (key, value) = row?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// A number of `meta`.
///
/// # Errors
/// What redb says.
pub fn number(db: &Database, name: &str) -> Result<Option<u64>, redb::Error> {
    Ok(db.begin_read()?.open_table(META)?.get(name)?.map(|number| number.value()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_copied_when_it_takes_much_more_than_it_holds_and_not_again_before_that_may_help() {
        const MIB: u64 = 1 << 20;
        let size = |used, held| Size { used: used * MIB, held: held * MIB };
        for (now, last, is_sparse) in [
            (size(1, 0), None, false),
            (size(2, 0), None, true),
            (size(4, 1), None, false),
            (size(5, 1), None, true),
            (size(200, 60), None, true),
            (size(180, 60), None, false),
            // A copy brought nothing, and what there is stays.
            (size(5, 1), Some(size(5, 1)), false),
            (size(10, 1), Some(size(5, 1)), false),
            (size(11, 1), Some(size(5, 1)), true),
            (size(40, 4), Some(size(30, 10)), true),
            (size(40, 6), Some(size(30, 10)), false),
        ] {
            assert_eq!(now.is_sparse(last), is_sparse, "{now:?} after {last:?}");
        }
    }
}
