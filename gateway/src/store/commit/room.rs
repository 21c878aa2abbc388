//! Room: what is deleted when it is done with, and what happens when the store is full.
//!
//! ```text
//!  delivered and kept long enough ─▶ deleted
//!  low on room ─▶ delivered ones go before `retain` is over, damaged files go
//!  full ─▶ reject: the intake takes nothing         drop-oldest: the oldest segment goes, its urgent records stay
//! ```
//! Dropping: the urgent records that some uplink still has to deliver are written to an unfinished file at their old
//! offsets, together with those of the dropped segment before it; a gap record that counts the others becomes durable; the
//! files are exchanged. A crash before the gap record drops nothing; after it, what is still in the file is passed over, for
//! the uplinks' places are behind it.
//!
//! Limits: `max_bytes` for all files, exceeded by one turn's commit at the most. One part in [`URGENT_PART`] of it takes nothing but
//! urgent records.

use std::{ops::Range, sync::Arc, time::Duration};

use super::{Committer, DELETE_EVERY, seal, write::Write};
use crate::{
    clock::Now,
    store::{
        Settings, WhenFull,
        error::StoreError,
        gap::{Gap, Reason, Tally},
        gaps::Gaps,
        intake::Quota,
        log::{Mark, Trouble},
        pending::Pending,
        reader,
        row::{Block, HEAD_BYTES},
        segment::{self, Beginning, Part, Segment},
        segments::{Fault, Place},
    },
};

/// One part in this of `max_bytes` is kept for urgent records.
const URGENT_PART: u64 = 16;
/// Below one part in this of `max_bytes` room is low: what is delivered goes before `retain` is over.
const LOW_PART: u64 = 8;
/// A file takes up to so many bytes for each byte of a row.
const OVERHEAD: u64 = 2;
/// What a commit writes besides its rows, and a new segment begins with, in bytes.
const SPARE_BYTES: u64 = 256 * 1024;
/// Segments deleted in one turn, so that no turn takes long.
const DELETED_AT_ONCE_MAX: usize = 16;

/// What dropping a segment comes to.
struct Plan {
    /// The segment.
    range: Range<u64>,
    /// The file that the urgent records go to begins here.
    first: Mark,
    /// The urgent records, of the dropped segment before it as well.
    kept: Vec<Arc<Block>>,
    /// Places of uplinks that stand in it.
    moved: Vec<(usize, Mark)>,
    gap: Gap,
}

impl Committer {
    /// Makes room for `bytes` of rows, as far as the policy allows.
    pub(super) fn make_room(&mut self, bytes: u64, now: Now) {
        while self.used_bytes() + bytes * OVERHEAD + SPARE_BYTES > self.settings.max_bytes {
            let delivered = self.saved_delivered();
            let is_freed = self.delete_delivered(delivered, Duration::ZERO, now)
                || self.delete_damaged()
                || (self.settings.when_full == WhenFull::DropOldest && self.drop_oldest(now));
            if !is_freed || self.stuck.is_some() {
                break;
            }
        }
    }

    /// The disk is full, and a write is stuck: frees what may go without one.
    pub(super) fn free_disk(&mut self, now: Now) {
        // Saving the cursors needs a write, and what every uplink has delivered may go.
        let delivered = self.log.cursors.iter().map(|cursor| cursor.mark().offset).min().unwrap_or_default();
        if self.delete_delivered(delivered, Duration::ZERO, now) || self.delete_damaged() {
            return;
        }
        if self.settings.when_full == WhenFull::DropOldest
            && let Ok(Some(plan)) = self.plan_drop(now)
            && plan.kept.is_empty()
            && let Some(mut stuck) = self.stuck.take()
        {
            // Gone before it is written down: should that not come to be, a reader finds it missing.
            let name = segment::name_of(plan.range.start);
            if self.log.files.remove(&name).is_ok() {
                self.log.segments.forget(plan.range.start);
                stuck.write.moved.extend(plan.moved);
                self.add_gap(&mut stuck.write, plan.gap, [plan.range].into_iter());
            }
            self.stuck = Some(stuck);
        }
    }

