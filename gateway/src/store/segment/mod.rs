//! One segment: a redb file of bounded size with rows, and with what is needed to go on from it alone.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | number: `format`, `store`, `first`, `events_before`, `bytes_before` |
//! | `rows` | offset of the first record | a row (`row.rs`) |
//! | `cursors` | uplink | offset: everything before it is delivered |
//! | `pending` | client, packet id | QoS 2 ids received and not released |
//! | `seen` | piece | which frames are stored, as of the segment's beginning (`seen.rs`) |
//!
//! A commit is one transaction in the active segment, and never spans two files. A new segment begins
//! with a copy of cursors, pending ids and seen frames, so that the ones before it are needed for nothing
//! but their rows, and each can be deleted whole.
//!
//! Crash story: a segment is made under another name, synced, renamed, and the folder synced; a file
//! whose rename did not happen is deleted at the next start. An unclean stop of the active segment is
//! repaired by redb when it is opened, which reads this one file and no other.

mod tables;
mod write;

use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
};
use tables::{CURSORS, META, PENDING, ROWS, SEEN};
pub use write::Commit;

use super::{disk::Files, error::StoreError, pending::Pending, row::Block};

/// Version of the segment's format.
pub const FORMAT: u64 = 1;
/// redb's cache for the active segment, in bytes.
const WRITE_CACHE_BYTES: usize = 4 * 1024 * 1024;
/// redb's cache for a sealed segment that is being read, in bytes.
const READ_CACHE_BYTES: usize = 512 * 1024;
const SUFFIX: &str = ".redb";
const NEW_SUFFIX: &str = ".redb.new";
const PREFIX: &str = "seg-";

/// What a new segment begins with.
#[derive(Debug)]
pub struct Beginning<'a> {
    /// The store's identity.
    pub store: u32,
    /// Offset of the first record that it will hold.
    pub first: u64,
    /// Events ever stored before it.
    pub events_before: u64,
    /// Bytes of records ever stored before it.
    pub bytes_before: u64,
    /// Delivered up to, by uplink.
    pub cursors: Vec<(String, u64)>,
    /// QoS 2 ids not yet released.
    pub pending: &'a Pending,
    /// Frames stored, in pieces.
    pub seen: Vec<Vec<u8>>,
}

/// What an active segment says when it is opened.
#[derive(Debug)]
pub struct Found {
    /// As in [`Beginning`].
    pub store: u32,
    /// As in [`Beginning`].
    pub events_before: u64,
    /// As in [`Beginning`].
    pub bytes_before: u64,
    /// Delivered up to, by uplink.
    pub cursors: Vec<(String, u64)>,
    /// QoS 2 ids not yet released.
    pub pending: Pending,
    /// Frames stored before it, in pieces.
    pub seen: Vec<Vec<u8>>,
}

/// A segment, open. Readers share it with the writer.
pub struct Segment {
    path: PathBuf,
    db: Handle,
}

enum Handle {
    Writable(Database),
    Sealed(ReadOnlyDatabase),
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

/// Where the segment in a file of this name begins; `None` if it is no segment's name.
#[must_use]
pub fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// Whether a file of this name is a segment that was never finished.
#[must_use]
pub fn is_unfinished(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(NEW_SUFFIX)
}

impl Segment {
    /// Makes a segment: durable, under its final name, when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: at most an unfinished file is left, which the next start deletes.
    pub fn create(files: &Files, beginning: &Beginning<'_>) -> Result<Self, StoreError> {
        let name = name_of(beginning.first);
        let unfinished = format!("{name}.new");
        let fail = |error: redb::Error| StoreError::disk(&files.path_of(&unfinished), error);
        let disk = files.create(&unfinished)?;
        let db = Builder::new()
            .set_cache_size(WRITE_CACHE_BYTES)
            .create_with_backend(disk)
            .map_err(|error| fail(error.into()))?;
        write::begin(&db, beginning).map_err(fail)?;
        files.rename(&unfinished, &name)?;
        Ok(Self { path: files.path_of(&name), db: Handle::Writable(db) })
    }

    /// Opens the active segment, repaired if the last stop was unclean.
    ///
    /// # Errors
    /// [`StoreError`]: the file is as redb left it.
    pub fn open_active(files: &Files, name: &str) -> Result<Self, StoreError> {
        let db = open_writable(files, name, WRITE_CACHE_BYTES)?;
        Ok(Self { path: files.path_of(name), db: Handle::Writable(db) })
    }

