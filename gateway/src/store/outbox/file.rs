//! Opening `commands.redb`: checked, read into memory, and put out of the way where it is damaged.
//!
//! ```text
//!  commands.redb ─┬─ whole ──────────────▶ open
//!                 ├─ newer format ───────▶ refused, left as it is
//!                 ├─ an I/O error ───────▶ refused, left as it is: tried again later
//!                 └─ damaged, not ours ──▶ commands.redb.damaged, and none
//!  missing ──────────────────────────────▶ none: the first command makes it
//! ```
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | number: `format`, `store`, `next_number` |
//! | `commands` | number | postcard of a command, see `command.rs` |
//!
//! Crash story: a new file has another name (`commands.redb.new`) until it is whole. Each change is one transaction.
//!
//! Limits: the file holds what the book may hold, and is itself up to twice as large. One damaged file is kept: the next
//! replaces it. A gateway that is sent no command has no file, so one that was taken away is not missed.

use std::collections::BTreeSet;

use redb::{Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::{
    super::{disk::Files, error::StoreError, guard::guarded},
    book::Book,
    command::Command,
};

/// The file's name in the data folder.
pub const FILE: &str = "commands.redb";
/// The name of one that is damaged.
pub const DAMAGED_FILE: &str = "commands.redb.damaged";
const NEW_FILE: &str = "commands.redb.new";
/// Version of the file's format.
const FORMAT: u64 = 1;
const CACHE_BYTES: usize = 512 * 1024;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const COMMANDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("commands");
const NEXT_NUMBER: &str = "next_number";

/// Opens the file and reads what it holds into `book`; `None` where there is none, or none any more.
///
/// # Errors
/// [`StoreError`]: the file is as it was.
pub(super) fn open(files: &Files, store: u32, book: &mut Book) -> Result<Option<Database>, StoreError> {
    if !files.names()?.iter().any(|name| name == FILE) {
        return Ok(None);
    }
    let empty = book.clone();
    match open_existing(files, store, book) {
        Ok(db) => Ok(Some(db)),
        Err(error) if error.is_damage() => {
            *book = empty;
            files.rename(FILE, DAMAGED_FILE)?;
            tracing::error!(
                file = %files.path_of(DAMAGED_FILE).display(),
                "the commands to devices are damaged and get another name: {error}; those that waited are gone, going on with none"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Makes the file: durable, under its own name, when this returns.
///
/// # Errors
/// [`StoreError`]: at most an unfinished file is there, which the next one replaces.
pub(super) fn make(files: &Files, store: u32, next_number: u64) -> Result<Database, StoreError> {
    let path = files.path_of(NEW_FILE);
    let disk = files.create(NEW_FILE)?;
    let make = || -> Result<Database, redb::Error> {
        let db = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(disk)?;
        let transaction = db.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert("format", FORMAT)?;
            meta.insert("store", u64::from(store))?;
            meta.insert(NEXT_NUMBER, next_number)?;
            transaction.open_table(COMMANDS)?;
        }
        transaction.commit()?;
        Ok(db)
    };
    let db = guarded(&path, || make().map_err(|error| StoreError::disk(&path, error)))?;
    files.rename(NEW_FILE, FILE)?;
    Ok(db)
}

/// Writes the commands of these numbers as `book` has them, in one transaction.
///
/// # Errors
/// [`StoreError`]: nobody knows what the file holds before it is opened again.
pub(super) fn write(
    files: &Files,
    db: &Database,
    book: &Book,
    numbers: &BTreeSet<u64>,
) -> Result<(), StoreError> {
    let path = files.path_of(FILE);
    let write = || -> Result<(), redb::Error> {
        let transaction = db.begin_write()?;
        {
            let mut commands = transaction.open_table(COMMANDS)?;
            for number in numbers {
                match book.numbered(*number) {
                    Some(command) => {
                        let value = postcard::to_allocvec(&**command);
                        let value = value.map_err(|error| redb::Error::Io(std::io::Error::other(error)))?;
                        commands.insert(number, value.as_slice())?;
                    }
                    None => drop(commands.remove(number)?),
                }
            }
            transaction.open_table(META)?.insert(NEXT_NUMBER, book.next_number())?;
        }
        transaction.commit()?;
        Ok(())
    };
    guarded(&path, || write().map_err(|error| StoreError::disk(&path, error)))
}

fn open_existing(files: &Files, store: u32, book: &mut Book) -> Result<Database, StoreError> {
    let path = files.path_of(FILE);
    let redb = |error: redb::Error| StoreError::disk(&path, error);
    files.settle(FILE);
    // A sync that failed when it got its name may have left the name in memory only.
    files.sync()?;
    let disk = files.open(FILE)?;
    if disk.len().map_err(|error| StoreError::io(&path, error))? == 0 {
        // redb would make an empty database of it, and say nothing.
        return Err(StoreError::Empty { path });
    }
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    let db = guarded(&path, || builder.create_with_backend(disk).map_err(|error| redb(error.into())))?;
    let [format, owner, next_number] = guarded(&path, || meta_of(&db).map_err(redb))?;
    match format {
        FORMAT => {}
        0 => return Err(StoreError::Unreadable { path }),
        format => return Err(StoreError::Format { path, format }),
    }
    if owner != u64::from(store) {
        return Err(StoreError::Stray { path });
    }
    book.skip_to(next_number);
    guarded(&path, || read(&db, book).map_err(redb))?;
    Ok(db)
}

fn meta_of(db: &Database) -> Result<[u64; 3], redb::Error> {
    let meta = db.begin_read()?.open_table(META)?;
    let number = |name| -> Result<u64, redb::Error> {
        Ok(meta.get(name)?.map(|number| number.value()).unwrap_or_default())
    };
    Ok([number("format")?, number("store")?, number(NEXT_NUMBER)?])
}

fn read(db: &Database, book: &mut Book) -> Result<(), redb::Error> {
    for entry in db.begin_read()?.open_table(COMMANDS)?.iter()? {
        let (number, value) = entry?;
        let command: Command = postcard::from_bytes(value.value())
            .map_err(|_| redb::Error::Corrupted("a command can not be read".into()))?;
        book.restore(number.value(), command);
    }
    Ok(())
}
