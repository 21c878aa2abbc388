//! Which events of one boot are there, which the device told as lost, and which are missing. Pure.
//!
//! ```text
//!  numbers  from ─────────────────────────────────────▶ end
//!           received │ missing │ received │ told lost │ received
//! ```
//! A number below `end` is in exactly one of three states. What is kept is the two exceptional
//! ones; what is received is the rest, so the figures always add up. A number that is missing
//! becomes received when it comes late, and lost when the device says so; one that was told lost
//! and comes all the same is received. A copy changes nothing.
//!
//! Limits: [`RUNS_MAX`] runs of either. Beyond, the lowest run is closed: its count stays, its
//! numbers are forgotten, and `closed` is the number below which that has happened. What comes
//! below it from then on is taken to fill what was closed there, which is right as long as nothing
//! is sent twice, and no number of a closed run of those told lost comes all the same:
//! [`Gaps::is_exact`] says that this is an assumption. So a device with a few thousand holes is
//! counted right, and one with more than the limit open at a time as right as can be.
//!
//! What it does not do: what a device lost behind its last event of a boot nobody can know.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use tidegate_protocol::events::Loss;

use super::ranges::Ranges;

/// Runs of missing numbers, and of numbers told lost, that are kept for a boot.
pub const RUNS_MAX: usize = 32;

/// The numbers of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Gaps {
    /// The first number that counts.
    from: u32,
    /// One more than the highest number seen.
    end: u32,
    missing: Ranges,
    lost: Ranges,
    /// Numbers of closed runs that are missing.
    missing_closed: u32,
    /// Numbers of closed runs that were told lost.
    lost_closed: u32,
    /// Below this number runs were closed.
    closed: u32,
    late: u32,
}

/// What a frame brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Brought {
    /// Numbers that were new.
    pub new: u32,
    /// Of them, those that came behind a higher one.
    pub late: u32,
    /// Numbers that were received before, as far as every number's state is known.
    pub again: u32,
}

impl Gaps {
    /// The numbers of a boot of which nothing before `from` was to be seen here.
    #[must_use]
    pub fn beginning_at(from: u32) -> Self {
        Self { from, end: from, ..Self::default() }
    }

    /// Events with these numbers came.
    pub fn receive(&mut self, numbers: Range<u32>) -> Brought {
        let numbers = numbers.start.max(self.from)..numbers.end.max(self.from);
        let ahead = numbers.end.saturating_sub(numbers.start.max(self.end));
        let is_known = numbers.start >= self.closed && self.lost_closed == 0;
        let filled = self.missing.take(&numbers).count() as u32;
        let revived = self.lost.take(&numbers).count() as u32;
        let guessed = self.fill_closed(&numbers, filled + revived);
        self.reach(numbers.start);
        self.end = self.end.max(numbers.end);
        let late = filled + revived + guessed;
        self.late += late;
        self.bound();
        let new = ahead + late;
        Brought { new, late, again: if is_known { numbers.len() as u32 - new } else { 0 } }
    }

    /// The event `told_by` said that these were lost: numbers behind it cannot be meant.
    pub fn lose(&mut self, loss: &Loss, told_by: u32) {
        let numbers = loss.first_seq.max(self.from)..loss.first_seq.saturating_add(loss.count).min(told_by);
        if numbers.is_empty() {
            return;
        }
        self.reach(numbers.end);
        let lost = self.missing.take(&numbers);
        for run in lost.iter() {
            self.lost.insert(run);
        }
        let below = self.below_closed(&numbers).min(self.missing_closed);
        let closed = below.saturating_sub(lost.count() as u32);
        self.missing_closed -= closed;
        self.lost_closed += closed;
        self.bound();
    }

    /// Events received.
    #[must_use]
    pub fn received(&self) -> u64 {
        u64::from(self.end - self.from) - self.missing_count() - self.lost_count()
    }

    /// Events that the device said it lost, and that did not come.
    #[must_use]
    pub fn lost_count(&self) -> u64 {
        self.lost.count() + u64::from(self.lost_closed)
    }

    /// Numbers that never came and that nobody spoke of.
    #[must_use]
    pub fn missing_count(&self) -> u64 {
        self.missing.count() + u64::from(self.missing_closed)
    }

    /// Events that came behind a higher number.
    #[must_use]
    pub fn late_count(&self) -> u64 {
        self.late.into()
    }

    /// The highest number seen.
    #[must_use]
    pub fn highest(&self) -> Option<u32> {
        (self.end > self.from).then(|| self.end - 1)
    }

    /// What is missing; the lowest runs are not in it where there are too many.
    pub fn missing(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        self.missing.iter()
    }

    /// What was told lost; the lowest runs are not in it where there are too many.
    pub fn lost(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        self.lost.iter()
    }

