//! The name that the file had up to version 0.1, `state.redb`: it gets its own when it is opened.
//!
//! ```text
//!  state.redb alone ─┬─ newer format ─▶ refused, left as it is
//!                    └─ any other ────▶ dead_letters.redb, opened and checked as ever
//!  beside dead_letters.redb ─▶ its letters are put to the others, then it is removed
//! ```
//! Both are there where an older version ran in between, such as after an upgrade that was taken
//! back: it found no `state.redb` and made one. If that cannot be read, it is left where it is, and
//! the log says so at each start.
//!
//! Crash story: a rename is one step, so one of the two names is there. The letters are put in one
//! transaction, and the file is removed after it: a crash in between puts them once more, which
//! replaces them, and adds their tries a second time.

use redb::{Database, ReadableDatabase};

use super::{
    dropped::{self, Dropped},
    file::{self, FILE, FORMAT, OLD_FILE, SIDE_FILE},
    tables::{Found, META, NEWEST_SEGMENT, Tables},
};
use crate::store::{
    disk::{Files, guard::guarded},
    error::StoreError,
    side_file::{file::SideFile, lazy_db::Access},
};

/// What was called so was not yet whole.
const OLD_NEW_FILE: &str = "state.redb.new";

/// Gives the file its name if it has the old one and there is none but that.
///
/// # Errors
/// [`StoreError`]: it has one of the two names. [`StoreError::Format`]: a newer version wrote it.
pub(super) fn rename(files: &Files) -> Result<(), StoreError> {
    let names = files.names()?;
    let is_there = |name: &str| names.iter().any(|other| other == name);
    if is_there(OLD_NEW_FILE) {
        // Unfinished, and what is made from now on has another name.
        files.remove(OLD_NEW_FILE).map_err(|error| files.failed(error))?;
    }
    if !is_there(OLD_FILE) || is_there(FILE) {
        return Ok(());
    }
    if let Some((format, _)) = file::looked_at(files, OLD_FILE).filter(|(format, _)| *format > FORMAT) {
        return Err(StoreError::Format { path: files.path_of(OLD_FILE), format });
    }
    files.rename(OLD_FILE, FILE).map_err(|error| files.failed(error))?;
    tracing::info!("{OLD_FILE}, the file of the dead letters, is called {FILE} from now on");
    Ok(())
}

/// Puts the letters of an old file to those of `file`, which is open. Gives what that holds then,
/// and how many letters were dropped for want of room; `None` where there was nothing to do.
///
/// # Errors
/// [`StoreError`]: the old file is there as it was.
pub(super) fn take_over(
    files: &Files,
    store: u32,
    file: &mut Access<'_>,
    max_bytes: u64,
) -> Result<Option<(Found, u64)>, StoreError> {
    if files.names()?.iter().all(|name| name != OLD_FILE) {
        return Ok(None);
    }
    let path = files.path_of(OLD_FILE);
    let opened = SideFile { name: OLD_FILE, ..SIDE_FILE }.open(files, store).and_then(|old| {
        let look = || old.get().and_then(rest_of).map_err(|error| StoreError::disk(&path, error));
        let rest = guarded(&path, look)?;
        Ok((old, rest))
    });
    let (old, (dropped, newest_segment)) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(
                "an older version made {OLD_FILE} beside {FILE}, and the dead letters in it cannot be read: {error}; it is left as it is"
            );
            return Ok(None);
        }
    };
    let found = file.write(|transaction| {
        let mut tables = Tables::open(transaction)?;
        file::each(old.get()?, |letter| tables.put(letter, max_bytes))?;
        tables.add_dropped(&dropped)?;
        tables.note_newest_segment(newest_segment)?;
        Ok((tables.found()?, tables.dropped_now()))
    })?;
    drop(old);
    tracing::warn!(
        "an older version made {OLD_FILE} beside {FILE}: the dead letters in it are in {FILE} now"
    );
    if let Err(error) = files.remove(OLD_FILE).and_then(|()| files.sync()) {
        tracing::warn!(
            "{OLD_FILE} cannot be removed, and is taken over once more at the next start: {error}"
        );
    }
    Ok(Some(found))
}

/// What a file holds beside its letters that has to be told one day: dropped letters, and where the
/// newest segment began. Reads every letter once, because what cannot be read is left where it is.
fn rest_of(db: &Database) -> Result<(Dropped, u64), redb::Error> {
    file::each(db, |_| Ok(()))?;
    let newest_segment = db.begin_read()?.open_table(META)?.get(NEWEST_SEGMENT)?;
    let newest_segment = newest_segment.map_or(0, |first| first.value());
    let dropped = match dropped::read(db) {
        // Format 1 had none.
        Err(redb::Error::TableDoesNotExist(_)) => Dropped::default(),
        read => read?,
    };
    Ok((dropped, newest_segment))
}
