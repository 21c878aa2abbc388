//! How far a replay is: counted while it runs, shown to whoever asks.
//!
//! Limits: what a dry run finds is told for [`FOUND_MAX`] pairs of device and kind, and as one sum
//! for the rest.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::request::{KindName, Request};

/// Most pairs of device and kind that a dry run tells apart.
pub const FOUND_MAX: usize = 256;

/// A replay at a glance. Plain data, both ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Its name: what `tidegate-replayed` says on every event that it sends.
    pub id: String,
    /// What it was asked for.
    pub request: Request,
    /// When it was started, wall clock, milliseconds since 1970.
    pub started_ms: u64,
    /// When it ended; `None` while it runs.
    pub ended_ms: Option<u64>,
    /// Whether it runs, or how it ended.
    pub state: State,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// Whether its connection to the upstream is up.
    pub connected: bool,
    /// Why its last connection ended or its last attempt failed; stays when it went well again.
    pub last_error: Option<String>,
    /// What was counted so far.
    #[serde(flatten)]
    pub counted: Counted,
}

/// The figures of a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Events found that were asked for.
    pub matched_events: u64,
    /// Events handed to the connection, copies after a reconnect included.
    pub sent_events: u64,
    /// Events that the upstream acknowledged.
    pub acknowledged_events: u64,
    /// Events that the upstream cannot take: now dead letters.
    pub set_aside_events: u64,
    /// Bytes of the store that were looked through, or passed over for their times.
    pub scanned_bytes: u64,
    /// Bytes of the store as it was when the replay began.
    pub total_bytes: u64,
    /// Segments that could not be read: what they hold was not sent.
    pub unreadable_segments: u64,
    /// Records that the store let go of before the replay came to them.
    pub gone_records: u64,
    /// What a dry run found, by device and kind.
    pub found: Vec<Found>,
    /// Events that a dry run found beyond those.
    pub found_other_events: u64,
}

/// Whether a replay runs, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Under way.
    Running,
    /// It came to its end: each event was acknowledged or is a dead letter.
    Complete,
    /// It was cancelled, or the gateway stopped.
    Cancelled,
    /// It could not go on.
    Failed,
}

/// Events of one device and kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The device.
    pub device: String,
    /// The kind.
    pub kind: KindName,
    /// How many.
    pub events: u64,
}

impl Progress {
    /// Every event that was asked for was acknowledged, as far as the store can tell.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let counted = &self.counted;
        self.state == State::Complete
            && counted.unreadable_segments == 0
            && (self.request.dry_run || counted.acknowledged_events == counted.matched_events)
    }
}

/// The counts of a replay under way.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) matched_events: AtomicU64,
    pub(super) sent_events: AtomicU64,
    pub(super) scanned_bytes: AtomicU64,
    pub(super) total_bytes: AtomicU64,
    pub(super) unreadable_segments: AtomicU64,
    pub(super) gone_records: AtomicU64,
    found: Mutex<Harvest>,
}

/// What a dry run found.
#[derive(Debug, Default)]
struct Harvest {
    by_device: BTreeMap<(String, KindName), u64>,
    other_events: u64,
}

impl Counts {
    /// A dry run found `events` of this device and kind.
    pub(super) fn found(&self, device: &str, kind: KindName, events: u64) {
        let mut found = self.found.lock();
        let room = found.by_device.len() < FOUND_MAX;
        let key = (device.to_owned(), kind);
        match found.by_device.get_mut(&key) {
            Some(count) => *count += events,
            None if room => drop(found.by_device.insert(key, events)),
            None => found.other_events += events,
        }
    }

    /// The figures now, but for those that the connection counts.
    pub(super) fn view(&self) -> Counted {
        let found = self.found.lock();
        let pair = |((device, kind), events): (&(String, KindName), &u64)| Found {
            device: device.clone(),
            kind: *kind,
            events: *events,
        };
        Counted {
            matched_events: self.matched_events.load(Relaxed),
            sent_events: self.sent_events.load(Relaxed),
            acknowledged_events: 0,
            set_aside_events: 0,
            scanned_bytes: self.scanned_bytes.load(Relaxed),
            total_bytes: self.total_bytes.load(Relaxed),
            unreadable_segments: self.unreadable_segments.load(Relaxed),
            gone_records: self.gone_records.load(Relaxed),
            found: found.by_device.iter().map(pair).collect(),
            found_other_events: found.other_events,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_beyond_the_limit_are_counted_as_one() {
        let counts = Counts::default();
        for device in 0..FOUND_MAX + 3 {
            counts.found(&format!("d{device}"), KindName::Json, 2);
        }
        counts.found("d0", KindName::Json, 5);
        let counted = counts.view();
        assert_eq!((counted.found.len(), counted.found_other_events), (FOUND_MAX, 6));
        let first = Found { device: "d0".to_owned(), kind: KindName::Json, events: 7 };
        assert_eq!(counted.found[0], first);
    }
}
