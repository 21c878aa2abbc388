//! How things stood last: what the last segment says, and the journal behind it.
//!
//! ```text
//!  last segment ─ checked, read once ─▶ its end, cursors, ids, frames seen ─┐
//!       └ damaged, or says nothing ─▶ the one before it, and a jump          ├─▶ Last
//!  journal ─▶ rows behind that end, and what their commits changed ─────────┘
//! ```
//! Before the last segment is believed it is synced and what memory holds of it is let go: a stop
//! may have left bytes in memory that are not on the disk, and a failed sync some that never will
//! be. An acknowledgement of a copy would rest on them.
//!
//! A last segment that is damaged does not keep the gateway from starting: the one before it says
//! where cursors, pending ids and seen frames stood, offsets go on behind all that the damaged one
//! can have held, and the commit thread repairs it.
//!
//! Rows of the journal that lie before such a jump are kept until that segment is repaired with
//! them. If what the journal held is lost itself, offsets go on behind all that it can have held.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
};

use super::{
    commit::{CarriedSegment, frame_of, seen::Seen},
    disk::Files,
    error::StoreError,
    journal::{self, Replay},
    log::{Fault, delivered::Delivered, segments::Segments},
    record::{
        self,
        pending::Pending,
        position::{self, LogPosition},
    },
    segment::{self, Found, Part, Segment},
    side_file::dead_letters,
};

/// A last segment with at most so many bytes of rows is taken over by the next.
const CARRIED_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// No segment's file is longer: the largest `segment_bytes` with what redb adds, and one commit.
const SEGMENT_FILE_BYTES_MAX: u64 = 4 << 30;

/// What the last segment says that can be read.
pub struct Last {
    /// Of the last segment that can say it.
    pub found: Found,
    /// The end of the log.
    pub end: LogPosition,
    /// Frames stored.
    pub seen: Seen,
    /// Small enough for the next one to take it over.
    pub carried: Option<CarriedSegment>,
    /// Offsets go on here, and nobody can tell how many events lie before.
    pub jumped_to: Option<u64>,
    /// What is to be repaired.
    pub faults: Vec<Fault>,
}

impl Last {
    /// What the last of the segments says that can be read, of those that begin at `firsts`.
    ///
    /// # Errors
    /// [`StoreError`]: the disk does not answer, or a newer program wrote it.
    pub fn of(files: &Files, firsts: &[u64]) -> Result<Self, StoreError> {
        last_state(files, firsts)
    }

    /// There is no segment any more, for all of them were delivered and the disk was full.
    pub fn behind(delivered: Delivered) -> Self {
        let mut found = Found::default();
        found.head.store = delivered.store;
        Last {
            found,
            end: delivered.mark,
            seen: Seen::default(),
            carried: None,
            jumped_to: None,
            faults: Vec::new(),
        }
    }

    /// A segment was made behind the last one that is there: its file is gone, with all that it may
    /// have held.
    pub fn miss_newest(&mut self, newest: u64, last: u64) {
        if newest <= last {
            return;
        }
        let from = self.end.offset;
        self.end.offset = from.max(behind(newest));
        (self.jumped_to, self.carried) = (Some(self.end.offset), None);
        self.faults.push(Fault::Missing { range: from..self.end.offset });
    }

