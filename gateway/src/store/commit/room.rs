//! Room: what is deleted when it is done with, and what happens when the store is full.
//!
//! ```text
//!  delivered and kept long enough ─▶ deleted
//!  low on room ─▶ delivered ones go before `retain` is over, damaged files go
//!  full ─▶ reject: the intake takes nothing         drop-oldest: the oldest segment goes, its urgent records stay
//! ```
//! Limits: `max_bytes` for all files, exceeded by one turn's commit at the most. One part in [`URGENT_PART`] of it takes nothing but
//! urgent records.

use std::{sync::Arc, time::Duration};

use super::{Committer, DELETE_EVERY, seal, write::Write};
use crate::{
    clock::Now,
    store::{Settings, WhenFull, gap, intake::Quota, log::Trouble, row::Block, segment, segments::Fault},
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

impl Committer {
    /// Makes room for `bytes` of rows, as far as the policy allows.
    pub(super) fn make_room(&mut self, bytes: u64, now: Now) {
        while bytes > 0
            && self.stuck.is_none()
            && self.used_bytes() + bytes * OVERHEAD + SPARE_BYTES > self.settings.max_bytes
        {
            let delivered = self.wanted_delivered();
            let is_freed = self.delete_delivered(delivered, Duration::ZERO, now)
                || self.delete_damaged()
                || (self.settings.when_full == WhenFull::DropOldest && self.drop_oldest(now));
            if !is_freed {
                break;
            }
        }
    }

    /// The disk is full, and `write` waits: frees what may go without another one.
    pub(super) fn free_disk(&mut self, write: &mut Write, now: Now) {
        // Saving the cursors needs a write, and what every uplink has delivered may go.
        let delivered =
            self.log.live_cursors().map(|(_, cursor)| cursor.mark().offset).min().unwrap_or_default();
        self.log.ask_hold(delivered);
        let delivered = delivered.min(self.log.hold());
        if self.delete_delivered(delivered, Duration::ZERO, now)
            || self.delete_damaged()
            || self.settings.when_full == WhenFull::Reject
        {
            return;
        }
        // A device's urgent records would have to be written elsewhere, and there is no room: then it waits for a delivery.
        // Gap records go along with the write.
        let is_gap = |block: &Arc<Block>| block.records_from(0).all(|(_, record)| record.topic == gap::TOPIC);
        if let Ok(Some(plan)) = self.plan_drop(now)
            && plan.kept.iter().filter(|block| block.first() >= plan.range.start).all(is_gap)
        {
            // Gone before it is written down: should that not come to be, a reader finds it missing.
            let first = plan.range.start;
            if self.log.files.remove(&segment::name_of(first)).is_ok() {
                self.log.segments.forget(first);
                for block in plan.kept.iter().filter(|block| block.first() >= first) {
                    let head = block.head();
                    let row = block.row().to_vec();
                    write.blocks.push(seal(&mut self.end, head.records, head.events, head.base_ms, row));
                }
                write.moved.extend(plan.moved);
                self.add_gap(write, plan.gap, [plan.range].into_iter());
            }
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
            let delivered = self.wanted_delivered();
            while used > max - max / LOW_PART && self.delete_delivered(delivered, Duration::ZERO, now) {
                used = self.used_bytes();
            }
        }
        self.intake.set_quota(quota(&self.settings, used, self.nothing_to_drop));
    }

    /// A full store that is all delivered, and all of it in the active segment, would stay full.
    fn seal_delivered(&mut self, now: Now) {
        let behind = self.log.live_cursors().map(|(_, cursor)| cursor.mark().offset).min();
        if behind.is_some_and(|behind| behind >= self.end.offset)
            && self.segment_bytes > self.settings.segment_bytes / LOW_PART
        {
            self.segment_bytes = self.settings.segment_bytes;
            self.write(Write { cursors: true, ..Write::default() }, now);
        }
    }

    fn used_bytes(&self) -> u64 {
        self.log.segments.usage().1 + self.other_bytes
    }

    /// Up to where everything is delivered, by the saved cursors, and nobody holds it: a crash must find what comes after.
    fn saved_delivered(&self) -> u64 {
        self.delivered().min(self.log.hold())
    }

    /// The same where there is need of room: who holds more is asked to let go of it.
    fn wanted_delivered(&self) -> u64 {
        self.log.ask_hold(self.delivered());
        self.saved_delivered()
    }

    fn delivered(&self) -> u64 {
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

    pub(super) fn note_fault(&self, what: &str, fault: Fault) {
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
