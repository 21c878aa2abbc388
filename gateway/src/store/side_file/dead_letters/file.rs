//! `dead_letters.redb`: what is done when it is opened, made and checked. See `lazy_db.rs` for when
//! that is.
//!
//! ```text
//!  whole ─▶ open: format 1 becomes format 2, and what is more than may be is dropped
//!  missing, or damaged and set aside ─▶ a new one, marked `damaged` if the store held events
//! ```
//! Format 1 had one table, `aside`: (uplink, offset) to postcard of reason, set aside at, received
//! at, record.
//!
//! Crash story: a migration is one transaction. Whatever is interrupted is done again from the
//! beginning.

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{
    letter::Letter,
    reason::ReasonCode,
    tables::{self, DAMAGED, Found, META, Tables},
};
use crate::store::{
    disk::{
        Files,
        guard::{PanicSafeDb, guarded_redb as guarded},
        overlay::Overlay,
    },
    record::Record,
    side_file::file::{CACHE_BYTES, SideFile},
};

/// The file's name in the data folder.
pub const FILE: &str = "dead_letters.redb";
/// What it was called up to version 0.1.
pub const OLD_FILE: &str = "state.redb";
/// The name of one that is damaged.
pub const DAMAGED_FILE: &str = "dead_letters.redb.damaged";
/// Version of the file's format.
pub(super) const FORMAT: u64 = 2;
const FORMAT_ASIDE: u64 = 1;
/// The file.
pub const SIDE_FILE: SideFile = SideFile {
    what: "the dead letters",
    name: FILE,
    old_name: Some(OLD_FILE),
    new_name: "dead_letters.redb.new",
    damaged_name: DAMAGED_FILE,
    format: FORMAT,
    format_oldest: FORMAT_ASIDE,
    make_tables: |new| Tables::open(new).map(drop),
    copy_tables: tables::copy,
    check_rows: check,
};

/// Format 1's only table beside `meta`.
const ASIDE: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("aside");

/// The store that the file says it belongs to, if it can be read. Writes nothing.
pub fn identity(files: &Files) -> Option<u32> {
    let name = SIDE_FILE.name_in(&files.names().ok()?)?;
    looked_at(files, name).map(|(_, store)| store)
}

/// The format of the file of this name, and the store that it says it belongs to, if that can be
/// read. Writes nothing.
pub(super) fn looked_at(files: &Files, name: &str) -> Option<(u64, u32)> {
    let overlay = Overlay::new(files.open_to_read(name).ok()?).ok()?;
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    let db = guarded(|| Ok(PanicSafeDb::new(builder.create_with_backend(overlay)?))).ok()?;
    let (format, store) = guarded(|| meta_of(db.get()?)).ok()?;
    format.map(|format| (format, store as u32))
}

fn meta_of(db: &Database) -> Result<(Option<u64>, u64), redb::Error> {
    let meta = db.begin_read()?.open_table(META)?;
    let number =
        |name| -> Result<Option<u64>, redb::Error> { Ok(meta.get(name)?.map(|number| number.value())) };
    Ok((number("format")?, number("store")?.unwrap_or_default()))
}

/// Reads all of a file that was just opened, migrates format 1, and keeps to a limit that may have
/// been lowered. Writes only if there is something to do. Gives what the file holds, and how many
/// letters were dropped because it held more than `max_bytes`.
pub(super) fn prepare(db: &Database, max_bytes: u64) -> Result<(Found, u64), redb::Error> {
    let migrate = meta_of(db)?.0 == Some(FORMAT_ASIDE);
    let transaction = db.begin_write()?;
    if migrate {
        from_format_1(&transaction)?;
    }
    let (found, dropped) = {
        let mut tables = Tables::open(&transaction)?;
        tables.check()?;
        tables.make_room(max_bytes)?;
        (tables.found()?, tables.dropped_now())
    };
    if migrate || dropped > 0 {
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok((found, dropped))
}

fn from_format_1(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    {
        let old = transaction.open_table(ASIDE)?;
        let mut tables = Tables::open(transaction)?;
        for entry in old.iter()? {
            let (key, value) = entry?;
            put_old(&mut tables, key.value(), value.value())?;
        }
        tables.set("format", FORMAT)?;
    }
    transaction.delete_table(ASIDE)?;
    Ok(())
}

/// Reads every letter.
fn check(db: &Database) -> Result<(), redb::Error> {
    each(db, |_| Ok(()))
}

/// Gives every letter to `take`, the oldest first, of a file in any format.
pub(super) fn each(
    db: &Database,
    mut take: impl FnMut(&Letter<'_>) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let transaction = db.begin_read()?;
    if meta_of(db)?.0 == Some(FORMAT_ASIDE) {
        for entry in transaction.open_table(ASIDE)?.iter()? {
            let (key, value) = entry?;
            take(&letter_of_old(key.value(), value.value())?)?;
        }
        return Ok(());
    }
    for entry in transaction.open_table(tables::LETTERS)?.iter()? {
        take(&Letter::decode(entry?.1.value())?)?;
    }
    Ok(())
}

fn put_old(tables: &mut Tables<'_>, place: (&str, u64), value: &[u8]) -> Result<(), redb::Error> {
    tables.put(&letter_of_old(place, value)?, u64::MAX)
}

/// An entry of format 1 becomes a letter: it was tried once, as far as is known.
fn letter_of_old<'a>((uplink, offset): (&'a str, u64), value: &'a [u8]) -> Result<Letter<'a>, redb::Error> {
    let damaged = || redb::Error::Corrupted("an event that was set aside cannot be read".into());
    let (reason, set_aside_ms, received_ms, bytes): (&str, u64, u64, &[u8]) =
        postcard::from_bytes(value).map_err(|_| damaged())?;
    let (record, _) = Record::read(bytes, 0, received_ms).map_err(|_| damaged())?;
    let code = ReasonCode::of_old_text(reason);
    Ok(Letter { uplink, offset, code, reason, set_aside_ms, tries: 1, record })
}

/// Fills a new file. Letters are lost without the one before it if the store ever held events.
pub(super) fn fill(transaction: &WriteTransaction, holds_events: bool) -> Result<Found, redb::Error> {
    let mut tables = Tables::open(transaction)?;
    if holds_events {
        tables.set(DAMAGED, 1)?;
    }
    tables.found()
}
