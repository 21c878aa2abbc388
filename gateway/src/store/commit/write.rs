//! Writing, and what follows when it fails.
//!
//! ```text
//!  write ─▶ the journal, or the active segment ─ ok ─▶ settled: readers, PUBACKs
//!              │ full, or none          ▲
//!              ▼                        │
//!           a new segment that begins with the write ─ failed ─▶ stuck ─ 1 s … 30 s ─▶ again
//! ```
//! A file on which anything failed is never written again: after a failed sync the kernel may have
//! dropped the pages and still show them, so that no later sync of that file means anything. The
//! file is left as it is, ends for every reader at what was committed before, and the very rows of
//! the failed commit become the first transaction of another file, at the same offsets, behind
//! those that are durable in the journal alone. Until that works nothing is acknowledged and
//! nothing is taken from the intake; the process stays up, readers go on, and what is delivered is
//! deleted. The wait grows to [`AGAIN_MAX`]; on a full disk it ends as soon as there is room, which
//! is looked at every second.
//!
//! Crash story: a write that failed may be found at the next start, whole or not at all. It was
//! never acknowledged; the start syncs the file and lets go of what memory shows of it before it
//! believes anything.
//!
//! Limits: one write waits, of what one turn took from the intake.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Committer, room::Room};
use crate::{
    clock::Now,
    store::{
        error::StoreError,
        record::{epochs::Epochs, gap::Gap, gaps::Gaps, position::LogPosition, row::Block},
        segment::{Beginning, Part, Segment},
        side_file::dead_letters::Dropped,
    },
    telemetry,
};

/// Wait before the first try after a failure.
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// Longest wait between two tries.
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// What becomes durable together.
#[derive(Debug, Default)]
pub struct Write {
    /// Rows, at the end of the log.
    pub blocks: Vec<Arc<Block>>,
    /// Clients whose pending QoS 2 ids changed.
    pub changed: BTreeSet<Box<str>>,
    /// Tickets below this one are acknowledged for it.
    pub end_ticket: Option<u64>,
    /// The cursors as well.
    pub cursors: bool,
    /// All that is in the journal goes into a segment.
    pub folds: bool,
    /// Uplinks, by index, that stand here from now on.
    pub moved: Vec<(usize, LogPosition)>,
    /// What is missing from now on, and the records in `blocks` that say so.
    pub gaps: Option<(Gaps, Vec<Gap>)>,
    /// The lost dead letters that a record in `blocks` tells of.
    pub letters: Option<LostLetters>,
}

impl Write {
    /// Bytes of its rows.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.row().len() as u64).sum()
    }
}

/// Dead letters that are gone, and told in a gap record.
#[derive(Debug)]
pub enum LostLetters {
    /// With a damaged file.
    Damaged,
    /// For want of room.
    Dropped(Dropped),
}

/// A write that failed.
#[derive(Debug)]
pub struct Stuck {
    /// As it was and will be.
    pub write: Write,
    /// When it is tried again.
    pub again_at: Instant,
    tries: u32,
    /// What the disk had left when it had too little.
    no_space: Option<u64>,
}

/// What was written.
struct Written {
    /// Bytes of rows in the active segment, and the epoch that it says is open; `None` if the
    /// journal has it.
    segment: Option<(u64, u64)>,
    /// The cursors as they are stored, if they were.
    cursors: Option<Vec<(String, u64)>>,
}

/// A small segment of the run before: rows and place are taken over, so that a gateway that starts
/// often does not leave a file for each start.
#[derive(Debug, Clone, Copy)]
pub struct CarriedSegment {
    /// The log where it begins.
    pub first: LogPosition,
    /// Bytes of its rows.
    pub bytes: u64,
}

impl Committer {
    /// Makes `write` durable, or gets stuck with it.
    pub(super) fn write(&mut self, write: Write, now: Now) {
        debug_assert!(self.stuck.is_none(), "one write waits at the most, or its offsets would be lost");
        self.attempt(write, 0, now);
    }

    /// Tries again what is stuck, if it is time. False if it still is.
    pub(super) fn unstick(&mut self, now: Now) -> bool {
        let Some(mut stuck) = self.stuck.take() else { return true };
        let is_due = now.at >= stuck.again_at;
        let has_room = stuck.no_space.is_some_and(|available| {
            // What is forgotten is stored again at the worst, and what is dropped is lost: so the
            // one comes before the other.
            let may_drop = is_due && !self.cut_head();
            self.free_disk(&mut stuck.write, may_drop, now)
                || self.has_more_room(stuck.write.bytes(), available)
        });
        if !is_due && !has_room {
            self.stuck = Some(stuck);
            return false;
        }
        self.attempt(stuck.write, stuck.tries, now);
        self.stuck.is_none()
    }

