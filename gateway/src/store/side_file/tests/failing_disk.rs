//! A folder whose writes fail when they are told to.

use std::{
    io,
    ops::Bound,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use redb::{BackendError, StorageBackend};

use crate::store::disk::folder::{Folder, OsFolder};

/// A folder whose writes and syncs fail when they are told to.
#[derive(Debug)]
pub struct Failing {
    pub inner: OsFolder,
    pub fault: Arc<Fault>,
}

#[derive(Debug, Default)]
pub struct Fault {
    /// Every operation that changes something fails.
    pub stuck: AtomicBool,
    /// Changing operations that still go well; below 0 there is no end.
    pub left: AtomicI64,
}

impl Fault {
    fn check(&self) -> io::Result<()> {
        if self.left.load(Ordering::SeqCst) >= 0 && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.stuck.store(true, Ordering::SeqCst);
        }
        if self.stuck.load(Ordering::SeqCst) { Err(io::Error::other("the card is gone")) } else { Ok(()) }
    }

    pub fn mend(&self) {
        self.left.store(-1, Ordering::SeqCst);
        self.stuck.store(false, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct FailingFile {
    inner: Box<dyn StorageBackend>,
    fault: Arc<Fault>,
}

impl Folder for Failing {
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn names(&self) -> io::Result<Vec<String>> {
        self.inner.names()
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        self.fault.check()?;
        let inner = self.inner.create(name)?;
        Ok(Box::new(FailingFile { inner, fault: self.fault.clone() }))
    }
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let inner = self.inner.open(name)?;
        Ok(Box::new(FailingFile { inner, fault: self.fault.clone() }))
    }
    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        self.inner.open_to_read(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.fault.check()?;
        self.inner.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.fault.check()?;
        self.inner.remove(name)
    }
    fn sync(&self) -> io::Result<()> {
        self.fault.check()?;
        self.inner.sync()
    }
    fn used_bytes(&self, name: &str) -> io::Result<u64> {
        self.inner.used_bytes(name)
    }
    fn available_bytes(&self) -> io::Result<u64> {
        self.inner.available_bytes()
    }
    fn forget_cached(&self, name: &str) -> io::Result<()> {
        self.inner.forget_cached(name)
    }
}

impl StorageBackend for FailingFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fault.check()?;
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.fault.check()?;
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fault.check()?;
        self.inner.write(offset, data)
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
