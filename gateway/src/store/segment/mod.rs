//! One segment: a redb file of bounded size with rows, and with what is needed to go on from it
//! alone.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | number: `format`, `store`, `first`, `events_before`, `bytes_before`, `part`, `journal_epoch`, `journal_open`, and where it was made (`home.rs`) |
//! | `ids` | from | what records are named after from there on (`ids.rs`) |
//! | `rows` | offset of the first record | a row (`row.rs`) |
//! | `cursors` | uplink | offset: everything before it is delivered |
//! | `pending_ids` | client | QoS 2 packet ids received and not released: each u16, little-endian, ascending |
//! | `seen` | piece | which frames are stored, as of the segment's beginning (`seen.rs`) |
//! | `gaps` | from | to: offsets that are known to be missing (`gaps.rs`) |
//!
//! A commit is one transaction in the active segment, and never spans two files; a small one is a
//! frame of the journal first (`journal/`), and `journal_epoch` says which of these are in
//! segments, `journal_open` which the journal may hold besides (`epochs.rs`). A new segment begins
//! with a copy of cursors, pending ids, seen frames and gaps, so that the ones before it are needed
//! for nothing but their rows, and each can be deleted whole.
//!
//! A file is written by one run of the gateway, from its creation to its sealing or to the first
//! error, and never again. A sealed one is opened through an [`Overlay`] with redb's check of every
//! page: whatever it needs by way of repair happens in memory, and damage shows at opening instead
//! of in the middle of reading.
//!
//! Crash story: a segment is made under another name, synced, renamed, and the folder synced; a
//! file whose rename did not happen is deleted at the next start.
//!
//! Versions: formats up to 3 had no journal beside them. Format 1 knew neither `gaps` nor `part`;
//! formats 1 and 2 neither `ids` nor where they were made, and their `pending` had a row for each
//! client and packet id. They are read, and never written.

mod read;
pub mod salvage;
mod tables;
#[cfg(test)]
mod tests;
mod write;

use std::path::PathBuf;

use redb::{Builder, Database, StorageBackend};
use serde::{Deserialize, Serialize};
pub use write::{Commit, Filler};

use super::{
    disk::{
        Files,
        guard::{PanicSafeDb, guarded},
        home::Home,
        overlay::Overlay,
    },
    error::StoreError,
    record::{epochs::Epochs, gaps::Gaps, ids::StoreIds, pending::Pending},
};

/// Version of the segment's format.
pub const FORMAT: u64 = 4;
/// The oldest that is still read.
pub const FORMAT_OLDEST: u64 = 1;
/// redb's cache for the active segment, in bytes.
const WRITE_CACHE_BYTES: usize = 4 * 1024 * 1024;
/// redb's cache for a sealed segment that is being read, in bytes.
const READ_CACHE_BYTES: usize = 512 * 1024;
const SUFFIX: &str = ".redb";
/// What the name of an unfinished file ends with.
pub const NEW_SUFFIX: &str = ".new";
const DAMAGED_SUFFIX: &str = ".damaged";
const PREFIX: &str = "seg-";

/// How much of a segment a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// All that was committed to it.
    #[default]
    Whole,
    /// The rows that could be read of a damaged one.
    Salvaged,
    /// The urgent records of one that was dropped.
    Urgent,
}

/// What a new segment begins with.
#[derive(Debug)]
pub struct Beginning<'a> {
    /// The store's identity.
    pub store: u32,
    /// What records are named after.
    pub ids: &'a StoreIds,
    /// Offset of the first record that it will hold.
    pub first: u64,
    /// Events ever stored before it.
    pub events_before: u64,
    /// Bytes of records ever stored before it.
    pub bytes_before: u64,
    /// How much of it the file holds.
    pub part: Part,
    /// Delivered up to, by uplink.
    pub cursors: &'a [(String, u64)],
    /// QoS 2 ids not yet released.
    pub pending: &'a Pending,
    /// Frames stored, in pieces.
    pub seen: &'a [Vec<u8>],
    /// What is known to be missing.
    pub gaps: &'a Gaps,
    /// Of the journal: those that are in it, or in those before it, and the one that is open.
    pub epochs: Epochs,
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Head {
    /// The version of its format.
    pub format: u64,
    /// As in [`Beginning`].
    pub store: u32,
    /// As in [`Beginning`].
    pub first: u64,
    /// As in [`Beginning`].
    pub events_before: u64,
    /// As in [`Beginning`].
    pub bytes_before: u64,
    /// As in [`Beginning`].
    pub part: Part,
    /// Where it was made.
    pub home: Home,
    /// As in [`Beginning`], or as a commit left it.
    pub epochs: Epochs,
}

/// What a segment says besides its rows.
#[derive(Debug, Default)]
pub struct Found {
    /// Of itself.
    pub head: Head,
    /// What records are named after, each from an offset on; none in older formats.
    pub ids: Vec<(u64, u32)>,
    /// Delivered up to, by uplink.
    pub cursors: Vec<(String, u64)>,
    /// QoS 2 ids not yet released.
    pub pending: Pending,
    /// Frames stored before it, in pieces.
    pub seen: Vec<Vec<u8>>,
    /// What is known to be missing.
    pub gaps: Gaps,
}

