//! The gateway's one timeline: the journal of its clock, for all rooms that have to know how long ago something was.
//!
//! ```text
//!  fleet.redb ─ load ─▶ Timeline ◀─ look, every second ─ fleet ─ save ─▶ fleet.redb
//!                          │ present(boot_ms)
//!                          ▼
//!        store (retain), ingest (sessions, wills, messages): since_ms(a moment that was kept)
//! ```
//! Whoever keeps a time keeps a [`Moment`], and asks a [`Present`] how long ago it was. Before the kept journal is loaded no
//! machine boot is known: moments lie on axis 0 then, and nothing that was kept earlier has any age.
//!
//! Limits: those of the journal. A look makes a copy of it only while somebody holds an older one.

use std::sync::Arc;

use parking_lot::RwLock;

use super::{
    Reading,
    journal::{Journal, Moment, Seen},
};

/// The journal, shared. Clones are the same timeline.
#[derive(Debug, Clone, Default)]
pub struct Timeline(Arc<RwLock<Arc<Journal>>>);

impl Timeline {
    /// Goes on with the journal that was kept, by a first look at the clocks while the log ends at `end`.
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

    /// The present, so long after the boot of the machine.
    #[must_use]
    pub fn present(&self, boot_ms: i64) -> Present {
        let journal = self.journal();
        let axis = journal.current().map_or(0, |(number, _)| *number);
        Present { journal, now: Moment { axis, boot_ms } }
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

    /// A moment that was kept: no later than now, as it could seem to be by a journal that was begun anew.
    #[must_use]
    pub fn restored(&self, then: Moment) -> Moment {
        then.min(self.now)
    }

    /// When the wall clock said `wall_ms`: see [`Journal::at_wall`].
    #[must_use]
    pub fn at_wall(&self, wall_ms: u64) -> Moment {
        self.journal.at_wall(wall_ms, self.now)
    }
}
