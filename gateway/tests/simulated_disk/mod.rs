//! A disk that loses power on cue, fills up, fails at the Nth operation and rots; all of it follows
//! from a seed.
//!
//! ```text
//!  store ──▶ Folder (SimulatedDisk) ──▶ State: directory.rs  names:  durable, visible, unsynced
//!  redb  ──▶ StorageBackend (Handle) ─┘        file.rs       bytes:  durable, visible, unsynced
//!                                              schedule.rs   count, faults, the operation at which the power goes
//! ```
//! A power cut leaves of what was not synced a part that the seed chooses ([`Survival`]): a sector
//! of 512 bytes is on the disk or not, in any order, a file's length and the names for themselves.
//! What was synced stays, always, unless a test asks for a card that destroys whole pages around a
//! write ([`SimulatedDisk::destroy_around_writes`]). All handles of before answer errors.
//!
//! Operations are counted (not reads, lengths, names): a test runs a piece of work once, asks for
//! [`SimulatedDisk::operations`], and then lets each of them fail in turn. The first operation from
//! now has the number 1.
//!
//! It does not model: a sector that is half written, bytes of a file that was removed showing up in
//! another, a sync that reports success and did nothing, locks.

#![allow(dead_code, reason = "each file of tests uses its part of it")]

mod directory;
mod file;
mod handle;
mod image;
mod random;
mod schedule;
mod state;

use std::{fmt, io, path::Path, sync::Arc};

use parking_lot::Mutex;
use redb::StorageBackend;
use tidegate::store::Folder;

use self::{image::BLOCK_BYTES, state::State};

pub use self::{
    handle::Handle,
    random::{Random, Survival},
    schedule::{Fault, Kind, Operation},
};

/// The disk. A clone is the same disk.
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

