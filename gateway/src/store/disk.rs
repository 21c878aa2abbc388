//! The file under redb: counts and times what is written, and can lose its plug.
//!
//! All I/O of the store goes through [`Disk`], so `written_bytes` is what the card sees. Pulling the
//! [`Plug`] makes every later write, growth and sync fail, whoever asks: the files stay as they are at
//! that moment, as after SIGKILL. Reading goes on.

use std::{
    fs::File,
    io,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use redb::{BackendError, StorageBackend, backends::FileBackend};

use crate::{clock, telemetry};

/// What all files of one store share: the counts and the plug.
#[derive(Debug, Default)]
pub struct Plug {
    pulled: AtomicBool,
    written_bytes: AtomicU64,
}

impl Plug {
    /// From now on nothing reaches the files.
    pub fn pull(&self) {
        self.pulled.store(true, Ordering::SeqCst);
    }

    /// Bytes written through this plug.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    fn check(&self) -> io::Result<()> {
        if self.pulled.load(Ordering::SeqCst) {
            Err(io::Error::other("the store was stopped"))
        } else {
            Ok(())
        }
    }
}

/// A file of the store.
#[derive(Debug)]
pub struct Disk {
    file: FileBackend,
    plug: Arc<Plug>,
}

impl Disk {
    /// Takes a file that is open for reading and writing.
    ///
    /// # Errors
    /// redb refuses the file.
    pub fn new(file: File, plug: Arc<Plug>) -> Result<Self, redb::DatabaseError> {
        Ok(Self { file: FileBackend::new(file)?, plug })
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.plug.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.plug.check()?;
        fail::fail_point!("store-sync");
        let before = clock::monotonic();
        self.file.sync_data()?;
        metrics::counter!(telemetry::SYNCS).increment(1);
        metrics::histogram!(telemetry::SYNC_SECONDS).record(before.elapsed().as_secs_f64());
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.plug.check()?;
        self.file.write(offset, data)?;
        self.plug.written_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
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
