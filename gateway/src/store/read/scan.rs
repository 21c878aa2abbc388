//! Walking the log from elsewhere, oldest first: what a replay reads. No cursor, nothing that
//! survives.
//!
//! ```text
//!  scan(at) ─▶ one segment, one short read transaction ─▶ rows, and where the next look begins
//!                 │ none of its events can be within the times ─▶ passed over whole
//!                 └ it cannot be read ─────────────────────────▶ passed over whole, and said
//! ```
//! Limits: about `bytes_max` of rows at a time. What a segment is passed over for its times by is
//! told in `times.rs`.
//!
//! Blocking. What is deleted meanwhile is not there any more: the rows of the next look begin later
//! than asked for.

use super::view::View;
use crate::store::{
    error::StoreError,
    log::{
        Fault,
        segments::{OpenSegment, SegmentError},
    },
    record::{
        ids::StoreIds,
        position::{self, LogPosition},
        row::Block,
        times::Times,
    },
};

/// The smallest look: one row.
const ONE_ROW: usize = 1;

/// A point of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Offset of the next record.
    pub offset: u64,
    /// Bytes of records before it, ever.
    pub bytes: u64,
}

/// What one look brought.
#[derive(Debug)]
pub struct Scan {
    /// Rows, oldest first; the first may begin before the offset asked for.
    pub blocks: Vec<Block>,
    /// Where the next look begins; always behind the offset asked for, unless that was the end.
    pub next: Point,
    /// Why a segment was passed over, if one could not be read.
    pub unreadable: Option<StoreError>,
}

impl View {
    /// The committed end of the log.
    #[must_use]
    pub fn end(&self) -> Point {
        let LogPosition { offset, bytes, .. } = self.log.totals();
        Point { offset, bytes }
    }

    /// Everything before it is delivered to this uplink, or set aside; 0 for one that there is not.
    #[must_use]
    pub fn settled_to(&self, uplink: &str) -> u64 {
        let cursor = self.log.cursors.iter().find(|cursor| cursor.uplink == uplink);
        cursor.map_or(0, |cursor| cursor.mark().offset)
    }

    /// The oldest row that can be read; the end where there is none.
    ///
    /// # Errors
    /// [`StoreError`]: the folder cannot be read, or the store is closed.
    pub fn begin(&self) -> Result<Point, StoreError> {
        if self.log.is_closed() {
            return Err(StoreError::Closed);
        }
        for range in self.log.segments.ranges(self.end().offset) {
            match self.log.segments.read(range, ONE_ROW) {
                Ok(blocks) => {
                    if let Some(block) = blocks.first() {
                        return Ok(Point { offset: block.first(), bytes: block.head().bytes_before });
                    }
                }
                Err(SegmentError { cause: StoreError::Closed, .. }) => return Err(StoreError::Closed),
                Err(_) => {}
            }
        }
        Ok(self.end())
    }

    /// What records are named after that have no name of their own.
    #[must_use]
    pub fn ids(&self) -> &StoreIds {
        &self.log.ids
    }

    /// Rows from the one that holds `at` on, to about `bytes_max`, from one segment; those of a
    /// segment whose events all lie outside of `times` are left out.
    ///
    /// # Errors
    /// [`StoreError`]: the folder cannot be read, or the store is closed. A segment that cannot be
    /// read is no error: see [`Scan::unreadable`].
    pub fn scan(&self, at: u64, times: Option<&Times>, bytes_max: usize) -> Result<Scan, StoreError> {
        let end = self.end();
        let look = || -> Result<(Vec<Block>, Point), StoreError> {
            let journaled = self.log.segments.journaled.rows();
            let file_end = Point { offset: end.offset.min(journaled.begin()), bytes: 0 };
            if at >= file_end.offset {
                let blocks = journaled.read(at, end.offset, bytes_max);
                let next = blocks.last().map_or(end, point_after);
                return Ok((blocks, next));
            }
            let place = self.log.segments.holding(at).map_err(|error| error.cause)?;
            if let Some(times) = times
                && let Some(next) = outside(&place, at, times)?
            {
                return Ok((Vec::new(), next));
            }
            let mut blocks = place.segment.read(at, bytes_max)?;
            // What lies behind the segment's end is of a commit that failed.
            blocks.retain(|block| block.first() < place.end.unwrap_or(file_end.offset));
            // Behind its last row there may be nothing: then the next segment is what comes next.
            let last = if file_end.offset < end.offset { file_end } else { end };
            let following = place.end.map_or(last, |offset| Point { offset: offset.max(at + 1), bytes: 0 });
            let next = blocks.last().map_or(following, point_after);
            Ok((blocks, next))
        };
        match look() {
            Ok((blocks, next)) => Ok(Scan { blocks, next, unreadable: None }),
            Err(StoreError::Closed) if self.log.is_closed() => Err(StoreError::Closed),
            // There is no segment: see `delivered.rs`.
            Err(StoreError::Closed) => Ok(Scan { blocks: Vec::new(), next: end, unreadable: None }),
            Err(error) => {
                let ranges = self.log.segments.ranges(end.offset);
                let here = ranges.iter().rev().find(|range| range.start <= at);
                if let Some(here) = here.filter(|_| error.is_damage()) {
                    self.log.report(Fault::Damaged { first: here.start, why: error.to_string() });
                }
                let following = ranges.iter().map(|range| range.start).find(|first| *first > at);
                let next = following.map_or(end, |offset| Point { offset, bytes: 0 });
                Ok(Scan { blocks: Vec::new(), next, unreadable: Some(error) })
            }
        }
    }
}

