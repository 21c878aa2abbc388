//! Records picked from the store for a replay, copied out: a few of many, so that what is in flight
//! costs memory for its own bytes and not for the rows that it lay in.
//!
//! Limits: a block of [`BLOCK_BYTES_MAX`] and one record more.

use crate::store::Record;

/// Bytes of a block, at about the most.
const BLOCK_BYTES_MAX: usize = 64 * 1024;

/// Some records, their offsets rising.
#[derive(Debug, Default)]
pub struct Picked {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    events: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: u64,
    at: usize,
    received_ms: u64,
    events: u8,
}

impl Picked {
    /// Its records from `offset` on.
    pub fn records_from(&self, offset: u64) -> impl Iterator<Item = (u64, Record<'_>)> + Send {
        let from = self.entries.partition_point(|entry| entry.offset < offset);
        self.entries[from..].iter().filter_map(|entry| {
            let read = Record::read(&self.bytes, entry.at, entry.received_ms);
            read.ok().map(|(record, _)| (entry.offset, record))
        })
    }

    /// The offsets of its records.
    pub fn offsets(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().map(|entry| entry.offset)
    }

    /// The offset after its last record; 0 without one.
    pub fn end(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.offset + 1)
    }

    /// Events in it.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Events in it whose record lies at `offset` or behind.
    pub fn events_from(&self, offset: u64) -> u64 {
        let from = self.entries.partition_point(|entry| entry.offset < offset);
        self.entries[from..].iter().map(|entry| u64::from(entry.events)).sum()
    }

    fn push(&mut self, offset: u64, record: &Record<'_>) {
        let at = self.bytes.len();
        record.write(&mut self.bytes);
        self.entries.push(Entry { offset, at, received_ms: record.received_ms, events: record.events });
        self.events += u64::from(record.events);
    }
}

/// Picks records into blocks.
#[derive(Debug)]
pub struct Picker {
    block_events_max: u64,
    full: Vec<Picked>,
    filling: Picked,
}

impl Picker {
    /// Blocks of at most `block_events_max` events, unless a single record holds more.
    pub fn new(block_events_max: u64) -> Self {
        Self { block_events_max, full: Vec::new(), filling: Picked::default() }
    }

    /// Takes a record, whose offset is above that of the last one.
    pub fn push(&mut self, offset: u64, record: &Record<'_>) {
        let events = self.filling.events + u64::from(record.events);
        let is_full = self.filling.bytes.len() >= BLOCK_BYTES_MAX || events > self.block_events_max;
        if is_full && !self.filling.entries.is_empty() {
            self.full.push(std::mem::take(&mut self.filling));
        }
        self.filling.push(offset, record);
    }

    /// The blocks.
    pub fn finish(mut self) -> Vec<Picked> {
        if !self.filling.entries.is_empty() {
            self.full.push(self.filling);
        }
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::tests::Owned, *};

    #[test]
    fn records_read_back_from_any_offset_with_their_times() {
        let mut picker = Picker::new(u64::MAX);
        let record = |n: u64| Owned::new(&format!("t/{n}"), b"x");
        for offset in [3, 10, 11, 500] {
            let owned = record(offset);
            picker.push(offset, &Record { received_ms: offset << 40, ..owned.borrow() });
        }
        let blocks = picker.finish();
        let [picked] = &blocks[..] else { panic!("{blocks:?}") };
        for (from, expected) in
            [(0, &[3, 10, 11, 500][..]), (3, &[3, 10, 11, 500]), (4, &[10, 11, 500]), (501, &[])]
        {
            let read: Vec<_> = picked.records_from(from).collect();
            assert_eq!(read.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), expected);
            for (offset, read) in read {
                assert_eq!((read.received_ms, read.topic), (offset << 40, &*format!("t/{offset}")));
            }
            assert_eq!(picked.events_from(from), expected.len() as u64);
        }
        assert_eq!((picked.end(), picked.events()), (501, 4));
    }

    #[test]
    fn a_block_is_limited_by_events_and_by_bytes() {
        let frame = Owned { events: 4, ..Owned::new("t", b"x") };
        let mut picker = Picker::new(10);
        (0..5).for_each(|offset| picker.push(offset, &frame.borrow()));
        let events: Vec<u64> = picker.finish().iter().map(Picked::events).collect();
        assert_eq!(events, [8, 8, 4]);

        let mut picker = Picker::new(1);
        (0..3).for_each(|offset| picker.push(offset, &frame.borrow()));
        assert_eq!(picker.finish().len(), 3, "a record is never cut");

        let large = Owned::new("t", &vec![b'x'; BLOCK_BYTES_MAX / 2]);
        let mut picker = Picker::new(u64::MAX);
        (0..6).for_each(|offset| picker.push(offset, &large.borrow()));
        let ends: Vec<u64> = picker.finish().iter().map(Picked::end).collect();
        assert_eq!(ends, [2, 4, 6]);
    }
}
