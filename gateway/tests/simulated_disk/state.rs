//! All that the disk is, under its one lock.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{
    directory::{Directory, FileId},
    file::File,
    image::{BLOCK_BYTES, Image},
    random::{Random, Survival},
    schedule::{Fault, Kind, Operation, Outcome, Schedule, no_space},
};

/// The disk.
#[derive(Debug)]
pub struct State {
    pub schedule: Schedule,
    pub survival: Option<Survival>,
    /// A cut destroys pieces of this size around writes under way, in the file of this name.
    pub destroys: Option<(&'static str, u64)>,
    pub capacity_bytes: Option<u64>,
    pub powered: bool,
    /// Cuts so far. A handle is good for the one in which it was opened.
    pub generation: u64,
    directory: Directory,
    files: BTreeMap<FileId, File>,
    next_file: FileId,
    random: Random,
}

impl State {
    pub fn new(seed: u64) -> Self {
        Self {
            schedule: Schedule::default(),
            survival: None,
            destroys: None,
            capacity_bytes: None,
            powered: true,
            generation: 0,
            directory: Directory::default(),
            files: BTreeMap::new(),
            next_file: 0,
            random: Random::new(seed),
        }
    }

    /// # Errors
    /// The power is gone.
    pub fn check_power(&self) -> io::Result<()> {
        if self.powered { Ok(()) } else { Err(io::Error::other("the power is gone")) }
    }

    pub fn names(&self) -> Vec<String> {
        self.directory.names().cloned().collect()
    }

    pub fn find(&self, name: &str) -> io::Result<FileId> {
        self.directory.find(name)
    }

    /// A file that a handle is open on or that has a name.
    pub fn file(&mut self, file: FileId) -> &mut File {
        self.files.get_mut(&file).expect("invariant: a file stays while a name or a handle leads to it")
    }

    pub fn image(&self, file: FileId) -> &Image {
        self.files[&file].visible()
    }

    pub fn open(&mut self, name: &Arc<str>) -> io::Result<FileId> {
        self.begin(Operation::new(Kind::Open, name))?.finish()?;
        let file = self.find(name)?;
        self.file(file).handles += 1;
        Ok(file)
    }

    pub fn create(&mut self, name: &Arc<str>) -> io::Result<FileId> {
        let begun = self.begin(Operation::new(Kind::Create, name))?;
        if begun.acts() || begun.0 == Outcome::Fails(Fault::ShortWrite) {
            match self.find(name) {
                Ok(file) => self.file(file).set_len(0),
                Err(_) => {
                    let file = self.add(File::default());
                    self.directory.create(name, file);
                }
            }
        }
        begun.finish()?;
        let file = self.find(name)?;
        self.file(file).handles += 1;
        Ok(file)
    }

    pub fn rename(&mut self, from: &Arc<str>, to: &str) -> io::Result<()> {
        let begun = self.begin(Operation::new(Kind::Rename, from))?;
        if begun.acts() {
            self.directory.rename(from, to)?;
        }
        self.drop_lost_files();
        begun.finish()
    }

    pub fn remove(&mut self, name: &Arc<str>) -> io::Result<()> {
        let begun = self.begin(Operation::new(Kind::Remove, name))?;
        if begun.acts() {
            self.directory.remove(name)?;
        }
        begun.finish()
    }

    pub fn sync_folder(&mut self) -> io::Result<()> {
        self.begin(Operation::new(Kind::FolderSync, &Arc::from("")))?.finish()?;
        self.directory.sync();
        self.drop_lost_files();
        Ok(())
    }

    pub fn write(&mut self, file: FileId, name: &Arc<str>, offset: u64, data: &[u8]) -> io::Result<()> {
        let operation = Operation { offset, bytes: data.len() as u64, ..Operation::new(Kind::Write, name) };
        let begun = self.begin(operation)?;
        let wanted = match begun.0 {
            Outcome::Fails(Fault::ShortWrite) => data.len() / 2,
            Outcome::Fails(_) => 0,
            Outcome::Done | Outcome::Interrupted => data.len(),
        };
        let fitting = self.fitting_bytes(file, offset, wanted as u64);
        self.file(file).write(offset, &data[..fitting as usize]);
        begun.finish()?;
        if fitting < wanted as u64 { Err(no_space()) } else { Ok(()) }
    }

