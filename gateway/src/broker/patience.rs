//! Readers that read are waited for before anything of theirs is dropped; within bounds, so that a
//! slow one holds nobody up for long.
//!
//! ```text
//!   owed  0        1/4                 1/2                             all that it may be owed
//!         |  caught up  |               |  whoever puts more in waits  |  dropped
//!                       ◀── waited ─────┘
//!                          for WAIT_MAX in vain: it is slow, and not waited for again until it has caught up
//! ```
//! Who waits is the connection of a client whose message is passed on, which reads no more for so
//! long, and the broker where it routes what is stored: it is behind the log then, and the intake
//! does not notice. One that waits for its own acknowledgements is not waited for by itself, and
//! nobody waits for QoS 2 to a session that is kept, whose steps wait for a save of the broker, nor
//! for one that gets what is retained, which fills its queue by itself.
//!
//! Limits: [`WAIT_MAX`] at a time, [`PATIENCE_MAX`] in one go, and one part in [`PATIENCE_PART`] of
//! the time in all.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::{Broker, mailbox::Mailbox};
use crate::clock;

/// Longest wait for one reader to catch up.
pub const WAIT_MAX: Duration = Duration::from_millis(200);
/// Longest wait for readers in one go.
pub const PATIENCE_MAX: Duration = Duration::from_millis(400);
/// Of all the time, one part in so many may be spent with waiting for readers.
pub const PATIENCE_PART: u32 = 4;
/// A reader that is owed more than one part in this is waited for.
pub(super) const WAITED_FOR_PART: usize = 2;
/// A reader that is owed less than one part in this has caught up.
pub(super) const CAUGHT_UP_PART: usize = 4;

/// How long somebody may still wait for readers.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    left: Duration,
    at: Option<Instant>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left: PATIENCE_MAX, at: None }
    }
}

impl Patience {
    /// How long may be waited for a reader now; `None` if not at all.
    pub fn grant(&mut self, now: Instant) -> Option<Duration> {
        let since = self.at.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.left = (self.left + since / PATIENCE_PART).min(PATIENCE_MAX);
        Some(self.left.min(WAIT_MAX)).filter(|wait| *wait >= Duration::from_millis(1))
    }

    /// Waits for one who reads to catch up, as long as may be.
    pub(super) async fn wait_for(&mut self, broker: &Broker, reader: &Arc<Mailbox>) {
        let begun = clock::monotonic();
        let Some(wait) = self.grant(begun) else { return };
        if timeout(wait, broker.caught_up(reader)).await.is_err() {
            broker.note_slow(reader);
        }
        self.spend(clock::monotonic().saturating_duration_since(begun));
    }

    /// So long was waited.
    pub fn spend(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
    }
}

impl Broker {
    /// Resolves when the session has caught up, or has nobody who reads. Cancel-safe.
    pub async fn caught_up(&self, mailbox: &Arc<Mailbox>) {
        loop {
            let mut progress = pin!(mailbox.progress());
            progress.as_mut().enable();
            mailbox.set_waited_for();
            if !mailbox.state().outbound.is_above(CAUGHT_UP_PART, self.limits()) {
                return;
            }
            progress.await;
        }
    }

    /// The session was waited for in vain: nobody waits for it until it has caught up.
    pub fn note_slow(&self, mailbox: &Arc<Mailbox>) {
        mailbox.state().is_slow = true;
    }

    /// Some of what the session is owed is gone: whoever waits for that looks again.
    pub(super) fn note_progress(&self, mailbox: &Mailbox) {
        if mailbox.take_waited_for() {
            mailbox.wake_waiting();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_bounded_at_a_time_in_one_go_and_in_all() {
        let start = crate::clock::monotonic();
        let mut patience = Patience::default();
        let mut waited = Duration::ZERO;
        let mut now = start;
        // In one go.
        while let Some(wait) = patience.grant(now) {
            assert!(wait <= WAIT_MAX);
            patience.spend(wait);
            (waited, now) = (waited + wait, now + wait);
        }
        let most = PATIENCE_MAX + waited / PATIENCE_PART;
        assert!(waited >= PATIENCE_MAX && waited <= most, "{waited:?}");
        // In all.
        let (mut waited, begun) = (Duration::ZERO, now);
        while now < begun + Duration::from_secs(100) {
            now += Duration::from_millis(10);
            let Some(wait) = patience.grant(now) else { continue };
            patience.spend(wait);
            (waited, now) = (waited + wait, now + wait);
        }
        let most = Duration::from_secs(100) / PATIENCE_PART + PATIENCE_MAX;
        assert!(waited <= most && waited >= Duration::from_secs(20), "{waited:?}");
        assert_eq!(patience.grant(now + Duration::from_secs(60)), Some(WAIT_MAX), "and it comes back");
    }
}
