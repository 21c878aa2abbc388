//! Where a replay's events come from: looked for in pieces, each look short and blocking.
//!
//! [`LogFeed`] walks the store's rows, from the oldest to the end as it was when the replay began.
//! What is stored meanwhile is live traffic and not its concern.

use super::{
    super::delivery::carried::Control,
    picked::{Picked, Picker},
    request::Stored,
};
use crate::store::{NewLetter, Point, ReadError, StoreError, Times, View};

/// Bytes of rows that one look reads, at about the most.
const LOOK_BYTES_MAX: usize = 512 * 1024;

/// Records before a suspected event that are looked at for a control.
const CONTROLS_LOOKED_AT: u64 = 64;

/// Where events come from. Every call blocks, for one short transaction.
pub trait Feed: Send + Sync + 'static {
    /// Whether it is to be told what was acknowledged.
    const WANTS_ACKS: bool;

    /// Where to begin to look.
    fn begin(&self) -> u64;
    /// Bytes that there are to look through.
    fn total_bytes(&self) -> u64;
    /// Events from offset `at` on, in blocks of at most `block_events_max`.
    fn look(&self, at: u64, block_events_max: u64) -> Result<Look, ReadError>;
    /// The upstream cannot take these events: durable as dead letters of this time, wall clock,
    /// milliseconds since 1970, when this returns.
    fn put_dead_letters(&self, letters: &[NewLetter], now_ms: u64) -> Result<(), ReadError>;
    /// Copies of some records that the uplink had settled before, see
    /// [`Source::controls`](super::super::source::Source::controls).
    fn controls(&self, offset: u64) -> Vec<Control>;
    /// The upstream acknowledged the events at these offsets.
    fn acknowledged(&self, offsets: &[u64]) -> Result<(), ReadError>;
}

/// What one look brought.
#[derive(Debug, Default)]
pub struct Look {
    /// The events, in the order of their offsets.
    pub picked: Vec<Picked>,
    /// Where the next look begins.
    pub next: u64,
    /// There is nothing behind it.
    pub ended: bool,
    /// Bytes looked through so far, where that is known.
    pub scanned_bytes: Option<u64>,
    /// A segment could not be read, and was passed over.
    pub unreadable: bool,
    /// Records that were to be looked at and are not there any more.
    pub gone_records: u64,
}

/// Stored events.
#[derive(Debug)]
pub struct LogFeed {
    view: View,
    uplink: String,
    stored: Stored,
    /// By the clock as it was known when the replay began, like the times that were asked for.
    times: Times,
    begin: Point,
    end: Point,
}

impl LogFeed {
    /// What is stored now. Blocking.
    ///
    /// # Errors
    /// [`ReadError`]: the store cannot be read at all.
    pub fn open(view: View, uplink: String, stored: Stored) -> Result<Self, ReadError> {
        let end = view.end();
        let begin = view.begin().map_err(read_error)?;
        let times = Times::new(stored.from_ms..stored.to_ms, view.timeline().journal());
        Ok(Self { view, uplink, stored, times, begin, end })
    }
}

impl Feed for LogFeed {
    const WANTS_ACKS: bool = false;

    fn begin(&self) -> u64 {
        self.begin.offset
    }

    fn total_bytes(&self) -> u64 {
        self.end.bytes.saturating_sub(self.begin.bytes)
    }

    fn look(&self, at: u64, block_events_max: u64) -> Result<Look, ReadError> {
        let end = self.end.offset;
        if at >= end {
            let scanned_bytes = Some(self.total_bytes());
            return Ok(Look { next: at, ended: true, scanned_bytes, ..Look::default() });
        }
        let scan = self.view.scan(at, Some(&self.times), LOOK_BYTES_MAX).map_err(read_error)?;
        if let Some(error) = &scan.unreadable {
            tracing::warn!(uplink = %self.uplink, "a replay passes over a segment that cannot be read: {error}");
        }
        let mut picker = Picker::new(block_events_max);
        for (offset, record) in scan.blocks.iter().flat_map(|block| block.records_from(at)) {
            if offset < end && self.stored.takes(&record) && self.times.contain(offset, record.received_ms) {
                picker.push(offset, &record);
            }
        }
        let first = scan.blocks.first().map_or(at, |block| block.first().min(end));
        let ended = scan.next.offset >= end;
        Ok(Look {
            picked: picker.finish(),
            next: scan.next.offset.min(end),
            ended,
            scanned_bytes: match (ended, scan.next.bytes.checked_sub(self.begin.bytes)) {
                (true, _) => Some(self.total_bytes()),
                (false, known) => known.map(|bytes| bytes.min(self.total_bytes())),
            },
            unreadable: scan.unreadable.is_some(),
            gone_records: first.saturating_sub(at),
        })
    }

    fn put_dead_letters(&self, letters: &[NewLetter], now_ms: u64) -> Result<(), ReadError> {
        let letters: Vec<_> = letters.iter().map(|letter| letter.letter(&self.uplink, now_ms)).collect();
        self.view.add_dead_letters(&letters).map_err(read_error)
    }

    fn controls(&self, offset: u64) -> Vec<Control> {
        settled(&self.view, &self.uplink, offset)
    }

    fn acknowledged(&self, _offsets: &[u64]) -> Result<(), ReadError> {
        Ok(())
    }
}

/// Records that `uplink` has settled: those right before `offset`, or the oldest that are stored
/// still.
pub fn settled(view: &View, uplink: &str, offset: u64) -> Vec<Control> {
    let to = view.settled_to(uplink);
    let begin = view.begin().map_or(to, |begin| begin.offset);
    let from = offset.min(to).saturating_sub(CONTROLS_LOOKED_AT).max(begin);
    let Ok(scan) = view.scan(from, None, LOOK_BYTES_MAX) else { return Vec::new() };
    let records = scan.blocks.iter().flat_map(|block| block.records_from(from));
    Control::newest(
        records.filter(|(found, _)| *found < to && *found != offset).take(CONTROLS_LOOKED_AT as usize),
    )
}

/// A closed store is an end and not a failure.
pub fn read_error(error: StoreError) -> ReadError {
    match error {
        StoreError::Closed => ReadError::Closed,
        error => ReadError::Store(error.into()),
    }
}
