//! Looking into a store: on its files while no gateway runs, or through the one that does. Changes
//! no event.
//!
//! ```text
//!  a folder ──▶ Stopped: folder locked shared, files read ─┐
//!                                                 ├─▶ verify: file by file, what is wrong and what to do
//!  View ──────▶ Running: the open store ──────────┤   stat: how much, how old, how fast, how far each uplink is
//!                                                 └─▶ cat: records, one by one
//! ```
//! A sealed file is read through an overlay of its own, so that nothing is written into it; the
//! file that is being written is read by short transactions of the database that writes it. What a
//! running store is found to suffer from is reported to the commit thread, which repairs it as it
//! would for a reader.
//!
//! Limits: one segment is open at a time; rows are read [`READ_BYTES_MAX`] at about a time, and
//! [`FINDINGS_MAX`](report::FINDINGS_MAX) findings are told of a file.
//!
//! Blocking: to be called off the hot path. It does not repair, and it does not judge what a
//! payload says.

mod beside;
mod cat;
mod entry;
mod report;
mod source;
mod stat;
mod state;
mod verify;
mod walk;

use std::{path::Path, sync::Arc};

pub use cat::{CatFilter, CatItem, CatLimits};
pub use entry::Entry;
pub use report::{FileKind, FileReport, Finding, Missing, Summary, Verdict};
pub use stat::{CardLife, IdStat, OtherFile, RunStat, SegmentStat, Stat, UplinkStat};
pub use verify::Verify;

pub use super::segment::Part;
use super::{
    disk::{
        Files,
        folder::{Folder, OsFolder},
        lock,
    },
    error::StoreError,
    read::view::View,
};
use crate::clock::Now;
use source::InspectedStore;

/// Bytes of rows that one read brings at about the most.
const READ_BYTES_MAX: usize = 512 * 1024;

/// A look into a store.
#[derive(Debug)]
pub struct Inspector {
    source: InspectedStore,
    /// What the gateway is called, where that is known: part of the events' ids.
    gateway_id: Option<String>,
    /// Bytes that the card is rated for.
    endurance_bytes: Option<u64>,
}

impl Inspector {
    /// Looks at the store in a folder, while no gateway has it open; none can open it for as long
    /// as this lives.
    ///
    /// # Errors
    /// [`StoreError::NoStore`], [`StoreError::InUse`] while a gateway runs, or what the system
    /// said. Nothing was written.
    pub fn of_files(folder: &Path) -> Result<Self, StoreError> {
        if !folder.is_dir() {
            return Err(StoreError::NoStore { path: folder.to_owned() });
        }
        let lock = lock::lock_to_read(folder)?;
        let files = Files::new(Arc::new(OsFolder::new(folder.to_owned())));
        Self::new(InspectedStore::stopped(files, Some(lock))?)
    }

    /// Looks at the store in `folder`, which nobody has open.
    ///
    /// # Errors
    /// As [`Inspector::of_files`].
    pub fn of_folder(folder: Arc<dyn Folder>) -> Result<Self, StoreError> {
        Self::new(InspectedStore::stopped(Files::new(folder), None)?)
    }

    fn new(source: InspectedStore) -> Result<Self, StoreError> {
        Ok(Self { source, gateway_id: None, endurance_bytes: None })
    }

    /// Checks file by file, each as it is asked for.
    ///
    /// # Errors
    /// [`StoreError`]: the folder cannot be read.
    pub fn verify(&self) -> Result<Verify<'_>, StoreError> {
        Verify::new(&self.source)
    }

    /// What it holds and how it does.
    ///
    /// # Errors
    /// [`StoreError`]: the folder cannot be read, or the store was closed. A file that cannot be
    /// read is no error: it says so itself.
    pub fn stat(&self, now: Now) -> Result<Stat, StoreError> {
        stat::stat(&self.source, self.endurance_bytes, now)
    }

    /// The uplinks that have a place in it.
    #[must_use]
    pub fn uplinks(&self) -> Vec<String> {
        self.source.cursors().into_iter().map(|(name, _)| name).collect()
    }

    /// Shows records to `visit`, oldest first, and gives the offset to go on from; `None` where the
    /// log ends.
    ///
    /// # Errors
    /// [`StoreError::Closed`]: the store was closed meanwhile.
    pub fn cat(
        &self,
        filter: &CatFilter,
        limits: CatLimits,
        visit: &mut dyn FnMut(CatItem<'_>),
    ) -> Result<Option<u64>, StoreError> {
        cat::cat(&self.source, self.gateway_id.as_deref(), filter, limits, visit)
    }
}

impl View {
    /// Says what the events' ids begin with, and what the card is rated for.
    #[must_use]
    pub fn of_gateway(mut self, id: &str, endurance_bytes: Option<u64>) -> Self {
        (self.gateway_id, self.endurance_bytes) = (Some(id.into()), endurance_bytes);
        self
    }

    /// A look into the open store.
    #[must_use]
    pub fn inspector(&self) -> Inspector {
        Inspector {
            source: InspectedStore::Running(self.log.clone()),
            gateway_id: self.gateway_id.as_deref().map(str::to_owned),
            endurance_bytes: self.endurance_bytes,
        }
    }
}
