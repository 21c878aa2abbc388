//! Whether the rows of a segment follow each other as the store writes them. Pure.
//!
//! ```text
//!  head ─▶ row ─▶ row ─▶ (gap) ─▶ row        offset, events and bytes of each begin where those of the one before end
//! ```
//! Across a gap only the offsets are compared: what was lost there was perhaps never counted.

use std::ops::Range;

use crate::store::record::{
    position::{self, LogPosition},
    row::{Block, HEAD_BYTES},
};

/// What is wrong between two rows, or within one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// Records are not there.
    Gap(Range<u64>),
    /// Something that the store never writes.
    Wrong {
        /// What it is.
        what: String,
        /// Where.
        offsets: Range<u64>,
    },
}

/// Follows the rows of a segment.
#[derive(Debug)]
pub struct Walk {
    /// Where the next row should begin.
    expected: LogPosition,
    /// Records so far.
    pub records: u64,
    /// Their events.
    pub events: u64,
}

impl Walk {
    /// From where the segment says that it begins.
    pub fn new(beginning: LogPosition) -> Self {
        Self { expected: beginning, records: 0, events: 0 }
    }

    /// Behind the last record so far.
    pub fn end(&self) -> u64 {
        self.expected.offset
    }

    /// The next row, and what is wrong with it.
    pub fn row(&mut self, block: &Block) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        let (begin, offsets) = (position::begin_of(block), block.first()..block.end());
        let wrong = |what: String| Flaw::Wrong { what, offsets: offsets.clone() };
        if begin.offset > self.expected.offset {
            flaws.push(Flaw::Gap(self.expected.offset..begin.offset));
        } else if begin.offset < self.expected.offset {
            flaws.push(wrong(format!(
                "row {} overlaps the one before it, which ends at {}",
                begin.offset, self.expected.offset
            )));
        } else if (begin.events, begin.bytes) != (self.expected.events, self.expected.bytes) {
            flaws.push(wrong(format!(
                "row {} counts {} events and {} bytes before it, the rows before it make {} and {}",
                begin.offset, begin.events, begin.bytes, self.expected.events, self.expected.bytes
            )));
        }
        flaws.extend(within(block).map(wrong));
        self.expected = position::end_of(block);
        self.records += u64::from(block.head().records);
        self.events += u64::from(block.head().events);
        flaws
    }
}

/// What is wrong within a row whose checksum holds.
fn within(block: &Block) -> Option<String> {
    let (mut records, mut events, mut bytes) = (0, 0, 0);
    let mut rest = block.records_from(0);
    while let Some(found) = rest.read_next() {
        match found {
            Ok((_, record, place)) => {
                records += 1;
                events += u32::from(record.events);
                bytes += place.len();
            }
            Err(error) => return Some(format!("row {}: {error}", block.first())),
        }
    }
    let head = block.head();
    let counts = (records, events, bytes);
    (counts != (head.records, head.events, block.row().len() - HEAD_BYTES)).then(|| {
        format!(
            "row {} says that it holds {} records and {} events, and holds {records} and {events}",
            block.first(),
            head.records,
            head.events
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::{Record, row::RowHead};

    fn block(first: u64, records: u32, change: impl FnOnce(&mut RowHead)) -> Block {
        let mut row = vec![0; HEAD_BYTES];
        for _ in 0..records {
            let record = Record {
                events: 2,
                qos: 0,
                received_ms: 1,
                client: "c",
                topic: "t",
                payload: b"x",
                ..Record::default()
            };
            record.write(&mut row);
        }
        let bytes_before = first * ((row.len() - HEAD_BYTES) as u64 / u64::from(records));
        let mut head =
            RowHead { records, events: 2 * records, base_ms: 1, events_before: 2 * first, bytes_before };
        change(&mut head);
        head.seal(&mut row);
        Block::new(first, row).unwrap()
    }

    fn wrong(flaws: &[Flaw], word: &str) -> bool {
        matches!(flaws, [Flaw::Wrong { what, .. }] if what.contains(word))
    }

    #[test]
    fn rows_that_follow_each_other_are_well_and_a_gap_is_told() {
        let mut walk = Walk::new(LogPosition::default());
        assert_eq!(walk.row(&block(0, 3, |_| {})), []);
        assert_eq!(walk.row(&block(3, 1, |_| {})), []);
        assert_eq!(walk.row(&block(9, 2, |head| head.events_before = 8)), [Flaw::Gap(4..9)]);
        assert_eq!((walk.end(), walk.records, walk.events), (11, 6, 12));
    }

    #[test]
    fn what_the_store_never_writes_is_told() {
        let begun = || {
            let mut walk = Walk::new(LogPosition::default());
            assert_eq!(walk.row(&block(0, 3, |_| {})), []);
            walk
        };
        assert!(wrong(&begun().row(&block(2, 2, |_| {})), "overlaps"));
        assert!(wrong(&begun().row(&block(3, 2, |head| head.events_before = 7)), "before it"));
        assert!(wrong(&begun().row(&block(3, 2, |head| head.bytes_before += 1)), "before it"));
        assert!(wrong(&begun().row(&block(3, 2, |head| head.records = 3)), "3 records"));
        assert!(wrong(&begun().row(&block(3, 2, |head| head.events = 3)), "3 events"));
    }
}
