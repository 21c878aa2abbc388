//! Which offsets are known to be missing, and said so in a gap record. Pure.
//!
//! A reader that finds offsets missing goes on behind them only if they are in here: what is
//! missing is written down, durably, before anybody passes over it.
//!
//! Limits: [`GAPS_MAX`] ranges. Beyond that the two that lie nearest to each other become one;
//! records that may still be between them are delivered all the same, for a range says only that
//! something of it is missing.

use std::ops::Range;

/// Ranges remembered.
pub const GAPS_MAX: usize = 1024;

/// Ranges of offsets, ascending, apart from each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gaps {
    ranges: Vec<Range<u64>>,
}

impl Gaps {
    /// Adds a range; one that touches others becomes one with them.
    pub fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let from = self.ranges.partition_point(|known| known.end < range.start);
        let to = self.ranges.partition_point(|known| known.start <= range.end);
        let touched = &self.ranges[from..to];
        let start = touched.first().map_or(range.start, |first| first.start.min(range.start));
        let end = touched.last().map_or(range.end, |last| last.end.max(range.end));
        self.ranges.splice(from..to, std::iter::once(start..end));
        if self.ranges.len() > GAPS_MAX {
            self.join_nearest();
        }
    }

    /// Whether all of `range` is in here.
    #[must_use]
    pub fn covers(&self, range: &Range<u64>) -> bool {
        let at = self.ranges.partition_point(|known| known.end < range.end);
        range.is_empty() || self.ranges.get(at).is_some_and(|known| known.start <= range.start)
    }

    /// Forgets what lies before `offset`.
    pub fn forget_before(&mut self, offset: u64) {
        self.ranges.retain(|known| known.end > offset);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.ranges.iter()
    }

    fn join_nearest(&mut self) {
        let between = |pair: &[Range<u64>]| pair[1].start - pair[0].end;
        let nearest = self.ranges.windows(2).enumerate().min_by_key(|(_, pair)| between(pair));
        if let Some(at) = nearest.map(|(at, _)| at) {
            self.ranges[at].end = self.ranges[at + 1].end;
            self.ranges.remove(at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_covers_what_was_added_and_nothing_else(
            ranges in prop::collection::vec((0u64..60, 0u64..8), 0..12), from in 0u64..60, len in 0u64..12,
        ) {
            let (mut gaps, mut reference) = (Gaps::default(), [false; 80]);
            for (start, len) in ranges {
                gaps.add(start..start + len);
                reference[start as usize..(start + len) as usize].fill(true);
            }
            let covered = reference[from as usize..(from + len) as usize].iter().all(|known| *known);
            prop_assert_eq!(gaps.covers(&(from..from + len)), covered);
            let apart = gaps.ranges.windows(2).all(|pair| pair[0].end < pair[1].start);
            prop_assert!(apart, "{:?}", gaps);
        }
    }

    #[test]
    fn beyond_the_limit_the_nearest_become_one() {
        let mut gaps = Gaps::default();
        for n in 0..2 * GAPS_MAX as u64 {
            gaps.add(n * 10..n * 10 + 1 + n % 2);
        }
        assert_eq!(gaps.iter().count(), GAPS_MAX);
        assert!((0..2 * GAPS_MAX as u64).all(|n| gaps.covers(&(n * 10..n * 10 + 1 + n % 2))));
    }

    #[test]
    fn what_lies_before_is_forgotten() {
        let mut gaps = Gaps::default();
        gaps.add(1..3);
        gaps.add(5..9);
        gaps.forget_before(6);
        assert_eq!(gaps.iter().map(|gap| (gap.start, gap.end)).collect::<Vec<_>>(), [(5, 9)]);
    }
}
