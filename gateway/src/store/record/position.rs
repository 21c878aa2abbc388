//! Points of the log: where a record lies, and how much was stored before it.

use super::row::{Block, HEAD_BYTES};

/// A point of the log, with what was stored before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogPosition {
    /// Offset of the next record.
    pub offset: u64,
    /// Events before it, ever.
    pub events: u64,
    /// Bytes of records before it, ever.
    pub bytes: u64,
    /// Received time of the record at `offset`, milliseconds since 1970; `None` where it is not
    /// known.
    pub received_ms: Option<u64>,
}

/// Where a record lies in memory.
#[derive(Debug, Clone, Copy)]
pub struct RecordLocation {
    /// Its own offset.
    pub offset: u64,
    /// Offset of its block.
    pub block: u64,
    /// Bytes from the row's start.
    pub at: usize,
}

/// The point of the log at the beginning of `block`.
pub fn begin_of(block: &Block) -> LogPosition {
    let head = block.head();
    LogPosition {
        offset: block.first(),
        events: head.events_before,
        bytes: head.bytes_before,
        received_ms: None,
    }
}

/// The point of the log at `offset`, which lies in `block`.
pub fn at(block: &Block, offset: u64) -> LogPosition {
    walk(block, None, offset).0
}

/// The point of the log at the end of `block`.
pub fn end_of(block: &Block) -> LogPosition {
    let head = block.head();
    LogPosition {
        offset: block.end(),
        events: head.events_before + u64::from(head.events),
        bytes: head.bytes_before + (block.row().len() - HEAD_BYTES) as u64,
        received_ms: None,
    }
}

/// Walks in `block` to `offset`: from a mark and the byte where its record lies, or from the
/// block's beginning.
pub fn walk(block: &Block, from: Option<(LogPosition, usize)>, offset: u64) -> (LogPosition, RecordLocation) {
    let (mut mark, at) = from.unwrap_or((begin_of(block), HEAD_BYTES));
    let mut records = block.records_at(mark.offset, at);
    while mark.offset < offset
        && let Some((events, size)) = records.pass()
    {
        mark.offset += 1;
        mark.events += u64::from(events);
        mark.bytes += size as u64;
    }
    let place = RecordLocation { offset: mark.offset, block: block.first(), at: records.at() };
    mark.received_ms = records.next().map(|(_, record)| record.received_ms);
    (mark, place)
}
