//! Repairing what readers come upon: damaged segments and records that are not there.
//!
//! ```text
//!  damaged ─▶ rows that are found whole into seg-N.redb.new ─▶ gap record, durable ─▶ seg-N.redb to .damaged ─▶ .new to seg-N.redb
//!  missing ─────────────────────────────────────▶ gap record, durable
//! ```
//! A damaged file is kept under another name and never read again. What is found of it (see
//! `salvage`) has the same offsets and identities as before. The gap record is durable before
//! anybody passes over what is missing, and before the file gets its other name.
//!
//! Crash story: before the gap record nothing happened; after it the next start or reader finds the
//! damage again, and the gap known. Between the two renames the next start finishes the second one.

use std::time::Duration;

use super::{
    Committer, seal,
    write::{LostLetters, Write},
};
use crate::{
    clock::Now,
    store::{
        error::StoreError,
        log::Fault,
        record::{
            epochs::Epochs,
            gap::{Gap, Lost, Reason},
            gaps::Gaps,
            pending::Pending,
            position::{self, LogPosition},
            row::{Block, HEAD_BYTES},
        },
        segment::{
            self, Beginning, Part, Segment,
            salvage::{Damaged, Salvage},
        },
        side_file::dead_letters::{DAMAGED_FILE, Dropped},
    },
    telemetry,
};

/// Dead letters that are dropped are counted durably at once, and told together so often.
const LETTERS_TOLD_EVERY: Duration = Duration::from_secs(10);

/// A stretch of the log of which nothing is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct MissingRange {
    from: LogPosition,
    to: LogPosition,
    /// Whether the marks say how many events it held.
    is_counted: bool,
}

impl MissingRange {
    /// Between two points, as far as they are known. Behind `jumped_to` the counts went on as if
    /// nothing had been before.
    fn between(
        from: Option<LogPosition>,
        to: Option<LogPosition>,
        range: std::ops::Range<u64>,
        jumped_to: Option<u64>,
    ) -> Self {
        let is_counted = from.zip(to).is_some_and(|(from, to)| from.events <= to.events)
            && jumped_to.is_none_or(|jumped_to| range.end != jumped_to);
        let or = |mark: Option<LogPosition>, offset| {
            mark.unwrap_or(LogPosition { offset, ..LogPosition::default() })
        };
        Self { from: or(from, range.start), to: or(to, range.end), is_counted }
    }

    /// Events that one who stands at `mark` does not get; `None` where nobody can tell.
    fn events_behind(&self, mark: LogPosition) -> Option<u64> {
        let from = if mark.offset > self.from.offset { mark.events } else { self.from.events };
        self.is_counted.then(|| self.to.events.saturating_sub(from))
    }
}

impl Committer {
    /// Repairs what was reported, as far as writing works.
    pub(super) fn repair(&mut self, now: Now) {
        for fault in self.log.take_faults() {
            if self.stuck.is_some() {
                self.log.report(fault);
                continue;
            }
            match fault {
                Fault::Missing { range } => {
                    // What was stored since somebody looked is not missing.
                    let is_empty = self.log.segments.read(range.clone(), 1).is_ok_and(|rows| rows.is_empty());
                    if is_empty && !self.log.is_gap(&range) {
                        let (from, to) = (self.position_behind(range.start), self.position_at(range.end));
                        self.record_gap(
                            Reason::Missing,
                            &[MissingRange::between(from, to, range, self.jumped_to)],
                            None,
                            now,
                        );
                    }
                }
                Fault::Damaged { first, why } => self.repair_damaged(first, &why, now),
            }
        }
    }

    /// Makes gap records of the dead letters that are gone: dropped for want of room, or lost with
    /// a damaged file.
    pub(super) fn tell_of_dead_letters(&mut self, now: Now) {
        let is_due = self
            .told_of_letters_at
            .is_none_or(|told_at| now.at.saturating_duration_since(told_at) >= LETTERS_TOLD_EVERY);
        if is_due && let Some(told) = self.letters_told.take() {
            self.confirm_letters(told, now);
        }
        let log = self.log.clone();
        let gap = |reason, from, to, events, file, uplinks| Gap {
            reason,
            at_ms: now.wall_ms,
            from,
            to,
            events,
            file,
            uplinks,
        };
        if self.may_tell_of_letters() && log.dead_letters.is_damaged() {
            let file = Some(DAMAGED_FILE.to_owned());
            let gap = gap(Reason::DeadLettersDamaged, 0, self.end.offset, None, file, Vec::new());
            self.write_gap(gap, LostLetters::Damaged, now);
        }
        if is_due
            && self.may_tell_of_letters()
            && let Ok(Some(dropped)) = log.dead_letters.take_dropped()
        {
            self.told_of_letters_at = Some(now.at);
            let from = dropped.by.iter().map(|by| by.from).min().unwrap_or_default();
            let to = dropped.by.iter().map(|by| by.to).max().unwrap_or_default();
            let uplinks = lost_letters(&dropped);
            let gap = gap(Reason::DeadLettersFull, from, to, Some(dropped.events()), None, uplinks);
            self.write_gap(gap, LostLetters::Dropped(dropped), now);
        }
    }