/// A segment, open. Readers share it with the writer.
pub struct Segment {
    path: PathBuf,
    db: PanicSafeDb,
    is_sealed: bool,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The file of the segment that begins at `first`.
#[must_use]
pub fn name_of(first: u64) -> String {
    format!("{PREFIX}{first:020}{SUFFIX}")
}

/// The name of a file that is being made and is not yet to be found.
#[must_use]
pub fn unfinished(name: &str) -> String {
    format!("{name}{NEW_SUFFIX}")
}

/// The name of a file that is damaged and is left alone.
#[must_use]
pub fn damaged(name: &str) -> String {
    format!("{name}{DAMAGED_SUFFIX}")
}

/// Where the segment in a file of this name begins; `None` if it is no segment's name.
#[must_use]
pub fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// The name that an unfinished file was meant to get.
#[must_use]
pub fn is_unfinished(name: &str) -> Option<&str> {
    name.strip_suffix(NEW_SUFFIX).filter(|name| name.starts_with(PREFIX))
}

/// Whether a file of this name is one that was left alone.
#[must_use]
pub fn is_damaged(name: &str) -> bool {
    name.ends_with(DAMAGED_SUFFIX)
}

impl Segment {
    /// Makes a segment with the rows that `fill` gives it, in one transaction: durable, under its
    /// final name, when this returns. It replaces one of the same name.
    ///
    /// # Errors
    /// [`StoreError`]: at most an unfinished file is left, which the next start deletes.
    pub fn create(
        files: &Files,
        beginning: &Beginning<'_>,
        fill: impl FnOnce(&mut Filler<'_, '_>) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let name = name_of(beginning.first);
        let db = Self::build(files, &unfinished(&name), beginning, fill)?;
        files.rename(&unfinished(&name), &name)?;
        Ok(Self { path: files.path_of(&name), db: PanicSafeDb::new(db), is_sealed: false })
    }

    /// Makes the file of a segment that is sealed from the start, under its unfinished name:
    /// durable and closed when this returns, and found by nobody until it is renamed.
    ///
    /// # Errors
    /// [`StoreError`]: at most an unfinished file is left.
    pub fn prepare(
        files: &Files,
        beginning: &Beginning<'_>,
        fill: impl FnOnce(&mut Filler<'_, '_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let name = unfinished(&name_of(beginning.first));
        let db = Self::build(files, &name, beginning, fill)?;
        db.close().map_err(|error| StoreError::disk(&files.path_of(&name), error.into()))
    }

    fn build(
        files: &Files,
        name: &str,
        beginning: &Beginning<'_>,
        fill: impl FnOnce(&mut Filler<'_, '_>) -> Result<(), StoreError>,
    ) -> Result<Database, StoreError> {
        let disk = files.create(name)?;
        let path = files.path_of(name);
        let home = files.home(name);
        let built = Builder::new()
            .set_cache_size(WRITE_CACHE_BYTES)
            .create_with_backend(disk)
            .map_err(|error| StoreError::disk(&path, error.into()))
            .and_then(|db| write::begin(&db, &path, beginning, &home, fill).map(|()| db));
        if built.is_err() {
            // On a full disk it may be what is in the way. What is left of it the next start
            // deletes.
            let _ = files.remove(name);
        }
        built
    }

    /// Opens the segment of `store` that begins at `first` to read from it, checked; what it needs
    /// by way of repair happens in memory.
    ///
    /// # Errors
    /// [`StoreError`]: the file is as it was. [`StoreError::is_damage`] tells damage from a disk
    /// that does not answer.
    pub fn open_sealed(files: &Files, first: u64, store: Option<u32>) -> Result<Self, StoreError> {
        let segment = Self::open_with(files, first, true)?;
        let head = segment.head()?;
        if head.first != first || store.is_some_and(|store| store != head.store) {
            return Err(StoreError::Stray { path: segment.path });
        }
        Ok(segment)
    }

    /// The same without the check, to get out of a damaged file what can be got.
    ///
    /// # Errors
    /// [`StoreError`]: the file is as it was.
    pub fn open_unchecked(files: &Files, first: u64) -> Result<Self, StoreError> {
        Self::open_with(files, first, false)
    }

    fn open_with(files: &Files, first: u64, check: bool) -> Result<Self, StoreError> {
        let name = name_of(first);
        let path = files.path_of(&name);
        let io = |error| StoreError::io(&path, error);
        let disk = files.open_to_read(&name)?;
        if disk.len().map_err(io)? == 0 {
            // redb would make an empty database of it, and say nothing.
            return Err(StoreError::Empty { path });
        }
        let overlay = Overlay::new(disk).map_err(io)?;
        let db = guarded(&path, || {
            Builder::new()
                .set_cache_size(READ_CACHE_BYTES)
                .set_check_integrity_on_open(check)
                .create_with_backend(overlay)
                .map_err(|error| StoreError::disk(&path, error.into()))
        })?;
        Ok(Self { path: path.clone(), db: PanicSafeDb::new(db), is_sealed: true })
    }

    /// Its file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default()
    }

    /// Whether it was opened to read only.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// Begins a commit; only the active segment has one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn begin_commit(&self) -> Result<Commit, StoreError> {
        if self.is_sealed {
            return Err(StoreError::Sealed { path: self.path.clone() });
        }
        let begin = || Ok(self.db.get()?.begin_write()?);
        let transaction = begin().map_err(|error| StoreError::disk(&self.path, error))?;
        Ok(Commit::new(transaction, self.path.clone()))
    }
}
