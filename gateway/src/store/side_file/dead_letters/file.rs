//! Opening `state.redb`: checked, migrated, and put out of the way where it is damaged.
//!
//! ```text
//!  state.redb ─┬─ whole ──────────────▶ open          (format 1 becomes format 2)
//!              ├─ newer format ───────▶ refused, left as it is
//!              ├─ an I/O error ───────▶ refused, left as it is: tried again later
//!              └─ damaged, not ours ──▶ state.redb.damaged ─┐
//!  missing ─────────────────────────────────────────────────┴▶ a new one, marked `damaged` if the store held events
//! ```
//! Format 1 had one table, `aside`: (uplink, offset) to postcard of reason, set aside at, received at, record.
//!
//! Crash story: a new file has another name (`state.redb.new`) until it is whole; a migration is one transaction. Whatever is
//! interrupted is done again from the beginning.
//!
//! Limits: the check reads the whole file, which `dead_letters_max_bytes` bounds. One damaged file is kept: the next replaces it.

use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, WriteTransaction,
};

use super::{
    letter::Letter,
    reason::ReasonCode,
    tables::{self, DAMAGED, Found, META, Tables},
};
use crate::store::{
    disk::{
        Files,
        guard::{Guarded, guarded_redb as guarded, is_damage},
        overlay::Overlay,
    },
    error::StoreError,
    record::Record,
    side_file::file::{Checked, SideFile, Size},
};

/// The file's name in the data folder.
pub const FILE: &str = "state.redb";
/// The name of one that is damaged.
pub const DAMAGED_FILE: &str = "state.redb.damaged";
const NEW_FILE: &str = "state.redb.new";
/// Version of the file's format.
const FORMAT: u64 = 2;
const FORMAT_ASIDE: u64 = 1;
const SIDE_FILE: SideFile = SideFile {
    name: FILE,
    new_name: NEW_FILE,
    damaged_name: DAMAGED_FILE,
    format: FORMAT,
    format_oldest: FORMAT,
};
/// How the file is checked where nobody has it open.
pub const CHECKED: Checked = Checked(SideFile { format_oldest: FORMAT_ASIDE, ..SIDE_FILE }, check);
const CACHE_BYTES: usize = 512 * 1024;

/// Format 1's only table beside `meta`.
const ASIDE: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("aside");

/// What is known of the store that the file belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    /// Its identity.
    pub store: u32,
    /// It has ever held an event, so there may have been dead letters.
    pub holds_events: bool,
}

/// Why a file is not opened.
enum Refusal {
    /// What it held cannot be trusted.
    Damaged(String),
    /// It is as it was.
    Error(StoreError),
}

/// The open file, what it holds, and how many letters were dropped because it held more than `max_bytes`.
pub(super) fn open(files: &Files, told: Told, max_bytes: u64) -> Result<(Guarded, Found, u64), StoreError> {
    if files.names()?.iter().any(|name| name == FILE) {
        match open_existing(files, told, max_bytes) {
            Ok(opened) => return Ok(opened),
            Err(Refusal::Error(error)) => return Err(error),
            Err(Refusal::Damaged(why)) => {
                files.rename(FILE, DAMAGED_FILE)?;
                tracing::error!(
                    file = %files.path_of(DAMAGED_FILE).display(),
                    "the dead letters are damaged and get another name: {why}; going on with none"
                );
            }
        }
    } else if told.holds_events {
        tracing::error!(file = %files.path_of(FILE).display(), "the file of the dead letters is missing: going on with none");
    }
    make(files, told)
}

fn open_existing(files: &Files, told: Told, max_bytes: u64) -> Result<(Guarded, Found, u64), Refusal> {
    let path = files.path_of(FILE);
    let judge = |error: redb::Error| match is_damage(&error) {
        true => Refusal::Damaged(error.to_string()),
        false => Refusal::Error(StoreError::disk(&path, error)),
    };
    files.settle(FILE);
    // A sync that failed when it got its name may have left the name in memory only.
    files.sync().map_err(Refusal::Error)?;
    let disk = files.open(FILE).map_err(Refusal::Error)?;
    if disk.len().map_err(|error| Refusal::Error(StoreError::io(&path, error)))? == 0 {
        // redb would make an empty database of it, and say nothing.
        return Err(Refusal::Damaged("it is empty".into()));
    }
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    let db = guarded(|| Ok(Guarded::new(builder.create_with_backend(disk)?))).map_err(judge)?;
    let (format, store) = guarded(|| meta_of(db.get()?)).map_err(judge)?;
    match format {
        Some(format) if format > FORMAT => {
            return Err(Refusal::Error(StoreError::Format { path, format }));
        }
        Some(FORMAT | FORMAT_ASIDE) => {}
        _ => return Err(Refusal::Damaged("it is not a file of dead letters".into())),
    }
    if store != u64::from(told.store) {
        return Err(Refusal::Damaged("it belongs to another store".into()));
    }
    let (found, dropped) =
        guarded(|| prepare(db.get()?, format == Some(FORMAT_ASIDE), max_bytes)).map_err(judge)?;
    let db = match tidied(files, told, db, found.bytes, &mut None) {
        Some(db) => db,
        None => SIDE_FILE.open(files, told.store).map_err(Refusal::Error)?,
    };
    Ok((db, found, dropped))
}

/// See [`SideFile::tidied`].
pub(super) fn tidied(
    files: &Files,
    told: Told,
    db: Guarded,
    held: u64,
    last: &mut Option<Size>,
) -> Option<Guarded> {
    SIDE_FILE.tidied((files, told.store), db, held, last, tables::copy)
}

/// The store that the file says it belongs to, if it can be read. Writes nothing.
pub fn identity(files: &Files) -> Option<u32> {
    let overlay = Overlay::new(files.open_to_read(FILE).ok()?).ok()?;
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    let db = guarded(|| Ok(Guarded::new(builder.create_with_backend(overlay)?))).ok()?;
    let (format, store) = guarded(|| meta_of(db.get()?)).ok()?;
    format.map(|_| store as u32)
}

fn meta_of(db: &Database) -> Result<(Option<u64>, u64), redb::Error> {
    let meta = db.begin_read()?.open_table(META)?;
    let number =
        |name| -> Result<Option<u64>, redb::Error> { Ok(meta.get(name)?.map(|number| number.value())) };
    Ok((number("format")?, number("store")?.unwrap_or_default()))
}

/// Migrates format 1, and keeps to a limit that may have been lowered. Writes only if there is something to do.
fn prepare(db: &Database, migrate: bool, max_bytes: u64) -> Result<(Found, u64), redb::Error> {
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
    let transaction = db.begin_read()?;
    if meta_of(db)?.0 == Some(FORMAT_ASIDE) {
        for entry in transaction.open_table(ASIDE)?.iter()? {
            let (key, value) = entry?;
            letter_of_old(key.value(), value.value())?;
        }
        return Ok(());
    }
    for entry in transaction.open_table(tables::LETTERS)?.iter()? {
        Letter::decode(entry?.1.value())?;
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

/// Makes the file: durable, under its own name, when this returns.
fn make(files: &Files, told: Told) -> Result<(Guarded, Found, u64), StoreError> {
    let mut found = Found::default();
    let made = SIDE_FILE.make(files, told.store, |transaction| {
        let mut tables = Tables::open(transaction)?;
        if told.holds_events {
            tables.set(DAMAGED, 1)?;
        }
        found = tables.found()?;
        Ok(())
    })?;
    Ok((made, found, 0))
}
