//! Changing the users file: read, change, written whole beside it, synced, put in its place.
//!
//! ```text
//!   lock the folder ─▶ load ─▶ change ─▶ .users.toml.new (0600) ─▶ fsync ─▶ rename ─▶ fsync the folder
//! ```
//! Two that change it at once wait for each other. After a crash there is the old file or the new
//! one; a `.new` file that was left is removed by the next change. The new file belongs to whom the
//! old one belonged, else the folder: so that root may change what the gateway's own user reads.
//! That user may write in the folder, so root trusts no name there: all is done by descriptors,
//! through no link, and the file is given away last.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Metadata, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat},
    io::Errno,
};

use super::{error::LoadError, users::Users};

/// Permission bits of the file.
const MODE: u32 = 0o600;

/// The file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError<E> {
    /// It could not be read, or is wrong.
    #[error(transparent)]
    Load(LoadError),
    /// It could not be written. The old file is in its place.
    #[error("{}: the file cannot be written: {cause}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The change was not made.
    #[error("{0}")]
    Unchanged(E),
}

/// Changes the users in `file`, which is made if it is not there.
///
/// # Errors
/// [`EditError`]: the file is as it was.
pub fn edit<T, E>(file: &Path, change: impl FnOnce(&mut Users) -> Result<T, E>) -> Result<T, EditError<E>> {
    let failed = |cause| EditError::Write { file: file.to_owned(), cause };
    let target = LockedFile::open(file).map_err(failed)?;
    let old = target.old().map_err(failed)?;
    let mut users = match &old {
        Some(old) => Users::load_opened(old, file).map_err(EditError::Load)?,
        None => Users::default(),
    };
    let outcome = change(&mut users).map_err(EditError::Unchanged)?;
    target.replace(old.as_ref(), users.render().as_bytes()).map_err(failed)?;
    Ok(outcome)
}

/// A file by its folder, which is open and locked, and its name there: whoever may write in the
/// folder cannot lead what is done elsewhere by putting a link in the way.
struct LockedFile<'a> {
    folder: File,
    name: &'a OsStr,
    new_name: OsString,
}

impl<'a> LockedFile<'a> {
    /// Waits for the folder's lock, which is let go of with the value.
    fn open(file: &'a Path) -> io::Result<Self> {
        let name = file.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let folder = File::open(folder)?;
        folder.lock()?;
        let mut new_name = OsString::from(".");
        new_name.push(name);
        new_name.push(".new");
        Ok(LockedFile { folder, name, new_name })
    }

    /// The file that is there, opened to be read. That a pipe is in its place must not hold anybody
    /// up.
    fn old(&self) -> io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let old = match openat(&self.folder, self.name, flags, Mode::empty()) {
            Ok(old) => File::from(old),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => {
                return Err(io::Error::other("it is a symbolic link; name the file that it leads to"));
            }
            Err(cause) => return Err(cause.into()),
        };
        match old.metadata()?.is_file() {
            true => Ok(Some(old)),
            false => Err(io::Error::other("it is no regular file; name another, or remove it")),
        }
    }

    /// Writes the new file and puts it in the old one's place.
    fn replace(&self, old: Option<&File>, text: &[u8]) -> io::Result<()> {
        self.remove_new()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let new = File::from(openat(&self.folder, &self.new_name, flags, Mode::from_raw_mode(MODE))?);
        let owner = old.map_or_else(|| self.folder.metadata(), File::metadata);
        let written = owner
            .and_then(|owner| fill(&new, text, &owner))
            .and_then(|()| Ok(renameat(&self.folder, &self.new_name, &self.folder, self.name)?));
        if written.is_err() {
            // The cause is told; that the leftover stays as well is of no use to anybody.
            let _ = self.remove_new();
        }
        written?;
        self.folder.sync_all()
    }

    /// Removes what was left by a crash, or was put there: a link itself, never what it leads to.
    fn remove_new(&self) -> io::Result<()> {
        match unlinkat(&self.folder, &self.new_name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(cause) => Err(cause.into()),
        }
    }
}