    fn attempt(&mut self, write: Write, tries: u32, now: Now) {
        match self.try_write(&write, now) {
            Ok(written) => {
                match written.segment {
                    None => self.note_journaled(&write),
                    Some((bytes, open)) => {
                        self.segment_bytes = bytes;
                        self.unfolded.fold(self.end, open);
                        self.log.segments.journaled.clear();
                        self.remove_spent_journal();
                    }
                }
                if let Some(cursors) = written.cursors {
                    self.log.note_saved(&cursors);
                    (self.saved_cursors, self.saved_at) = (cursors, now.at);
                    self.remove_mark();
                }
                self.settle(write, now);
                if tries > 0 {
                    tracing::warn!("the store works again: events are acknowledged");
                    self.log.recover();
                    metrics::counter!(telemetry::STORE_RECOVERIES).increment(1);
                    metrics::gauge!(telemetry::STORE_FAILING).set(0.0);
                }
            }
            Err(error) => {
                let error = self.log.files.failed(self.log.files.check().err().unwrap_or(error));
                // Whoever reads it opens it anew, and reads what was committed.
                self.active = None;
                self.log.segments.abandon();
                self.unfolded.abandon(now);
                // Nor is it believed that there is room.
                self.room = Room::default();
                let wait = AGAIN_MIN.saturating_mul(1 << tries.min(5)).min(AGAIN_MAX);
                let is_stopped = matches!(error, StoreError::Closed);
                if !is_stopped && (tries.is_power_of_two() || tries == 0) {
                    tracing::error!(%error, "writing fails: nothing is acknowledged until it works again, next try in {wait:?}");
                }
                self.log.fail(error.to_string());
                metrics::counter!(telemetry::STORE_FAILURES).increment(1);
                metrics::gauge!(telemetry::STORE_FAILING).set(1.0);
                let no_space = error.is_no_space().then(|| self.log.files.available_bytes());
                self.stuck = Some(Stuck { write, again_at: now.at + wait, tries: tries + 1, no_space });
            }
        }
    }

    fn try_write(&mut self, write: &Write, now: Now) -> Result<Written, StoreError> {
        let bytes = self.unfolded.bytes + write.bytes();
        match self.active.clone() {
            Some(active) if self.segment_bytes < self.segment_bytes_max => {
                let mut cursors = write.cursors.then(|| self.cursors_with(write));
                if self.write_journal(write, cursors.as_deref(), now)? {
                    self.log.files.check_written(active.name())?;
                    return Ok(Written { segment: None, cursors });
                }
                let epochs = self.unfolded.announce()?;
                if self.unfolded.has_frames() {
                    // The segment may not know those that the journal has.
                    cursors = cursors.or_else(|| Some(self.cursors_with(write)));
                }
                self.commit_into(&active, write, cursors.as_deref(), epochs)?;
                Ok(Written { segment: Some((self.segment_bytes + bytes, epochs.open)), cursors })
            }
            _ => {
                let cursors = self.cursors_with(write);
                let epochs = self.unfolded.announce()?;
                let carried_bytes = self.begin_segment(write, &cursors, epochs)?;
                let segment = Some((carried_bytes + bytes, epochs.open));
                Ok(Written { segment, cursors: Some(cursors) })
            }
        }
    }

    fn commit_into(
        &self,
        active: &Segment,
        write: &Write,
        cursors: Option<&[(String, u64)]>,
        epochs: Epochs,
    ) -> Result<(), StoreError> {
        let commit = active.begin_commit()?;
        let journaled = self.log.segments.journaled.rows().0;
        let blocks = journaled.iter().chain(&write.blocks);
        commit.rows(blocks.map(|block| (block.first(), block.row())))?;
        let changed = &write.changed | &self.unfolded.changed;
        if !changed.is_empty() {
            commit.pending(&self.intake.pending(), &changed)?;
        }
        if epochs != self.unfolded.noted {
            commit.epochs(epochs)?;
        }
        if let Some(cursors) = cursors {
            commit.cursors(cursors)?;
        }
        if let Some((gaps, _)) = &write.gaps {
            commit.gaps(gaps)?;
        }
        fail::fail_point!("store-before-commit", |_| std::process::abort());
        commit.finish()?;
        fail::fail_point!("store-after-commit", |_| std::process::abort());
        self.log.files.check_written(active.name())
    }

