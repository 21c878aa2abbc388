//! Changing the users file: read, change, written whole beside it, synced, put in its place.
//!
//! ```text
//!   lock the folder ─▶ load ─▶ change ─▶ .users.toml.new (0600) ─▶ fsync ─▶ rename ─▶ fsync the folder
//! ```
//! Two that change it at once wait for each other. After a crash there is the old file or the new one; a `.new` file that
//! was left is written over by the next change. The new file belongs to whom the old one belonged, else the folder: so
//! that root may change what the gateway's own user reads.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
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
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = File::open(folder).map_err(failed)?;
    // Let go of when it is closed.
    folder.lock().map_err(failed)?;
    let mut users = match Users::load(file) {
        Err(LoadError::Unreadable { .. }) if !file.exists() => Users::default(),
        loaded => loaded.map_err(EditError::Load)?,
    };
    let outcome = change(&mut users).map_err(EditError::Unchanged)?;
    write(file, &folder, users.render().as_bytes()).map_err(failed)?;
    Ok(outcome)
}

fn write(file: &Path, folder: &File, text: &[u8]) -> io::Result<()> {
    let name = file.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut new_name = std::ffi::OsString::from(".");
    new_name.push(name);
    new_name.push(".new");
    let new_path = file.with_file_name(new_name);
    let mut new = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&new_path)?;
    let owner = std::fs::metadata(file).or_else(|_| folder.metadata())?;
    let written = give(&new, &owner)
        .and_then(|()| new.write_all(text))
        .and_then(|()| new.sync_all())
        .and_then(|()| std::fs::rename(&new_path, file));
    if written.is_err() {
        // The cause is told; that the leftover stays as well is of no use to anybody.
        let _ = std::fs::remove_file(&new_path);
    }
    written?;
    folder.sync_all()
}

/// Its mode, also where a file was left from before; its owner, where only root may say so.
fn give(new: &File, owner: &std::fs::Metadata) -> io::Result<()> {
    new.set_permissions(std::fs::Permissions::from_mode(MODE))?;
    let ours = new.metadata()?;
    let is_other = (ours.uid(), ours.gid()) != (owner.uid(), owner.gid());
    if is_other && rustix::process::geteuid().is_root() {
        std::os::unix::fs::fchown(new, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::access::users::{ClientIds, User};

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
    fn a_file_that_is_wrong_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.toml");
        std::fs::write(&file, "[[user]]\nname = 1\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
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
