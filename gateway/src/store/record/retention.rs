//! Since when each segment is delivered: `retain` counts from there, and not from when its events
//! were received. Pure.
//!
//! ```text
//!  received ── outage ── delivered, noted ──── retain ────▶ deleted
//! ```
//! An event that waited out an outage can be replayed for as long as any other. The time that
//! passed is the timeline's, so a step of the wall clock deletes nothing. What is noted is kept in
//! `fleet.redb`, in a save that is made anyway, beside the journal that its moments belong to.
//!
//! Crash story: what was noted after the last save is noted anew, later: it stays for longer.
//! Limits: one entry for each segment.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use crate::clock::{Moment, Present};

/// By the offset at which a segment begins, when it was found delivered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention(BTreeMap<u64, Moment>);

impl Retention {
    /// As it was kept.
    pub fn new(kept: impl IntoIterator<Item = (u64, Moment)>) -> Self {
        Self(kept.into_iter().collect())
    }

    /// What there is to keep.
    pub fn entries(&self) -> impl Iterator<Item = (u64, Moment)> {
        self.0.iter().map(|(first, moment)| (*first, *moment))
    }

    /// When the segment that begins at `first` was found delivered.
    pub fn delivered(&self, first: u64) -> Option<Moment> {
        self.0.get(&first).copied()
    }

    /// All before `delivered` is delivered now. `segments` are there, the last of them still to be
    /// written. A moment of a journal that was lost may lie ahead: it is taken for now, because it
    /// would not grow old until then.
    pub fn note(&mut self, segments: &[Range<u64>], delivered: u64, present: &Present) {
        self.0.retain(|first, _| segments.binary_search_by_key(first, |segment| segment.start).is_ok());
        self.0.values_mut().for_each(|moment| *moment = present.now().min(*moment));
        let sealed = segments.split_last().map_or(&[][..], |(_last, sealed)| sealed);
        for segment in sealed.iter().take_while(|segment| segment.end <= delivered) {
            self.0.entry(segment.start).or_insert(present.now());
        }
    }

    /// Whether the segment that begins at `first` has been delivered for as long as `retain` says.
    pub fn is_over(&self, first: u64, retain: Duration, present: &Present) -> bool {
        let passed_ms = self.delivered(first).map(|delivered| present.since_ms(delivered.min(present.now())));
        retain.is_zero() || passed_ms.is_some_and(|passed_ms| u128::from(passed_ms) >= retain.as_millis())
    }
}