    /// Whether every number's state is known, not only how many there are in each.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.closed == 0 && self.lost_closed == 0
    }

    /// Numbers up to `start` exist: those not seen are missing.
    fn reach(&mut self, start: u32) {
        if start > self.end {
            self.missing.insert(self.end..start);
            self.end = start;
        }
    }

    /// How many numbers below the closed ones these have.
    fn below_closed(&self, numbers: &Range<u32>) -> u32 {
        self.closed.min(numbers.end).saturating_sub(numbers.start)
    }

    /// What lies below the closed runs and was in none that is kept fills what was closed.
    fn fill_closed(&mut self, numbers: &Range<u32>, found: u32) -> u32 {
        let below = self.below_closed(numbers).saturating_sub(found).min(self.missing_closed);
        self.missing_closed -= below;
        below
    }

    fn bound(&mut self) {
        while self.missing.len() > RUNS_MAX
            && let Some(run) = self.missing.take_lowest()
        {
            self.missing_closed += run.end - run.start;
            self.closed = self.closed.max(run.end);
        }
        while self.lost.len() > RUNS_MAX
            && let Some(run) = self.lost.take_lowest()
        {
            self.lost_closed += run.end - run.start;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use tidegate_protocol::events::LossReason;

    use super::*;

    fn loss(first_seq: u32, count: u32) -> Loss {
        Loss { first_seq, count, reason: LossReason::QueueFull }
    }

    #[test]
    fn a_hole_is_missing_until_it_comes_late_or_is_told_lost() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.receive(0..10), Brought { new: 10, ..Brought::default() });
        gaps.receive(20..30);
        gaps.receive(40..50);
        assert_eq!(gaps.missing().collect::<Vec<_>>(), [10..20, 30..40]);
        assert_eq!(gaps.receive(12..15), Brought { new: 3, late: 3, again: 0 });
        gaps.lose(&loss(30, 10), 49);
        assert_eq!((gaps.missing_count(), gaps.lost_count(), gaps.late_count()), (7, 10, 3));
        assert_eq!((gaps.received(), gaps.highest()), (33, Some(49)));
    }

    #[test]
    fn numbers_that_were_received_before_are_told_and_no_others() {
        let mut gaps = Gaps::beginning_at(10);
        gaps.receive(10..20);
        gaps.receive(30..40);
        assert_eq!(gaps.receive(15..25), Brought { new: 5, late: 5, again: 5 });
        assert_eq!(gaps.receive(38..45), Brought { new: 5, late: 0, again: 2 });
        assert_eq!(gaps.receive(5..12).again, 2, "what lies before the first number is not known");
        gaps.lose(&loss(25, 5), 44);
        assert_eq!(gaps.receive(25..30).again, 0, "it was told lost, and came");
    }

    #[test]
    fn a_loss_is_counted_once_and_never_where_the_event_is_there() {
        let mut gaps = Gaps::default();
        gaps.receive(0..10);
        gaps.receive(30..31);
        for _ in 0..2 {
            gaps.lose(&loss(5, 15), 30);
        }
        assert_eq!((gaps.lost_count(), gaps.missing_count()), (10, 10));
        assert_eq!(gaps.receive(12..14), Brought { new: 2, late: 2, again: 0 }, "it came all the same");
        assert_eq!(gaps.lost_count(), 8);
    }

    #[test]
    fn a_device_cannot_lose_what_it_has_not_numbered() {
        let mut gaps = Gaps::default();
        gaps.receive(0..10);
        gaps.lose(&loss(3, u32::MAX), 9);
        gaps.lose(&loss(u32::MAX, u32::MAX), 9);
        assert_eq!((gaps.lost_count(), gaps.missing_count(), gaps.received()), (0, 0, 10));
    }

    #[test]
    fn what_lies_before_the_first_number_seen_does_not_count_where_that_is_said() {
        let mut gaps = Gaps::beginning_at(100);
        gaps.receive(100..110);
        gaps.receive(90..95);
        gaps.lose(&loss(20, 60), 105);
        assert_eq!((gaps.received(), gaps.missing_count(), gaps.lost_count()), (10, 0, 0));
    }

    #[test]
    fn beyond_the_limit_counts_stay_right() {
        let mut gaps = Gaps::default();
        let holes = RUNS_MAX as u32 * 3;
        for number in 0..=holes {
            gaps.receive(number * 2..number * 2 + 1);
        }
        assert!(!gaps.is_exact());
        assert_eq!((gaps.missing_count(), gaps.received()), (u64::from(holes), u64::from(holes) + 1));
        assert_eq!(gaps.clone().receive(0..1).again, 0, "below closed runs it is not known what came");
        assert_eq!(gaps.clone().receive(holes * 2..holes * 2 + 1).again, 1, "above them it is");
        // Half of the holes come late, the others are told lost.
        for number in 0..holes {
            if number % 2 == 0 {
                assert_eq!(
                    gaps.receive(number * 2 + 1..number * 2 + 2),
                    Brought { new: 1, late: 1, again: 0 }
                );
            } else {
                gaps.lose(&loss(number * 2 + 1, 1), holes * 2 + 1);
            }
        }
        let half = u64::from(holes / 2);
        assert_eq!((gaps.missing_count(), gaps.lost_count(), gaps.late_count()), (0, half, half));
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Is {
        Received,
        Missing,
        Lost,
    }

    proptest! {
        #[test]
        fn every_number_is_in_the_state_that_a_list_of_all_says(
            steps in prop::collection::vec((any::<bool>(), 0_u32..80, 1_u32..12), 0..40)
        ) {
            let (mut gaps, mut all) = (Gaps::default(), BTreeMap::<u32, Is>::new());
            let mut late = 0;
            for (is_frame, start, count) in steps {
                let numbers = start..start + count;
                for number in 0..numbers.end {
                    all.entry(number).or_insert(Is::Missing);
                }
                if is_frame {
                    let end = gaps.highest().map_or(0, |highest| highest + 1);
                    for number in numbers.clone() {
                        let before = all.insert(number, Is::Received);
                        late += u64::from(number < end && before != Some(Is::Received));
                    }
                    gaps.receive(numbers);
                } else {
                    for number in numbers {
                        all.entry(number).and_modify(|is| if *is == Is::Missing { *is = Is::Lost });
                    }
                    gaps.lose(&loss(start, count), u32::MAX);
                }
                let count = |what| all.values().filter(|is| **is == what).count() as u64;
                prop_assert!(gaps.is_exact());
                prop_assert_eq!(gaps.received(), count(Is::Received));
                prop_assert_eq!(gaps.missing_count(), count(Is::Missing));
                prop_assert_eq!(gaps.lost_count(), count(Is::Lost));
                prop_assert_eq!(gaps.late_count(), late);
            }
        }
    }
}
