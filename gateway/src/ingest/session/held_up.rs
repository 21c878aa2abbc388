//! A publisher that is held up by those who read what it publishes: see
//! [`patience`](crate::broker::Patience).
//!
//! Nothing is read meanwhile, so its acknowledgements and a PINGREQ wait as well, for a moment; its
//! keep-alive does not run out here.

use std::{sync::Arc, time::Instant};

use super::{Now, Session};
use crate::broker::Mailbox;

/// For whom it waits, since when and until when.
#[derive(Debug)]
pub(super) struct HeldUp {
    reader: Arc<Mailbox>,
    since: Instant,
    until: Instant,
}

impl Session {
    /// What was just passed on went to one who has to read first.
    pub(super) fn hold_up(&mut self, now: Now, reader: Arc<Mailbox>) {
        if let Some(wait) = self.patience.grant(now.at) {
            self.held_up = Some(HeldUp { reader, since: now.at, until: now.at + wait });
        }
    }

    /// Whether a reader is waited for.
    #[must_use]
    pub fn is_held_up(&self) -> bool {
        self.held_up.is_some()
    }

    /// Resolves when the reader that is waited for has caught up; never if there is none.
    /// Cancel-safe.
    pub async fn caught_up(&self) {
        match &self.held_up {
            Some(held_up) => self.broker.caught_up(&held_up.reader).await,
            None => std::future::pending().await,
        }
    }

    /// The reader has caught up.
    pub fn handle_caught_up(&mut self, now: Now) {
        if let Some(HeldUp { since, .. }) = self.held_up.take() {
            self.patience.spend(now.at.saturating_duration_since(since));
            self.heard = now.at;
        }
    }

    /// When it is not waited for any longer.
    pub(super) fn held_up_until(&self) -> Option<Instant> {
        self.held_up.as_ref().map(|held_up| held_up.until)
    }

    /// Goes on without the reader if its time is over.
    pub(super) fn go_on(&mut self, now: Now) {
        if let Some(held_up) = self.held_up.as_ref().filter(|held_up| held_up.until <= now.at) {
            self.broker.note_slow(&held_up.reader);
            self.handle_caught_up(now);
        }
    }
}
