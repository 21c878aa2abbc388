//! How long a command waits: by the gateway's timeline, which no step of the wall clock moves.
//!
//! A command has the moment when it was taken in, and the time that it may wait is what lay between
//! its two times of the wall clock. One of a file in format 1, or from before the journal was
//! loaded, has no moment: it goes by the wall clock. So does one whose moment lies ahead, because
//! the journal that it belongs to was lost: by the new one it would not grow old until then. It
//! waits no longer than it may.

use std::sync::Arc;

use super::command::Command;
use crate::clock::{Journal, Moment, Timeline};

/// The present, for a look at what waits.
#[derive(Debug, Clone)]
pub struct Present {
    /// Wall clock, milliseconds since 1970.
    pub wall_ms: u64,
    journal: Arc<Journal>,
}

/// The order in which those that wait expire: within one machine boot, or among those that go by
/// the wall clock (`None`).
pub type Due = (Option<u32>, i64);

impl Present {
    /// As of the last look at the clocks, with what the wall clock says.
    pub fn of(timeline: &Timeline, wall_ms: u64) -> Self {
        Self { wall_ms, journal: timeline.journal() }
    }

    /// The moment of what is taken in now.
    pub fn moment(&self) -> Option<Moment> {
        self.journal.latest().map(|latest| self.journal.at_wall(self.wall_ms, latest))
    }

    /// How much longer a command may wait, in milliseconds.
    pub fn left_ms(&self, command: &Command) -> u64 {
        match (command.taken_in, self.journal.latest()) {
            (None, _) => command.expires_ms.saturating_sub(self.wall_ms),
            // Nobody knows yet how old it is.
            (Some(_), None) => lasts_ms(command),
            (Some(then), Some(now)) if then > now => {
                command.expires_ms.saturating_sub(self.wall_ms).min(lasts_ms(command))
            }
            (Some(then), Some(now)) => lasts_ms(command).saturating_sub(self.journal.elapsed_ms(then, now)),
        }
    }
}

/// Where a command stands among those that wait.
pub fn due(command: &Command) -> Due {
    match command.taken_in {
        Some(Moment { axis, boot_ms }) => (Some(axis), boot_ms.saturating_add_unsigned(lasts_ms(command))),
        None => (None, i64::try_from(command.expires_ms).unwrap_or(i64::MAX)),
    }
}

fn lasts_ms(command: &Command) -> u64 {
    command.expires_ms.saturating_sub(command.created_ms)
}
