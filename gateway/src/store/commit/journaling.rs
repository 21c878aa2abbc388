//! What goes into the journal, and when all that is in it goes into a segment.
//!
//! ```text
//!  small write ─ fits ─▶ a frame                          ┌▶ segment, with all rows of the journal:
//!        └─ full, or no journal ──────────────────────────┤  then a new epoch begins
//!  large write, gap record, old, stop, segment is full ───┘
//! ```
//! The journal is written only beside an active segment of this run, so that a failure of either
//! has one way on: the rows of the journal and the failed write's own begin another segment
//! (`write.rs`), which notes the epoch that it took over. Each transaction of a segment also says
//! which epoch is open from then on, behind the journal's header that has it: only then a frame of
//! it is written, so that a journal that is not found again is missed. The first small commit of a
//! run, which makes the journal, goes into the segment for that.
//!
//! Limits: the journal takes one part in [`ROOM_PART`] of the room at the most, and has
//! [`SLOTS_LEAST`] slots for frames at least, or there is none and everything goes into segments.
//! What is in it is in a segment after [`FOLDED_WITHIN`].

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Committer, room::OVERHEAD, write::Write};
use crate::{
    clock::Now,
    store::{
        error::StoreError,
        journal::{self, Entry, HEADER_SLOTS, Journal, SLOT_BYTES, State},
        record::{epochs::Epochs, position::LogPosition, row::Block},
        settings::JOURNAL_BYTES_MAX,
    },
};

/// The journal takes at most one part in this of the room.
const ROOM_PART: u64 = 16;
/// With fewer slots it would save little.
const SLOTS_LEAST: u64 = 4;
/// The oldest frame is in a segment after this.
const FOLDED_WITHIN: Duration = Duration::from_secs(300);
/// Wait before another try to make a journal.
const AGAIN: Duration = Duration::from_secs(60);

/// What is in the journal and in no segment, and the journal as far as it can be written.
#[derive(Debug)]
pub(super) struct Unfolded {
    /// This run's, unless anything failed on it.
    journal: Option<Journal>,
    /// The newest epoch of which there may be frames in the folder.
    epoch: u64,
    /// What the newest segment says of them.
    pub noted: Epochs,
    /// The store is being closed: no epoch is open behind what is written now.
    is_closing: bool,
    /// The end of what is in segments.
    pub from: LogPosition,
    /// Bytes of rows.
    pub bytes: u64,
    /// Clients whose QoS 2 ids changed.
    pub changed: BTreeSet<Box<str>>,
    /// When the oldest frame was written.
    since: Option<Instant>,
    /// As in [`Replay`](journal::Replay): their epoch is not over before a segment has them.
    pub held: Vec<Arc<Block>>,
    /// When a journal may be made again.
    again_at: Option<Instant>,
}

impl Unfolded {
    /// As a start found it: segments end at `from`, and note `noted`.
    pub fn new(from: LogPosition, noted: Epochs, found: &journal::Replay, now: Instant) -> Self {
        Self {
            journal: None,
            epoch: found.epoch,
            noted,
            is_closing: false,
            from,
            bytes: found.blocks.iter().map(|block| block.row().len() as u64).sum(),
            changed: BTreeSet::new(),
            since: (found.epoch > noted.over).then_some(now),
            held: found.held.clone(),
            again_at: None,
        }
    }

    /// Whether the next transaction of a segment takes over what is in the journal.
    pub fn has_frames(&self) -> bool {
        self.epoch_taken_over() != self.noted.over
    }

    /// What the next transaction of a segment notes, once the journal knows it.
    ///
    /// # Errors
    /// [`StoreError`]: the journal is not to be written again.
    pub fn announce(&mut self) -> Result<Epochs, StoreError> {
        let over = self.epoch_taken_over();
        let mut open = 0;
        if let Some(journal) = self.journal.as_mut().filter(|_| !self.is_closing) {
            open = over + 1;
            journal.announce(open)?;
        }
        Ok(Epochs { over, open })
    }

    /// The newest epoch that is in segments, once what is written now is durable.
    fn epoch_taken_over(&self) -> u64 {
        if self.held.is_empty() { self.epoch } else { self.noted.over }
    }

    /// All of it is in a segment that ends at `end`, and says which epoch is `open`.
    pub fn fold(&mut self, end: LogPosition, open: u64) {
        self.noted = Epochs { over: self.epoch_taken_over(), open };
        (self.from, self.bytes, self.since) = (end, 0, None);
        self.changed.clear();
        if let Some(journal) = &mut self.journal {
            journal.begin_epoch();
        }
    }

    /// Something failed: the file is not written again, and another one is not made at once.
    pub fn abandon(&mut self, now: Now) {
        if self.journal.take().is_some() {
            self.again_at = Some(now.at + AGAIN);
        }
    }

    /// Bytes that its rows will take in a segment.
    pub fn bytes_on_disk(&self) -> u64 {
        self.bytes * OVERHEAD
    }

    /// Whether no frame in the folder is needed any more.
    fn is_over(&self) -> bool {
        self.epoch == self.noted.over && self.held.is_empty()
    }

    /// Whether there is a file that has to be there.
    pub fn has_journal(&self) -> bool {
        self.journal.is_some()
    }
}

