//! Dropping the oldest segment of a full store, but for its urgent records.
//!
//! ```text
//!  plan ─▶ urgent records into an unfinished file ─▶ gap record, durable, uplinks moved ─▶ files exchanged
//! ```
//! The urgent records that some uplink still has to deliver stay under their offsets, in one file
//! with those of the dropped segment before it; all others are counted, by uplink and device.
//!
//! Crash story: before the gap record nothing was dropped; after it, what is still in the file is
//! passed over, for the uplinks stand behind it, and the next time it is dropped without being
//! counted or told again.
//!
//! Limits: the urgent records of one segment and of the file before it are held in memory while
//! they move.

use std::{ops::Range, sync::Arc};

use super::{Committer, seal, write::Write};
use crate::{
    clock::Now,
    store::{
        error::StoreError,
        log::segments::{OpenSegment, SegmentError},
        record::{
            epochs::Epochs,
            gap::{Gap, Reason, Tally},
            gaps::Gaps,
            pending::Pending,
            position::{self, LogPosition},
            row::{Block, HEAD_BYTES},
        },
        segment::{self, Beginning, Part, Segment},
    },
};

/// What dropping a segment comes to.
pub(super) struct Plan {
    /// The segment.
    pub range: Range<u64>,
    /// The file that the urgent records go to begins here.
    first: LogPosition,
    /// The urgent records, of the dropped segment before it as well.
    pub kept: Vec<Arc<Block>>,
    /// Places of uplinks that stand in it.
    pub moved: Vec<(usize, LogPosition)>,
    /// What is lost; `None` where all of it was told before.
    pub gap: Option<Gap>,
}

impl Committer {
    /// Drops the oldest segment but for its urgent records. Whether there was one.
    pub(super) fn drop_oldest(&mut self, now: Now) -> bool {
        let plan = match self.plan_drop(&self.log.gaps(), now) {
            Ok(plan) => plan,
            Err(error) => {
                self.note_segment_error("could not drop the oldest segment", error);
                return false;
            }
        };
        self.nothing_to_drop = plan.is_none();
        let Some(Plan { range, first, kept, moved, gap }) = plan else { return false };
        let dropped = self.prepare_kept(first, &kept).and_then(|()| {
            let mut write = Write { moved, cursors: true, ..Write::default() };
            if let Some(gap) = gap {
                self.add_gap(&mut write, gap, [range.clone()].into_iter());
            }
            self.write(write, now);
            if self.stuck.is_some() {
                Err(StoreError::Closed)
            } else {
                self.exchange(&range, first.offset, &kept)
            }
        });
        if let Err(error) = &dropped {
            tracing::warn!(%error, "the oldest segment cannot be dropped now: tried again");
        }
        dropped.is_ok()
    }

