//! A redb file beside the segments: checked when it is opened, made whole before it gets its name.
//!
//! ```text
//!  open ─┬─ whole, ours, a format that is known ─▶ the database
//!        ├─ newer, or an I/O error ──────────────▶ refused, left as it is
//!        └─ empty, damaged, of another store ────▶ refused as damage: whoever asks decides what becomes of it
//!  make ─▶ NAME.new ─ tables and meta, durable ─▶ NAME
//! ```
//! A [`Keeper`] has one at hand for whoever keeps what the log could give again: opened when it is needed, begun anew when it is
//! damaged.
//!
//! Its table `meta` holds numbers by name, `format` and `store` among them. Limits: the check at opening reads the whole file, which
//! whoever fills it bounds. A crash leaves an unfinished file under its other name at the most, which the next one replaces.

use parking_lot::Mutex;
use redb::{Builder, Database, ReadableDatabase, StorageBackend, TableDefinition, WriteTransaction};

use super::{
    disk::Files,
    error::StoreError,
    guard::{Guarded, guarded, guarded_redb},
};

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
    pub fn open(&self, files: &Files, store: u32) -> Result<Guarded, StoreError> {
        self.open_since(self.format, files, store).map(|(db, _)| db)
    }

    /// The same, of a format from `oldest` on, which is given.
    fn open_since(&self, oldest: u64, files: &Files, store: u32) -> Result<(Guarded, u64), StoreError> {
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
            format if format < oldest || format > self.format => Err(StoreError::Format { path, format }),
            _ if owner != u64::from(store) => Err(StoreError::Stray { path }),
            _ => Ok((db, format)),
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

/// A side file that is opened when it is needed.
pub struct Keeper {
    file: SideFile,
    /// The oldest format that becomes the present one.
    oldest: u64,
    /// Makes its tables, those that are not there.
    fill: Fill,
    files: Files,
    store: u32,
    state: Mutex<State>,
}

type Fill = fn(&WriteTransaction) -> Result<(), redb::Error>;

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
    /// Of the store with this identity. Nothing is opened; `fill` makes the tables of a new one.
    pub fn new(file: SideFile, fill: Fill, files: Files, store: u32) -> Self {
        Self { file, oldest: file.format, fill, files, store, state: Mutex::new(State::Shut) }
    }

    /// One of a format from `oldest` on gets the tables that it does not have, and is of the present format then.
    pub fn reading(self, oldest: u64) -> Self {
        Self { oldest, ..self }
    }

    /// What `read` finds; `None` where nothing ever was kept, or where it was damaged, which is said and set aside.
    ///
    /// # Errors
    /// [`StoreError`]: it can not be read now, or a newer version wrote it. It is as it was.
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
            _ => self.open(),
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
            *state = State::Open(self.open_or_make()?);
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
            StoreError::disk(&self.files.path_of(self.file.name), error)
        })
    }

    /// Closes the file, for good.
    pub fn close(&self) {
        *self.state.lock() = State::Closed;
    }

    fn open(&self) -> Result<Guarded, StoreError> {
        let (db, format) = self.file.open_since(self.oldest, &self.files, self.store)?;
        if format < self.file.format {
            let path = self.files.path_of(self.file.name);
            let upgrade = || -> Result<(), redb::Error> {
                let transaction = db.get()?.begin_write()?;
                (self.fill)(&transaction)?;
                transaction.open_table(META)?.insert("format", self.file.format)?;
                Ok(transaction.commit()?)
            };
            guarded(&path, || upgrade().map_err(|error| StoreError::disk(&path, error)))?;
        }
        Ok(db)
    }

    fn open_or_make(&self) -> Result<Guarded, StoreError> {
        if self.file.is_there(&self.files)? {
            return self.open();
        }
        self.file.make(&self.files, self.store, self.fill)
    }
}

/// A number of `meta`.
///
/// # Errors
/// What redb says.
pub fn number(db: &Database, name: &str) -> Result<Option<u64>, redb::Error> {
    Ok(db.begin_read()?.open_table(META)?.get(name)?.map(|number| number.value()))
}