    /// Begins a segment with what is written, and gives the bytes of the rows that it took over.
    fn begin_segment(
        &mut self,
        write: &Write,
        cursors: &[(String, u64)],
        epochs: Epochs,
    ) -> Result<u64, StoreError> {
        let carried = self.carried;
        let begun = self.create_segment(write, cursors, carried, epochs);
        if carried.is_some() && begun.as_ref().is_err_and(StoreError::is_damage) {
            // It stays where it is, and whoever reads it says what is the matter with it.
            self.carried = None;
            return self.begin_segment(write, cursors, epochs);
        }
        let active = begun?;
        let first = carried.map_or(self.unfolded.from, |carried| carried.first);
        self.log.segments.begin(first.offset, active.clone());
        self.active = Some(active);
        self.carried = None;
        if let Err(error) = self.log.dead_letters.note_newest_segment(first.offset) {
            tracing::warn!(%error, "should the newest segment ever be gone, nobody would know");
        }
        Ok(carried.map_or(0, |carried| carried.bytes))
    }

    fn create_segment(
        &self,
        write: &Write,
        cursors: &[(String, u64)],
        carried: Option<CarriedSegment>,
        epochs: Epochs,
    ) -> Result<Arc<Segment>, StoreError> {
        let from = self.unfolded.from;
        // A copy, because connections wait for the lock, and what follows copies rows and syncs.
        let pending = self.intake.pending().clone();
        let first = carried.map_or(from, |carried| carried.first);
        let beginning = Beginning {
            store: self.log.store,
            ids: &self.log.ids,
            first: first.offset,
            events_before: first.events,
            bytes_before: first.bytes,
            part: Part::Whole,
            cursors,
            pending: &pending,
            seen: &self.seen.snapshot(),
            gaps: &self.gaps_with(write),
            epochs,
        };
        fail::fail_point!("store-before-commit", |_| std::process::abort());
        let segment = Segment::create(&self.log.files, &beginning, |filler| {
            if carried.is_some() {
                let place = self.log.segments.holding(first.offset).map_err(|error| error.cause)?;
                place.segment.for_each_row(|block| match block.first() < from.offset {
                    true => filler.row(block.first(), block.row()),
                    false => Ok(()),
                })?;
            }
            let journaled = self.log.segments.journaled.rows().0;
            let mut blocks = journaled.iter().chain(&write.blocks);
            blocks.try_for_each(|block| filler.row(block.first(), block.row()))
        })?;
        fail::fail_point!("store-after-commit", |_| std::process::abort());
        Ok(Arc::new(segment))
    }

    /// What is missing once `write` is durable.
    pub(super) fn gaps_with(&self, write: &Write) -> Gaps {
        write.gaps.as_ref().map_or_else(|| self.log.gaps(), |(gaps, _)| gaps.clone())
    }

    /// The cursors as `write` leaves them.
    fn cursors_with(&self, write: &Write) -> Vec<(String, u64)> {
        let mut cursors = self.log.cursor_offsets();
        for (index, mark) in &write.moved {
            let uplink = &self.log.cursors[*index].uplink;
            if let Some((_, offset)) = cursors.iter_mut().find(|(name, _)| name == uplink) {
                *offset = mark.offset.max(*offset);
            }
        }
        cursors
    }

    /// `write` is durable: says so to whoever waits for it.
    fn settle(&mut self, write: Write, now: Now) {
        metrics::counter!(telemetry::COMMITS).increment(1);
        let events: u64 = write.blocks.iter().map(|block| u64::from(block.head().events)).sum();
        let bytes = write.bytes();
        self.log.meter.committed(events, now.at);
        metrics::counter!(telemetry::STORED_EVENTS).increment(events);
        metrics::counter!(telemetry::STORED_BYTES).increment(bytes);
        for (index, mark) in &write.moved {
            self.log.cursors[*index].give_up(*mark);
        }
        if let Some((gaps, records)) = write.gaps {
            self.log.set_gaps(gaps);
            self.log.meter.lost(records.iter().map(report).sum());
        }
        self.log.extend(write.blocks, self.end);
        if let Some(letters) = write.letters {
            self.confirm_letters(letters, now);
        }
        if let Some(end_ticket) = write.end_ticket {
            self.intake.committed(end_ticket);
        }
    }
}

/// Says in log and metrics what is missing, and gives how many events some uplink will not get.
fn report(gap: &Gap) -> u64 {
    let lost = gap.uplinks.iter().filter_map(|lost| lost.events).max().unwrap_or_default();
    let is_unknown = gap.uplinks.iter().any(|lost| lost.events.is_none());
    let undelivered = if is_unknown { "unknown".to_owned() } else { lost.to_string() };
    metrics::counter!(telemetry::DROPPED_EVENTS, "reason" => gap.reason.label()).increment(lost);
    let events = gap.events.map_or_else(|| "an unknown number of".to_owned(), |events| events.to_string());
    tracing::error!(
        reason = gap.reason.label(),
        from = gap.from,
        to = gap.to,
        undelivered,
        "{events} events are missing from the store; a gap record says so upstream"
    );
    lost
}