/// Everything that a new file is to be, all of it by its descriptor; its owner last, where only
/// root may say so.
fn fill(mut new: &File, text: &[u8], owner: &Metadata) -> io::Result<()> {
    // A umask may have taken bits away.
    new.set_permissions(Permissions::from_mode(MODE))?;
    new.write_all(text)?;
    let ours = new.metadata()?;
    let is_other = (ours.uid(), ours.gid()) != (owner.uid(), owner.gid());
    if is_other && rustix::process::geteuid().is_root() {
        std::os::unix::fs::fchown(new, Some(owner.uid()), Some(owner.gid()))?;
    }
    new.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::users::{ClientIds, User};

    fn user(name: &str) -> User {
        User { name: name.into(), password: None, client_ids: ClientIds::Own, roles: vec![] }
    }

    #[test]
    fn a_file_is_made_for_its_owner_alone_and_changed_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.toml");
        let add = |name: &str| edit(&file, |users| if users.add(user(name)) { Ok(()) } else { Err("there") });
        add("a").unwrap();
        let mode = || std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(), 0o600);
        std::fs::write(folder.path().join(".users.toml.new"), "left by a crash").unwrap();
        add("b").unwrap();
        assert_eq!(mode(), 0o600);
        assert!(matches!(add("b"), Err(EditError::Unchanged("there"))));
        assert_eq!(Users::load(&file).unwrap().len(), 2);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn links_and_pipes_that_somebody_planted_lead_nowhere() {
        let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (victim, file) = (outside.path().join("victim"), folder.path().join("users.toml"));
        std::fs::write(&victim, "precious").unwrap();
        std::fs::set_permissions(&victim, Permissions::from_mode(0o644)).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            // The gateway's own user.
            std::os::unix::fs::chown(folder.path(), Some(4711), Some(4712)).unwrap();
        }
        let owner = |path: &Path| {
            let found = std::fs::symlink_metadata(path).unwrap();
            (found.uid(), found.gid(), found.mode() & 0o7777)
        };
        let before = owner(&victim);
        let new = folder.path().join(".users.toml.new");
        let add = |name: &str| edit(&file, |users| Ok::<_, String>(users.add(user(name))));
        for (name, is_hard) in [("a", false), ("b", true)] {
            match is_hard {
                true => std::fs::hard_link(&victim, &new).unwrap(),
                false => std::os::unix::fs::symlink(&victim, &new).unwrap(),
            }
            assert!(add(name).unwrap());
            assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
            assert_eq!(owner(&victim), before, "it was given away");
            assert!(std::fs::symlink_metadata(&file).unwrap().is_file());
            if is_root {
                assert_eq!(owner(&file), (4711, 4712, 0o600));
            }
        }
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&victim, &file).unwrap();
        let refused = add("c").unwrap_err().to_string();
        assert!(refused.contains("symbolic link; name the file that it leads to"), "{refused}");
        std::fs::remove_file(&file).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&file).status().unwrap();
        assert!(made.success());
        let refused = add("c").unwrap_err().to_string();
        assert!(refused.contains("it is no regular file"), "{refused}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn a_file_that_is_wrong_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.toml");
        std::fs::write(&file, "[[user]]\nname = 1\n").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let outcome = edit(&file, |users| Ok::<_, ()>(users.add(user("a"))));
        assert!(matches!(outcome, Err(EditError::Load(LoadError::Wrong { .. }))));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "[[user]]\nname = 1\n");
    }

    #[test]
    fn many_that_change_it_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.toml");
        std::thread::scope(|scope| {
            for i in 0..16 {
                let file = &file;
                scope.spawn(move || {
                    edit(file, |users| Ok::<_, ()>(users.add(user(&format!("u{i}"))))).unwrap()
                });
            }
        });
        assert_eq!(Users::load(&file).unwrap().len(), 16);
    }
}
