//! What this process has done to the store: commits, events, and what it was told when it began.
//! For whoever looks in.
//!
//! Limits: commits are counted by the second for the last [`RECENT_SECONDS`], and in all.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::store::{
    intake::pace::WearBudget,
    settings::{Settings, WhenFull},
};

/// How far back the recent rate of commits goes.
pub const RECENT_SECONDS: usize = 60;

/// Counts of one run.
#[derive(Debug, Default)]
pub struct Meter {
    begun: OnceLock<Begun>,
    commits: AtomicU64,
    events: AtomicU64,
    lost_events: AtomicU64,
    room_bytes: AtomicU64,
    recent: Mutex<Recent>,
    wear_budget: Mutex<Option<WearBudget>>,
}

/// How the run began.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    /// When the store was opened.
    pub at: Instant,
    /// Bytes that all files may take.
    pub max_bytes: u64,
    /// What happens when they do.
    pub when_full: WhenFull,
}

/// Commits by second, in a ring.
#[derive(Debug)]
struct Recent {
    counts: [u64; RECENT_SECONDS],
    /// Second of the run that was counted last.
    last: u64,
}

impl Default for Recent {
    fn default() -> Self {
        Self { counts: [0; RECENT_SECONDS], last: 0 }
    }
}

impl Meter {
    /// The run begins.
    pub fn begin(&self, settings: &Settings, at: Instant) {
        let Settings { max_bytes, when_full, .. } = *settings;
        let _ = self.begun.set(Begun { at, max_bytes, when_full });
    }

    /// How the run began; `None` before that.
    pub fn begun(&self) -> Option<Begun> {
        self.begun.get().copied()
    }

    /// Bytes that all files may take.
    pub fn max_bytes(&self) -> u64 {
        self.begun().map_or(0, |begun| begun.max_bytes)
    }

    /// All files may take so many bytes by now, for the disk has no more.
    pub fn set_room_bytes(&self, room_bytes: u64) {
        self.room_bytes.store(room_bytes, Ordering::Relaxed);
    }

    /// Bytes that all files may take, or that the disk has for them if that is less.
    pub fn room_bytes(&self) -> u64 {
        self.room_bytes.load(Ordering::Relaxed)
    }

    /// How the wear budget stands by now.
    pub fn set_wear_budget(&self, budget: Option<WearBudget>) {
        *self.wear_budget.lock() = budget;
    }

    /// How the wear budget stood when the commit thread looked last, which is every second at
    /// least; `None` without one.
    pub fn wear_budget(&self) -> Option<WearBudget> {
        *self.wear_budget.lock()
    }

    /// A commit with so many events was made.
    pub fn committed(&self, events: u64, now: Instant) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(events, Ordering::Relaxed);
        let second = self.second(now);
        let mut recent = self.recent.lock();
        recent.forget_until(second);
        recent.counts[second as usize % RECENT_SECONDS] += 1;
    }

    /// Some uplink will not get so many events.
    pub fn lost(&self, events: u64) {
        self.lost_events.fetch_add(events, Ordering::Relaxed);
    }

    /// Commits of this run.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Events stored by this run.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Events that some uplink will not get.
    pub fn lost_events(&self) -> u64 {
        self.lost_events.load(Ordering::Relaxed)
    }

    /// Commits per second over the last minute, or over the run if that is shorter.
    pub fn recent_commits_per_second(&self, now: Instant) -> f64 {
        let second = self.second(now);
        let mut recent = self.recent.lock();
        recent.forget_until(second);
        let commits: u64 = recent.counts.iter().sum();
        let seconds = (second + 1).min(RECENT_SECONDS as u64);
        commits as f64 / seconds as f64
    }

    /// How long the run has lasted.
    pub fn uptime(&self, now: Instant) -> Duration {
        self.begun().map_or(Duration::ZERO, |begun| now.saturating_duration_since(begun.at))
    }

    fn second(&self, now: Instant) -> u64 {
        self.uptime(now).as_secs()
    }
}

impl Recent {
    /// What is older than a minute at `second` counts no more.
    fn forget_until(&mut self, second: u64) {
        let passed = second.saturating_sub(self.last).min(RECENT_SECONDS as u64);
        for n in 0..passed {
            self.counts[(second - n) as usize % RECENT_SECONDS] = 0;
        }
        self.last = self.last.max(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recent_rate_forgets_what_is_older_than_a_minute() {
        let (meter, start) = (Meter::default(), crate::clock::monotonic());
        let begun = Begun { at: start, max_bytes: 1, when_full: WhenFull::Reject };
        meter.begun.set(begun).unwrap();
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..120 {
            (0..second % 3).for_each(|_| meter.committed(2, at(second)));
        }
        assert_eq!((meter.commits(), meter.events()), (120, 240));
        let rate = |seconds| (meter.recent_commits_per_second(at(seconds)) * 60.0).round();
        assert_eq!((rate(119), rate(149), rate(1_000)), (60.0, 30.0, 0.0));
    }

    #[test]
    fn a_short_run_has_a_rate_of_its_own() {
        let (meter, start) = (Meter::default(), crate::clock::monotonic());
        (0..10).for_each(|_| meter.committed(1, start));
        assert!((meter.recent_commits_per_second(start) - 10.0).abs() < 1e-9);
    }
}
