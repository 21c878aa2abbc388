//! What was lost and not yet told: runs of event numbers, each to become one loss event.
//!
//! Purpose: a gap in the numbers is never silent. Losses in a row grow into one run, so an outage
//! of any length costs a few bytes. They are told when there is room again, not while telling them
//! would cost further events.
//!
//! Limits: [`RUNS_MAX`] runs. Between two runs there is at least one frame that the queue still
//! holds (a run is told as soon as an acknowledgement makes room), so a queue of [`SLOTS_MAX`]
//! frames never needs more. If it did, the rest would be counted in [`Ledger::unnamed`].
//!
//! What it does not do: it is in RAM and is lost with it; the gateway sees the end of a boot by the
//! next boot number.

use heapless::Vec;
use tidegate_protocol::events::{Loss, LossReason};

use crate::queue::{Gone, SLOTS_MAX};

/// Most runs that wait to be told.
pub const RUNS_MAX: usize = SLOTS_MAX + 1;

/// The losses not yet told.
#[derive(Debug, Default)]
pub struct Ledger {
    runs: Vec<Loss, RUNS_MAX>,
    unnamed: u32,
}

impl Ledger {
    /// Enters a loss.
    pub fn enter(&mut self, gone: Gone, reason: LossReason) {
        let count = u32::from(gone.events);
        let run = self
            .runs
            .iter_mut()
            .find(|run| run.reason == reason && run.first_seq.checked_add(run.count) == Some(gone.first_seq));
        if let Some(run) = run {
            run.count += count;
            return;
        }
        let run = Loss { first_seq: gone.first_seq, count, reason };
        if self.runs.push(run).is_err() {
            self.unnamed = self.unnamed.saturating_add(count);
        }
    }

    /// Whether every loss is told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Takes the oldest run out, to be told. It does not grow any more.
    pub fn take(&mut self) -> Option<Loss> {
        if self.runs.is_empty() { None } else { Some(self.runs.remove(0)) }
    }

    /// Puts a run back that could not be told.
    pub fn put_back(&mut self, run: Loss) {
        if self.runs.insert(0, run).is_err() {
            self.unnamed = self.unnamed.saturating_add(run.count);
        }
    }

    /// Lost events that found no run: 0 unless the limit's proof is wrong.
    #[must_use]
    pub fn unnamed(&self) -> u32 {
        self.unnamed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(first_seq: u32, events: u8) -> Gone {
        Gone { first_seq, events }
    }

    #[test]
    fn losses_in_a_row_are_one_run() {
        let mut ledger = Ledger::default();
        for first_seq in (0..2000).step_by(200) {
            ledger.enter(gone(first_seq, 200), LossReason::QueueFull);
        }
        assert_eq!(ledger.take(), Some(Loss { first_seq: 0, count: 2000, reason: LossReason::QueueFull }));
        assert_eq!(ledger.take(), None);
    }

    #[test]
    fn a_frame_that_is_still_held_or_another_reason_begins_a_new_run() {
        let mut ledger = Ledger::default();
        ledger.enter(gone(0, 10), LossReason::QueueFull);
        ledger.enter(gone(20, 10), LossReason::QueueFull);
        ledger.enter(gone(30, 10), LossReason::TooLarge);
        let runs = core::iter::from_fn(|| ledger.take());
        let told: std::vec::Vec<_> = runs.map(|run| (run.first_seq, run.count)).collect();
        assert_eq!(told, [(0, 10), (20, 10), (30, 10)]);
    }

    #[test]
    fn a_run_that_was_put_back_is_the_oldest_again() {
        let mut ledger = Ledger::default();
        ledger.enter(gone(0, 10), LossReason::QueueFull);
        ledger.enter(gone(20, 10), LossReason::QueueFull);
        let run = ledger.take().unwrap();
        ledger.put_back(run);
        assert_eq!(ledger.take(), Some(run));
        assert!(!ledger.is_empty());
    }

    #[test]
    fn beyond_the_limit_losses_are_counted_all_the_same() {
        let mut ledger = Ledger::default();
        for run in 0..RUNS_MAX as u32 + 2 {
            ledger.enter(gone(run * 10, 5), LossReason::QueueFull);
        }
        assert_eq!(ledger.unnamed(), 10);
    }
}
