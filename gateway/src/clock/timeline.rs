//! The gateway's one timeline: the journal of its clock, for all rooms that have to know how long
//! ago something was.
//!
//! ```text
//!  fleet.redb ─ load ─▶ Timeline ◀─ look, every second ─ fleet ─ save ─▶ fleet.redb
//!                          │ present(boot_ms)
//!                          ▼
//!        store (retain), ingest (sessions, wills, messages): since_ms(a moment that was kept)
//! ```
//! Whoever keeps a time keeps a [`Moment`], and asks a [`Present`] how long ago it was. In memory
//! the same time is a number of the [steady clock](super::steady_ms), which goes on evenly for as
//! long as the machine runs. Before the kept journal is loaded no machine boot is known: moments
//! lie on axis 0 then, and nothing that was kept earlier has any age.
//!
//! Limits: those of the journal. A look makes a copy of it only while somebody holds an older one.

use std::sync::Arc;

use parking_lot::RwLock;

use super::{
    Reading,
    journal::{Journal, Moment, Seen},
};

/// What the steady clock said when the machine booted, in milliseconds: so what lies before that
/// has a number as well.
pub const STEADY_ORIGIN_MS: i64 = 1 << 50;

/// The journal, shared. Clones are the same timeline.
#[derive(Debug, Clone, Default)]
pub struct Timeline(Arc<RwLock<Arc<Journal>>>);

impl Timeline {
    /// Goes on with the journal that was kept, by a first look at the clocks while the log ends at
    /// `end`.
    pub fn begin(&self, journal: Journal, reading: &Reading, end: u64) -> Seen {
        let mut own = self.0.write();
        *own = Arc::new(journal);
        Arc::make_mut(&mut own).look(reading, end)
    }

    /// Notes a look at the clocks: see [`Journal::look`].
    pub fn look(&self, reading: &Reading, end: u64) -> Seen {
        Arc::make_mut(&mut self.0.write()).look(reading, end)
    }

    /// The journal as of the last look.
    #[must_use]
    pub fn journal(&self) -> Arc<Journal> {
        self.0.read().clone()
    }

    /// The present, as of a look at the clocks that is not noted.
    #[must_use]
    pub fn present(&self, reading: &Reading) -> Present {
        let journal = self.journal();
        let axis = journal.current().map_or(0, |(number, _)| *number);
        Present { journal, now: Moment { axis, boot_ms: reading.boot_ms } }
    }

    /// When the record at `offset` was received, by the steady clock: see [`Journal::received`].
    #[must_use]
    pub fn received_ms(&self, offset: u64, received_ms: u64, reading: &Reading) -> u64 {
        let present = self.present(reading);
        present.steady_ms(present.journal.received(offset, received_ms, reading))
    }

    /// The present as of the last look.
    #[must_use]
    pub fn looked(&self) -> Present {
        let journal = self.journal();
        Present { now: journal.latest().unwrap_or_default(), journal }
    }
}

/// A moment that is now, and what tells how long ago others were.
#[derive(Debug, Clone)]
pub struct Present {
    journal: Arc<Journal>,
    now: Moment,
}

impl Present {
    /// Now.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Milliseconds that have passed since `then` for certain.
    #[must_use]
    pub fn since_ms(&self, then: Moment) -> u64 {
        self.journal.elapsed_ms(then, self.now)
    }

    /// A time that the steady clock of this machine boot said.
    #[must_use]
    pub fn moment(&self, steady_ms: u64) -> Moment {
        Moment { boot_ms: steady_ms as i64 - STEADY_ORIGIN_MS, ..self.now }
    }

    /// What the steady clock said at a moment that was kept, or would have said: before this
    /// machine boot as well.
    #[must_use]
    pub fn steady_ms(&self, then: Moment) -> u64 {
        if then.axis == self.now.axis {
            return steady(then.boot_ms);
        }
        steady(self.now.boot_ms.saturating_sub_unsigned(self.since_ms(then)))
    }

    /// The same of a moment that may lie ahead.
    #[must_use]
    pub fn due_steady_ms(&self, due: Moment) -> u64 {
        steady(self.now.boot_ms.saturating_sub(self.journal.passed_ms(due, self.now)))
    }

    /// What the steady clock said when the wall clock said `wall_ms`: see [`Journal::at_wall`].
    #[must_use]
    pub fn at_wall_ms(&self, wall_ms: u64) -> u64 {
        self.steady_ms(self.journal.at_wall(wall_ms, self.now))
    }
}

fn steady(boot_ms: i64) -> u64 {
    boot_ms.saturating_add(STEADY_ORIGIN_MS).max(0) as u64
}