impl SimulatedDisk {
    /// An empty disk; whatever chance decides on it follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(seed))) }
    }

    /// The disk as the store takes it.
    pub fn folder(&self) -> Arc<dyn Folder> {
        Arc::new(self.clone())
    }

    /// [`Folder::create`], as `redb::Builder::create_with_backend` takes it.
    pub fn create_file(&self, name: &str) -> io::Result<Handle> {
        self.handle(name, true, State::create)
    }

    /// [`Folder::open`], as `redb::Builder::create_with_backend` takes it.
    pub fn open_file(&self, name: &str) -> io::Result<Handle> {
        self.handle(name, true, State::open)
    }

    // Power.

    /// The power goes and comes back, now. A cut that [`SimulatedDisk::cut_at`] has ahead stays
    /// ahead.
    pub fn cut_power(&self) {
        self.state.lock().cut();
    }

    /// The power goes during the `n`-th operation from now: it and all later ones answer errors
    /// until [`SimulatedDisk::power_on`].
    pub fn cut_at(&self, n: u64) {
        let mut state = self.state.lock();
        state.schedule.cut_at = Some(state.schedule.number(n));
    }

    /// The power comes back. It is cut before, also where [`SimulatedDisk::cut_at`] was not
    /// reached, which is forgotten.
    pub fn power_on(&self) {
        let mut state = self.state.lock();
        state.schedule.cut_at = None;
        state.cut();
    }

    pub fn has_power(&self) -> bool {
        self.state.lock().powered
    }

    /// How much survives the cuts from now on, and what [`Folder::forget_cached`] keeps; `None`:
    /// the seed chooses each time.
    pub fn set_survival(&self, survival: Option<Survival>) {
        self.state.lock().survival = survival;
    }

    /// From now on a cut may also destroy whatever lies around a write under way in a file, in
    /// pieces of `bytes`: as a card does that writes such pages.
    pub fn destroy_around_writes(&self, name: &'static str, bytes: u64) {
        self.state.lock().destroys = Some((name, bytes));
    }

    // Faults.

    /// The `n`-th operation from now fails.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        self.state.lock().schedule.fail_at(n, fault);
    }

    /// The `n`-th operation from now and all after it fail, until [`SimulatedDisk::heal`].
    pub fn fail_from(&self, n: u64, fault: Fault) {
        self.state.lock().schedule.fail_from(n, fault);
    }

    /// The `n`-th read from now fails.
    pub fn fail_read_at(&self, n: u64, fault: Fault) {
        self.state.lock().schedule.fail_read_at(n, fault);
    }

    /// Nothing fails from now on.
    pub fn heal(&self) {
        self.state.lock().schedule.heal();
    }

    /// Operations so far, those that failed included.
    pub fn operations(&self) -> u64 {
        self.state.lock().schedule.operations()
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        self.state.lock().schedule.reads()
    }

    /// The kinds of all operations so far.
    pub fn kinds(&self) -> Vec<Kind> {
        self.state.lock().schedule.log.iter().map(|operation| operation.kind).collect()
    }

    /// The operation with a number as [`SimulatedDisk::operations`] counts: 1 is the disk's first.
    pub fn operation(&self, number: u64) -> Option<Operation> {
        self.state.lock().schedule.log.get(number.checked_sub(1)? as usize).cloned()
    }

    // Room.

    /// Lets files take this many bytes and no more, in blocks of 4 KiB.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.state.lock().capacity_bytes = capacity_bytes;
    }

    /// Bytes that all files take, those that were removed and are still open included.
    pub fn all_used_bytes(&self) -> u64 {
        self.state.lock().used_bytes()
    }

    // Looking in, and damage. They work without power, are not counted, and panic where there is no
    // such file.

    /// The names that are seen.
    pub fn names(&self) -> Vec<String> {
        self.state.lock().names()
    }

    /// A file as reads see it.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.with(name, |file| file.visible().bytes().to_vec())
    }

    /// A file as it is after a cut that nothing survives but what was synced.
    pub fn durable_bytes(&self, name: &str) -> Vec<u8> {
        self.with(name, |file| file.durable().bytes().to_vec())
    }

    /// Puts a file on the disk, or another in its place: durable, and all names with it. Handles on
    /// the one before stay with it.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.state.lock().put(name, bytes.to_vec());
    }

    /// Flips a bit.
    pub fn flip(&self, name: &str, byte: u64, bit: u8) {
        self.with(name, |file| {
            assert!(byte < file.visible().len(), "{name} ends before byte {byte}");
            file.damage(byte..byte + 1, |byte| *byte ^= 1 << bit);
        });
    }

    /// Makes a page of 4 KiB zeros.
    pub fn zero_page(&self, name: &str, page: u64) {
        self.with(name, |file| file.damage(page * BLOCK_BYTES..(page + 1) * BLOCK_BYTES, |byte| *byte = 0));
    }

    /// Cuts a file.
    pub fn truncate(&self, name: &str, len: u64) {
        self.with(name, |file| file.truncate(len));
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut file::File) -> T) -> T {
        let mut state = self.state.lock();
        let Ok(file) = state.find(name) else {
            panic!("there is no {name}, there are {:?}", state.names());
        };
        act(state.file(file))
    }

    fn handle(
        &self,
        name: &str,
        writes: bool,
        open: impl FnOnce(&mut State, &Arc<str>) -> io::Result<u64>,
    ) -> io::Result<Handle> {
        let name = Arc::from(name);
        let mut state = self.state.lock();
        let file = open(&mut state, &name)?;
        Ok(Handle::new(self.state.clone(), file, name, state.generation, writes))
    }
}

impl Folder for SimulatedDisk {
    fn path(&self) -> &Path {
        Path::new("/simulated")
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.check_power()?;
        Ok(state.names())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.create_file(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.open_file(name)?))
    }

    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.handle(name, false, State::open)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state.lock().rename(&Arc::from(from), to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state.lock().remove(&Arc::from(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.state.lock().sync_folder()
    }

    fn used_bytes(&self, name: &str) -> io::Result<u64> {
        let state = self.state.lock();
        state.check_power()?;
        Ok(state.image(state.find(name)?).used_bytes())
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let state = self.state.lock();
        state.check_power()?;
        Ok(state.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used_bytes())))
    }

    fn forget_cached(&self, name: &str) -> io::Result<()> {
        self.state.lock().forget(name)
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("SimulatedDisk")
            .field("names", &state.names())
            .field("operations", &state.schedule.operations())
            .field("generation", &state.generation)
            .finish()
    }
}
