//! What `state.redb`, or a file like it, says of itself, read through an overlay.
//!
//! It looks at the file's pages, its format and whose it is, not at what the file is for.

use redb::{Builder, ReadableDatabase, StorageBackend, TableDefinition};

use super::super::{disk::Files, error::StoreError, guard::guarded, overlay::Overlay};

/// The file's name in the data folder.
pub const FILE: &str = "state.redb";
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

/// Opens the file of this name, checks all of its pages, and reads what it says.
///
/// # Errors
/// [`StoreError`]: as it was.
pub fn read(files: &Files, name: &str) -> Result<Says, StoreError> {
    let path = files.path_of(name);
    let io = |error| StoreError::io(&path, error);
    let disk = files.open_to_read(name)?;
    if disk.len().map_err(io)? == 0 {
        return Err(StoreError::Empty { path });
    }
    let overlay = Overlay::new(disk).map_err(io)?;
    let look = || -> Result<Says, redb::Error> {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let db = builder.create_with_backend(overlay)?;
        let meta = db.begin_read()?.open_table(META)?;
        let number = |name: &str| -> Result<u64, redb::Error> {
            Ok(meta.get(name)?.map(|value| value.value()).unwrap_or_default())
        };
        Ok(Says {
            format: number("format")?,
            store: number("store")? as u32,
            newest_segment: number("newest_segment")?,
        })
    };
    guarded(&path, || look().map_err(|error| StoreError::disk(&path, error)))
}
