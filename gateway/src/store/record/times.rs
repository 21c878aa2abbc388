//! Times of receipt that are asked for, and which records lie within them: what a replay and `store
//! cat` pick by.
//!
//! ```text
//!  stamped    1970 1970 1970 │clock set│ today today        a record's stamp is the wall clock's, as it was then
//!  the journal ── locate, wall ──▶ today today today today today   compared with what is asked for
//! ```
//! A stamp is turned into the time that it was by the clock as it is known now, as for the times
//! that events carry upstream. Where the journal does not reach, the stamp is what there is.
//!
//! Limits: a span of records is judged by its first and its last row only where one clock stamped
//! all of them, and by [`CLOCK_SLACK_MS`] for what the journal does not know of. Everywhere else
//! each record is looked at.

use std::{ops::Range, sync::Arc};

use super::row::Block;
use crate::clock::Journal;

/// A wall clock that no journal tells of may have been set back by this much without hiding an
/// event.
pub const CLOCK_SLACK_MS: u64 = 3_600_000;

/// A range of times, and the gateway's clock to tell what lies in it.
#[derive(Debug, Clone)]
pub struct Times {
    /// Milliseconds since 1970.
    range: Range<u64>,
    journal: Arc<Journal>,
}

impl Times {
    /// These times (milliseconds since 1970), by this journal of the clock.
    #[must_use]
    pub fn new(range: Range<u64>, journal: Arc<Journal>) -> Self {
        Self { range, journal }
    }

    /// Whether the record at `offset`, stamped with `received_ms`, was received within.
    #[must_use]
    pub fn contain(&self, offset: u64, received_ms: u64) -> bool {
        self.range.contains(&self.journal.received_wall_ms(offset, received_ms))
    }

    /// Whether no record from the first of `first` to the last of `last` can have been received
    /// within.
    pub(in crate::store) fn pass_over(&self, first: &Block, last: &Block) -> bool {
        if !self.journal.is_one_clock(&(first.first()..last.end())) {
            return false;
        }
        let both = [first, last].map(|row| self.journal.received_wall_ms(row.first(), row.head().base_ms));
        let is_older = both.iter().all(|ms| ms.saturating_add(CLOCK_SLACK_MS) < self.range.start);
        let is_newer = both.iter().all(|ms| ms.saturating_sub(CLOCK_SLACK_MS) >= self.range.end);
        is_older || is_newer
    }
}