impl Committer {
    /// Makes `write` durable in the journal, if it belongs there and fits. Whether it did.
    ///
    /// # Errors
    /// [`StoreError`]: the journal is not to be written again.
    pub(super) fn write_journal(
        &mut self,
        write: &Write,
        cursors: Option<&[(String, u64)]>,
        now: Now,
    ) -> Result<bool, StoreError> {
        let bytes = write.bytes();
        let fits_segment = self.segment_bytes + self.unfolded.bytes + bytes < self.segment_bytes_max;
        let is_plain = !write.folds && write.gaps.is_none() && write.moved.is_empty();
        if bytes > SLOT_BYTES as u64 || !is_plain || !fits_segment {
            return Ok(false);
        }
        self.make_journal(now);
        let epoch = self.unfolded.noted.over + 1;
        let is_open = self.unfolded.noted.open == epoch;
        let Some(journal) = self.unfolded.journal.as_mut().filter(|_| is_open) else { return Ok(false) };
        let pending = {
            let pending = self.intake.pending();
            let of = |client: &str| (client.to_owned(), pending.ids(client).to_vec());
            write.changed.iter().map(|client| of(client)).collect()
        };
        let end = self.end;
        let end = write.blocks.is_empty().then_some((end.offset, end.events, end.bytes));
        let state = State { cursors: cursors.map(<[_]>::to_vec), pending, end };
        fail::fail_point!("store-before-commit", |_| std::process::abort());
        let appended = journal.append(epoch, &Entry { blocks: &write.blocks, state });
        if !matches!(appended, Ok(false)) {
            self.unfolded.epoch = epoch;
        }
        if !appended? {
            return Ok(false);
        }
        fail::fail_point!("store-after-commit", |_| std::process::abort());
        self.unfolded.since.get_or_insert(now.at);
        Ok(true)
    }

    /// `write` is in the journal: readers may have it.
    pub(super) fn note_journaled(&mut self, write: &Write) {
        self.unfolded.bytes += write.bytes();
        self.unfolded.changed.extend(write.changed.iter().cloned());
        self.log.segments.journaled.extend(&write.blocks);
    }

    /// Puts what is in the journal into a segment, if it is so old.
    pub(super) fn fold_after(&mut self, age: Duration, now: Now) {
        let is_old = |since: Instant| now.at.saturating_duration_since(since) >= age;
        if self.stuck.is_none() && self.unfolded.since.is_some_and(is_old) {
            self.write(Write { folds: true, cursors: true, ..Write::default() }, now);
        }
    }

    /// The same after the time within which it has to be there.
    pub(super) fn fold_old(&mut self, now: Now) {
        self.fold_after(FOLDED_WITHIN, now);
    }

    /// Puts all that is in the journal into a segment, which says that no epoch is open.
    pub(super) fn close_journal(&mut self, now: Now) {
        self.unfolded.is_closing = true;
        let is_open = self.unfolded.noted.open > 0 || self.unfolded.since.is_some();
        if self.stuck.is_none() && is_open {
            self.write(Write { folds: true, cursors: true, ..Write::default() }, now);
        }
    }

    /// Lets go of the rows that a start held because a segment could not be read: those that can be
    /// read now, and those whose segment is gone.
    pub(super) fn release_held(&mut self) {
        let held = &mut self.unfolded.held;
        let Some(first) = held.first().map(|block| block.first()) else { return };
        let Ok(place) = self.log.segments.holding(first) else { return };
        held.retain(|block| {
            let found = place.segment.read(block.first(), 1);
            let is_there =
                found.is_ok_and(|rows| rows.first().is_some_and(|row| row.first() == block.first()));
            place.first <= first && !is_there
        });
    }

    /// Removes the journal of an earlier run, or one that something failed on, once no frame of it
    /// is needed: it may be larger than there is room for now. One that comes back after a power
    /// cut is still over.
    pub(super) fn remove_spent_journal(&mut self) {
        let is_spent = self.unfolded.is_over() && !self.unfolded.has_journal();
        if is_spent && self.log.files.used_bytes(journal::FILE) > 0 {
            if let Err(error) = self.log.files.remove(journal::FILE) {
                tracing::debug!(%error, "a journal that is over is left where it is");
            }
            self.look_at_other_files();
        }
    }

    /// Makes a journal if there is none, there is room for one, and no frame of an earlier one is
    /// needed.
    fn make_journal(&mut self, now: Now) {
        let unfolded = &self.unfolded;
        let may_try = unfolded.again_at.is_none_or(|again_at| now.at >= again_at);
        let bytes = self.settings.journal_bytes.min(JOURNAL_BYTES_MAX).min(self.room.max_bytes / ROOM_PART);
        let has_room = bytes >= (HEADER_SLOTS as u64 + SLOTS_LEAST) * SLOT_BYTES as u64
            && !self.room.is_low()
            && self.room.free_bytes() > bytes * OVERHEAD;
        if unfolded.has_journal() || !unfolded.is_over() || !may_try || !has_room {
            return;
        }
        match Journal::create(&self.log.files, self.log.store, bytes, self.unfolded.epoch + 1) {
            Ok(journal) => self.unfolded.journal = Some(journal),
            Err(error) => {
                self.unfolded.again_at = Some(now.at + AGAIN);
                let error = self.log.files.failed(error);
                if !matches!(error, StoreError::Closed) {
                    tracing::warn!(%error, "no journal can be made: small commits go into segments for now");
                }
            }
        }
        self.look_at_other_files();
    }
}
