//! Room: what is deleted when it is done with, and what happens when the store is full.
//!
//! ```text
//!  delivered and kept long enough ─▶ deleted
//!  low on room ─▶ delivered ones go before `retain` is over, damaged files go
//!  full ─▶ reject: the intake takes nothing         drop-oldest: the oldest segment goes, its urgent records stay
//! ```
//! The room is `max_bytes`, or what the file system has for the store if that is less: so a small
//! disk is full before a write fails on it, and there is still room for the new segment that lets a
//! delivered one go. If somebody else takes that as well, writes fail, and what is delivered is
//! deleted behind a mark that needs no room ([`delivered`]).
//!
//! Limits: the room for all files, exceeded by one turn's commit at the most. The files beside the
//! log have budgets of their own; should they take more than one part in [`SIDE_PART`] of it all
//! the same, that is at the disk's cost: it never stops the intake.

use std::{sync::Arc, time::Duration};

use super::{
    CURSORS_SAVED_EVERY, Committer, DELETE_EVERY,
    room::{LOW_PART, Room, bytes_on_disk, pending_bytes_max, quota, seen_frames_max, segment_bytes_max},
    seal,
    write::Write,
};
use crate::{
    clock::Now,
    store::{
        intake::quota::Quota,
        log::{
            Fault,
            delivered::{self, Delivered},
            segments::SegmentError,
        },
        record::{gap, position::LogPosition, row::Block},
        segment,
        settings::WhenFull,
        side_file,
    },
};

/// One part in this of the room is what the files beside the log count at most.
const SIDE_PART: u64 = 2;
/// Segments deleted in one turn, so that no turn takes long.
const DELETED_AT_ONCE_MAX: usize = 16;

impl Committer {
    /// Makes room for `bytes` of rows, as far as the policy allows.
    pub(super) fn make_room(&mut self, bytes: u64, now: Now) {
        // As of the last look, which every turn ends with: the system is not asked again while
        // there is plenty.
        if !self.room.is_low() && self.room.free_bytes() >= bytes_on_disk(bytes) {
            return;
        }
        while bytes > 0 && self.stuck.is_none() && self.room().free_bytes() < bytes_on_disk(bytes) {
            let delivered = self.wanted_delivered();
            let is_freed = self.delete_delivered(delivered, Duration::ZERO)
                || self.delete_damaged()
                || (self.settings.when_full == WhenFull::DropOldest && self.drop_oldest(now));
            if !is_freed {
                break;
            }
        }
    }

    /// The disk is full, and `write` waits: frees what may go without another one; what is not
    /// delivered only if it `may_drop`. Whether there was anything.
    pub(super) fn free_disk(&mut self, write: &mut Write, may_drop: bool, now: Now) -> bool {
        if self.delete_marked() || self.delete_damaged() {
            return true;
        }
        if self.settings.when_full == WhenFull::Reject || !may_drop {
            return false;
        }
        // A device's urgent records would have to be written elsewhere, and there is no room: then
        // it waits for a delivery. Gap records go along with the write.
        let is_gap = |block: &Arc<Block>| block.records_from(0).all(|(_, record)| record.topic == gap::TOPIC);
        // The write may hold the record of a drop that was cut short.
        if let Ok(Some(plan)) = self.plan_drop(&self.gaps_with(write), now)
            && plan.kept.iter().filter(|block| block.first() >= plan.range.start).all(is_gap)
        {
            // Gone before it is written down: should that not come to be, a reader finds it
            // missing.
            let first = plan.range.start;
            if self.log.files.remove(&segment::name_of(first)).is_ok() {
                self.log.segments.forget(first);
                for block in plan.kept.iter().filter(|block| block.first() >= first) {
                    let head = block.head();
                    let row = block.row().to_vec();
                    write.blocks.push(seal(&mut self.end, head.records, head.events, head.base_ms, row));
                }
                write.moved.extend(plan.moved);
                if let Some(gap) = plan.gap {
                    self.add_gap(write, gap, [plan.range].into_iter());
                }
                return true;
            }
        }
        false
    }

