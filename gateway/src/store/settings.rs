//! What the store is told when it is opened.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Bytes of the journal at the most.
pub const JOURNAL_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Places of uplinks that are not configured.
pub const UPLINKS_KEPT_MAX: usize = 64;

/// What the store is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder that holds segments and state; made if missing.
    pub data_dir: PathBuf,
    /// Bytes of rows at which a segment is sealed.
    pub segment_bytes: u64,
    /// How long an event is kept after its delivery to all uplinks.
    pub retain: Duration,
    /// Bytes that may be written per day; `None` is without a limit.
    pub wear_budget_bytes_per_day: Option<u64>,
    /// Bytes of the journal for small commits, or a part of the room if that is less; 0 for none.
    pub journal_bytes: u64,
    /// Longest wait for company in a commit once the budget runs short.
    pub linger_max: Duration,
    /// Bytes that all files may take.
    pub max_bytes: u64,
    /// What happens when they do.
    pub when_full: WhenFull,
    /// Bytes of dead letters, or a part of the room if that is less: when there are more, the
    /// oldest are dropped.
    pub dead_letters_max_bytes: u64,
}

impl Settings {
    /// A store in `data_dir` that nothing but its disk limits: it deletes what is delivered,
    /// refuses when it is full, and spares no card.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            segment_bytes: 64 << 20,
            retain: Duration::ZERO,
            wear_budget_bytes_per_day: None,
            journal_bytes: JOURNAL_BYTES_MAX,
            linger_max: Duration::ZERO,
            max_bytes: 1 << 40,
            when_full: WhenFull::Reject,
            dead_letters_max_bytes: 64 << 20,
        }
    }
}

/// What happens when the store is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// Nothing more is taken in until something is delivered.
    #[default]
    Reject,
    /// The oldest segment is dropped, but for its urgent records, and a gap record says so.
    DropOldest,
}
