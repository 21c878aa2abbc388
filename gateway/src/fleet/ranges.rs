//! A set of event numbers as runs, sorted, with gaps between them. Pure.
//!
//! Limits: whoever holds one bounds it by [`Ranges::len`]; it drops nothing by itself. Every step
//! is a search and the moves of what lies behind it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Disjoint runs of numbers in ascending order, none touching the next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// How many runs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many numbers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(start, end)| u64::from(end - start)).sum()
    }

    /// The runs.
    pub fn iter(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        self.0.iter().map(|&(start, end)| start..end)
    }

    /// Adds a run. What is in it already stays.
    pub fn insert(&mut self, range: Range<u32>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|&(_, end)| end < range.start);
        let after = self.0.partition_point(|&(start, _)| start <= range.end);
        let met = &self.0[first..after];
        let start = met.first().map_or(range.start, |run| run.0.min(range.start));
        let end = met.last().map_or(range.end, |run| run.1.max(range.end));
        self.0.splice(first..after, [(start, end)]);
    }

    /// Takes a run out, and gives those of its numbers that were in it.
    pub fn take(&mut self, range: &Range<u32>) -> Ranges {
        let first = self.0.partition_point(|&(_, end)| end <= range.start);
        let after = self.0.partition_point(|&(start, _)| start < range.end);
        if range.is_empty() || first >= after {
            return Ranges::default();
        }
        let met = &self.0[first..after];
        let (low, high) = (met[0].0, met[met.len() - 1].1);
        let taken = met.iter().map(|&(start, end)| (start.max(range.start), end.min(range.end))).collect();
        let left = [(low, range.start), (range.end, high)].into_iter().filter(|(start, end)| start < end);
        self.0.splice(first..after, left);
        Ranges(taken)
    }

    /// Takes the lowest run out.
    pub fn take_lowest(&mut self) -> Option<Range<u32>> {
        (!self.0.is_empty()).then(|| self.0.remove(0)).map(|(start, end)| start..end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_the_set_of_their_numbers(
            steps in prop::collection::vec((any::<bool>(), 0_u32..60, 0_u32..20), 0..60)
        ) {
            let (mut runs, mut set) = (Ranges::default(), BTreeSet::new());
            for (adds, start, count) in steps {
                let range = start..start + count;
                if adds {
                    runs.insert(range.clone());
                    set.extend(range);
                } else {
                    let taken = runs.take(&range);
                    let expected: BTreeSet<u32> = range.filter(|number| set.remove(number)).collect();
                    prop_assert_eq!(taken.iter().flatten().collect::<BTreeSet<_>>(), expected);
                }
                prop_assert_eq!(runs.iter().flatten().collect::<BTreeSet<_>>(), set.clone());
                prop_assert_eq!(runs.count(), set.len() as u64);
                prop_assert!(runs.0.windows(2).all(|pair| pair[0].1 < pair[1].0));
            }
        }
    }
}