    fn prepare_kept(&self, first: LogPosition, kept: &[Arc<Block>]) -> Result<(), StoreError> {
        if kept.is_empty() {
            return Ok(());
        }
        let beginning = Beginning {
            store: self.log.store,
            ids: &self.log.ids,
            first: first.offset,
            events_before: first.events,
            bytes_before: first.bytes,
            part: Part::Urgent,
            cursors: &[],
            pending: &Pending::default(),
            seen: &[],
            gaps: &Gaps::default(),
            epochs: Epochs::default(),
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

    /// What dropping the oldest segment would come to; `None` if there is none to drop. What `told`
    /// covers was counted in a gap record that is durable, or waits in the write that is stuck: a
    /// drop may be cut short between its record and its files.
    pub(super) fn plan_drop(&self, told: &Gaps, now: Now) -> Result<Option<Plan>, SegmentError> {
        let Some((before, place)) = self.log.segments.oldest_to_drop()? else { return Ok(None) };
        let fail = |cause| SegmentError { first: place.first, cause };
        let head = place.segment.head().map_err(fail)?;
        let own = LogPosition {
            offset: place.first,
            events: head.events_before,
            bytes: head.bytes_before,
            received_ms: None,
        };
        let end = place.end.unwrap_or(self.log.totals().offset);
        let mut sorter = Sorter::new(self, told);
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
        let gap = (gap.events != Some(0) || !told.covers(&gap.range())).then_some(gap);
        Ok(Some(Plan { range: place.first..end, first, kept, moved, gap }))
    }

    /// What the file for urgent records begins with: those of the dropped segment before, unless
    /// its file is full.
    fn with_urgent_of(
        &self,
        before: Option<OpenSegment>,
        own: LogPosition,
    ) -> Result<(LogPosition, Vec<Arc<Block>>), SegmentError> {
        let is_small = |place: &OpenSegment| {
            self.log.files.used_bytes(&segment::name_of(place.first)) < self.segment_bytes_max
        };
        let Some(place) = before.filter(is_small) else { return Ok((own, Vec::new())) };
        let fail = |cause| SegmentError { first: place.first, cause };
        let head = place.segment.head().map_err(fail)?;
        let mut kept = Vec::new();
        let rows = place.segment.for_each_row(|block| {
            if block.first() < own.offset {
                kept.push(Arc::new(block));
            }
            Ok(())
        });
        rows.map_err(fail)?;
        let first = LogPosition {
            offset: place.first,
            events: head.events_before,
            bytes: head.bytes_before,
            received_ms: None,
        };
        Ok((first, kept))
    }
}

/// Sorts the records of a segment that is dropped into those that stay and those that are lost.
struct Sorter<'a> {
    committer: &'a Committer,
    told: &'a Gaps,
    places: Vec<u64>,
    /// Whose places they are.
    uplinks: Vec<usize>,
    tallies: Vec<Tally>,
    kept: Vec<Arc<Block>>,
    /// The log behind the last row.
    end: LogPosition,
    events: u64,
}

impl<'a> Sorter<'a> {
    fn new(committer: &'a Committer, told: &'a Gaps) -> Self {
        let (uplinks, places): (Vec<usize>, Vec<u64>) =
            committer.log.live_cursors().map(|(index, cursor)| (index, cursor.mark().offset)).unzip();
        Self {
            told,
            tallies: places.iter().map(|_| Tally::default()).collect(),
            committer,
            places,
            uplinks,
            kept: Vec::new(),
            end: LogPosition::default(),
            events: 0,
        }
    }

    fn sort(&mut self, block: &Block) {
        let mut at = position::begin_of(block);
        // A run of urgent records: where it begins, how many they are, and their bytes.
        let mut run: Option<(LogPosition, u32, u32, Vec<u8>)> = None;
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
                if !self.told.covers(&(offset..offset + 1)) {
                    self.events += u64::from(record.events);
                    let losers = self.tallies.iter_mut().zip(&self.places).filter(|(_, at)| **at <= offset);
                    losers.for_each(|(tally, _)| tally.add(&record));
                }
            }
            at = LogPosition {
                offset: offset + 1,
                events: at.events + u64::from(record.events),
                bytes: at.bytes + place.len() as u64,
                received_ms: None,
            };
        }
        self.keep(run, block.head().base_ms);
        self.end = position::end_of(block);
    }

    fn keep(&mut self, run: Option<(LogPosition, u32, u32, Vec<u8>)>, base_ms: u64) {
        if let Some((mut at, records, events, row)) = run {
            self.kept.push(seal(&mut at, records, events, base_ms, row));
        }
    }

    /// Uplinks that stand in `range` go on with the first record that stays, or behind it.
    fn moved(&self, range: Range<u64>) -> Vec<(usize, LogPosition)> {
        let stands_in = self.uplinks.iter().zip(&self.places).filter(|(_, place)| range.contains(*place));
        let go_on = stands_in.map(|(index, place)| {
            let next = self.kept.iter().find(|block| block.end() > *place);
            let mark = next
                .map_or(LogPosition { offset: range.end, ..self.end }, |block| position::at(block, *place));
            (*index, mark)
        });
        go_on.collect()
    }

    fn finish(self, range: Range<u64>, now: Now) -> (Gap, Vec<Arc<Block>>) {
        let cursors = self.uplinks.iter().map(|index| &self.committer.log.cursors[*index]);
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
