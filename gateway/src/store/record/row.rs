//! The row: what one commit wrote, in one piece. Head and records, checked by a CRC.
//!
//! ```text
//!  0         4      8         12       16        24              32             40
//!  | version | crc  | records | events | base_ms | events_before | bytes_before | record | record | …
//!  | u8, 0 0 0 u32    u32       u32      u64       u64             u64
//! ```
//! Little-endian. The key of a row is the offset of its first record. `events_before` and
//! `bytes_before` count everything ever stored before this row, so a backlog is a subtraction. The
//! CRC-32 covers all bytes after itself. `base_ms` is the received time of the first record.
//!
//! A commit makes several rows only where one would outgrow [`ROW_BYTES_MAX`]: redb gives a value a
//! page of the next power of two, so rows just below one waste nothing.

use std::ops::Range;

use super::{BadRecord, Record};

/// Version of the row format.
pub const VERSION: u8 = 1;
/// Bytes of a row's head.
pub const HEAD_BYTES: usize = 40;
/// A row's size at most, unless a single record is larger; leaves room for redb's own bytes in 64
/// KiB.
pub const ROW_BYTES_MAX: usize = 64 * 1024 - 256;

/// What a row's head says besides its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowHead {
    /// Records in the row.
    pub records: u32,
    /// Events in the row.
    pub events: u32,
    /// Received time of the first record, wall clock, milliseconds since 1970.
    pub base_ms: u64,
    /// Events stored before this row, ever.
    pub events_before: u64,
    /// Bytes of records stored before this row, ever.
    pub bytes_before: u64,
}

/// A value that is no row, or was changed since it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    /// Shorter than a head.
    #[error("row {key} is cut short")]
    Short {
        /// Offset of its first record.
        key: u64,
    },
    /// Written by a newer version of the gateway.
    #[error("row {key} has version {version}, this program knows version {VERSION}")]
    Version {
        /// Offset of its first record.
        key: u64,
        /// What the row says.
        version: u8,
    },
    /// The CRC does not match.
    #[error("row {key} is damaged: its checksum does not match")]
    Checksum {
        /// Offset of its first record.
        key: u64,
    },
}

impl RowHead {
    /// Fills the head of `row`, whose records are in place behind [`HEAD_BYTES`] bytes left free
    /// for it.
    pub fn seal(&self, row: &mut [u8]) {
        row[..4].copy_from_slice(&[VERSION, 0, 0, 0]);
        row[8..12].copy_from_slice(&self.records.to_le_bytes());
        row[12..16].copy_from_slice(&self.events.to_le_bytes());
        row[16..24].copy_from_slice(&self.base_ms.to_le_bytes());
        row[24..32].copy_from_slice(&self.events_before.to_le_bytes());
        row[32..40].copy_from_slice(&self.bytes_before.to_le_bytes());
        let crc = crc32fast::hash(&row[8..]);
        row[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the head of the row stored under `key`, and checks the whole row.
    ///
    /// # Errors
    /// [`BadRow`]: nothing in it can be trusted.
    pub fn open(key: u64, row: &[u8]) -> Result<Self, BadRow> {
        let head: &[u8; HEAD_BYTES] = row.first_chunk().ok_or(BadRow::Short { key })?;
        if head[0] != VERSION {
            return Err(BadRow::Version { key, version: head[0] });
        }
        if crc32fast::hash(&row[8..]) != u32_at(head, 4) {
            return Err(BadRow::Checksum { key });
        }
        Ok(Self {
            records: u32_at(head, 8),
            events: u32_at(head, 12),
            base_ms: u64_at(head, 16),
            events_before: u64_at(head, 24),
            bytes_before: u64_at(head, 32),
        })
    }
}

fn u32_at(head: &[u8; HEAD_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

fn u64_at(head: &[u8; HEAD_BYTES], at: usize) -> u64 {
    u64::from(u32_at(head, at)) | u64::from(u32_at(head, at + 4)) << 32
}

/// One committed row in memory: what a reader gets. Offsets count records (publishes), from 0, for
/// ever.
#[derive(Debug, Clone)]
pub struct Block {
    first: u64,
    head: RowHead,
    row: Vec<u8>,
}

impl Block {
    /// The row that is stored under `first`, checked.
    ///
    /// # Errors
    /// [`BadRow`]
    pub fn new(first: u64, row: Vec<u8>) -> Result<Self, BadRow> {
        Ok(Self { first, head: RowHead::open(first, &row)?, row })
    }

    /// A row whose head was just sealed.
    pub(in crate::store) fn sealed(first: u64, head: RowHead, row: Vec<u8>) -> Self {
        Self { first, head, row }
    }

    /// Offset of its first record.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Offset after its last record.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.head.records)
    }

    /// Its head.
    #[must_use]
    pub fn head(&self) -> &RowHead {
        &self.head
    }

    /// The whole row as stored.
    #[must_use]
    pub fn row(&self) -> &[u8] {
        &self.row
    }

    /// Whether one of its records has the retain flag.
    #[must_use]
    pub fn has_retained(&self) -> bool {
        let mut at = HEAD_BYTES;
        while let Some((_, size)) = Record::peek(&self.row, at) {
            if Record::is_retained(&self.row[at..]) {
                return true;
            }
            at += size;
        }
        false
    }

    /// Its records from `offset` on, each with its offset.
    #[must_use]
    pub fn records_from(&self, offset: u64) -> Records<'_> {
        let mut records = self.records_at(self.first, HEAD_BYTES);
        while records.offset < offset && records.pass().is_some() {}
        records
    }

    /// Its records from the one at `offset` on, which lies `at` bytes from the row's start.
    pub(in crate::store) fn records_at(&self, offset: u64, at: usize) -> Records<'_> {
        Records { row: &self.row, at, offset, base_ms: self.head.base_ms }
    }
}

/// A record, its offset, and the bytes of the row in which it lies.
pub type Found<'a> = (u64, Record<'a>, Range<usize>);

