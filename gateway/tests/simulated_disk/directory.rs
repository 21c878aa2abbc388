//! The names of the files, and which of them a power cut leaves.
//!
//! A name is durable after a sync of the folder, whatever its file's bytes are. Before it, a cut
//! leaves a seeded part of the creations, renames and removals: the first of them, as a journal
//! does, or any of them. One that builds on another that did not survive does nothing.

use std::{collections::BTreeMap, io};

use super::random::{Random, Survival};

/// A file, whatever it is called.
pub type FileId = u64;

/// Names to files: on the disk, and as seen.
#[derive(Debug, Default)]
pub struct Directory {
    durable: BTreeMap<String, FileId>,
    visible: BTreeMap<String, FileId>,
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Create { name: String, file: FileId },
    Rename { from: String, to: String, file: FileId },
    Remove { name: String, file: FileId },
}

impl Directory {
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.visible.keys()
    }

    /// # Errors
    /// There is no such file.
    pub fn find(&self, name: &str) -> io::Result<FileId> {
        self.visible.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub fn create(&mut self, name: &str, file: FileId) {
        self.visible.insert(name.to_owned(), file);
        self.unsynced.push(Change::Create { name: name.to_owned(), file });
    }

    /// Puts a file in its place on the disk and in memory alike, after a sync of all names.
    pub fn put(&mut self, name: &str, file: FileId) {
        self.visible.insert(name.to_owned(), file);
        self.sync();
    }

    pub fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let file = self.find(from)?;
        if from != to {
            self.unsynced.push(Change::Rename { from: from.to_owned(), to: to.to_owned(), file });
            self.visible.remove(from);
            self.visible.insert(to.to_owned(), file);
        }
        Ok(())
    }

    pub fn remove(&mut self, name: &str) -> io::Result<()> {
        let file = self.find(name)?;
        self.visible.remove(name);
        self.unsynced.push(Change::Remove { name: name.to_owned(), file });
        Ok(())
    }

    pub fn sync(&mut self) {
        self.durable = self.visible.clone();
        self.unsynced.clear();
    }

    pub fn cut(&mut self, survival: Survival, random: &mut Random) {
        let changes = std::mem::take(&mut self.unsynced);
        let journal = random.coin();
        for change in changes {
            if survival.spares(random) {
                change.apply(&mut self.durable);
            } else if journal {
                break;
            }
        }
        self.visible = self.durable.clone();
    }

    /// Whether a file has a name that is seen.
    pub fn shows(&self, file: FileId) -> bool {
        self.visible.values().any(|other| *other == file)
    }

    /// Whether a file has a name, or may have one again after a cut.
    pub fn keeps(&self, file: FileId) -> bool {
        self.shows(file)
            || self.durable.values().any(|other| *other == file)
            || self.unsynced.iter().any(|change| change.file() == file)
    }
}

impl Change {
    fn file(&self) -> FileId {
        match self {
            Change::Create { file, .. } | Change::Rename { file, .. } | Change::Remove { file, .. } => *file,
        }
    }

    fn apply(self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Change::Create { name, file } => {
                names.insert(name, file);
            }
            Change::Rename { from, to, file } => {
                if names.get(&from) == Some(&file) {
                    names.remove(&from);
                    names.insert(to, file);
                }
            }
            Change::Remove { name, file } => {
                if names.get(&name) == Some(&file) {
                    names.remove(&name);
                }
            }
        }
    }
}
