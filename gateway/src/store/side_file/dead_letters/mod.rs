//! Dead letters: the events that an upstream cannot take, kept whole, each with its reason, in
//! `dead_letters.redb`.
//!
//! ```text
//!  uplink ──put──▶ dead letters ──list, get──▶ whoever looks in
//!                     │    └──remove──▶ nothing, or sent again
//!                     └─ full: the oldest ──▶ dropped, counted ──▶ a gap record
//! ```
//! A dead letter is durable before its event counts as delivered, so an event is never in neither
//! place. The file also carries the store's identity: a folder with it is ours.
//!
//! Limits: `dead_letters_max_bytes` of the room that letters take in the file, which is itself up
//! to twice as large, or one part in [`STORE_PART`] of the room of the store, as configured and as
//! the disk has it, if that is less. When they are full the oldest are dropped, and a letter that
//! is larger than all of the room is dropped itself: what is behind it goes on. Where others leave
//! less of the disk, each letter that is put makes room for half as much again as it takes until
//! they fit; a start drops all that is too much. A file that takes much more than it holds is made
//! smaller by whoever put or removed the last letter.
//!
//! Failures, beside what `lazy_db.rs` says of them: in the place of a file that is damaged or
//! missing a new one is made at once, and [`DeadLetters::is_damaged`] says so until it is
//! confirmed. One that cannot be opened for another reason stays as it is and every operation tries
//! again: meanwhile nothing is set aside, and the uplinks wait.
//!
//! Crash story: what was dropped is counted in the transaction that drops it, and stays counted
//! until somebody confirms that a gap record of it is durable; a crash in between makes that record
//! twice.

mod dropped;
mod file;
mod filter;
mod letter;
mod look;
mod old_name;
mod reason;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::{Database, ReadableDatabase};

use self::tables::Tables;
pub use self::{
    dropped::{DROPPED_DEVICES_MAX, Dropped, DroppedBy},
    file::{DAMAGED_FILE, FILE, OLD_FILE, SIDE_FILE, identity},
    filter::DeadLetterFilter,
    letter::{DeadLetter, Letter, NewLetter},
    look::{DeadLetterPage, PAGE_LETTERS_MAX},
    reason::{Reason, ReasonCode},
};
use super::{
    file::Budget,
    lazy_db::{Access, LazyDb, Opened},
};
use crate::{
    store::{disk::Files, error::StoreError},
    telemetry,
};

/// One part in this of the room of the store is what letters may take; the file takes up to twice
/// that.
const STORE_PART: u64 = 8;
/// They may always take so many bytes: some letters, however small the disk is.
const BYTES_LEAST: u64 = 256 * 1024;
const BUDGET: Budget = Budget { store_part: STORE_PART, bytes_least: BYTES_LEAST };

/// The dead letters of an open store.
pub struct DeadLetters {
    file: LazyDb,
    files: Files,
    store: u32,
    /// The store has ever held an event, so there may have been dead letters.
    holds_events: bool,
    /// As configured.
    max_bytes: u64,
    /// Bytes that all files of the store may take now.
    room_bytes: AtomicU64,
    /// Where the newest segment begins; 0 where this process has made none.
    newest_segment: AtomicU64,
    letters: AtomicU64,
    bytes: AtomicU64,
    /// Dropped by this process.
    dropped: AtomicU64,
    /// Something was dropped and not confirmed.
    has_dropped: AtomicBool,
    /// Letters were lost with a damaged file, and that was not confirmed.
    is_damaged: AtomicBool,
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetters").field("file", &self.file).finish_non_exhaustive()
    }
}

