//! The file system under the store: one folder, and what may go wrong with it.
//!
//! Everything that the store does to a disk goes through [`Folder`], so that a test can put another disk under
//! the very store that ships: one that loses power on cue, fills up, or fails at the Nth operation.
//!
//! Durability: a file's bytes are durable after its `sync_data`, a name after [`Folder::sync`]. A failed `sync_data` says
//! nothing about what reached the disk, and the system may go on showing bytes that never will: what is read after
//! [`Folder::forget_cached`] is what the disk holds.
//!
//! Files are named by their plain names; there are no folders within the folder.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{StorageBackend, backends::FileBackend};
use rustix::fs::{Advice, fadvise, statvfs};

use super::home::Home;

/// `st_blocks` counts in these, whatever the file system's block size is.
const BLOCK_BYTES: u64 = 512;

/// A folder of files.
pub trait Folder: fmt::Debug + Send + Sync + 'static {
    /// Where it is, for messages.
    fn path(&self) -> &Path;

    /// The names of all files in it.
    ///
    /// # Errors
    /// The system's reason.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes a file, or cuts it to nothing, for reading and writing. Its name is durable after [`Folder::sync`].
    ///
    /// # Errors
    /// The system's reason: there may be an empty file.
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;

    /// Opens a file that is there, for reading and writing.
    ///
    /// # Errors
    /// The system's reason; nothing changed.
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;

    /// Opens a file that is there: to write into it is an error.
    ///
    /// # Errors
    /// The system's reason; nothing changed.
    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;

    /// Gives a file another name, and replaces the one that has it. Durable after [`Folder::sync`].
    ///
    /// # Errors
    /// The system's reason; nothing changed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable after [`Folder::sync`].
    ///
    /// # Errors
    /// The system's reason; nothing changed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// The system's reason: some of them may be durable.
    fn sync(&self) -> io::Result<()>;

    /// Bytes that a file takes on the disk, which are fewer than its length where it has holes.
    ///
    /// # Errors
    /// The system's reason.
    fn used_bytes(&self, name: &str) -> io::Result<u64>;

    /// Bytes that files in it can still be given on the disk.
    ///
    /// # Errors
    /// The system's reason.
    fn available_bytes(&self) -> io::Result<u64>;

    /// Lets go of what memory holds of a file and the disk does not have to: what is read from now on comes from the disk.
    ///
    /// # Errors
    /// The system's reason; nothing changed.
    fn forget_cached(&self, name: &str) -> io::Result<()>;

    /// Where it lives, with one of its files: what can tell a copy from what it was copied from.
    fn home(&self, name: &str) -> Home {
        let _ = name;
        Home::default()
    }

    /// Whether this is still the folder that was opened: what is written into one that was removed is found by nobody.
    ///
    /// # Errors
    /// It was removed, moved, or hidden by another.
    fn check(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A folder of the operating system.
#[derive(Debug, Clone)]
pub struct OsFolder {
    path: PathBuf,
    /// The folder itself, whatever becomes of its path.
    held: Option<Arc<File>>,
}

impl OsFolder {
    /// The folder at `path`, which is there.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let held = File::open(&path).ok().map(Arc::new);
        Self { path, held }
    }

    fn file(&self, name: &str, options: &OpenOptions) -> io::Result<Box<dyn StorageBackend>> {
        let file = options.open(self.path.join(name))?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }
}

impl Folder for OsFolder {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> io::Result<Vec<String>> {
        std::fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        self.file(name, OpenOptions::new().read(true).write(true).create(true).truncate(true))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        self.file(name, OpenOptions::new().read(true).write(true))
    }

    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        self.file(name, OpenOptions::new().read(true))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn used_bytes(&self, name: &str) -> io::Result<u64> {
        Ok(std::fs::metadata(self.path.join(name))?.blocks() * BLOCK_BYTES)
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let system = statvfs(&self.path)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }

    fn forget_cached(&self, name: &str) -> io::Result<()> {
        let file = File::open(self.path.join(name))?;
        Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
    }

    fn home(&self, name: &str) -> Home {
        let Some(held) = &self.held else { return Home::default() };
        let home = Home::of_folder(held);
        File::open(self.path.join(name)).map_or(home, |file| home.with_file(&file))
    }

    fn check(&self) -> io::Result<()> {
        let Some(held) = &self.held else { return Ok(()) };
        let (held, found) = (held.metadata()?, std::fs::metadata(&self.path)?);
        if held.nlink() > 0 && (found.dev(), found.ino()) == (held.dev(), held.ino()) {
            return Ok(());
        }
        Err(io::Error::other("another folder is in its place"))
    }
}
