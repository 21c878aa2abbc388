//! The files under redb: all I/O of the store goes through here, is counted and timed, and can lose
//! its power.
//!
//! ```text
//!  segments, dead letters ──▶ Files ──▶ Disk ──▶ Folder's file
//!                                 └──── PowerSwitch: written_bytes, is_cut
//! ```
//! `written_bytes` is what the card sees. Cutting the power at the [`PowerSwitch`] makes every
//! later write, growth and sync fail, whoever asks: the files stay as they are at that moment, as
//! after SIGKILL. Reading goes on.

pub mod folder;
pub mod guard;
pub mod home;
pub mod lock;
pub mod overlay;

use std::{
    io,
    ops::Bound,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use redb::{BackendError, StorageBackend};

use self::{folder::Folder, home::Home};
use super::error::StoreError;
use crate::{clock, telemetry};

/// What all files of one store share: the counts and the power switch.
#[derive(Debug, Default)]
pub struct PowerSwitch {
    is_cut: AtomicBool,
    written_bytes: AtomicU64,
    syncs: AtomicU64,
}

impl PowerSwitch {
    /// From now on nothing reaches the files.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    /// Bytes written while it was on.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// Syncs of files made while it was on.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    fn check(&self) -> io::Result<()> {
        if self.is_cut.load(Ordering::SeqCst) {
            Err(io::Error::other("the store was stopped"))
        } else {
            Ok(())
        }
    }
}

/// The store's folder with its power switch. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Files {
    folder: Arc<dyn Folder>,
    power: Arc<PowerSwitch>,
}

impl Files {
    /// The files in `folder`.
    pub fn new(folder: Arc<dyn Folder>) -> Self {
        Self { folder, power: Arc::default() }
    }

    /// The power switch of all of them.
    pub fn power(&self) -> &PowerSwitch {
        &self.power
    }

    /// What `error` says of the disk: nothing, if it came after the power was cut. Whoever wrote is
    /// to end then, as with a store that is closed, and not to complain and try on.
    pub fn failed(&self, error: StoreError) -> StoreError {
        match self.power.check() {
            Ok(()) => error,
            Err(_) => StoreError::Closed,
        }
    }

    /// A file's full path, for messages.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The names of all files.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        self.folder.names().map_err(|error| StoreError::io(self.folder.path(), error))
    }

    /// See [`Folder::create`].
    pub fn create(&self, name: &str) -> Result<Disk, StoreError> {
        self.check()?;
        self.powered(name, |folder| folder.create(name)).map(|file| self.disk(file))
    }

    /// See [`Folder::open`].
    pub fn open(&self, name: &str) -> Result<Disk, StoreError> {
        self.on(name, self.folder.open(name)).map(|file| self.disk(file))
    }

    /// See [`Folder::open_to_read`].
    pub fn open_to_read(&self, name: &str) -> Result<Disk, StoreError> {
        self.on(name, self.folder.open_to_read(name)).map(|file| self.disk(file))
    }

    /// See [`Folder::rename`]: durable when this returns.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        self.powered(to, |folder| folder.rename(from, to))?;
        self.sync()
    }

    /// See [`Folder::remove`]: durable after [`Files::sync`].
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.powered(name, |folder| folder.remove(name))
    }

    /// See [`Folder::home`].
    pub fn home(&self, name: &str) -> Home {
        self.folder.home(name)
    }

    /// Whether the folder is still there, by the path that it was opened by.
    ///
    /// # Errors
    /// [`StoreError::FolderGone`]
    pub fn check(&self) -> Result<(), StoreError> {
        let gone = |cause| StoreError::FolderGone { path: self.folder.path().to_owned(), cause };
        self.folder.check().map_err(gone)
    }

    /// Whether the file that is being written still has its name: what is written into one that was
    /// removed is lost. Each sync looks after the folder.
    ///
    /// # Errors
    /// [`StoreError`]: the file is not there.
    pub fn check_written(&self, name: &str) -> Result<(), StoreError> {
        self.on(name, self.folder.used_bytes(name).map(|_| ()))
    }

    /// See [`Folder::sync`].
    pub fn sync(&self) -> Result<(), StoreError> {
        let synced = self.power.check().and_then(|()| self.folder.sync());
        synced.map_err(|error| StoreError::io(self.folder.path(), error))
    }

    /// See [`Folder::used_bytes`]; 0 for a file that is not there.
    pub fn used_bytes(&self, name: &str) -> u64 {
        self.folder.used_bytes(name).unwrap_or_default()
    }

    /// See [`Folder::available_bytes`]; without a limit where the system does not say.
    pub fn available_bytes(&self) -> u64 {
        self.folder.available_bytes().unwrap_or(u64::MAX)
    }

    /// Makes sure that what is read from a file is what the disk holds: a stop may have left bytes
    /// in memory that are not on the disk yet, and a failed sync some that never will be.
    pub fn settle(&self, name: &str) {
        let synced = self.open(name).and_then(|disk| self.on(name, disk.sync_data()));
        // What a failed sync left in memory is let go all the more.
        for error in [synced, self.forget_cached(name)].into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "this file cannot be synced, or not be read anew from the disk");
        }
    }

    /// See [`Folder::forget_cached`].
    pub fn forget_cached(&self, name: &str) -> Result<(), StoreError> {
        self.on(name, self.folder.forget_cached(name))
    }

    fn disk(&self, file: Box<dyn StorageBackend>) -> Disk {
        Disk { file, power: self.power.clone(), folder: self.folder.clone() }
    }

    fn powered<T>(
        &self,
        name: &str,
        act: impl FnOnce(&dyn Folder) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        self.on(name, self.power.check().and_then(|()| act(&*self.folder)))
    }

    fn on<T>(&self, name: &str, outcome: io::Result<T>) -> Result<T, StoreError> {
        outcome.map_err(|error| StoreError::io(&self.path_of(name), error))
    }
}

/// A file of the store.
#[derive(Debug)]
pub struct Disk {
    file: Box<dyn StorageBackend>,
    power: Arc<PowerSwitch>,
    folder: Arc<dyn Folder>,
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.power.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.power.check()?;
        fail::fail_point!("store-sync");
        let before = clock::monotonic();
        self.file.sync_data()?;
        // Not before: what was removed while the sync ran is not kept either.
        self.folder.check()?;
        self.power.syncs.fetch_add(1, Ordering::Relaxed);
        metrics::counter!(telemetry::SYNCS).increment(1);
        metrics::histogram!(telemetry::SYNC_SECONDS).record(before.elapsed().as_secs_f64());
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.power.check()?;
        self.file.write(offset, data)?;
        self.power.written_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
