//! Whose folder it is: made if need be, checked to be ours or empty, and locked.
//!
//! The folder itself is locked, by its inode: under every path that leads to it, and whatever
//! becomes of the files in it. The file `LOCK` is locked as well, because older versions look at
//! that alone, and because some file systems lock no folders.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;

use super::folder::{Folder, MODE, OsFolder};
use crate::{regular_file, store::error::StoreError};

/// The file that a running gateway holds locked.
const LOCK_FILE: &str = "LOCK";
/// Neither the store's data nor somebody else's: the lock, and what a file system may put into a
/// folder by itself.
pub const NOT_FOREIGN: [&str; 2] = [LOCK_FILE, "lost+found"];

/// Permission bits of a folder that is made.
const FOLDER_MODE: u32 = 0o755;

/// Makes the folder if need be, checks that it is ours or empty, and locks it. It is ours if it has
/// a file with a name that `is_ours`.
pub fn lock(folder: &Path, is_ours: impl Fn(&str) -> bool) -> Result<Lock, StoreError> {
    make(folder).map_err(|error| StoreError::io(folder, error))?;
    sync_above(folder)?;
    let names = names_in(folder)?;
    if let Some(example) = names.iter().find(|name| !NOT_FOREIGN.contains(&name.as_str()))
        && !names.iter().any(|name| is_ours(name))
    {
        return Err(StoreError::Foreign { path: folder.to_owned(), example: example.clone() });
    }
    let mut lock = Lock { held: Vec::new() };
    lock.add(folder, File::open(folder), File::try_lock)?;
    let path = folder.join(LOCK_FILE);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(&path);
    lock.add(&path, file, File::try_lock)?;
    Ok(lock)
}

/// Makes the folder, and those above it, if need be: never such that others can write in them,
/// whatever the umask.
///
/// # Errors
/// The system's reason.
pub fn make(folder: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)
}

/// Keeps a gateway from starting in the folder for as long as it is looked at. Nothing is written.
pub fn lock_to_read(folder: &Path) -> Result<Lock, StoreError> {
    let mut lock = Lock { held: Vec::new() };
    lock.add(folder, File::open(folder), File::try_lock_shared)?;
    let path = folder.join(LOCK_FILE);
    match regular_file::open(&path, OpenOptions::new().read(true)) {
        // Such as in a copy.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        file => lock.add(&path, file, File::try_lock_shared)?,
    }
    Ok(lock)
}

/// The folder is locked for as long as this lives.
#[derive(Debug)]
pub struct Lock {
    held: Vec<File>,
}

type TryLock = fn(&File) -> Result<(), TryLockError>;

impl Lock {
    fn add(&mut self, path: &Path, file: std::io::Result<File>, lock: TryLock) -> Result<(), StoreError> {
        let file = file.map_err(|error| StoreError::io(path, error))?;
        match lock(&file) {
            Ok(()) => self.held.push(file),
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) if path.is_dir() => {
                tracing::warn!(folder = %path.display(), %error, "this file system locks no folder: keep its file {LOCK_FILE}");
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io(path, error)),
        }
        Ok(())
    }
}

/// A folder made just now has to be there after a power cut: what lies above it is synced as far as
/// it may be read.
fn sync_above(folder: &Path) -> Result<(), StoreError> {
    let folder = folder.canonicalize().map_err(|error| StoreError::io(folder, error))?;
    for above in folder.ancestors().skip(1) {
        let synced = File::open(above).and_then(|opened| opened.sync_all());
        if let Err(error) = synced {
            tracing::debug!(folder = %above.display(), %error, "a folder above the store cannot be synced");
        }
    }
    Ok(())
}

fn names_in(folder: &Path) -> Result<Vec<String>, StoreError> {
    OsFolder::new(folder.to_owned()).names().map_err(|error| StoreError::io(folder, error))
}
