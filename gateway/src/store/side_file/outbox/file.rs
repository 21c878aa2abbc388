//! `commands.redb`: its tables, and how the book is read from them and written to them. See
//! `lazy_db.rs` for when it is opened.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | number: `format`, `store`, `next_number` |
//! | `commands` | number | postcard of a command, see `command.rs` |
//!
//! Crash story: a new file has another name (`commands.redb.new`) until it is whole. Each change is
//! one transaction.
//!
//! Limits: the file holds what the book may hold, and is itself up to twice as large. One damaged
//! file is kept: the next replaces it. A gateway that is sent no command has no file, so one that
//! was taken away is not missed.

use std::collections::BTreeSet;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{book::Book, command::Command};
use crate::store::side_file::file::{META, SideFile, copy_table, number};

/// The file's name in the data folder.
pub const FILE: &str = "commands.redb";
/// The name of one that is damaged.
pub const DAMAGED_FILE: &str = "commands.redb.damaged";
/// The file.
pub const SIDE_FILE: SideFile = SideFile {
    what: "the commands to devices",
    name: FILE,
    old_name: None,
    new_name: "commands.redb.new",
    damaged_name: DAMAGED_FILE,
    format: 2,
    format_oldest: 1,
    make_tables: |new| new.open_table(COMMANDS).map(drop).map_err(redb::Error::from),
    copy_tables: |old, new| copy_table(old, new, COMMANDS),
    check_rows: |db| each(db, |_, _| ()),
};

const COMMANDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("commands");
const NEXT_NUMBER: &str = "next_number";

/// Fills a new file.
pub(super) fn fill(transaction: &WriteTransaction, next_number: u64) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(NEXT_NUMBER, next_number)?;
    Ok(())
}

/// Writes the commands of these numbers as `book` has them.
pub(super) fn write(
    transaction: &WriteTransaction,
    book: &Book,
    numbers: &BTreeSet<u64>,
) -> Result<(), redb::Error> {
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
    Ok(())
}

/// Reads what the file holds into `book`.
pub(super) fn read(db: &Database, book: &mut Book) -> Result<(), redb::Error> {
    book.skip_to(number(db, NEXT_NUMBER)?.unwrap_or_default());
    each(db, |number, command| book.restore(number, command))
}

/// A row; in format 1 nothing lay behind the command.
fn decode(bytes: &[u8]) -> postcard::Result<Command> {
    let (command, rest): (Command, _) = postcard::take_from_bytes(bytes)?;
    let taken_in = if rest.is_empty() { None } else { postcard::from_bytes(rest)? };
    Ok(Command { taken_in, ..command })
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
