//! What a session does when there is no room for what its client publishes.
//!
//! ```text
//!                    intake full             store full
//!   MQTT 5           the batch is blocked    refused with 0x97, then a pause
//!   MQTT 3.1.1       the batch is blocked    the batch is blocked: there is no way to refuse
//! ```
//! While a batch is blocked nothing is read, so PINGREQ is not answered and a keep-alive does not
//! run out. A client with a keep-alive ends such a connection by itself. One without, or one that
//! is gone, would stay for as long as there is no room, so after [`BLOCKED_MAX`] the session ends.
//! Nothing is lost by that: what is blocked was not acknowledged, and the steps of QoS 2 in it are
//! kept.

use std::time::{Duration, Instant};

use super::{Now, Phase, Session, SessionEvent};
use crate::{mqtt::version::Version, store::Refusal};

/// Longest time for which a batch is blocked: longer than most clients wait for a PINGRESP.
pub const BLOCKED_MAX: Duration = Duration::from_secs(120);

impl Session {
    /// Nothing is read for now, as a batch is blocked or for a pause; or again.
    pub fn set_blocked(&mut self, now: Now, blocked: bool) {
        self.blocked_since = blocked.then(|| self.blocked_since.unwrap_or(now.at));
        self.heard = now.at;
    }

    /// Whether the client can be told that a publish is refused.
    #[must_use]
    pub fn can_refuse(&self) -> bool {
        self.version == Version::V5
    }

    /// The store is full. Told once for each session.
    pub fn note_store_full(&mut self) {
        if !std::mem::replace(&mut self.reported.store_full, true) {
            self.events.push(SessionEvent::StoreFull);
        }
    }

    /// So much of the batch was refused: what was owed for it is refused as well, with what is left
    /// of the batch.
    pub fn handle_refused(&mut self, refused: &Refusal) {
        self.acks.refuse(&refused.tickets);
        self.counts.refused_events += refused.events;
    }

    /// When the batch has been blocked for too long.
    pub(super) fn blocked_until(&self) -> Option<Instant> {
        let since = self.blocked_since.filter(|_| matches!(self.phase, Phase::Open))?;
        Some(since + BLOCKED_MAX)
    }
}