impl DeadLetters {
    /// Opens the file, or makes it for the store with this identity. `holds_events` says that the
    /// store has ever held any: then a file that is missing is a loss.
    ///
    /// A file that cannot be opened now is no error: see the top of this file.
    ///
    /// # Errors
    /// [`StoreError::Format`]: a newer version wrote the file. It was left as it is.
    pub fn open(files: &Files, store: u32, holds_events: bool, max_bytes: u64) -> Result<Self, StoreError> {
        let letters = Self {
            file: LazyDb::new(SIDE_FILE, files.clone(), store),
            files: files.clone(),
            store,
            holds_events,
            max_bytes,
            room_bytes: AtomicU64::new(disk_bytes(files)),
            newest_segment: AtomicU64::new(0),
            letters: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            has_dropped: AtomicBool::new(false),
            is_damaged: AtomicBool::new(false),
        };
        let opened = {
            let (mut file, max_bytes) = (letters.file.lock(), letters.max_bytes_now());
            letters.open_in(&mut file, max_bytes).map(|()| letters.take_over(&mut file, max_bytes))
        };
        match opened {
            Ok(()) => Ok(letters),
            Err(error @ StoreError::Format { .. }) => Err(error),
            Err(error) => {
                tracing::error!(%error, "the dead letters cannot be opened: nothing is set aside until they can");
                Ok(letters)
            }
        }
    }

