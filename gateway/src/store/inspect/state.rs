//! What `dead_letters.redb`, or a file like it, says of itself, read through an overlay, so that
//! nothing is written; and whether all of it can be read as the gateway would read it: its pages,
//! its format, whose it is, and every row.

use redb::{Builder, Database, ReadableDatabase, StorageBackend, TableDefinition};

use crate::store::{
    disk::{
        Files,
        guard::{PanicSafeDb, guarded},
        overlay::Overlay,
    },
    error::StoreError,
    side_file::{dead_letters, file::SideFile},
};

const CACHE_BYTES: usize = 512 * 1024;
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Says {
    /// The version of its format.
    pub format: u64,
    /// The store that it belongs to.
    pub store: u32,
    /// Where the newest segment begins that was ever made; 0 where it does not say.
    pub newest_segment: u64,
}

/// What the file of the dead letters says, with all of its pages checked.
///
/// # Errors
/// [`StoreError`]: as it was.
pub fn read(files: &Files) -> Result<Says, StoreError> {
    with(files, dead_letters::SIDE_FILE.name_in(&files.names()?).unwrap_or(dead_letters::FILE), says)
}

/// What a file says that has this name now, with all of its pages checked and every row read.
///
/// # Errors
/// [`StoreError`]: as it was. [`StoreError::Format`] where a newer program wrote it.
pub fn check(files: &Files, file: &SideFile, name: &str) -> Result<Says, StoreError> {
    let path = files.path_of(name);
    let found = with(files, name, says)?;
    match found.format {
        0 => Err(StoreError::Unreadable { path }),
        format if !(file.format_oldest..=file.format).contains(&format) => {
            Err(StoreError::Format { path, format })
        }
        _ => with(files, name, file.check_rows).map(|()| found),
    }
}

fn says(db: &Database) -> Result<Says, redb::Error> {
    let meta = db.begin_read()?.open_table(META)?;
    let number = |name: &str| -> Result<u64, redb::Error> {
        Ok(meta.get(name)?.map(|value| value.value()).unwrap_or_default())
    };
    Ok(Says {
        format: number("format")?,
        store: number("store")? as u32,
        newest_segment: number("newest_segment")?,
    })
}

/// Opens the file, checks all of its pages, and looks into it.
fn with<T>(
    files: &Files,
    name: &str,
    look: impl FnOnce(&Database) -> Result<T, redb::Error>,
) -> Result<T, StoreError> {
    let path = files.path_of(name);
    let io = |error| StoreError::io(&path, error);
    let disk = files.open_to_read(name)?;
    if disk.len().map_err(io)? == 0 {
        return Err(StoreError::Empty { path });
    }
    let overlay = Overlay::new(disk).map_err(io)?;
    let open = || -> Result<T, redb::Error> {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let db = PanicSafeDb::new(builder.create_with_backend(overlay)?);
        look(db.get()?)
    };
    guarded(&path, || open().map_err(|error| StoreError::disk(&path, error)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{OsFolder, side_file};

    const ROWS_BY_NAME: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sessions");
    const ROWS_BY_HASH: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("sets");
    const COMMANDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("commands");
    const LETTERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("dead_letters");

    /// A file of redb's that is whole, of this format, with a row of nonsense in each of the
    /// tables.
    fn make(files: &Files, name: &str, format: u64) {
        let db = Builder::new().create_with_backend(files.create(name).unwrap()).unwrap();
        let transaction = db.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert("format", format).unwrap();
        transaction.open_table(META).unwrap().insert("store", 7).unwrap();
        transaction.open_table(ROWS_BY_NAME).unwrap().insert("c", [0xff; 5].as_slice()).unwrap();
        transaction.open_table(ROWS_BY_HASH).unwrap().insert([1; 32], [0xff; 5].as_slice()).unwrap();
        transaction.open_table(COMMANDS).unwrap().insert(1, [0xff; 5].as_slice()).unwrap();
        transaction.open_table(LETTERS).unwrap().insert(1, [0xff; 5].as_slice()).unwrap();
        transaction.commit().unwrap();
    }

    #[test]
    fn a_row_that_makes_no_sense_in_a_whole_file_is_damage_and_a_newer_format_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(Arc::new(OsFolder::new(folder.path().to_owned())));
        for file in side_file::ALL {
            make(&files, file.name, file.format);
            assert_eq!(with(&files, file.name, says).unwrap().store, 7);
            assert!(check(&files, file, file.name).unwrap_err().is_damage(), "{}", file.name);
            make(&files, file.name, file.format + 1);
            let newer = check(&files, file, file.name).unwrap_err();
            assert!(matches!(newer, StoreError::Format { .. }), "{}: {newer}", file.name);
            make(&files, file.name, 0);
            assert!(check(&files, file, file.name).unwrap_err().is_damage(), "{}", file.name);
        }
    }
}
