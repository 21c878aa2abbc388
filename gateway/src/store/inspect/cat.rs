//! Showing records: by place, time, device and kind, a bounded number at a time.
//!
//! Times are compared as `times.rs` says, so that records from before the clock was set are found
//! by when they were received in truth; what is shown of them is the stamp that they have. What
//! cannot be read is told and passed over; what is missing has a gap record of its own.
//!
//! Limits: [`CatLimits`], of records shown and of bytes read. Whoever wants more goes on from the
//! offset that is given.

use super::{
    READ_BYTES_MAX,
    entry::Entry,
    report::Missing,
    source::{InspectedStore, Opened, SegmentRange},
};
use crate::store::{
    error::StoreError,
    record::{Kind, Record, ids::Prefixes, row::Block, times::Times},
};

/// Which records are shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CatFilter {
    /// From this offset on.
    pub offset: u64,
    /// Received then or later, by the gateway's clock as it is known now, milliseconds since 1970.
    pub from_ms: Option<u64>,
    /// Received before then.
    pub to_ms: Option<u64>,
    /// Of this device: the one that a topic names, else the client.
    pub device: Option<String>,
    /// Of this kind.
    pub kind: Option<Kind>,
}

/// How much one look may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatLimits {
    /// Records shown.
    pub records: u64,
    /// Bytes of rows read, about.
    pub bytes: u64,
}

/// What a look shows.
#[derive(Debug)]
pub enum CatItem<'a> {
    /// A record.
    Record(Entry<'a>),
    /// Records that cannot be read, and why.
    Unreadable {
        /// Where they are, as far as it is known.
        offsets: Missing,
        /// What is the matter.
        why: String,
    },
}

pub fn cat(
    source: &InspectedStore,
    gateway_id: Option<&str>,
    filter: &CatFilter,
    limits: CatLimits,
    visit: &mut dyn FnMut(CatItem<'_>),
) -> Result<Option<u64>, StoreError> {
    let before = gateway_id.map_or_else(String::new, |gateway| format!("{gateway}/"));
    let CatFilter { from_ms, to_ms, .. } = *filter;
    let times = (from_ms.is_some() || to_ms.is_some())
        .then(|| Times::new(from_ms.unwrap_or(0)..to_ms.unwrap_or(u64::MAX), source.journal()));
    let prefixes = source.ids().prefixes(&before);
    let mut look = Look { filter, times, prefixes, left: limits, visit };
    for place in source.places() {
        let from = filter.offset.max(place.first);
        if place.end.is_some_and(|end| end <= from) {
            continue;
        }
        source.check_open()?;
        match source.open(place.first).and_then(|opened| look.segment(&opened, place, from)) {
            Ok(None) => {}
            Ok(next) => return Ok(next),
            Err(StoreError::Closed) => return Err(StoreError::Closed),
            Err(_) if !source.has(place.first) => {}
            Err(error) => {
                let offsets = Missing::from(from..place.end.unwrap_or(from));
                (look.visit)(CatItem::Unreadable { offsets, why: error.to_string() });
            }
        }
    }
    Ok(None)
}

struct Look<'a> {
    filter: &'a CatFilter,
    /// Those asked for, if any.
    times: Option<Times>,
    prefixes: Prefixes,
    left: CatLimits,
    visit: &'a mut dyn FnMut(CatItem<'_>),
}

impl Look<'_> {
    /// Shows the records of a segment. Gives the offset to go on from, once the limits are reached.
    fn segment(
        &mut self,
        opened: &Opened<'_>,
        place: SegmentRange,
        from: u64,
    ) -> Result<Option<u64>, StoreError> {
        if self.is_outside(opened, place, from)? {
            return Ok(None);
        }
        let mut at = from;
        loop {
            let blocks = opened.read(at, READ_BYTES_MAX)?;
            if blocks.is_empty() {
                return Ok(None);
            }
            for block in blocks {
                if place.end.is_some_and(|end| block.first() >= end) {
                    return Ok(None);
                }
                if let Some(next) = self.row(&block, at) {
                    return Ok(Some(next));
                }
                at = block.end().max(at + 1);
            }
        }
    }

    fn row(&mut self, block: &Block, from: u64) -> Option<u64> {
        for (offset, record) in block.records_from(from) {
            if self.is_asked_for(offset, &record) {
                (self.visit)(CatItem::Record(Entry::new(offset, &record, &self.prefixes)));
                self.left.records = self.left.records.saturating_sub(1);
                if self.left.records == 0 {
                    return Some(offset + 1);
                }
            }
        }
        self.left.bytes = self.left.bytes.saturating_sub(block.row().len() as u64);
        (self.left.bytes == 0).then(|| block.end())
    }

    fn is_asked_for(&self, offset: u64, record: &Record<'_>) -> bool {
        let CatFilter { device, kind, .. } = self.filter;
        kind.is_none_or(|kind| kind == record.kind)
            && device.as_ref().is_none_or(|device| device == record.device())
            && self.times.as_ref().is_none_or(|times| times.contain(offset, record.received_ms))
    }

    /// Whether no row of a segment from `from` on can have been received within the times asked
    /// for.
    fn is_outside(&self, opened: &Opened<'_>, place: SegmentRange, from: u64) -> Result<bool, StoreError> {
        let Some(times) = self.times.as_ref().filter(|_| !place.is_last) else { return Ok(false) };
        let (rows, last) = (opened.read(from, 1)?, opened.last()?);
        Ok(rows.first().zip(last).is_some_and(|(first, last)| times.pass_over(first, &last)))
    }
}