    /// Goes on behind what the journal holds, and with what its commits changed.
    ///
    /// # Errors
    /// [`StoreError`]: the disk does not answer.
    pub fn take_journal(&mut self, files: &Files, segments: &Segments) -> Result<Replay, StoreError> {
        if files.names()?.iter().any(|name| name == journal::FILE) {
            files.settle(journal::FILE);
        }
        let (head, end) = (self.found.head, self.end);
        let is_known = self.jumped_to.is_none();
        let mut replay = journal::replay(files, head.store, head.epochs, end.offset, is_known)?;
        let ranges = segments.ranges(end.offset);
        if ranges.is_empty() {
            // All of it was delivered, and the segments are deleted.
            return Ok(Replay { epoch: replay.epoch, ..Replay::default() });
        }
        for block in replay.held.iter().chain(&replay.blocks) {
            for frame in block.records_from(0).filter_map(|(_, record)| frame_of(&record)) {
                self.seen.is_copy(frame);
            }
        }
        for state in &replay.states {
            if let Some(cursors) = &state.cursors {
                self.found.cursors.clone_from(cursors);
            }
            for (client, ids) in &state.pending {
                self.found.pending.forget(client);
                for id in ids {
                    self.found.pending.add(client, *id);
                }
            }
        }
        if replay.is_damaged {
            // An id that a lost frame released would make a new message a copy.
            self.found.pending = Pending::default();
        }
        let missing = replay.missing.iter().map(|range| Fault::Missing { range: range.clone() });
        self.faults.extend(missing);
        if let Some(held) = replay.held.first() {
            let why = "the journal holds rows of it".to_owned();
            match ranges.iter().find(|range| range.contains(&held.first())) {
                Some(range) => self.faults.push(Fault::Damaged { first: range.start, why }),
                // It was delivered, and its segment is deleted.
                None => replay.held.clear(),
            }
        }
        segments.journaled.extend(&replay.blocks);
        self.end = replay.end.unwrap_or(end);
        if replay.is_end_lost {
            let from = self.end.offset;
            // Rows of the journal begin where the segments end.
            self.end.offset = from.max(end.offset + journal::RECORDS_MAX);
            self.jumped_to = Some(self.end.offset);
            self.faults.push(Fault::Missing { range: from..self.end.offset });
        }
        Ok(replay)
    }
}

fn last_state(files: &Files, firsts: &[u64]) -> Result<Last, StoreError> {
    let mut faults = Vec::new();
    let mut end_min = 0;
    for first in firsts.iter().rev() {
        let name = segment::name_of(*first);
        files.settle(&name);
        match read_last(files, *first) {
            Ok(Some(mut last)) => {
                if end_min > 0 {
                    // The rows behind are damaged or of a segment that says nothing of the state.
                    last.end.offset = last.end.offset.max(end_min);
                    (last.carried, last.jumped_to) = (None, Some(last.end.offset));
                }
                last.faults = faults;
                return Ok(last);
            }
            Ok(None) => end_min = end_min.max(behind(*first)),
            Err(error) if error.is_damage() => {
                tracing::error!(%error, "the last segment is damaged: going on without it, and repairing it");
                faults.push(Fault::Damaged { first: *first, why: error.to_string() });
                end_min = end_min.max(behind(*first));
            }
            Err(error) => return Err(error),
        }
    }
    let mut found = Found::default();
    found.head.store = match dead_letters::identity(files) {
        Some(store) => store,
        None => random_id(),
    };
    let end = LogPosition { offset: end_min, ..LogPosition::default() };
    let jumped_to = Some(end_min);
    Ok(Last { found, end, seen: Seen::default(), carried: None, jumped_to, faults })
}

/// Behind every record that a segment which begins at `first` can have held: its file may have been
/// cut.
fn behind(first: u64) -> u64 {
    first + SEGMENT_FILE_BYTES_MAX / record::HEAD_BYTES as u64
}

/// `None` for a segment that does not say how things stood.
fn read_last(files: &Files, first: u64) -> Result<Option<Last>, StoreError> {
    let segment = Segment::open_sealed(files, first, None)?;
    let found = segment.found()?;
    if found.head.part != Part::Whole {
        return Ok(None);
    }
    let head = found.head;
    let beginning = LogPosition {
        offset: first,
        events: head.events_before,
        bytes: head.bytes_before,
        received_ms: None,
    };
    let (mut end, mut seen, mut bytes) = (beginning, Seen::default(), 0);
    for piece in &found.seen {
        if !seen.restore(piece) {
            tracing::warn!("a list of stored frames cannot be read: frames sent again may be stored twice");
        }
    }
    segment.for_each_row(|block| {
        for frame in block.records_from(0).filter_map(|(_, record)| frame_of(&record)) {
            seen.is_copy(frame);
        }
        end = position::end_of(&block);
        bytes += block.row().len() as u64;
        Ok(())
    })?;
    let carried = (bytes <= CARRIED_BYTES_MAX).then_some(CarriedSegment { first: beginning, bytes });
    Ok(Some(Last { found, end, seen, carried, jumped_to: None, faults: Vec::new() }))
}

/// Seeded by the operating system's randomness.
pub fn random_id() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}