    /// Opens a sealed segment for reading; one whose sealing was cut short is repaired.
    ///
    /// # Errors
    /// [`StoreError`]: the file is as redb left it.
    pub fn open_sealed(files: &Files, name: String) -> Result<Self, StoreError> {
        let path = files.path_of(&name);
        let disk = files.open_to_read(&name)?;
        match Builder::new().set_cache_size(READ_CACHE_BYTES).open_read_only_with_backend(disk) {
            Ok(db) => Ok(Self { path, db: Handle::Sealed(db) }),
            Err(redb::DatabaseError::RepairAborted) => {
                let db = open_writable(files, &name, READ_CACHE_BYTES)?;
                Ok(Self { path, db: Handle::Writable(db) })
            }
            Err(error) => Err(StoreError::disk(&path, error.into())),
        }
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it began with and what was changed since, without the rows.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn found(&self) -> Result<Found, StoreError> {
        let read = || -> Result<Option<Found>, redb::Error> {
            let transaction = self.begin_read()?;
            let meta = transaction.open_table(META)?;
            let number = |name: &str| -> Result<u64, redb::Error> {
                Ok(meta.get(name)?.map(|value| value.value()).unwrap_or_default())
            };
            if number("format")? != FORMAT {
                return Ok(None);
            }
            let mut found = Found {
                store: number("store")? as u32,
                events_before: number("events_before")?,
                bytes_before: number("bytes_before")?,
                cursors: Vec::new(),
                pending: Pending::default(),
                seen: Vec::new(),
            };
            for entry in transaction.open_table(CURSORS)?.iter()? {
                let (name, offset) = entry?;
                found.cursors.push((name.value().to_owned(), offset.value()));
            }
            for entry in transaction.open_table(PENDING)?.iter()? {
                let (key, _) = entry?;
                let (client, packet_id) = key.value();
                found.pending.add(client, packet_id);
            }
            for entry in transaction.open_table(SEEN)?.iter()? {
                found.seen.push(entry?.1.value().to_owned());
            }
            Ok(Some(found))
        };
        let found = read().map_err(|error| StoreError::disk(&self.path, error))?;
        found.ok_or_else(|| StoreError::Format { path: self.path.clone() })
    }

    /// Visits every row, in order.
    ///
    /// # Errors
    /// [`StoreError`], from the segment or from the visitor.
    pub fn for_each_row(&self, mut visit: impl FnMut(Block)) -> Result<(), StoreError> {
        let transaction = self.begin_read().map_err(|error| StoreError::disk(&self.path, error))?;
        let rows = || -> Result<_, redb::Error> { Ok(transaction.open_table(ROWS)?.range::<u64>(..)?) };
        for entry in rows().map_err(|error| StoreError::disk(&self.path, error))? {
            let (key, row) = entry.map_err(|error| StoreError::disk(&self.path, error.into()))?;
            visit(self.block(key.value(), row.value())?);
        }
        Ok(())
    }

    /// Rows from the one that holds `offset` on, at least one where there is one, at most about `bytes_max`.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is read.
    pub fn read(&self, offset: u64, bytes_max: usize) -> Result<Vec<Block>, StoreError> {
        let fail = |error| StoreError::disk(&self.path, error);
        let transaction = self.begin_read().map_err(fail)?;
        let table = transaction.open_table(ROWS).map_err(|error| fail(error.into()))?;
        let holding = table.range(..=offset).map_err(|error| fail(error.into()))?.next_back();
        let from = match holding {
            Some(entry) => entry.map_err(|error| fail(error.into()))?.0.value(),
            None => offset,
        };
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        for entry in table.range(from..).map_err(|error| fail(error.into()))? {
            let (key, row) = entry.map_err(|error| fail(error.into()))?;
            let block = self.block(key.value(), row.value())?;
            if block.end() <= offset {
                continue;
            }
            bytes += block.row().len();
            blocks.push(block);
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(blocks)
    }

    /// The last row, if there is any.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn last(&self) -> Result<Option<Block>, StoreError> {
        let fail = |error| StoreError::disk(&self.path, error);
        let table = self.begin_read().map_err(fail)?.open_table(ROWS).map_err(|error| fail(error.into()))?;
        let last = table.last().map_err(|error| fail(error.into()))?;
        last.map(|(key, row)| self.block(key.value(), row.value())).transpose()
    }

    /// Begins a commit; only the active segment has one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn begin_commit(&self) -> Result<Commit, StoreError> {
        let Handle::Writable(db) = &self.db else {
            return Err(StoreError::Sealed { path: self.path.clone() });
        };
        let transaction = db.begin_write().map_err(|error| StoreError::disk(&self.path, error.into()))?;
        Ok(Commit::new(transaction, self.path.clone()))
    }

    fn begin_read(&self) -> Result<ReadTransaction, redb::Error> {
        Ok(match &self.db {
            Handle::Writable(db) => db.begin_read()?,
            Handle::Sealed(db) => db.begin_read()?,
        })
    }

    fn block(&self, key: u64, row: &[u8]) -> Result<Block, StoreError> {
        Block::new(key, row.to_vec()).map_err(|cause| StoreError::Row { path: self.path.clone(), cause })
    }
}

fn open_writable(files: &Files, name: &str, cache_bytes: usize) -> Result<Database, StoreError> {
    let path = files.path_of(name);
    let disk = files.open(name)?;
    if disk.len().map_err(|error| StoreError::io(&path, error))? == 0 {
        // redb would make an empty database of it, and say nothing.
        return Err(StoreError::Empty { path });
    }
    let opened = Builder::new().set_cache_size(cache_bytes).create_with_backend(disk);
    opened.map_err(|error| StoreError::disk(&path, error.into()))
}
