//! What is known of the time of one frame's events, taken from the fleet once for all of them.
//!
//! ```text
//!   Fleet::frame ──lock──▶ FrameTimes ─▶ stamp, stamp, stamp … (no lock) ──▶ Fleet::note_given ──lock──▶ order
//! ```
//! A frame holds up to 255 events, and every uplink that decodes asks for each of them: with a lock
//! for each they would wait for one another and for the fleet. All events of a frame are stamped by
//! one state of knowledge, and none costs an allocation.
//!
//! **Order.** The times that were given go back to the fleet with the frame, so that the next frame
//! keeps to them: see `time.rs`. Of two uplinks that stamp one boot at the same time each keeps to
//! its own order, and to the other's from the next frame on.

use std::sync::Arc;

use super::time::{BootTime, Quality, Stamp};
use crate::clock::Journal;

/// The times of the events of one frame.
#[derive(Debug, Clone)]
pub struct FrameTimes {
    /// Of the frame's boot; `None` where nothing is known of it.
    pub(super) time: Option<BootTime>,
    /// The frame's boot.
    pub(super) boot: u32,
    /// Before this, by the wall clock, the boot cannot have begun.
    pub(super) end_before_ms: Option<i64>,
    pub(super) journal: Arc<Journal>,
    pub(super) received_ms: u64,
    pub(super) reused_below: u32,
}

impl FrameTimes {
    /// When the frame was received, milliseconds since 1970, by what is known of the gateway's
    /// clock.
    #[must_use]
    pub fn received_ms(&self) -> u64 {
        self.received_ms
    }

    /// Whether another event has the number `seq` as well.
    #[must_use]
    pub fn is_number_reused(&self, seq: u32) -> bool {
        seq < self.reused_below
    }

    /// The time of the frame's event at this uptime.
    #[must_use]
    pub fn stamp(&mut self, uptime_ms: u64) -> Stamp {
        let Self { time, end_before_ms, journal, received_ms, .. } = self;
        let known =
            time.as_mut().and_then(|time| time.stamp(uptime_ms, *received_ms, journal, *end_before_ms));
        known.unwrap_or(Stamp { time_ms: *received_ms, uncertainty_ms: None, quality: Quality::Received })
    }
}
