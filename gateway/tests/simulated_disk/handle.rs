//! An open file of the disk, as redb takes it.

use std::{fmt, io, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use redb::StorageBackend;

use super::{directory::FileId, state::State};

/// "Bad file descriptor" of the system: it was opened to be read.
const EBADF: i32 = 9;

/// An open file. It answers errors once the power was cut.
pub struct Handle {
    state: Arc<Mutex<State>>,
    file: FileId,
    name: Arc<str>,
    generation: u64,
    writes: bool,
}

impl Handle {
    /// A handle on a file that `state` has counted it for.
    pub fn new(
        state: Arc<Mutex<State>>,
        file: FileId,
        name: Arc<str>,
        generation: u64,
        writes: bool,
    ) -> Self {
        Self { state, file, name, generation, writes }
    }

    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        state.check_power()?;
        if state.generation != self.generation {
            return Err(io::Error::other("the power was cut since this file was opened"));
        }
        Ok(state)
    }

    fn state_to_write(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.writes { self.state() } else { Err(io::Error::from_raw_os_error(EBADF)) }
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.image(self.file).len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state()?;
        state.schedule.begin_read()?;
        let bytes = state.image(self.file).get(offset..offset + out.len() as u64);
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state_to_write()?.set_len(self.file, &self.name, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state_to_write()?.sync(self.file, &self.name)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state_to_write()?.write(self.file, &self.name, offset, data)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.state.lock().close(self.file, self.generation);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("name", &self.name).field("generation", &self.generation).finish()
    }
}
