//! A redb file beside the segments: checked when it is opened, made whole before it gets its name.
//!
//! ```text
//!  open ─┬─ whole, ours, a format that is known ─▶ the database
//!        ├─ newer, or an I/O error ──────────────▶ refused, left as it is
//!        └─ empty, damaged, of another store ────▶ refused as damage: whoever asks decides what becomes of it
//!  make ─▶ NAME.new ─ tables and meta, durable ─▶ NAME
//! ```
//! A [`Keeper`] has one at hand for whoever keeps what the log could give again: opened when it is needed, begun anew when it is
//! damaged, and copied into a new file when it takes several times the room of what it holds: redb gives hardly any of it back, and
//! copying costs what is held, not what is taken. Where the disk has no room for the copy, the file is made smaller where it is.
//!
//! Its table `meta` holds numbers by name, `format` and `store` among them. Limits: the check at opening reads the whole file, which
//! whoever fills it bounds; on the disk it takes up to [`SPARSE_FACTOR`] times what it holds and [`SPARSE_BYTES_MIN`], and twice what one
//! transaction writes. A crash leaves an unfinished file under its other name at the most, which the next one replaces: it is before
//! the copy, or after it.

use parking_lot::Mutex;
use redb::{
    Builder, Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, TableHandle, Value, WriteTransaction,
};