    /// Deletes what is delivered, up to the last segment, where there is no room to save the
    /// cursors: a mark is durable before.
    fn delete_marked(&mut self) -> bool {
        let delivered = self.delivered_now();
        self.log.holds.ask(delivered);
        let delivered = delivered.min(self.log.holds.offset());
        let end = self.log.totals();
        let is_all_done = delivered >= end.offset && end.offset > 0;
        let is_last_done = is_all_done && self.log.segments.sealed_last().is_some();
        if !is_last_done && !self.log.segments.has_done(delivered) {
            return false;
        }
        if delivered > self.saved_delivered() || is_all_done {
            let mark = Delivered { store: self.log.store, mark: LogPosition { offset: delivered, ..end } };
            if let Err(error) = mark.save(&self.log.files) {
                tracing::warn!(%error, "what is delivered cannot be deleted: there is no room to say so durably");
                return false;
            }
            self.is_marked = true;
        }
        if is_all_done {
            // The next segment takes over nothing: neither rows nor a place.
            self.carried = None;
        }
        self.delete_delivered(delivered, Duration::ZERO)
            || (is_all_done
                && self.log.segments.delete_only().unwrap_or_else(|error| {
                    self.note_segment_error("could not delete the last segment, which is delivered", error);
                    false
                }))
    }

    /// Cursors are durable that say what the mark says.
    pub(super) fn remove_mark(&mut self) {
        if self.is_marked {
            self.is_marked = delivered::clear(&self.log.files).is_err();
        }
    }

    /// Whether the disk has room by now for a write of `bytes` of rows that failed when it had so
    /// many bytes.
    pub(super) fn has_more_room(&self, bytes: u64, available_before: u64) -> bool {
        let available = self.log.files.available_bytes();
        available > available_before && available >= bytes_on_disk(bytes)
    }

    /// Deletes what is done with, and says what may still be taken in.
    pub(super) fn tidy(&mut self, now: Now) {
        if now.at.saturating_duration_since(self.looked_for_done_at) >= DELETE_EVERY {
            self.looked_for_done_at = now.at;
            self.note_delivered();
            self.delete_delivered(self.saved_delivered(), self.settings.retain);
            self.look_at_other_files();
        }
        self.look_at_room(now);
    }

    /// Counts what is no segment: the files beside the log, damaged and unfinished ones.
    pub(super) fn look_at_other_files(&mut self) {
        let names = self.log.files.names().unwrap_or_default();
        let (mut side, mut others) = (0, 0);
        for name in names.iter().filter(|name| segment::first_of(name).is_none()) {
            let used = self.log.files.used_bytes(name);
            if is_side_file(name) { side += used } else { others += used }
        }
        self.other_bytes = others + side.min(self.settings.max_bytes / SIDE_PART);
    }

    /// Makes room of what is delivered where it is low, and says what may still be taken in.
    fn look_at_room(&mut self, now: Now) {
        let mut room = self.room();
        if self.stuck.is_none() && room.is_low() {
            let mut is_written = self.seal_delivered(now);
            let delivered = self.delivered_now();
            self.ask_hold(delivered);
            let has_done = |delivered| self.log.segments.has_done(delivered);
            if self.stuck.is_none() && has_done(delivered) && !has_done(self.delivered()) {
                self.save_cursors(CURSORS_SAVED_EVERY, now);
                is_written = true;
            }
            if is_written {
                room = self.room();
            }
        }
        self.take_stock(room);
    }

    /// Deletes what is delivered if `room` is low, and says what may still be taken in.
    pub(super) fn take_stock(&mut self, mut room: Room) {
        if room.is_low() && self.stuck.is_none() {
            let delivered = self.wanted_delivered();
            while room.is_low() && self.delete_delivered(delivered, Duration::ZERO) {
                room = self.room();
            }
        }
        self.room = room;
        self.segment_bytes_max = segment_bytes_max(self.settings.segment_bytes, room.max_bytes);
        self.log.meter.set_room_bytes(room.max_bytes);
        self.log.dead_letters.set_room_bytes(room.max_bytes);
        // The ids of clients that are connected are not forgotten, so they have to fit the room
        // that there is.
        let takes_ids = self.intake.pending().connected_bytes() <= pending_bytes_max(self.segment_bytes_max);
        let quota = quota(self.settings.when_full, room, self.nothing_to_drop);
        self.intake.set_quota(Quota { takes_ids, ..quota });
    }

    /// The size of a segment, in bytes of rows, from which follows how much each may begin with. It
    /// is that of the configured room: what somebody else leaves of the disk may be more in a
    /// second, and what is forgotten stays forgotten.
    pub(super) fn head_segment_bytes(&self) -> u64 {
        segment_bytes_max(self.settings.segment_bytes, self.settings.max_bytes)
    }

    /// A write is stuck for want of space: forgets so much of what the next segment begins with
    /// that it fits the room that there is now. Whether there was anything to forget.
    pub(super) fn cut_head(&mut self) -> bool {
        let segment_bytes = segment_bytes_max(self.settings.segment_bytes, self.room().max_bytes);
        let is_cut = self.seen.keep_within(seen_frames_max(segment_bytes));
        let evicted = self.intake.pending().evict(pending_bytes_max(segment_bytes));
        self.report_evicted(&evicted);
        is_cut || !evicted.is_empty()
    }

