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

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{book::Book, command::Command};
use crate::store::{
    disk::{
        Files,
        guard::{Guarded, guarded},
    },
    error::StoreError,
    side_file::file::{Checked, META, SideFile, copy_table, number},
};

/// The file's name in the data folder.
pub const FILE: &str = "commands.redb";
/// The name of one that is damaged.
pub const DAMAGED_FILE: &str = "commands.redb.damaged";
const SIDE_FILE: SideFile = SideFile {
    name: FILE,
    new_name: "commands.redb.new",
    damaged_name: DAMAGED_FILE,
    format: 2,
    format_oldest: 1,
};

/// How the file is checked where nobody has it open.
pub const CHECKED: Checked = Checked(SIDE_FILE, |db| each(db, |_, _| ()));

const COMMANDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("commands");
const NEXT_NUMBER: &str = "next_number";

/// Opens the file and reads what it holds into `book`; `None` where there is none, or none any more.
///
/// # Errors
/// [`StoreError`]: the file is as it was.
pub(super) fn open(files: &Files, store: u32, book: &mut Book) -> Result<Option<Guarded>, StoreError> {
    if !SIDE_FILE.is_there(files)? {
        return Ok(None);
    }
    let empty = book.clone();
    match open_existing(files, store, book) {
        Ok(db) => Ok(Some(db)),
        Err(error) if error.is_damage() => {
            *book = empty;
            SIDE_FILE.set_aside(files)?;
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
pub(super) fn make(files: &Files, store: u32, next_number: u64) -> Result<Guarded, StoreError> {
    SIDE_FILE.make(files, store, |transaction| {
        transaction.open_table(META)?.insert(NEXT_NUMBER, next_number)?;
        transaction.open_table(COMMANDS)?;
        Ok(())
    })
}

/// Writes the commands of these numbers as `book` has them, in one transaction.
///
/// # Errors
/// [`StoreError`]: nobody knows what the file holds before it is opened again.
pub(super) fn write(
    files: &Files,
    db: &Guarded,
    book: &Book,
    numbers: &BTreeSet<u64>,
) -> Result<(), StoreError> {
    let path = files.path_of(FILE);
    let write = || -> Result<(), redb::Error> {
        let transaction = db.get()?.begin_write()?;
        {
            let mut commands = transaction.open_table(COMMANDS)?;
            for number in numbers {
                match book.numbered(*number) {
                    Some(command) => {
                        let value = postcard::to_allocvec(&(&**command, command.taken_in));
                        let value = value.map_err(|error| redb::Error::Io(std::io::Error::other(error)))?;
                        commands.insert(number, value.as_slice())?;
                    }
                    None => drop(commands.remove(number)?),
                }
            }
            let mut meta = transaction.open_table(META)?;
            meta.insert(NEXT_NUMBER, book.next_number())?;
            meta.insert("format", SIDE_FILE.format)?;
        }
        transaction.commit()?;
        Ok(())
    };
    guarded(&path, || write().map_err(|error| StoreError::disk(&path, error)))
}

fn open_existing(files: &Files, store: u32, book: &mut Book) -> Result<Guarded, StoreError> {
    let path = files.path_of(FILE);
    let db = SIDE_FILE.open(files, store)?;
    guarded(&path, || {
        db.get().and_then(|db| read(db, book)).map_err(|error| StoreError::disk(&path, error))
    })?;
    let copy = |old: &ReadTransaction, new: &WriteTransaction| copy_table(old, new, COMMANDS);
    match SIDE_FILE.tidied((files, store), db, book.bytes(), &mut None, copy) {
        Some(db) => Ok(db),
        None => SIDE_FILE.open(files, store),
    }
}

/// A row; in format 1 nothing lay behind the command.
fn decode(bytes: &[u8]) -> postcard::Result<Command> {
    let (command, rest): (Command, _) = postcard::take_from_bytes(bytes)?;
    let taken_in = if rest.is_empty() { None } else { postcard::from_bytes(rest)? };
    Ok(Command { taken_in, ..command })
}

fn read(db: &Database, book: &mut Book) -> Result<(), redb::Error> {
    book.skip_to(number(db, NEXT_NUMBER)?.unwrap_or_default());
    each(db, |number, command| book.restore(number, command))
}

/// Reads every command.
fn each(db: &Database, mut take: impl FnMut(u64, Command)) -> Result<(), redb::Error> {
    for entry in db.begin_read()?.open_table(COMMANDS)?.iter()? {
        let (number, value) = entry?;
        let command =
            decode(value.value()).map_err(|_| redb::Error::Corrupted("a command cannot be read".into()))?;
        take(number.value(), command);
    }
    Ok(())
}