    /// What was told is not told again: not while its record waits to be written, nor before the
    /// letters' file knows of it.
    fn may_tell_of_letters(&self) -> bool {
        self.stuck.is_none() && self.letters_told.is_none()
    }

    /// A gap record of `told` is durable: says so to the letters' file, now or later.
    pub(super) fn confirm_letters(&mut self, told: LostLetters, now: Now) {
        let letters = &self.log.dead_letters;
        let confirmed = match &told {
            LostLetters::Damaged => letters.confirm_damaged(),
            LostLetters::Dropped(dropped) => letters.confirm_dropped(dropped),
        };
        if let Err(error) = confirmed {
            tracing::warn!(%error, "should the gateway stop now, a gap record of dead letters is written once more");
            (self.letters_told, self.told_of_letters_at) = (Some(told), Some(now.at));
        }
    }

    /// A gap record of dead letters, which are not in the log.
    fn write_gap(&mut self, gap: Gap, letters: LostLetters, now: Now) {
        let mut write = Write { letters: Some(letters), ..Write::default() };
        self.add_gap(&mut write, gap, std::iter::empty());
        self.write(write, now);
    }

    fn repair_damaged(&mut self, first: u64, why: &str, now: Now) {
        // What is in the journal is in no segment.
        let ranges = self.log.segments.ranges(self.unfolded.from.offset);
        let Some(range) = ranges.iter().find(|range| range.start == first).cloned() else { return };
        if ranges.last() == Some(&range) {
            self.active = None;
            self.log.segments.abandon();
        }
        self.log.segments.renew(first);
        let checked = Segment::open_sealed(&self.log.files, first, Some(self.log.store))
            .and_then(|segment| segment.for_each_row(|_| Ok(())));
        if checked.is_ok() {
            self.release_held();
            if !self.unfolded.held.iter().any(|block| range.contains(&block.first())) {
                return;
            }
        }
        let name = segment::name_of(first);
        tracing::error!(segment = %name, "damaged: {why}; what can be read of it is kept, the file is set aside as {}", segment::damaged(&name));
        let outcome = self.salvage(range).and_then(|(missing, has_rows)| {
            let file = Some(segment::damaged(&name));
            if missing.iter().any(|range| !self.log.is_gap(&(range.from.offset..range.to.offset))) {
                self.record_gap(Reason::Damaged, &missing, file, now);
            }
            if self.stuck.is_some() { Err(StoreError::Closed) } else { self.quarantine(first, has_rows) }
        });
        if let Err(error) = outcome {
            tracing::warn!(segment = %name, %error, "a damaged segment cannot be set aside now: tried again");
            self.log.report(Fault::Damaged { first, why: why.to_owned() });
        }
        self.release_held();
    }

    /// Writes what can be found of a damaged segment into an unfinished file. Gives what is
    /// missing, and whether there is anything in the file.
    fn salvage(&self, range: std::ops::Range<u64>) -> Result<(Vec<MissingRange>, bool), StoreError> {
        let files = &self.log.files;
        let damaged = Damaged {
            first: range.start,
            end: Some(range.end),
            store: Some(self.log.store),
            before: self.position_behind(range.start),
            behind: self.position_at(range.end),
        };
        let mut salvage = Salvage::look(files, &damaged)?;
        if let Some(doubts) = salvage.doubts() {
            tracing::error!(segment = %segment::name_of(range.start), "{doubts}");
        }
        let beginning = salvage.head.map(|head| LogPosition {
            offset: range.start,
            events: head.events_before,
            bytes: head.bytes_before,
            received_ms: None,
        });
        let beginning = beginning.or(damaged.before);
        let (mut missing, mut at, mut offset) = (Vec::new(), beginning, range.start);
        let (events_before, bytes_before) = beginning.map_or((0, 0), |mark| (mark.events, mark.bytes));
        let new = Beginning {
            store: self.log.store,
            ids: &self.log.ids,
            first: range.start,
            events_before,
            bytes_before,
            part: Part::Salvaged,
            cursors: &[],
            pending: &Pending::default(),
            seen: &[],
            gaps: &Gaps::default(),
            epochs: Epochs::default(),
        };
        let mut held = self.unfolded.held.iter().filter(|block| range.contains(&block.first())).peekable();
        let has_rows = !salvage.is_empty() || held.peek().is_some();
        if has_rows {
            Segment::prepare(files, &new, |filler| {
                let mut take = |block: &Block| {
                    if block.first() > offset {
                        let to = Some(position::begin_of(block));
                        missing.push(MissingRange::between(at, to, offset..block.first(), None));
                    } else if block.first() < offset {
                        // The file and the journal have it both.
                        return Ok(());
                    }
                    (at, offset) = (Some(position::end_of(block)), block.end());
                    filler.row(block.first(), block.row())
                };
                salvage.for_each(|block| {
                    while let Some(held) = held.next_if(|held| held.first() < block.first()) {
                        take(held)?;
                    }
                    take(&block)
                })?;
                held.try_for_each(|held| take(held))
            })?;
        }
        if offset < range.end {
            missing.push(MissingRange::between(at, damaged.behind, offset..range.end, self.jumped_to));
        }
        Ok((missing, has_rows))
    }

