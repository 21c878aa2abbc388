//! A side file that is opened when it is needed: how its life goes, for all of them alike.
//!
//! ```text
//!          none there, or damaged: set aside, and said
//!        ┌───────────────────────────────────────────▶ absent ─ make ─┐
//!  shut ─┤ open                                                      ▼
//!   ▲    ├─ whole, and its contents make sense ────────────────────▶ open ─ tidy ─▶ open
//!   │    └─ newer, or an I/O error: refused, left as it is ─▶ shut     │
//!   └──────────────────────── any error ───────────────────────────────┘      close, from anywhere ─▶ closed
//! ```
//! redb answers no call after an error, and what a failed sync left in memory is not to be
//! believed: so after any failure the database is closed and nothing more is written through it.
//! The next operation opens the file again and checks all of it. Each open file belongs to one of
//! these, and everything that is done to it holds its lock.
//!
//! Limits: as `file.rs` says. A copy is made at most when the one before may not have helped
//! enough.

use parking_lot::{Mutex, MutexGuard};
use redb::{Database, WriteTransaction};

use super::file::{SideFile, Size};
use crate::store::{
    disk::{
        Files,
        guard::{PanicSafeDb, guarded, guarded_redb},
    },
    error::StoreError,
};

/// A side file of a store.
pub struct LazyDb {
    file: SideFile,
    files: Files,
    store: u32,
    life: Mutex<Life>,
}

struct Life {
    state: State,
    /// What the file came to when it was last made smaller.
    copied: Option<Size>,
}

enum State {
    /// Not opened yet, or closed after a failure: the next operation opens it.
    Shut,
    /// There is none: it was looked for, or set aside as damaged.
    Absent,
    Open(PanicSafeDb),
    /// For good.
    Closed,
}

/// What an attempt to open the file came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<T> {
    /// Nothing: it was open, or known not to be there.
    Already,
    /// It is open, and this is what was found in it.
    Whole(T),
    /// There is none.
    Missing,
    /// It was damaged, which was said, and has another name now.
    SetAside,
}

/// The file, for as long as nobody else has it.
pub struct Access<'a> {
    db: &'a LazyDb,
    life: MutexGuard<'a, Life>,
}

impl std::fmt::Debug for LazyDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LazyDb").field("file", &self.file.name).finish_non_exhaustive()
    }
}

impl LazyDb {
    /// The file of the store with this identity. Nothing is opened.
    pub fn new(file: SideFile, files: Files, store: u32) -> Self {
        Self { file, files, store, life: Mutex::new(Life { state: State::Shut, copied: None }) }
    }

    /// Waits until nobody else has the file.
    pub fn lock(&self) -> Access<'_> {
        Access { db: self, life: self.life.lock() }
    }

    /// The file, unless somebody else has it.
    pub fn try_lock(&self) -> Option<Access<'_>> {
        Some(Access { db: self, life: self.life.try_lock()? })
    }

    /// What `read` finds, where nothing else was read at the opening; `None` where nothing ever was
    /// kept, or where it was damaged.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be read now, or a newer version wrote it. It is as it was.
    pub fn read<T>(
        &self,
        read: impl Fn(&Database) -> Result<T, redb::Error>,
    ) -> Result<Option<T>, StoreError> {
        let mut access = self.lock();
        match access.open(&read)? {
            Opened::Whole(found) => return Ok(Some(found)),
            Opened::Already if access.is_open() => {}
            _ => return Ok(None),
        }
        match access.look(&read) {
            // Whether it is, the check at the opening says.
            Err(error) if error.is_damage() => match access.open(&read)? {
                Opened::Whole(found) => Ok(Some(found)),
                _ => Ok(None),
            },
            looked => looked.map(Some),
        }
    }

    /// Makes durable what `act` does in a transaction; makes the file if there is none. A damaged
    /// one stays where it is, because a new one would hold this change and nothing from before.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it is kept. It can be tried again.
    pub fn change(
        &self,
        act: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let mut access = self.lock();
        access.open_as(IfDamaged::Refuse, |_| Ok(()))?;
        if !access.is_open() {
            access.make(|_| Ok(()))?;
        }
        access.write(act)
    }

    /// Gives back to the disk what the file takes for nothing, if it is worth it, now that it holds
    /// so many bytes. What fails is said and left for the next time: nothing is lost.
    pub fn tidy(&self, held: u64) {
        self.lock().tidy(held);
    }

    /// Closes the file, for good.
    pub fn close(&self) {
        self.life.lock().state = State::Closed;
    }
}

