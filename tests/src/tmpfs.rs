//! A small disk of its own for a test: a tmpfs, mounted by the test and unmounted with the value.
//!
//! Needs root. What a killed run has left mounted is cleared away by the next.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::program;

const PREFIX: &str = "tmpfs-";
/// A file grows by this much at once.
const PIECE_BYTES: usize = 1 << 16;

/// A mounted tmpfs. Declare it before whatever uses it, so that it goes last.
#[derive(Debug)]
pub struct Tmpfs {
    folder: PathBuf,
}

impl Tmpfs {
    /// Mounts one of `mebibytes`.
    ///
    /// # Panics
    /// This process may not mount.
    #[must_use]
    pub fn mount(mebibytes: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        clear_away_what_is_left();
        let (process, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = program::scratch().join(format!("{PREFIX}{process}-{next}"));
        std::fs::create_dir_all(&folder).expect("the scratch folder is writable");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tidegate-test"])
            .arg(&folder)
            .output()
            .expect("mount is part of every system");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "a small disk cannot be mounted; run this test as root: {said}");
        Self { folder }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Puts a file on it that takes all that is free, and gives its path and its size in bytes.
    ///
    /// # Panics
    /// Something else than the end of space stopped it.
    #[must_use]
    pub fn fill(&self, name: &str) -> (PathBuf, u64) {
        let path = self.folder.join(name);
        let mut file = std::fs::File::create(&path).expect("a file can be made");
        let mut written = 0;
        loop {
            match file.write(&[0x55; PIECE_BYTES]) {
                Ok(bytes) => written += bytes as u64,
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return (path, written),
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        unmount(&self.folder);
    }
}

fn unmount(folder: &Path) {
    // Lazily: a process that still has a file open on it must not keep the mount in sight.
    let unmounted = Command::new("umount").arg("--lazy").arg(folder).output();
    if unmounted.is_ok_and(|output| output.status.success()) {
        let _ = std::fs::remove_dir(folder);
    }
}

fn clear_away_what_is_left() {
    for entry in std::fs::read_dir(program::scratch()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            unmount(&entry.path());
        }
    }
}