    /// Gives a damaged file another name, and what was saved of it the name of the segment.
    fn quarantine(&self, first: u64, has_rows: bool) -> Result<(), StoreError> {
        let (files, name) = (&self.log.files, segment::name_of(first));
        if files.names()?.contains(&name) {
            files.rename(&name, &segment::damaged(&name))?;
        }
        metrics::counter!(telemetry::QUARANTINED_SEGMENTS).increment(1);
        if has_rows {
            files.rename(&segment::unfinished(&name), &name)?;
            self.log.segments.renew(first);
        } else {
            self.log.segments.forget(first);
        }
        Ok(())
    }

    /// Makes a gap record durable, moves the uplinks that stand in what is missing behind it.
    fn record_gap(&mut self, reason: Reason, missing: &[MissingRange], file: Option<String>, now: Now) {
        let (Some(first), Some(last)) = (missing.first(), missing.last()) else { return };
        let (mut uplinks, mut moved) = (Vec::new(), Vec::new());
        for (index, cursor) in self.log.live_cursors() {
            let mark = cursor.mark();
            let ahead = || missing.iter().filter(|range| range.to.offset > mark.offset);
            if ahead().next().is_none() {
                continue;
            }
            uplinks.push(Lost {
                uplink: cursor.uplink.clone(),
                events: ahead().map(|range| range.events_behind(mark)).sum(),
                ..Lost::default()
            });
            let around = ahead().find(|range| range.from.offset <= mark.offset);
            moved.extend(around.map(|range| {
                let counted =
                    if range.is_counted { range.to } else { LogPosition { offset: range.to.offset, ..mark } };
                (index, LogPosition { received_ms: None, ..counted })
            }));
        }
        let gap = Gap {
            reason,
            at_ms: now.wall_ms,
            from: first.from.offset,
            to: last.to.offset,
            events: missing.iter().map(|range| range.events_behind(LogPosition::default())).sum(),
            file,
            uplinks,
        };
        let mut write = Write { moved, cursors: true, ..Write::default() };
        self.add_gap(&mut write, gap, missing.iter().map(|range| range.from.offset..range.to.offset));
        self.write(write, now);
    }

    /// Adds a gap record to what is written.
    pub(super) fn add_gap(
        &mut self,
        write: &mut Write,
        gap: Gap,
        missing: impl Iterator<Item = std::ops::Range<u64>>,
    ) {
        let mut row = vec![0; HEAD_BYTES];
        gap.write(&mut row);
        write.blocks.push(seal(&mut self.end, 1, 1, gap.at_ms, row));
        let mut gaps = self.gaps_with(write);
        let mut records = write.gaps.take().map(|(_, records)| records).unwrap_or_default();
        missing.for_each(|range| gaps.add(range));
        if let Some(oldest) = self.log.segments.ranges(0).first() {
            gaps.forget_before(oldest.start.min(gap.from));
        }
        records.push(gap);
        write.gaps = Some((gaps, records));
    }

    /// The point of the log behind the record before `offset`, if that can be read.
    fn position_behind(&self, offset: u64) -> Option<LogPosition> {
        let Some(before) = offset.checked_sub(1) else { return Some(LogPosition::default()) };
        let blocks = self.log.segments.read(before..offset, 1).ok()?;
        blocks.first().map(position::end_of).filter(|mark| mark.offset == offset)
    }

    /// The point of the log at `offset`, if a row begins there or nothing is behind it.
    fn position_at(&self, offset: u64) -> Option<LogPosition> {
        let committed = self.log.totals();
        if offset == committed.offset {
            return Some(committed);
        }
        let blocks = self.log.segments.read(offset..committed.offset, 1).ok()?;
        blocks.first().filter(|block: &&Block| block.first() == offset).map(position::begin_of)
    }
}

/// By uplink, what became of its dead letters.
fn lost_letters(dropped: &Dropped) -> Vec<Lost> {
    let mut uplinks: Vec<Lost> = Vec::new();
    for by in &dropped.by {
        if uplinks.last().is_none_or(|last| last.uplink != by.uplink) {
            uplinks.push(Lost { uplink: by.uplink.clone(), events: Some(0), ..Lost::default() });
        }
        let Some(lost) = uplinks.last_mut() else { continue };
        lost.events = lost.events.map(|events| events + by.events);
        if by.device.is_empty() {
            lost.other_devices_events += by.events;
        } else {
            lost.devices.insert(by.device.clone(), by.events);
        }
    }
    uplinks
}
