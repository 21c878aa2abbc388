//! The file system under the store: one folder, and what may go wrong with it.
//!
//! Everything that the store does to a disk goes through [`Folder`], so that a test can put another
//! disk under the very store that ships: one that loses power on cue, fills up, or fails at the Nth
//! operation.
//!
//! Durability: a file's bytes are durable after its `sync_data`, a name after [`Folder::sync`]. A
//! failed `sync_data` says nothing about what reached the disk, and the system may go on showing
//! bytes that never will: what is read after [`Folder::forget_cached`] is what the disk holds.
//!
//! Files are named by their plain names; there are no folders within the folder. A file that is
//! made is a new one, for its owner alone whatever the umask: what had its name, such as a link
//! that somebody planted there, is unlinked and never written through.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{StorageBackend, backends::FileBackend};
use rustix::fs::{Advice, fadvise, fstatvfs, statvfs};

use super::home::Home;
use crate::regular_file;

/// `st_blocks` counts in these, whatever the file system's block size is.
const BLOCK_BYTES: u64 = 512;
/// Permission bits of every file that is made.
pub(in crate::store) const MODE: u32 = 0o600;

/// A folder of files.
pub trait Folder: fmt::Debug + Send + Sync + 'static {
    /// Where it is, for messages.
    fn path(&self) -> &Path;

    /// The names of all files in it.
    ///
    /// # Errors
    /// The system's reason.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes a file in place of whatever has its name, for reading and writing. Its name is durable
    /// after [`Folder::sync`].
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

    /// Lets go of what memory holds of a file and the disk does not have to: what is read from now
    /// on comes from the disk.
    ///
    /// # Errors
    /// The system's reason; nothing changed.
    fn forget_cached(&self, name: &str) -> io::Result<()>;

    /// Where it lives, with one of its files: what can tell a copy from what it was copied from.
    fn home(&self, name: &str) -> Home {
        let _ = name;
        Home::default()
    }

    /// Whether this is still the folder that was opened: what is written into one that was removed
    /// is found by nobody.
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
    /// The folder itself, whatever becomes of its path: while it is held, no other has its numbers.
    held: Option<Arc<File>>,
    /// Its device and inode.
    held_as: Option<(u64, u64)>,
}

impl OsFolder {
    /// The folder at `path`, which is there.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let held = File::open(&path).ok().map(Arc::new);
        let held_as =
            held.as_ref().and_then(|held| held.metadata().ok()).map(|held| (held.dev(), held.ino()));
        Self { path, held, held_as }
    }

    fn file(&self, name: &str, options: &mut OpenOptions) -> io::Result<Box<dyn StorageBackend>> {
        backend(regular_file::open(&self.path.join(name), options)?)
    }
}

fn backend(file: File) -> io::Result<Box<dyn StorageBackend>> {
    Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
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
        let path = self.path.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // `create_new` is O_EXCL: it fails at a link, wherever that leads.
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(&path)?;
        let made = file.metadata()?;
        if made.mode() & 0o7777 != MODE && made.uid() == rustix::process::geteuid().as_raw() {
            // A umask may take bits away; a file system without modes keeps its own.
            let _ = file.set_permissions(std::fs::Permissions::from_mode(MODE));
        }
        backend(file)
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
        let system = self.held.as_ref().map_or_else(|| statvfs(&self.path), fstatvfs)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }

    fn forget_cached(&self, name: &str) -> io::Result<()> {
        let file = regular_file::open(&self.path.join(name), OpenOptions::new().read(true))?;
        Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
    }

    fn home(&self, name: &str) -> Home {
        let Some(held) = &self.held else { return Home::default() };
        let home = Home::of_folder(held);
        let file = regular_file::open(&self.path.join(name), OpenOptions::new().read(true));
        file.map_or(home, |file| home.with_file(&file))
    }

    fn check(&self) -> io::Result<()> {
        let Some(held_as) = self.held_as else { return Ok(()) };
        let found = std::fs::metadata(&self.path)?;
        if found.nlink() > 0 && (found.dev(), found.ino()) == held_as {
            return Ok(());
        }
        Err(io::Error::other("another folder is in its place"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_made_goes_through_no_link_and_is_its_owners_alone() {
        let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let victim = outside.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        std::fs::set_permissions(&victim, std::fs::Permissions::from_mode(0o644)).unwrap();
        let files = OsFolder::new(folder.path().to_owned());
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink(&victim, at("link.new")).unwrap();
        std::fs::hard_link(&victim, at("hard.new")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("nothing"), at("dangling.new")).unwrap();
        std::fs::write(at("left.new"), "by a crash").unwrap();
        for name in ["link.new", "hard.new", "dangling.new", "left.new", "fresh.new"] {
            let made = files.create(name).unwrap();
            made.set_len(3).unwrap();
            made.write(0, b"abc").unwrap();
            let found = std::fs::symlink_metadata(at(name)).unwrap();
            assert!(found.is_file(), "{name} is a file of its own");
            assert_eq!((found.mode() & 0o7777, found.len(), found.nlink()), (0o600, 3, 1), "{name}");
        }
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(std::fs::metadata(&victim).unwrap().mode() & 0o7777, 0o644);
        assert!(!outside.path().join("nothing").exists());
        std::fs::create_dir(at("folder.new")).unwrap();
        assert!(files.create("folder.new").is_err());
    }
}