    /// Deletes what is done with, and says what may still be taken in.
    pub(super) fn tidy(&mut self, now: Now) {
        if now.at.saturating_duration_since(self.looked_for_done_at) >= DELETE_EVERY {
            self.looked_for_done_at = now.at;
            self.delete_delivered(self.saved_delivered(), self.settings.retain, now);
            self.look_at_other_files();
        }
        self.look_at_room(now);
    }

    /// Counts what is no segment: dead letters, damaged and unfinished files.
    pub(super) fn look_at_other_files(&mut self) {
        let names = self.log.files.names().unwrap_or_default();
        let others = names.iter().filter(|name| segment::first_of(name).is_none());
        self.other_bytes = others.map(|name| self.log.files.used_bytes(name)).sum();
    }

    /// Says what may still be taken in.
    pub(super) fn look_at_room(&mut self, now: Now) {
        let max = self.settings.max_bytes;
        let mut used = self.used_bytes();
        if used > max - max / LOW_PART && self.stuck.is_none() {
            self.seal_delivered(now);
            let delivered = self.saved_delivered();
            while used > max - max / LOW_PART && self.delete_delivered(delivered, Duration::ZERO, now) {
                used = self.used_bytes();
            }
        }
        self.intake.set_quota(quota(&self.settings, used, self.nothing_to_drop));
    }

    /// A full store that is all delivered, and all of it in the active segment, would stay full.
    fn seal_delivered(&mut self, now: Now) {
        let is_delivered = self.log.cursors.iter().all(|cursor| cursor.mark().offset >= self.end.offset);
        if is_delivered
            && !self.log.cursors.is_empty()
            && self.segment_bytes > self.settings.segment_bytes / LOW_PART
        {
            self.segment_bytes = self.settings.segment_bytes;
            self.write(Write { cursors: true, ..Write::default() }, now);
        }
    }

    fn used_bytes(&self) -> u64 {
        self.log.segments.usage().1 + self.other_bytes
    }

    /// Up to where everything is delivered, by the saved cursors: a crash must find what comes after them.
    fn saved_delivered(&self) -> u64 {
        self.saved_cursors.iter().map(|(_, offset)| *offset).min().unwrap_or_default()
    }

    /// Deletes segments that lie before `delivered`. Whether there was any.
    fn delete_delivered(&self, delivered: u64, retain: Duration, now: Now) -> bool {
        match self.log.segments.delete_done(delivered, retain, now.wall_ms, DELETED_AT_ONCE_MAX) {
            Ok(deleted) => deleted > 0,
            Err(fault) => {
                self.note_fault("could not delete a segment that is done with", fault);
                false
            }
        }
    }

    /// Deletes the oldest of the files that were set aside as damaged: what they held was given up for lost long ago.
    fn delete_damaged(&mut self) -> bool {
        let names = self.log.files.names().unwrap_or_default();
        let Some(oldest) = names.iter().filter(|name| segment::is_damaged(name)).min() else { return false };
        let deleted = self.log.files.remove(oldest).and_then(|()| self.log.files.sync());
        match &deleted {
            Ok(()) => tracing::warn!(file = %oldest, "deleted a damaged file to make room"),
            Err(error) => tracing::warn!(file = %oldest, %error, "could not delete a damaged file"),
        }
        self.look_at_other_files();
        deleted.is_ok()
    }

    /// Drops the oldest segment but for its urgent records. Whether there was one.
    fn drop_oldest(&mut self, now: Now) -> bool {
        let plan = match self.plan_drop(now) {
            Ok(plan) => plan,
            Err(fault) => {
                self.note_fault("could not drop the oldest segment", fault);
                return false;
            }
        };
        self.nothing_to_drop = plan.is_none();
        let Some(Plan { range, first, kept, moved, gap }) = plan else { return false };
        let dropped = self.prepare_kept(first, &kept).and_then(|()| {
            let mut write = Write { moved, cursors: true, ..Write::default() };
            self.add_gap(&mut write, gap, [range.clone()].into_iter());
            self.write(write, now);
            if self.stuck.is_some() {
                Err(StoreError::Closed)
            } else {
                self.exchange(&range, first.offset, &kept)
            }
        });
        if let Err(error) = &dropped {
            tracing::warn!(%error, "the oldest segment can not be dropped now: tried again");
        }
        dropped.is_ok()
    }

