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
pub(super) struct SlowReader {
    reader: Arc<Mailbox>,
    since: Instant,
    until: Instant,
}

impl Session {
    /// What was just passed on went to one who has to read first.
    pub(super) fn wait_for_reader(&mut self, now: Now, reader: Arc<Mailbox>) {
        if let Some(wait) = self.patience.grant(now.at) {
            self.slow_reader = Some(SlowReader { reader, since: now.at, until: now.at + wait });
        }
    }

    /// Whether a reader is waited for.
    #[must_use]
    pub fn waits_for_reader(&self) -> bool {
        self.slow_reader.is_some()
    }

    /// Resolves when the reader that is waited for has caught up; never if there is none.
    /// Cancel-safe.
    pub async fn caught_up(&self) {
        match &self.slow_reader {
            Some(slow_reader) => self.broker.caught_up(&slow_reader.reader).await,
            None => std::future::pending().await,
        }
    }

    /// The reader has caught up.
    pub fn handle_caught_up(&mut self, now: Now) {
        if let Some(SlowReader { since, .. }) = self.slow_reader.take() {
            self.patience.spend(now.at.saturating_duration_since(since));
            self.heard = now.at;
        }
    }

    /// When it is not waited for any longer.
    pub(super) fn reader_wait_until(&self) -> Option<Instant> {
        self.slow_reader.as_ref().map(|slow_reader| slow_reader.until)
    }

    /// Goes on without the reader if its time is over.
    pub(super) fn go_on(&mut self, now: Now) {
        if let Some(slow_reader) = self.slow_reader.as_ref().filter(|slow_reader| slow_reader.until <= now.at)
        {
            self.broker.note_slow(&slow_reader.reader);
            self.handle_caught_up(now);
        }
    }
}