/// The records of a row, each with its offset.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    row: &'a [u8],
    at: usize,
    offset: u64,
    base_ms: u64,
}

impl<'a> Records<'a> {
    /// The records in `row`, whose head may not be sealed yet.
    pub(in crate::store) fn of(row: &'a [u8], first: u64, base_ms: u64) -> Self {
        Self { row, at: HEAD_BYTES, offset: first, base_ms }
    }

    /// The next record, its offset, and where it lies in the row.
    ///
    /// # Errors
    /// Bytes that are no record, although the row's checksum holds: written by a program that is
    /// not this one.
    pub fn read_next(&mut self) -> Option<Result<Found<'a>, BadRecord>> {
        if self.at >= self.row.len() {
            return None;
        }
        match Record::read(self.row, self.at, self.base_ms) {
            Ok((record, size)) => {
                let found = (self.offset, record, self.at..self.at + size);
                self.at += size;
                self.offset += 1;
                Some(Ok(found))
            }
            Err(error) => {
                self.at = self.row.len();
                Some(Err(error))
            }
        }
    }

    /// Where the next record lies, in bytes from the row's start.
    pub(in crate::store) fn at(&self) -> usize {
        self.at
    }

    /// Passes over one record without reading it, and gives its events and its bytes.
    pub(in crate::store) fn pass(&mut self) -> Option<(u8, usize)> {
        let (events, size) = Record::peek(self.row, self.at)?;
        self.at += size;
        self.offset += 1;
        Some((events, size))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (u64, Record<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (offset, record, _) = self.read_next()?.ok()?;
        Some((offset, record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> (RowHead, Vec<u8>) {
        let mut row = vec![0; HEAD_BYTES];
        for topic in ["a", "b", "c"] {
            let record = Record {
                events: 1,
                qos: 0,
                received_ms: 1_000,
                client: "c",
                topic,
                payload: b"x",
                ..Record::default()
            };
            record.write(&mut row);
        }
        let head = RowHead { records: 3, events: 3, base_ms: 1_000, events_before: 7, bytes_before: 99 };
        head.seal(&mut row);
        (head, row)
    }

    #[test]
    fn a_row_reads_back_from_any_offset() {
        let (head, row) = row();
        let block = Block::new(40, row).unwrap();
        assert_eq!((block.head(), block.end()), (&head, 43));
        for (from, topics) in [(0, "abc"), (40, "abc"), (41, "bc"), (42, "c"), (43, ""), (99, "")] {
            let read: String = block.records_from(from).map(|(_, record)| record.topic).collect();
            assert_eq!(read, topics, "from {from}");
        }
        assert_eq!(block.records_from(41).next().map(|(offset, _)| offset), Some(41));
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let (_, row) = row();
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // Bytes 1 to 3 are reserved and carry nothing.
            assert!(RowHead::open(0, &flipped).is_err() || (8..32).contains(&bit), "bit {bit}");
        }
    }
}
