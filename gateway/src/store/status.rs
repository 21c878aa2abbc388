//! What the store says of itself: how much it holds, and what waits for each uplink.

use super::intake::pace::WearBudget;

/// What the store holds for one uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// The uplink's name.
    pub uplink: String,
    /// It was named to [`Store::open`](crate::store::Store::open); else its place is kept until it
    /// is forgotten.
    pub is_configured: bool,
    /// Since when it is paused, wall clock, milliseconds since 1970; `None` while it is not.
    pub paused_since_ms: Option<u64>,
    /// Events not yet acknowledged upstream.
    pub events: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// When the oldest of them was received, wall clock, milliseconds since 1970; `None` without
    /// backlog.
    pub oldest_received_ms: Option<u64>,
}

/// The store at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Offset that the next record gets.
    pub next_offset: u64,
    /// Events ever stored.
    pub events: u64,
    /// Segments, the active one included.
    pub segments: usize,
    /// Bytes that the segments take on disk.
    pub file_bytes: u64,
    /// Bytes that all files take on disk.
    pub used_bytes: u64,
    /// Bytes that they may take.
    pub max_bytes: u64,
    /// Bytes that they can take: less than they may if the disk is smaller, or others fill it.
    pub room_bytes: u64,
    /// Events that some uplink will not get, as far as this process has given them up: each is in a
    /// gap record.
    pub dropped_events: u64,
    /// Bytes written to disk by this process.
    pub written_bytes: u64,
    /// How the wear budget stands; `None` without one.
    pub wear_budget: Option<WearBudget>,
    /// Dead letters: records that an upstream could not take.
    pub dead_letters: u64,
    /// Their bytes.
    pub dead_letter_bytes: u64,
    /// Why nothing can be stored now, if so.
    pub failure: Option<String>,
    /// As much is stored as may be: events that are not urgent are refused.
    pub is_full: bool,
    /// By uplink, in the order given to [`Store::open`](crate::store::Store::open), then those that
    /// are not configured any more.
    pub backlogs: Vec<Backlog>,
}
