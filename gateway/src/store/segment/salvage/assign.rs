//! Which offsets the rows that were found have. Pure.
//!
//! ```text
//!  bytes before   0      900   2100          5000   5700          8100
//!                 │ row  │ row │   (gap)    │ row  │   (gap)    │ row │ the segment's end
//!  offsets        first ─▶ they follow       by their keys        ◀─ counted back from the end
//! ```

use std::{collections::HashMap, ops::Range};

use super::file::Found;
use crate::store::record::position::LogPosition;

/// What is known of the segment.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Where it begins and ends; the end is `u64::MAX` where nobody knows.
    pub offsets: Range<u64>,
    /// The point of the log at its beginning.
    pub begins_at: Option<LogPosition>,
    /// The point of the log at its end.
    pub ends_at: Option<LogPosition>,
}

/// The rows in their places.
#[derive(Debug, Default)]
pub struct Assigned {
    /// In their order, each with its offset.
    pub rows: Vec<(u64, Found)>,
    /// A run follows on the records before the segment, or on those behind it: the rows are of the
    /// same log.
    pub is_anchored: bool,
    /// Records of rows that have no place.
    pub unassigned_records: u64,
}

/// Gives the rows their offsets.
pub fn assign(mut found: Vec<Found>, segment: &Segment) -> Assigned {
    // The database leaves copies of rows behind: those of one place are the same row, and a key is
    // what a copy may have lost.
    found.sort_unstable_by_key(|row| (row.bytes_before, row.key.is_none()));
    let mut bytes = 0;
    found.retain(|row| {
        let follows = row.bytes_before >= bytes;
        if follows {
            bytes = row.bytes_before + row.records_bytes();
        }
        follows
    });
    let (mut assigned, mut at) = (Assigned::default(), segment.offsets.start);
    for run in found.chunk_by(|row, next| row.bytes_before + row.records_bytes() == next.bytes_before) {
        let anchor = anchor(run, segment);
        assigned.is_anchored |= anchor.is_some_and(|(_, bytes)| bytes > 0);
        let offset = anchor.map(|(offset, _)| offset).or_else(|| by_keys(run));
        let has_place = |offset: &u64| *offset >= at && offset.checked_add(records(run)).is_some();
        let Some(mut offset) = offset.filter(has_place) else {
            assigned.unassigned_records += records(run);
            continue;
        };
        for row in run {
            let end = offset + u64::from(row.records);
            // What lies behind the segment's end is of a commit that failed, and was written anew.
            if end <= segment.offsets.end {
                assigned.rows.push((offset, row.clone()));
                at = end;
            }
            offset = end;
        }
    }
    assigned
}

fn records(run: &[Found]) -> u64 {
    run.iter().map(|row| u64::from(row.records)).sum()
}

/// The offset of a run that begins where the segment does, or ends where it does, and the bytes
/// that were stored up to there.
fn anchor(run: &[Found], segment: &Segment) -> Option<(u64, u64)> {
    let (first, last) = (run.first()?, run.last()?);
    let begins = segment.begins_at.filter(|mark| mark.bytes == first.bytes_before);
    let ends = segment.ends_at.filter(|mark| mark.bytes == last.bytes_before + last.records_bytes());
    let back = |mark: LogPosition| Some((mark.offset.checked_sub(records(run))?, mark.bytes));
    begins.map(|mark| (mark.offset, mark.bytes)).or_else(|| ends.and_then(back))
}

/// The offset of a run as most of its rows' keys have it.
fn by_keys(run: &[Found]) -> Option<u64> {
    let (mut votes, mut before) = (HashMap::<u64, u32>::new(), 0);
    for row in run {
        if let Some(offset) = row.key.and_then(|key| key.checked_sub(before)) {
            *votes.entry(offset).or_default() += 1;
        }
        before += u64::from(row.records);
    }
    votes.into_iter().max_by_key(|(offset, votes)| (*votes, *offset)).map(|(offset, _)| offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of ten bytes for each record.
    fn row(bytes_before: u64, records: u32, key: Option<u64>) -> Found {
        Found::new(bytes_before, records, records as usize * 10, key)
    }

    fn mark(offset: u64, bytes: u64) -> Option<LogPosition> {
        Some(LogPosition { offset, bytes, ..LogPosition::default() })
    }

    /// The offsets of the rows that have a place, whether they are known to be this log's, and how
    /// many records have none.
    fn assigned(
        rows: Vec<Found>,
        begins_at: Option<LogPosition>,
        ends_at: Option<LogPosition>,
    ) -> (Vec<u64>, bool, u64) {
        let assigned = assign(rows, &Segment { offsets: 100..200, begins_at, ends_at });
        let offsets = assigned.rows.iter().map(|(offset, _)| *offset).collect();
        (offsets, assigned.is_anchored, assigned.unassigned_records)
    }

    #[test]
    fn a_run_has_its_offsets_from_the_beginning_the_end_or_the_keys_of_most() {
        let three = || vec![row(1020, 3, None), row(1000, 2, None), row(1050, 1, None)];
        assert_eq!(assigned(three(), mark(100, 1000), None), (vec![100, 102, 105], true, 0));
        assert_eq!(assigned(three(), None, mark(200, 1060)), (vec![194, 196, 199], true, 0));
        assert_eq!(assigned(three(), mark(100, 900), mark(200, 1070)), (vec![], false, 6));
        let keyed = vec![row(1000, 2, Some(150)), row(1020, 3, Some(152)), row(1050, 1, Some(9))];
        assert_eq!(assigned(keyed, None, None), (vec![150, 152, 155], false, 0));
    }

    #[test]
    fn what_is_between_two_holes_goes_by_its_keys_or_is_left_out() {
        let rows = |key| vec![row(1000, 1, None), row(1100, 2, key), row(1500, 4, None)];
        let marks = (mark(100, 1000), mark(200, 1540));
        assert_eq!(assigned(rows(Some(110)), marks.0, marks.1), (vec![100, 110, 196], true, 0));
        assert_eq!(assigned(rows(None), marks.0, marks.1), (vec![100, 196], true, 2));
        // Keys that cannot be: before what is there already, and at the end of all numbers.
        for key in [100, u64::MAX] {
            assert_eq!(assigned(rows(Some(key)), marks.0, marks.1), (vec![100, 196], true, 2), "{key}");
        }
    }

    #[test]
    fn copies_are_one_row_and_what_lies_behind_the_end_is_not_there() {
        let copies = vec![row(1000, 1, None), row(1000, 1, Some(120)), row(1000, 1, None)];
        assert_eq!(assigned(copies, None, None), (vec![120], false, 0));
        let behind = vec![row(1000, 5, Some(195)), row(1050, 5, Some(200))];
        assert_eq!(assigned(behind, None, None), (vec![195], false, 0));
    }
}