    fn prepare_kept(&self, first: Mark, kept: &[Arc<Block>]) -> Result<(), StoreError> {
        if kept.is_empty() {
            return Ok(());
        }
        let beginning = Beginning {
            store: self.log.store,
            first: first.offset,
            events_before: first.events,
            bytes_before: first.bytes,
            part: Part::Urgent,
            cursors: &[],
            pending: &Pending::default(),
            seen: &[],
            gaps: &Gaps::default(),
        };
        Segment::prepare(&self.log.files, &beginning, |filler| {
            kept.iter().try_for_each(|block| filler.row(block.first(), block.row()))
        })
    }

    /// Puts the file with the urgent records in its place, and removes the dropped one.
    fn exchange(&self, range: &Range<u64>, first: u64, kept: &[Arc<Block>]) -> Result<(), StoreError> {
        let (files, segments) = (&self.log.files, &self.log.segments);
        if !kept.is_empty() {
            let name = segment::name_of(first);
            files.rename(&segment::unfinished(&name), &name)?;
            segments.renew(first);
        }
        if kept.is_empty() || first != range.start {
            files.remove(&segment::name_of(range.start))?;
            segments.forget(range.start);
            files.sync()?;
        }
        Ok(())
    }

    fn plan_drop(&self, now: Now) -> Result<Option<Plan>, Fault> {
        let Some((before, place)) = self.log.segments.oldest_to_drop()? else { return Ok(None) };
        let fail = |cause| Fault { first: place.first, cause };
        let head = place.segment.head().map_err(fail)?;
        let own = Mark {
            offset: place.first,
            events: head.events_before,
            bytes: head.bytes_before,
            received_ms: None,
        };
        let end = place.end.unwrap_or(self.end.offset);
        let mut sorter = Sorter::new(self);
        let rows = place.segment.for_each_row(|block| {
            if block.first() < end {
                sorter.sort(&block);
            }
            Ok(())
        });
        rows.map_err(fail)?;
        let moved = sorter.moved(place.first..end);
        let (gap, urgent) = sorter.finish(place.first..end, now);
        let (first, mut kept) =
            if urgent.is_empty() { (own, Vec::new()) } else { self.with_urgent_of(before, own)? };
        kept.extend(urgent);
        Ok(Some(Plan { range: place.first..end, first, kept, moved, gap }))
    }

    /// What the file for urgent records begins with: those of the dropped segment before, unless its file is full.
    fn with_urgent_of(&self, before: Option<Place>, own: Mark) -> Result<(Mark, Vec<Arc<Block>>), Fault> {
        let is_small = |place: &Place| {
            self.log.files.used_bytes(&segment::name_of(place.first)) < self.settings.segment_bytes
        };
        let Some(place) = before.filter(is_small) else { return Ok((own, Vec::new())) };
        let fail = |cause| Fault { first: place.first, cause };
        let head = place.segment.head().map_err(fail)?;
        let mut kept = Vec::new();
        let rows = place.segment.for_each_row(|block| {
            if block.first() < own.offset {
                kept.push(Arc::new(block));
            }
            Ok(())
        });
        rows.map_err(fail)?;
        let first = Mark {
            offset: place.first,
            events: head.events_before,
            bytes: head.bytes_before,
            received_ms: None,
        };
        Ok((first, kept))
    }

    fn note_fault(&self, what: &str, fault: Fault) {
        tracing::warn!(segment = fault.first, error = %fault.cause, "{what}: tried again later");
        if fault.cause.is_damage() {
            self.log.report(Trouble::Damaged { first: fault.first, why: fault.cause.to_string() });
        }
    }
}

