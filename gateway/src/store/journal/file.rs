//! The journal's file: made whole, then written a frame at a time.
//!
//! Made under another name, filled with zeros, synced, let go of by the system's memory (a page of
//! a large piece of it would be written with all of that piece) and renamed: from then on every
//! block of it is on the disk, and a commit changes nothing but bytes.

use redb::StorageBackend as _;

use super::{
    FILE, PAGE_BYTES, SLOT_BYTES,
    frame::{self, Entry},
    unfinished,
};
use crate::store::{
    disk::{Disk, Files},
    error::StoreError,
    settings::JOURNAL_BYTES_MAX,
};

/// Fills are written so many bytes at a time.
const FILL_BYTES: usize = 256 * 1024;

/// A journal that this run made, and nothing failed on.
#[derive(Debug)]
pub struct Journal {
    disk: Disk,
    files: Files,
    store: u32,
    slots: u64,
    /// The next frame's.
    slot: u64,
    /// The frame, as it is written.
    frame: Vec<u8>,
}

impl Journal {
    /// Makes the journal of `store`, in place of the one that is there, whose frames have to be in
    /// segments.
    ///
    /// # Errors
    /// [`StoreError`]: the one that was there is there, or none; at most an unfinished file is
    /// left, which the next one replaces.
    pub fn create(files: &Files, store: u32, bytes: u64) -> Result<Self, StoreError> {
        let slots = bytes / SLOT_BYTES as u64;
        let name = unfinished();
        let io = |error| StoreError::io(&files.path_of(&name), error);
        let made = files.create(&name).and_then(|disk| {
            let zeros = vec![0; FILL_BYTES.min(bytes as usize)];
            for at in (0..slots * SLOT_BYTES as u64).step_by(zeros.len().max(1)) {
                let rest = (slots * SLOT_BYTES as u64 - at).min(zeros.len() as u64);
                disk.write(at, &zeros[..rest as usize]).map_err(io)?;
            }
            disk.sync_data().map_err(io)?;
            files.forget_cached(&name)?;
            files.rename(&name, FILE)?;
            Ok(disk)
        });
        if made.is_err() {
            // On a full disk it may be what is in the way.
            let _ = files.remove(&name);
        }
        Ok(Self { disk: made?, files: files.clone(), store, slots, slot: 0, frame: Vec::new() })
    }

    /// Appends a frame to the epoch: durable when this returns true. False if it does not fit, and
    /// then nothing was written.
    ///
    /// # Errors
    /// [`StoreError`]: it may be there or not, and the file is not to be written again.
    pub fn append(&mut self, epoch: u64, entry: &Entry<'_>) -> Result<bool, StoreError> {
        if self.slot == self.slots || !frame::encode(&mut self.frame, self.store, epoch, self.slot, entry) {
            return Ok(false);
        }
        self.frame.resize(self.frame.len().next_multiple_of(PAGE_BYTES), 0);
        let written = self.disk.write(self.slot * SLOT_BYTES as u64, &self.frame);
        let synced = written.and_then(|()| self.disk.sync_data());
        synced.map_err(|error| StoreError::io(&self.files.path_of(FILE), error))?;
        self.files.check_written(FILE)?;
        self.slot += 1;
        Ok(true)
    }

    /// Begins a new epoch: what was appended so far is in a segment.
    pub fn begin_epoch(&mut self) {
        self.slot = 0;
    }
}

/// The bytes of the journal in the folder, as the disk has them; none where there is none, or
/// something else in its place.
///
/// # Errors
/// [`StoreError`]: the disk does not answer.
pub fn read(files: &Files) -> Result<Vec<u8>, StoreError> {
    if !files.names()?.iter().any(|name| name == FILE) {
        return Ok(Vec::new());
    }
    match read_file(files) {
        Err(error) if error.is_damage() => {
            tracing::error!(%error, "the journal cannot be read: what was in it alone is gone");
            Ok(Vec::new())
        }
        read => read,
    }
}

fn read_file(files: &Files) -> Result<Vec<u8>, StoreError> {
    let io = |error| StoreError::io(&files.path_of(FILE), error);
    let disk = files.open_to_read(FILE)?;
    // A file that is longer was not made by a gateway.
    let len = disk.len().map_err(io)?.min(JOURNAL_BYTES_MAX);
    let mut bytes = vec![0; len as usize];
    disk.read(0, &mut bytes).map_err(io)?;
    Ok(bytes)
}