    pub fn set_len(&mut self, file: FileId, name: &Arc<str>, len: u64) -> io::Result<()> {
        let begun = self.begin(Operation { bytes: len, ..Operation::new(Kind::SetLen, name) })?;
        if begun.acts() {
            self.file(file).set_len(len);
        }
        begun.finish()
    }

    pub fn sync(&mut self, file: FileId, name: &Arc<str>) -> io::Result<()> {
        let begun = self.begin(Operation::new(Kind::Sync, name))?;
        match begun.0 {
            Outcome::Done => self.file(file).sync(),
            Outcome::Fails(_) => self.file(file).fail_sync(),
            Outcome::Interrupted => {}
        }
        begun.finish()
    }

    pub fn forget(&mut self, name: &str) -> io::Result<()> {
        self.check_power()?;
        let file = self.find(name)?;
        let survival = self.pick_survival();
        let mut random = self.random.clone();
        self.file(file).forget(survival, &mut random);
        self.random = random;
        Ok(())
    }

    pub fn cut(&mut self) {
        let survival = self.pick_survival();
        let torn = self.destroys.and_then(|(name, bytes)| {
            let file = self.find(name).ok()?;
            Some((file, bytes, self.files[&file].under_way(bytes)))
        });
        self.directory.cut(survival, &mut self.random);
        for file in self.files.values_mut() {
            file.cut(survival, &mut self.random);
        }
        if let Some((file, bytes, pieces)) = torn {
            for piece in pieces {
                if self.random.coin() {
                    self.file(file).damage(piece * bytes..(piece + 1) * bytes, |byte| *byte ^= 0x5a);
                }
            }
        }
        self.generation += 1;
        self.powered = true;
        self.drop_lost_files();
    }

    pub fn put(&mut self, name: &str, bytes: Vec<u8>) {
        let file = self.add(File::on_disk(bytes));
        self.directory.put(name, file);
        self.drop_lost_files();
    }

    pub fn close(&mut self, file: FileId, generation: u64) {
        if self.generation == generation {
            self.file(file).handles -= 1;
            if self.files[&file].handles == 0 {
                self.drop_lost_files();
            }
        }
    }

    /// Bytes of all files that have a name or are open.
    pub fn used_bytes(&self) -> u64 {
        let used = |(id, file): (&FileId, &File)| {
            let counts = file.handles > 0 || self.directory.shows(*id);
            if counts { file.visible().used_bytes() } else { 0 }
        };
        self.files.iter().map(used).sum()
    }

    fn add(&mut self, file: File) -> FileId {
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, file);
        id
    }

    fn begin(&mut self, operation: Operation) -> io::Result<Begun> {
        self.check_power()?;
        let outcome = self.schedule.begin(operation);
        if outcome == Outcome::Interrupted {
            self.powered = false;
        }
        Ok(Begun(outcome))
    }

    fn fitting_bytes(&self, file: FileId, offset: u64, bytes: u64) -> u64 {
        let Some(capacity) = self.capacity_bytes else {
            return bytes;
        };
        let free_blocks = capacity.saturating_sub(self.used_bytes()) / BLOCK_BYTES;
        self.image(file).fitting_bytes(offset, bytes, free_blocks)
    }

    fn pick_survival(&mut self) -> Survival {
        let picked = Survival::pick(&mut self.random);
        self.survival.unwrap_or(picked)
    }

    fn drop_lost_files(&mut self) {
        let directory = &self.directory;
        self.files.retain(|id, file| file.handles > 0 || directory.keeps(*id));
    }
}

/// An operation that was counted.
#[must_use]
struct Begun(Outcome);

impl Begun {
    /// Whether it does what it is asked to, though the power may go while it does.
    fn acts(&self) -> bool {
        matches!(self.0, Outcome::Done | Outcome::Interrupted)
    }

    fn finish(self) -> io::Result<()> {
        match self.0 {
            Outcome::Done => Ok(()),
            Outcome::Fails(fault) => Err(fault.error()),
            Outcome::Interrupted => Err(io::Error::other("the power went")),
        }
    }
}
