//! The journal's file: made whole, then written a frame at a time.
//!
//! Made under another name, filled, synced, let go of by the system's memory (a page of
//! a large piece of it would be written with all of that piece) and renamed: from then on every
//! block of it is on the disk, and a commit changes nothing but bytes.
//!
//! Its headers say which epoch it knows (`header.rs`). A segment says that an epoch is open only
//! behind the header that has it, so that a file in which it is not found is known to be another.

use redb::StorageBackend as _;

use super::{
    BLANK, FILE, HEADER_SLOTS, PAGE_BYTES, SLOT_BYTES,
    frame::{self, Entry},
    header::Header,
    unfinished,
};
use crate::store::{
    disk::{Disk, Files},
    error::StoreError,
    settings::JOURNAL_BYTES_MAX,
};

/// Fills are written so many bytes at a time.
const FILL_BYTES: usize = 256 * 1024;
/// What stands for bytes that the disk does not give.
const UNREADABLE: u8 = !BLANK;

/// A journal that this run made, and nothing failed on.
#[derive(Debug)]
pub struct Journal {
    disk: Disk,
    files: Files,
    store: u32,
    /// Those of the headers among them.
    slots: u64,
    /// The epoch of the newest header.
    epoch: u64,
    /// The next frame's number in its epoch.
    sequence: u64,
    /// The frame, as it is written.
    frame: Vec<u8>,
}

impl Journal {
    /// Makes the journal of `store`, in place of the one that is there, whose frames have to be in
    /// segments. It begins with `epoch`.
    ///
    /// # Errors
    /// [`StoreError`]: the one that was there is there, or none; at most an unfinished file is
    /// left, which the next one replaces.
    pub fn create(files: &Files, store: u32, bytes: u64, epoch: u64) -> Result<Self, StoreError> {
        let slots = bytes / SLOT_BYTES as u64;
        let name = unfinished();
        let io = |error| StoreError::io(&files.path_of(&name), error);
        let made = files.create(&name).and_then(|disk| {
            let blank = vec![BLANK; FILL_BYTES.min(bytes as usize)];
            for at in (0..slots * SLOT_BYTES as u64).step_by(blank.len().max(1)) {
                let rest = (slots * SLOT_BYTES as u64 - at).min(blank.len() as u64);
                disk.write(at, &blank[..rest as usize]).map_err(io)?;
            }
            let header = Header { slots: slots as u32, epoch };
            disk.write(header_at(epoch), &header.encode(store)).map_err(io)?;
            disk.sync_data().map_err(io)?;
            files.forget_cached(&name)?;
            files.rename(&name, FILE)?;
            Ok(disk)
        });
        if made.is_err() {
            // On a full disk it may be what is in the way.
            let _ = files.remove(&name);
        }
        Ok(Self { disk: made?, files: files.clone(), store, slots, epoch, sequence: 0, frame: Vec::new() })
    }

    /// Appends a frame to the epoch: durable when this returns true. False if it does not fit, and
    /// then nothing was written.
    ///
    /// # Errors
    /// [`StoreError`]: it may be there or not, and the file is not to be written again.
    pub fn append(&mut self, epoch: u64, entry: &Entry<'_>) -> Result<bool, StoreError> {
        let slot = HEADER_SLOTS as u64 + self.sequence;
        if slot == self.slots || !frame::encode(&mut self.frame, self.store, epoch, self.sequence, entry) {
            return Ok(false);
        }
        self.frame.resize(self.frame.len().next_multiple_of(PAGE_BYTES), 0);
        self.write(slot * SLOT_BYTES as u64, &self.frame)?;
        self.sequence += 1;
        Ok(true)
    }

    /// Notes durably that `epoch` is the next one, before a segment says so.
    ///
    /// # Errors
    /// [`StoreError`]: the file is not to be written again. Its frames are as they were.
    pub fn announce(&mut self, epoch: u64) -> Result<(), StoreError> {
        if self.epoch == epoch {
            return Ok(());
        }
        let header = Header { slots: self.slots as u32, epoch };
        self.write(header_at(epoch), &header.encode(self.store))?;
        self.epoch = epoch;
        Ok(())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let synced = self.disk.write(at, bytes).and_then(|()| self.disk.sync_data());
        synced.map_err(|error| StoreError::io(&self.files.path_of(FILE), error))?;
        self.files.check_written(FILE)
    }

    /// Begins a new epoch: what was appended so far is in a segment.
    pub fn begin_epoch(&mut self) {
        self.sequence = 0;
    }
}

/// Where the header of an epoch lies, which is not where that of the one before does.
fn header_at(epoch: u64) -> u64 {
    epoch % HEADER_SLOTS as u64 * SLOT_BYTES as u64
}

/// The bytes of the journal in the folder, as the disk has them; `None` where there is none, or
/// something else in its place. A slot that the disk does not give is as if it were damaged.
///
/// # Errors
/// [`StoreError`]: the disk does not answer.
pub fn read(files: &Files) -> Result<Option<Vec<u8>>, StoreError> {
    if !files.names()?.iter().any(|name| name == FILE) {
        return Ok(None);
    }
    match read_file(files) {
        Err(error) if error.is_damage() => {
            tracing::error!(%error, "the journal cannot be read");
            Ok(None)
        }
        read => read.map(Some),
    }
}

fn read_file(files: &Files) -> Result<Vec<u8>, StoreError> {
    let io = |error| StoreError::io(&files.path_of(FILE), error);
    let disk = files.open_to_read(FILE)?;
    // A file that is longer was not made by a gateway.
    let len = disk.len().map_err(io)?.min(JOURNAL_BYTES_MAX);
    let mut bytes = vec![0; len as usize];
    if disk.read(0, &mut bytes).is_ok() {
        return Ok(bytes);
    }
    let (mut any, mut failure) = (false, None);
    for (at, slot) in (0..).step_by(SLOT_BYTES).zip(bytes.chunks_mut(SLOT_BYTES)) {
        match disk.read(at, slot) {
            Ok(()) => any = true,
            Err(error) => {
                slot.fill(UNREADABLE);
                failure = Some(error);
            }
        }
    }
    match failure.filter(|_| !any) {
        Some(error) => Err(io(error)),
        None => Ok(bytes),
    }
}