/// What becomes of a damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfDamaged {
    SetAside,
    Refuse,
}

impl Access<'_> {
    /// Whether the file is open.
    pub fn is_open(&self) -> bool {
        matches!(self.life.state, State::Open(_))
    }

    /// Whether the next operation opens the file.
    pub fn is_shut(&self) -> bool {
        matches!(self.life.state, State::Shut)
    }

    /// Opens the file if it is shut, and takes up what it holds: what makes no sense in it is
    /// damage.
    ///
    /// # Errors
    /// [`StoreError`]: it is as it was, and shut.
    pub fn open<T>(
        &mut self,
        take_up: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<Opened<T>, StoreError> {
        self.open_as(IfDamaged::SetAside, take_up)
    }

    fn open_as<T>(
        &mut self,
        if_damaged: IfDamaged,
        take_up: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<Opened<T>, StoreError> {
        match self.life.state {
            State::Closed => return Err(StoreError::Closed),
            State::Open(_) | State::Absent => return Ok(Opened::Already),
            State::Shut => {}
        }
        let LazyDb { file, files, store, .. } = self.db;
        if !file.is_there(files)? {
            self.life.state = State::Absent;
            return Ok(Opened::Missing);
        }
        let path = files.path_of(file.name);
        let opened = file.open(files, *store).and_then(|db| {
            let take_up = || db.get().and_then(take_up).map_err(|error| StoreError::disk(&path, error));
            let found = guarded(&path, take_up)?;
            Ok((db, found))
        });
        match opened {
            Ok((db, found)) => {
                self.life.state = State::Open(db);
                Ok(Opened::Whole(found))
            }
            Err(error) if error.is_damage() && if_damaged == IfDamaged::SetAside => {
                file.rename_aside(files)?;
                tracing::error!(
                    file = %files.path_of(file.damaged_name).display(),
                    "damaged, it gets another name, and {} are begun anew: {error}", file.what
                );
                self.life.state = State::Absent;
                Ok(Opened::SetAside)
            }
            Err(error) => Err(files.failed(error)),
        }
    }

    /// Makes the file, with its tables and what `fill` puts into them: durable, and open, when this
    /// returns.
    ///
    /// # Errors
    /// [`StoreError`]: what is there, if anything, the next operation says.
    pub fn make<T>(
        &mut self,
        fill: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        if let State::Closed = self.life.state {
            return Err(StoreError::Closed);
        }
        let LazyDb { file, files, store, .. } = self.db;
        self.life.state = State::Shut;
        let (db, filled) = file.make(files, *store, fill).map_err(|error| files.failed(error))?;
        self.life.state = State::Open(db);
        Ok(filled)
    }

    /// As after a failure.
    #[cfg(test)]
    pub fn shut(&mut self) {
        self.life.state = State::Shut;
    }

    /// Runs `act` on the file, which is open.
    ///
    /// # Errors
    /// [`StoreError`]: it is shut.
    pub fn look<T>(
        &mut self,
        act: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let State::Open(db) = &self.life.state else { return Err(StoreError::Closed) };
        guarded_redb(|| act(db.get()?)).map_err(|error| {
            self.life.state = State::Shut;
            let LazyDb { file, files, .. } = self.db;
            files.failed(StoreError::disk(&files.path_of(file.name), error))
        })
    }

    /// Makes durable what `act` does to the file, which is open, in a transaction.
    ///
    /// # Errors
    /// [`StoreError`]: it is shut, and nobody knows whether it is done before it is opened again.
    pub fn write<T>(
        &mut self,
        act: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.look(|db| {
            let transaction = db.begin_write()?;
            let done = act(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }

    /// As [`LazyDb::tidy`].
    pub fn tidy(&mut self, held: u64) {
        if !self.is_open() {
            return;
        }
        if let State::Open(db) = std::mem::replace(&mut self.life.state, State::Shut) {
            let LazyDb { file, files, store, .. } = self.db;
            let tidied = file.tidied((files, *store), db, held, &mut self.life.copied);
            self.life.state = tidied.map_or(State::Shut, State::Open);
        }
    }

    /// The same, and opens the file again where that failed.
    ///
    /// # Errors
    /// [`StoreError`]: it is shut.
    pub fn tidy_and_open(&mut self, held: u64) -> Result<(), StoreError> {
        self.tidy(held);
        self.open(|_| Ok(())).map(drop)
    }
}