    /// A full store that is all delivered, and all of it in the last segment, would stay full.
    /// Whether it wrote.
    fn seal_delivered(&mut self, now: Now) -> bool {
        let behind = self.log.live_cursors().map(|(_, cursor)| cursor.mark().offset).min();
        let holds_much = match self.log.segments.sealed_last() {
            Some(first) => first < self.end.offset,
            None => self.segment_bytes > self.segment_bytes_max / LOW_PART,
        };
        let is_over = behind.is_some_and(|behind| behind >= self.end.offset) && holds_much;
        if is_over {
            // The next write begins a segment that takes over nothing.
            (self.segment_bytes, self.carried) = (u64::MAX, None);
            self.write(Write { cursors: true, ..Write::default() }, now);
        }
        is_over
    }

    pub(super) fn room(&self) -> Room {
        let used_bytes = self.log.segments.usage().1 + self.other_bytes;
        let on_disk = used_bytes.saturating_add(self.log.files.available_bytes());
        // What is in the journal has to have a place.
        let used_bytes = used_bytes + self.unfolded.bytes_on_disk();
        Room { used_bytes, max_bytes: self.settings.max_bytes.min(on_disk) }
    }

    /// Up to where everything is delivered, by the saved cursors, and nobody holds it: a crash must
    /// find what comes after.
    fn saved_delivered(&self) -> u64 {
        self.delivered().min(self.log.holds.offset())
    }

    /// The same where there is need of room: who holds more is asked to let go of it.
    fn wanted_delivered(&self) -> u64 {
        self.ask_hold(self.delivered());
        self.saved_delivered()
    }

    /// Asks for the room of what is `delivered` if it would be a segment's, and there is none but
    /// that.
    fn ask_hold(&self, delivered: u64) {
        let has_done = |offset| self.log.segments.has_done(offset);
        if has_done(delivered) && !has_done(delivered.min(self.log.holds.offset())) {
            self.log.holds.ask(delivered);
        }
    }

    /// Up to where everything is delivered, by the cursors as they are.
    fn delivered_now(&self) -> u64 {
        self.log.live_cursors().map(|(_, cursor)| cursor.mark().offset).min().unwrap_or_default()
    }

    fn delivered(&self) -> u64 {
        self.saved_cursors.iter().map(|(_, offset)| *offset).min().unwrap_or_default()
    }

    /// Notes since when segments are delivered, once the clock's journal is loaded.
    fn note_delivered(&self) {
        if self.log.timeline.journal().latest().is_some() {
            let segments = self.log.segments.ranges(self.end.offset);
            let present = self.log.timeline.looked();
            self.log.retention.lock().note(&segments, self.delivered(), &present);
        }
    }

    /// Deletes segments that lie before `delivered` and are so for as long as `retain` says.
    /// Whether there was any.
    fn delete_delivered(&self, delivered: u64, retain: Duration) -> bool {
        let is_over = |first| self.log.retention.lock().is_over(first, retain, &self.log.timeline.looked());
        match self.log.segments.delete_done(delivered, is_over, DELETED_AT_ONCE_MAX) {
            Ok(deleted) => deleted > 0,
            Err(error) => {
                self.note_segment_error("could not delete a segment that is done with", error);
                false
            }
        }
    }

    /// Deletes the oldest that can be deleted of the files that were set aside as damaged: what
    /// they held was given up for lost long ago.
    fn delete_damaged(&mut self) -> bool {
        let mut names = self.log.files.names().unwrap_or_default();
        names.retain(|name| segment::is_damaged(name));
        names.sort_unstable();
        let is_deleted = names.iter().any(|name| {
            let deleted = self.log.files.remove(name).and_then(|()| self.log.files.sync());
            match &deleted {
                Ok(()) => tracing::warn!(file = %name, "deleted a damaged file to make room"),
                Err(error) => tracing::warn!(file = %name, %error, "could not delete a damaged file"),
            }
            deleted.is_ok()
        });
        self.look_at_other_files();
        is_deleted
    }

    pub(super) fn note_segment_error(&self, what: &str, error: SegmentError) {
        tracing::warn!(segment = error.first, error = %error.cause, "{what}: tried again later");
        if error.cause.is_damage() {
            self.log.report(Fault::Damaged { first: error.first, why: error.cause.to_string() });
        }
    }
}

/// Whether a file of this name is one beside the log, or is to become one.
fn is_side_file(name: &str) -> bool {
    let name = name.strip_suffix(".new").unwrap_or(name);
    side_file::ALL.iter().any(|file| file.is_named(name))
}
