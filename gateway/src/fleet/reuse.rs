//! Numbers that a device used twice: its boot number did not grow at a reset, so `seq` began again
//! under the same one. Pure.
//!
//! ```text
//!  offset   ────────────────── X ─────────────────────▶
//!  seq      0 … 99 (boot 1)    0 … 99 again │ 100 …      boot 1, from X on: below 100 is used twice
//! ```
//! The store drops what is sent again to the byte, and keeps what is not. So a number that was
//! received before and is in the log once more names another event, unless the store had forgotten
//! the frame: see `store::seen`. Whoever drops duplicates by id would lose it, and is told by a
//! mark on the event.
//!
//! Limits: the last [`SPANS_MAX`] times of each device; events of earlier ones that still wait for
//! an uplink go without the mark.

use serde::{Deserialize, Serialize};

use crate::clock::journal::Moment;

/// Times that numbers began again, of which it is known from where on.
pub const SPANS_MAX: usize = 8;

/// What of one device came under a number that was used before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reuse {
    /// Events, ever.
    pub events: u64,
    /// How often numbers began again.
    pub times: u64,
    /// When the last of them came.
    pub at: Option<Moment>,
    /// The last times, in the order of the log.
    spans: Vec<Span>,
}

/// From `offset` on, numbers of `boot` below `below` are used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    boot: u32,
    offset: u64,
    below: u32,
}

impl Reuse {
    /// The record at `offset` has `events` whose numbers of `boot` were received before; `before`
    /// is one more than the highest number of that boot until then, and `end` one more than the
    /// record's own. Whether its numbers have just begun again.
    pub fn note(
        &mut self,
        boot: u32,
        offset: u64,
        before: u32,
        end: u32,
        events: u32,
        at: Option<Moment>,
    ) -> bool {
        self.events = self.events.saturating_add(events.into());
        self.at = at.or(self.at);
        // What the record has beyond it is new.
        if end.min(before) <= self.below(boot, offset) {
            return false;
        }
        self.times = self.times.saturating_add(1);
        if self.spans.len() >= SPANS_MAX {
            self.spans.remove(0);
        }
        self.spans.push(Span { boot, offset, below: before });
        true
    }

    /// In the record at `offset`, numbers of `boot` below this one are used twice; 0 if none is.
    #[must_use]
    pub fn below(&self, boot: u32, offset: u64) -> u32 {
        let of_it = self.spans.iter().filter(|span| span.boot == boot && span.offset <= offset);
        of_it.map(|span| span.below).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_where_numbers_begin_again_is_marked_up_to_where_they_had_come() {
        let mut reuse = Reuse::default();
        assert!(reuse.note(1, 50, 100, 10, 10, None), "numbers begin again");
        assert!(!reuse.note(1, 51, 100, 20, 10, None), "and go on");
        assert_eq!((reuse.events, reuse.times), (20, 1));
        assert_eq!([49, 50, 51].map(|offset| reuse.below(1, offset)), [0, 100, 100]);
        assert_eq!(reuse.below(2, 51), 0);
        // They went on to 130, and began again: what lies between is unharmed.
        assert!(!reuse.note(1, 70, 130, 10, 10, None), "these were marked before");
        assert!(reuse.note(1, 80, 130, 130, 30, None));
        assert_eq!([79, 80].map(|offset| reuse.below(1, offset)), [100, 130]);
    }

    #[test]
    fn no_more_times_are_remembered_than_the_limit() {
        let mut reuse = Reuse::default();
        for boot in 0..20 {
            assert!(reuse.note(boot, boot.into(), 10, 5, 5, None));
        }
        assert_eq!((reuse.spans.len(), reuse.times), (SPANS_MAX, 20));
        assert_eq!((reuse.below(11, 99), reuse.below(12, 99)), (0, 10));
    }
}
