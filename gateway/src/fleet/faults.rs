//! What a device sent on its topics that cannot be read: how often, and the last of it. Pure.
//!
//! It is acknowledged, stored and forwarded like anything else, so nobody else tells the author of
//! a device that a byte is wrong.
//!
//! Limits: the last fault of each device, with a reason that is the gateway's own text.

use serde::{Deserialize, Serialize};

use crate::clock::journal::Moment;

/// What could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sent {
    /// A birth.
    #[default]
    Birth,
    /// A status.
    Status,
    /// A frame.
    Frame,
}

impl Sent {
    /// A bit for each.
    #[must_use]
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Birth => "birth",
            Self::Status => "status",
            Self::Frame => "frame",
        }
    }
}

/// What of one device could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Faults {
    /// How much of it, ever.
    pub count: u64,
    /// What it was, the last time.
    pub sent: Sent,
    /// What is wrong with that, and where.
    pub why: Box<str>,
    /// When it came.
    pub at: Option<Moment>,
}