    /// Keeps `letters`, in one transaction: durable when this returns. One of the same place in the
    /// log is replaced, and its tries are added.
    ///
    /// # Errors
    /// [`StoreError`]: none of them is kept, so their events must not be released.
    pub fn put(&self, letters: &[Letter<'_>]) -> Result<(), StoreError> {
        let max_bytes = self.max_bytes_now();
        self.change(|tables| letters.iter().try_for_each(|letter| tables.put(letter, max_bytes)))?;
        self.file.tidy(self.bytes());
        Ok(())
    }

    /// All files of the store may take so many bytes from now on, as configured and as the disk has
    /// them.
    pub fn set_room_bytes(&self, room_bytes: u64) {
        self.room_bytes.store(room_bytes, Ordering::Relaxed);
    }

    /// What letters may take now.
    fn max_bytes_now(&self) -> u64 {
        max_bytes(self.max_bytes, self.room_bytes.load(Ordering::Relaxed))
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.letters.load(Ordering::Relaxed)
    }

    /// Their bytes, as they count against the limit.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether letters were lost with a damaged or missing file, and nobody has confirmed it yet.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    /// A gap record of the damage is durable.
    ///
    /// # Errors
    /// [`StoreError`]: it stays unconfirmed.
    pub fn confirm_damaged(&self) -> Result<(), StoreError> {
        self.change(|tables| tables.confirm_damaged())
    }

    /// Notes where the newest segment begins: should its file be gone one day, that is how it is
    /// known. While somebody else has the file, nobody waits for it: the next change notes it.
    ///
    /// # Errors
    /// [`StoreError`]: it is not noted.
    pub fn note_newest_segment(&self, first: u64) -> Result<(), StoreError> {
        self.newest_segment.store(first, Ordering::Relaxed);
        match self.file.try_lock() {
            Some(mut file) => self.change_in(&mut file, |_| Ok(())),
            None => Ok(()),
        }
    }

    /// Where the newest segment began that was noted; 0 where nothing can be told.
    pub fn newest_segment(&self) -> u64 {
        let newest = self.with(|db| {
            Ok(db
                .begin_read()?
                .open_table(tables::META)?
                .get(tables::NEWEST_SEGMENT)?
                .map(|first| first.value()))
        });
        newest.ok().flatten().unwrap_or_default()
    }

    /// What was dropped to make room and nobody has confirmed yet. Reads the disk only if there is
    /// something; while somebody else has the file, nobody waits for it, and there is nothing yet.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn take_dropped(&self) -> Result<Option<Dropped>, StoreError> {
        match self.file.try_lock() {
            Some(mut file) if self.has_dropped.load(Ordering::Relaxed) => {
                self.open_in(&mut file, self.max_bytes)?;
                file.look(dropped::read).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A gap record of `dropped` is durable: what was dropped since it was taken stays.
    ///
    /// # Errors
    /// [`StoreError`]: it stays unconfirmed.
    pub fn confirm_dropped(&self, dropped: &Dropped) -> Result<(), StoreError> {
        self.change(|tables| tables.confirm_dropped(dropped))
    }

    /// Closes the file, for good.
    pub fn close(&self) {
        self.file.close();
    }

    /// Changes something in a transaction of its own.
    fn change<T>(
        &self,
        act: impl FnOnce(&mut Tables<'_>) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.change_in(&mut self.file.lock(), act)
    }

    fn change_in<T>(
        &self,
        file: &mut Access<'_>,
        act: impl FnOnce(&mut Tables<'_>) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.open_in(file, self.max_bytes)?;
        let (done, after, dropped) = file.write(|transaction| {
            let mut tables = Tables::open(transaction)?;
            let done = act(&mut tables)?;
            tables.note_newest_segment(self.newest_segment.load(Ordering::Relaxed))?;
            Ok((done, tables.found()?, tables.dropped_now()))
        })?;
        self.note(&after);
        self.note_dropped(dropped);
        Ok(done)
    }

    /// Looks at the file.
    fn with<T>(&self, act: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let mut file = self.file.lock();
        // What is shut after a failure, on a disk that may be full for a moment only, loses nothing
        // by it.
        self.open_in(&mut file, self.max_bytes)?;
        file.look(act)
    }

    /// Opens the file if it is shut, and drops what is more than `max_bytes`; makes one if there is
    /// none.
    fn open_in(&self, file: &mut Access<'_>, max_bytes: u64) -> Result<(), StoreError> {
        if file.is_shut() {
            old_name::rename(&self.files)?;
        }
        match file.open(|db| file::prepare(db, max_bytes))? {
            Opened::Whole((found, dropped)) => {
                self.note(&found);
                self.note_dropped(dropped);
                file.tidy_and_open(found.bytes)?;
            }
            Opened::Missing if self.holds_events => {
                tracing::error!(file = FILE, "the file of the dead letters is missing: going on with none");
            }
            Opened::Already | Opened::Missing | Opened::SetAside => {}
        }
        if !file.is_open() {
            self.note(&file.make(|transaction| file::fill(transaction, self.holds_events))?);
        }
        Ok(())
    }

    /// Takes the letters of a file of the old name, once in a process: a file that cannot be taken
    /// over, or not be removed, stays for the next start.
    fn take_over(&self, file: &mut Access<'_>, max_bytes: u64) {
        match old_name::take_over(&self.files, self.store, file, max_bytes) {
            Ok(None) => {}
            Ok(Some((found, dropped))) => {
                self.note(&found);
                self.note_dropped(dropped);
            }
            Err(error) => tracing::error!(
                "an older version made {OLD_FILE} beside {FILE}, and its dead letters cannot be taken over: {error}; it is left as it is"
            ),
        }
    }

    fn note(&self, found: &tables::Found) {
        self.letters.store(found.letters, Ordering::Relaxed);
        self.bytes.store(found.bytes, Ordering::Relaxed);
        self.has_dropped.store(found.has_dropped, Ordering::Relaxed);
        self.is_damaged.store(found.is_damaged, Ordering::Relaxed);
    }

    /// Counts what was dropped, and says so at the 1st, 2nd, 4th, 8th …
    fn note_dropped(&self, dropped: u64) {
        if dropped == 0 {
            return;
        }
        metrics::counter!(telemetry::DEAD_LETTERS_DROPPED).increment(dropped);
        let before = self.dropped.fetch_add(dropped, Ordering::Relaxed);
        let after = before + dropped;
        if before.checked_ilog2() != after.checked_ilog2() {
            tracing::warn!(
                dropped = after,
                max_bytes = self.max_bytes_now(),
                "the dead letters are full: the oldest are dropped; see \"tidegate dead-letters\", or raise dead_letters_max_bytes or the room of the store"
            );
        }
    }
}

/// Bytes that letters may take in a store that has so much room.
#[must_use]
pub fn max_bytes(configured: u64, room_bytes: u64) -> u64 {
    BUDGET.bytes(configured, room_bytes)
}

/// What the disk has for the store: what its files take, and what is free.
fn disk_bytes(files: &Files) -> u64 {
    let used = files.names().unwrap_or_default().iter().map(|name| files.used_bytes(name)).sum::<u64>();
    used.saturating_add(files.available_bytes())
}