/// What may still be taken in by a store that uses so many bytes.
fn quota(settings: &Settings, used: u64, nothing_to_drop: bool) -> Quota {
    if settings.when_full == WhenFull::DropOldest && !nothing_to_drop {
        return Quota::default();
    }
    let room = settings.max_bytes.saturating_sub(used).saturating_sub(SPARE_BYTES);
    Quota {
        bytes: room.saturating_sub(settings.max_bytes / URGENT_PART) / OVERHEAD,
        urgent_bytes: room / OVERHEAD,
    }
}

/// Sorts the records of a segment that is dropped into those that stay and those that are lost.
struct Sorter<'a> {
    committer: &'a Committer,
    gaps: Gaps,
    places: Vec<u64>,
    tallies: Vec<Tally>,
    kept: Vec<Arc<Block>>,
    /// The log behind the last row.
    end: Mark,
    events: u64,
}

impl<'a> Sorter<'a> {
    fn new(committer: &'a Committer) -> Self {
        let places: Vec<u64> = committer.log.cursors.iter().map(|cursor| cursor.mark().offset).collect();
        Self {
            gaps: committer.log.gaps(),
            tallies: places.iter().map(|_| Tally::default()).collect(),
            committer,
            places,
            kept: Vec::new(),
            end: Mark::default(),
            events: 0,
        }
    }

    fn sort(&mut self, block: &Block) {
        let mut at = reader::begin_of(block);
        // A run of urgent records: where it begins, how many they are, and their bytes.
        let mut run: Option<(Mark, u32, u32, Vec<u8>)> = None;
        let mut records = block.records_from(0);
        while let Some(Ok((offset, record, place))) = records.read_next() {
            let is_undelivered = self.places.iter().any(|place| *place <= offset);
            if record.urgent && (is_undelivered || self.places.is_empty()) {
                let (_, records, events, row) = run.get_or_insert_with(|| (at, 0, 0, vec![0; HEAD_BYTES]));
                *records += 1;
                *events += u32::from(record.events);
                row.extend_from_slice(&block.row()[place.clone()]);
            } else {
                self.keep(run.take(), block.head().base_ms);
                if !self.gaps.covers(&(offset..offset + 1)) {
                    self.events += u64::from(record.events);
                    let losers = self.tallies.iter_mut().zip(&self.places).filter(|(_, at)| **at <= offset);
                    losers.for_each(|(tally, _)| tally.add(&record));
                }
            }
            at = Mark {
                offset: offset + 1,
                events: at.events + u64::from(record.events),
                bytes: at.bytes + place.len() as u64,
                received_ms: None,
            };
        }
        self.keep(run, block.head().base_ms);
        self.end = reader::end_of(block);
    }

    fn keep(&mut self, run: Option<(Mark, u32, u32, Vec<u8>)>, base_ms: u64) {
        if let Some((mut at, records, events, row)) = run {
            self.kept.push(seal(&mut at, records, events, base_ms, row));
        }
    }

    /// Uplinks that stand in `range` go on with the first record that stays, or behind it.
    fn moved(&self, range: Range<u64>) -> Vec<(usize, Mark)> {
        let stands_in = self.places.iter().enumerate().filter(|(_, place)| range.contains(*place));
        let go_on = stands_in.map(|(index, place)| {
            let next = self.kept.iter().find(|block| block.end() > *place);
            let mark =
                next.map_or(Mark { offset: range.end, ..self.end }, |block| reader::mark_at(block, *place));
            (index, mark)
        });
        go_on.collect()
    }

    fn finish(self, range: Range<u64>, now: Now) -> (Gap, Vec<Arc<Block>>) {
        let cursors = self.committer.log.cursors.iter();
        let lost =
            self.tallies.into_iter().zip(cursors).filter_map(|(tally, cursor)| tally.lost(&cursor.uplink));
        let gap = Gap {
            reason: Reason::StoreFull,
            at_ms: now.wall_ms,
            from: range.start,
            to: range.end,
            events: Some(self.events),
            file: None,
            uplinks: lost.collect(),
        };
        (gap, self.kept)
    }
}
