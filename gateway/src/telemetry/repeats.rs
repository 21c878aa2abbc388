//! What outsiders can cause any number of times is logged once, or the first time and whenever
//! there are twice as many.
//!
//! Limits: [`TOLD_MAX`] things are remembered as told; after that [`LogOnce`] says so, once, and
//! stays quiet about new ones. [`Repeats`] remembers as many, and counts all others as one.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

/// Things remembered as told.
pub const TOLD_MAX: usize = 1000;

/// What the log was told, each thing once.
#[derive(Debug, Default)]
pub struct LogOnce {
    once: Mutex<HashSet<u64>>,
    repeats: Repeats,
}

impl LogOnce {
    /// Whether `thing` is told for the first time, and so has to be.
    pub fn is_new(&self, thing: impl Hash) -> bool {
        let mut hasher = DefaultHasher::new();
        thing.hash(&mut hasher);
        let mut told = self.once.lock();
        if told.len() >= TOLD_MAX || !told.insert(hasher.finish()) {
            return false;
        }
        if told.len() == TOLD_MAX {
            tracing::warn!(
                "{TOLD_MAX} topics and clients were named: what is new from here on is only counted"
            );
        }
        true
    }

    /// `thing` happened once more. Gives how often it has by now, if that has to be told: as
    /// [`Repeats::more`].
    pub fn more(&self, thing: impl Hash) -> Option<u64> {
        self.repeats.more(thing, 1)
    }
}

/// Something that an outsider can cause any number of times: the log is told of the first, and
/// whenever there are twice as many.
#[derive(Debug, Default)]
pub struct Doublings(AtomicU64);

impl Doublings {
    /// It happened `times` more. Gives how many there are by now, if that has to be told.
    pub fn more(&self, times: u64) -> Option<u64> {
        let before = self.0.fetch_add(times, Ordering::Relaxed);
        doubled(before, before.wrapping_add(times))
    }
}

/// `now`, if it has reached a power of two that `before` had not.
fn doubled(before: u64, now: u64) -> Option<u64> {
    (before.checked_ilog2() != now.checked_ilog2()).then_some(now)
}

/// [`Doublings`] of each of several things that outsiders name, such as a client beside a limit:
/// [`TOLD_MAX`] of them, and all others together.
#[derive(Debug, Default)]
pub struct Repeats {
    each: Mutex<HashMap<u64, u64>>,
    others: Doublings,
}

impl Repeats {
    /// `thing` happened `times` more. Gives how often it has by now, if that has to be told.
    pub fn more(&self, thing: impl Hash, times: u64) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        thing.hash(&mut hasher);
        let mut each = self.each.lock();
        let is_full = each.len() >= TOLD_MAX;
        let all = match each.entry(hasher.finish()) {
            Entry::Vacant(_) if is_full => {
                drop(each);
                return self.others.more(times);
            }
            entry => entry.or_insert(0),
        };
        let before = *all;
        *all += times;
        doubled(before, *all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_often_is_told_the_first_time_and_whenever_it_is_twice_as_often() {
        let doublings = Doublings::default();
        let told: Vec<_> = (0..1000).filter_map(|_| doublings.more(1)).collect();
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
        assert_eq!((doublings.more(0), doublings.more(20), doublings.more(4)), (None, None, Some(1024)));
    }

    #[test]
    fn what_each_client_repeats_is_told_in_doublings_and_not_without_end() {
        let repeats = Repeats::default();
        for client in ["a", "b"] {
            let told: Vec<_> = (0..100).filter_map(|_| repeats.more((client, 1), 1)).collect();
            assert_eq!(told, [1, 2, 4, 8, 16, 32, 64], "{client}");
        }
        let told = (0..100 * TOLD_MAX).filter_map(|i| repeats.more(i, 1)).count();
        assert!(told < TOLD_MAX + 64, "{told} of those that made up names");
        assert_eq!(repeats.more(("a", 1), 1), None);
    }

    #[test]
    fn a_thing_is_told_once_and_not_without_end() {
        let told = LogOnce::default();
        assert!(told.is_new(("a", 1)));
        assert!(!told.is_new(("a", 1)));
        let new = (0..2 * TOLD_MAX).filter(|i| told.is_new(i)).count();
        assert_eq!(new, TOLD_MAX - 1);
    }
}