use crate::store::{
    disk::{
        Files,
        guard::{Guarded, guarded, guarded_redb},
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
    /// Whether it is worth a copy, after one that came to `last`: where that did not help, the next waits until it may.
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

/// How such a file is checked where nobody has it open (see `inspect`), with what reads every row and writes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Checked(pub SideFile, pub fn(&Database) -> Result<(), redb::Error>);

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
    /// The oldest that is still read.
    pub format_oldest: u64,
}

impl SideFile {
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
    /// [`StoreError`]: it is as it was; [`StoreError::is_damage`] says whether it cannot be trusted.
    pub fn open(&self, files: &Files, store: u32) -> Result<Guarded, StoreError> {
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
        let db = Guarded::new(db);
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

    /// Makes the file, with what `fill` puts into it: durable, under its own name, when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: the file that has the name, if there is one, is whole: the one before, or this.
    pub fn make(
        &self,
        files: &Files,
        store: u32,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<Guarded, StoreError> {
        let path = files.path_of(self.new_name);
        let disk = files.create(self.new_name)?;
        let make = || -> Result<Guarded, redb::Error> {
            let db = Guarded::new(Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(disk)?);
            let transaction = db.get()?.begin_write()?;
            {
                let mut meta = transaction.open_table(META)?;
                meta.insert("format", self.format)?;
                meta.insert("store", u64::from(store))?;
            }
            fill(&transaction)?;
            transaction.commit()?;
            Ok(db)
        };
        let made = guarded(&path, || make().map_err(|error| StoreError::disk(&path, error)));
        made.and_then(|db| files.rename(self.new_name, self.name).map(|()| db)).inspect_err(|_| {
            // What it takes may be all that a full disk had left.
            let _ = files.remove(self.new_name);
        })
    }

    /// Copies what `old` holds into a new file, which takes its place.
    ///
    /// # Errors
    /// [`StoreError`]: one of them has the name, whole. It is to be opened anew.
    pub fn copy(
        &self,
        files: &Files,
        store: u32,
        old: Guarded,
        copy: impl FnOnce(&ReadTransaction, &WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<Guarded, StoreError> {
        self.make(files, store, |new| {
            let old = old.get()?.begin_read()?;
            copy_table(&old, new, META)?;
            copy(&old, new)?;
            let copied: Vec<_> = new.list_tables()?.map(|table| table.name().to_owned()).collect();
            let left_out = old.list_tables()?.find(|table| !copied.iter().any(|name| name == table.name()));
            // One of a later version, or one that whoever lists them has forgotten: then the old file stays.
            left_out.map_or(Ok(()), |table| Err(redb::Error::TableDoesNotExist(table.name().to_owned())))
        })
    }

    /// Gives back to the disk what an open file takes for nothing, if it is worth it after a copy that came to `last`, now that it holds
    /// so many bytes. `None`: that failed, which was said, and the file is to be opened anew; nothing is lost.
    pub fn tidied(
        &self,
        (files, store): (&Files, u32),
        db: Guarded,
        held: u64,
        last: &mut Option<Size>,
        copy: impl FnOnce(&ReadTransaction, &WriteTransaction) -> Result<(), redb::Error>,
    ) -> Option<Guarded> {
        let size = || Size { used: files.used_bytes(self.name), held };
        let before = size();
        if !before.is_sparse(*last) {
            return Some(db);
        }
        let copied = self.copy(files, store, db, copy).or_else(|error| match error.is_no_space() {
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
    fn compacted(&self, files: &Files, store: u32) -> Result<Guarded, StoreError> {
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
    pub fn set_aside(&self, files: &Files) -> Result<(), StoreError> {
        files.rename(self.name, self.damaged_name)
    }
}

/// A side file that is opened when it is needed.
pub struct Keeper {
    file: SideFile,
    tables: Tables,
    files: Files,
    store: u32,
    state: Mutex<State>,
    /// After the last copy.
    copied: Mutex<Option<Size>>,
}

/// What is done to all tables of a file but `meta`.
#[derive(Clone, Copy)]
pub struct Tables {
    /// Makes them, empty.
    pub make: fn(&WriteTransaction) -> Result<(), redb::Error>,
    /// Copies them into a new file.
    pub copy: fn(&ReadTransaction, &WriteTransaction) -> Result<(), redb::Error>,
}

enum State {
    Open(Guarded),
    /// Not opened, or shut after a failure: the next operation opens it.
    Shut,
    /// For good.
    Closed,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("file", &self.file.name).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Of the store with this identity. Nothing is opened.
    pub fn new(file: SideFile, tables: Tables, files: Files, store: u32) -> Self {
        Self { file, tables, files, store, state: Mutex::new(State::Shut), copied: Mutex::new(None) }
    }

    /// What `read` finds; `None` where nothing ever was kept, or where it was damaged, which is said and set aside.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be read now, or a newer version wrote it. It is as it was.
    pub fn look<T>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<Option<T>, StoreError> {
        let mut state = self.state.lock();
        if let State::Closed = *state {
            return Err(StoreError::Closed);
        }
        if !self.file.is_there(&self.files)? {
            return Ok(None);
        }
        let path = self.files.path_of(self.file.name);
        let opened = match std::mem::replace(&mut *state, State::Shut) {
            State::Open(db) => Ok(db),
            _ => self.file.open(&self.files, self.store),
        };
        let looked = opened.and_then(|db| {
            let found =
                guarded(&path, || db.get().and_then(read).map_err(|error| StoreError::disk(&path, error)))?;
            Ok((db, found))
        });
        match looked {
            Ok((db, found)) => {
                *state = State::Open(db);
                Ok(Some(found))
            }
            Err(error) if error.is_damage() => {
                self.file.set_aside(&self.files)?;
                let aside = self.files.path_of(self.file.damaged_name);
                tracing::error!(file = %aside.display(), "damaged, it gets another name and is begun anew: {error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes durable what `act` does in a transaction; makes the file if there is none.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it is kept. It can be tried again.
    pub fn change(
        &self,
        act: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if let State::Shut = *state {
            *state = State::Open(self.open_or_make().map_err(|error| self.files.failed(error))?);
        }
        let State::Open(db) = &*state else { return Err(StoreError::Closed) };
        let saved = guarded_redb(|| {
            let transaction = db.get()?.begin_write()?;
            act(&transaction)?;
            Ok(transaction.commit()?)
        });
        saved.map_err(|error| {
            // redb answers none of the calls after an error.
            *state = State::Shut;
            self.files.failed(StoreError::disk(&self.files.path_of(self.file.name), error))
        })
    }

    /// Gives back to the disk what the file takes for nothing, if it is worth it, now that it holds so many bytes. What fails is said
    /// and left for the next time: nothing is lost.
    pub fn tidy(&self, held: u64) {
        let mut state = self.state.lock();
        if let State::Open(_) = *state
            && let State::Open(db) = std::mem::replace(&mut *state, State::Shut)
        {
            let (whose, mut last) = ((&self.files, self.store), self.copied.lock());
            *state = self
                .file
                .tidied(whose, db, held, &mut last, self.tables.copy)
                .map_or(State::Shut, State::Open);
        }
    }

    /// Closes the file, for good.
    pub fn close(&self) {
        *self.state.lock() = State::Closed;
    }

    fn open_or_make(&self) -> Result<Guarded, StoreError> {
        if self.file.is_there(&self.files)? {
            return self.file.open(&self.files, self.store);
        }
        self.file.make(&self.files, self.store, self.tables.make)
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
    use std::sync::Arc;

    use super::*;
    use crate::store::OsFolder;

    #[test]
    fn a_table_that_a_copy_would_leave_out_keeps_the_old_file() {
        const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("table");
        const FORGOTTEN: TableDefinition<'_, u64, u64> = TableDefinition::new("forgotten");
        let file =
            SideFile { name: "a", new_name: "a.new", damaged_name: "a.damaged", format: 1, format_oldest: 1 };
        let path = tempfile::tempdir().unwrap();
        let files = Files::new(Arc::new(OsFolder::new(path.path().to_owned())));
        let make = |new: &WriteTransaction| {
            new.open_table(TABLE)?;
            Ok(())
        };
        let tables = |copy| Tables { make, copy };
        let leaves_out = Keeper::new(file, tables(|old, new| copy_table(old, new, TABLE)), files.clone(), 1);
        leaves_out
            .change(|new| {
                new.open_table(TABLE)?.insert(1, vec![7; 8 << 20].as_slice())?;
                new.open_table(FORGOTTEN)?.insert(1, 2)?;
                Ok(())
            })
            .unwrap();
        let remove = |new: &WriteTransaction| {
            new.open_table(TABLE)?.remove(1)?;
            Ok(())
        };
        leaves_out.change(remove).unwrap();
        let used = files.used_bytes("a");
        let found = |keeper: &Keeper| {
            keeper.look(|db| Ok(db.begin_read()?.open_table(FORGOTTEN)?.get(1)?.map(|n| n.value())))
        };
        leaves_out.tidy(0);
        assert_eq!(found(&leaves_out).unwrap(), Some(Some(2)));
        assert!(files.used_bytes("a") >= used);
        drop(leaves_out);
        let copy = |old: &ReadTransaction, new: &WriteTransaction| {
            copy_table(old, new, TABLE).and_then(|()| copy_table(old, new, FORGOTTEN))
        };
        let all = Keeper::new(file, tables(copy), files.clone(), 1);
        assert_eq!(found(&all).unwrap(), Some(Some(2)));
        all.tidy(0);
        assert!(files.used_bytes("a") < used / 8);
        assert_eq!(found(&all).unwrap(), Some(Some(2)));
    }

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
