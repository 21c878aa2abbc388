//! Times in the file and in memory. In memory they are numbers of the steady clock, which a boot of
//! the machine begins anew; in the file each is a moment: the number of its machine boot in the
//! clock's journal, and the time since that boot.
//!
//! ```text
//!  a u64 of a row    63 … 44             43 … 0
//!                    number of the boot  2^43 + milliseconds since that boot
//! ```
//! In format 1 they were of the wall clock, milliseconds since 1970. Limits: a million machine
//! boots, 278 years each.

use super::rows::{Change, KeptSessions, MessageRow, SessionRow, UnackedRow};
use crate::clock::{Moment, Present};

const AXIS_SHIFT: u32 = 44;
const AXIS_MAX: u32 = (1 << (64 - AXIS_SHIFT)) - 1;
const BOOT_ORIGIN_MS: i64 = 1 << (AXIS_SHIFT - 1);

/// What tells the times of one file.
pub struct Times {
    present: Present,
    /// They are of the wall clock, whose time now is this.
    wall_ms: Option<u64>,
}

impl Times {
    /// As of `present`; of a file in format 1 where `wall_ms` says what the wall clock says now.
    pub fn new(present: Present, wall_ms: Option<u64>) -> Self {
        Self { present, wall_ms }
    }

    /// Turns all times of what was read into those of memory.
    pub fn read(&self, kept: &mut KeptSessions) {
        for (_, session, owed) in &mut kept.sessions {
            map_session(session, |ms| self.past(ms), |ms| self.due(ms));
            owed.iter_mut().for_each(|(_, row)| row.message.received_ms = self.past(row.message.received_ms));
        }
        for (_, row) in &mut kept.wills {
            row.due_ms = row.due_ms.map(|ms| self.due(ms));
            row.message.received_ms = self.past(row.message.received_ms);
        }
        kept.retained.iter_mut().for_each(|row| row.received_ms = self.past(row.received_ms));
    }

    /// A change as the file says it.
    pub fn written(&self, mut change: Change) -> Change {
        let write = |ms| pack(self.present.moment(ms));
        match &mut change {
            Change::Session(_, row) => map_session(row, write, write),
            Change::Unacked(_, _, UnackedRow { message, .. }) | Change::Retained(_, Some(message)) => {
                message.received_ms = write(message.received_ms);
            }
            Change::Will(_, Some(row)) => {
                row.due_ms = row.due_ms.map(write);
                row.message.received_ms = write(row.message.received_ms);
            }
            _ => {}
        }
        change
    }

    fn past(&self, ms: u64) -> u64 {
        match self.wall_ms {
            Some(_) => self.present.at_wall_ms(ms),
            // A journal that was begun anew may have it lie ahead.
            None => self.present.steady_ms(unpack(ms).min(self.latest())),
        }
    }

    fn due(&self, ms: u64) -> u64 {
        match self.wall_ms {
            Some(wall_ms) if ms > wall_ms => {
                self.present.steady_ms(self.present.now()).saturating_add(ms - wall_ms)
            }
            Some(_) => self.present.at_wall_ms(ms),
            None => self.present.due_steady_ms(unpack(ms)),
        }
    }

    /// Nothing that was kept is later. Before the journal is loaded nobody knows.
    fn latest(&self) -> Moment {
        match self.present.now() {
            Moment { axis: 0, .. } => Moment { axis: 0, boot_ms: i64::MAX },
            now => now,
        }
    }
}

fn map_session(row: &mut SessionRow, past: impl Fn(u64) -> u64, due: impl Fn(u64) -> u64) {
    row.away_since_ms = row.away_since_ms.map(&past);
    if let Some(will) = &mut row.will {
        will.due_ms = due(will.due_ms);
        let MessageRow { received_ms, .. } = &mut will.message;
        *received_ms = past(*received_ms);
    }
}

fn pack(moment: Moment) -> u64 {
    let boot_ms = moment.boot_ms.clamp(-BOOT_ORIGIN_MS, BOOT_ORIGIN_MS - 1) + BOOT_ORIGIN_MS;
    u64::from(moment.axis.min(AXIS_MAX)) << AXIS_SHIFT | boot_ms as u64
}

fn unpack(ms: u64) -> Moment {
    let boot_ms = (ms & ((1 << AXIS_SHIFT) - 1)) as i64 - BOOT_ORIGIN_MS;
    Moment { axis: (ms >> AXIS_SHIFT) as u32, boot_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_reads_back() {
        for axis in [0, 1, 1024, AXIS_MAX] {
            for boot_ms in [0, 1, -1, 1 << 40, -(1 << 40), BOOT_ORIGIN_MS - 1, -BOOT_ORIGIN_MS] {
                let moment = Moment { axis, boot_ms };
                assert_eq!(unpack(pack(moment)), moment);
            }
        }
    }
}