/// The point after a sealed segment whose rows from `at` on all lie outside of `times`; `None` if
/// one may lie inside.
fn outside(place: &OpenSegment, at: u64, times: &Times) -> Result<Option<Point>, StoreError> {
    if place.end.is_none() {
        return Ok(None);
    }
    let (rows, last) = (place.segment.read(at, ONE_ROW)?, place.segment.last()?);
    let (Some(first), Some(last)) = (rows.first(), last) else { return Ok(None) };
    Ok(times.pass_over(first, &last).then(|| point_after(&last)))
}

fn point_after(block: &Block) -> Point {
    let LogPosition { offset, bytes, .. } = position::end_of(block);
    Point { offset, bytes }
}

#[cfg(test)]
mod tests {
    use std::{ops::Range, path::Path, time::Duration};

    use super::*;
    use crate::store::{Batch, Record, Settings, Store, segment};

    const ALL: Range<u64> = 0..u64::MAX;
    const HOUR_MS: u64 = 3_600_000;
    /// Rows of about 32 KiB: a segment is full after thirty of them.
    const PAYLOAD_BYTES: usize = 32 * 1024;

    fn open(folder: &Path) -> Store {
        let settings =
            Settings { segment_bytes: 1 << 20, retain: Duration::from_secs(3600), ..Settings::new(folder) };
        Store::open(settings, &["cloud".to_owned()]).unwrap()
    }

    /// Stores one record and waits for its commit.
    fn store_one(store: &Store, received_ms: u64) {
        let payload = vec![b'x'; PAYLOAD_BYTES];
        let mut batch = Batch::default();
        batch.push(&Record {
            events: 1,
            qos: 0,
            received_ms,
            client: "c",
            topic: "t",
            payload: &payload,
            ..Record::default()
        });
        let before = store.view().end().offset;
        store.intake().append(&mut batch).unwrap();
        let limit = crate::clock::monotonic() + Duration::from_secs(20);
        while store.view().end().offset == before {
            assert!(crate::clock::monotonic() < limit, "it was not committed");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ninety records, an hour between any two, in three segments and more.
    fn ninety_hours(folder: &Path) -> Store {
        let store = open(folder);
        (0..90).for_each(|hour| store_one(&store, hour * HOUR_MS));
        assert!(store.status().segments >= 3);
        store
    }

    /// All offsets that a walk finds, how many segments could not be read, and how many looks it
    /// took.
    fn walk(view: &View, times: &Range<u64>, bytes_max: usize) -> (Vec<u64>, usize, usize) {
        let times = Times::new(times.clone(), view.timeline().journal());
        let (mut found, mut unreadable, mut looks, mut at) = (vec![], 0, 0, 0);
        while at < view.end().offset {
            let scan = view.scan(at, Some(&times), bytes_max).unwrap();
            assert!(scan.next.offset > at, "it goes on");
            for block in &scan.blocks {
                found.extend(block.records_from(at).map(|(offset, _)| offset));
            }
            unreadable += usize::from(scan.unreadable.is_some());
            looks += 1;
            at = scan.next.offset;
        }
        (found, unreadable, looks)
    }

    #[test]
    fn a_walk_finds_every_record_once_in_looks_of_the_size_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let store = ninety_hours(folder.path());
        let view = store.view();
        let every: Vec<u64> = (0..90).collect();
        for (bytes_max, looks_min) in [(1, 90), (4 * PAYLOAD_BYTES, 22), (usize::MAX, 3)] {
            let (found, unreadable, looks) = walk(&view, &ALL, bytes_max);
            assert_eq!((found, unreadable), (every.clone(), 0));
            assert!((looks_min..=looks_min + 4).contains(&looks), "{looks} looks of {bytes_max} bytes");
        }
        assert_eq!(view.begin().unwrap(), Point { offset: 0, bytes: 0 });
        let scan = view.scan(89, None, 1).unwrap();
        assert_eq!(scan.next, view.end());
    }

    #[test]
    fn a_segment_whose_times_lie_elsewhere_is_not_read_and_none_that_may_hold_an_event_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = ninety_hours(folder.path());
        let view = store.view();
        for times in
            [50 * HOUR_MS..51 * HOUR_MS, 0..HOUR_MS, 89 * HOUR_MS..u64::MAX, 29 * HOUR_MS..62 * HOUR_MS]
        {
            let (found, _, _) = walk(&view, &times, 1);
            let hours = times.start / HOUR_MS..(times.end / HOUR_MS).min(90);
            assert!(hours.clone().all(|hour| found.contains(&hour)), "{hours:?}: {found:?}");
            assert!(found.len() < 90, "{hours:?}: everything was read");
        }
    }

    #[test]
    fn a_segment_that_cannot_be_read_is_passed_over_and_said() {
        let folder = tempfile::tempdir().unwrap();
        ninety_hours(folder.path()).close();
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.retain(|path| {
            path.extension().is_some_and(|end| end == "redb") && !path.ends_with("dead_letters.redb")
        });
        names.sort();
        let second = segment::first_of(names[1].file_name().unwrap().to_str().unwrap()).unwrap();
        let third = segment::first_of(names[2].file_name().unwrap().to_str().unwrap()).unwrap();
        let store = open(folder.path());
        std::fs::write(&names[1], b"not a database").unwrap();
        let (found, unreadable, _) = walk(&store.view(), &ALL, 1 << 20);
        assert_eq!(unreadable, 1);
        let expected: Vec<u64> = (0..second).chain(third..90).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_closed_store_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let store = ninety_hours(folder.path());
        let view = store.view();
        store.close();
        assert!(matches!(view.scan(0, None, 1), Err(StoreError::Closed)));
        assert!(matches!(view.begin(), Err(StoreError::Closed)));
    }
}
