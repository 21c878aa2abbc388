//! What `sessions.redb` does not say yet, and who waits for it.

use std::{collections::HashSet, sync::Arc};

use tokio::sync::watch;

use super::{Broker, mailbox::Mailbox};
use crate::store::SessionChange;

/// What the file is to be told.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    pub dirty: Vec<Arc<Mailbox>>,
    /// Sessions that are over.
    pub changes: Vec<SessionChange>,
    /// Topics whose retained message is another, or none.
    pub retained: HashSet<Box<str>>,
    /// A save failed: the next one says everything, for nobody knows what the file says.
    pub is_unknown: bool,
    /// Somebody waits for the save.
    pub is_urgent: bool,
    /// The number of the save that will have what is dirty now.
    pub number: u64,
}

impl Unsaved {
    /// The retained message of `topic` is another. Where more topics changed than may have one, the
    /// next save says everything.
    pub fn note_retained(&mut self, topic: &str, topics_max: usize) {
        if self.retained.len() < topics_max.saturating_mul(2) {
            self.retained.insert(topic.into());
        } else {
            self.is_unknown = true;
        }
    }
}

impl Broker {
    /// The file does not say any more what it should of this session. Gives the number of the save
    /// that will have it.
    pub(super) fn mark_dirty(&self, mailbox: &Arc<Mailbox>, is_urgent: bool) -> u64 {
        let is_new = mailbox.mark_dirty();
        if !is_new && !is_urgent {
            return 0;
        }
        let mut unsaved = self.0.unsaved.lock();
        if is_new {
            unsaved.dirty.push(mailbox.clone());
        }
        let wakes = is_urgent && !std::mem::replace(&mut unsaved.is_urgent, true);
        let number = unsaved.number;
        drop(unsaved);
        if wakes {
            self.0.notify.notify_one();
        }
        number
    }

    /// Somebody waits for the next save.
    pub(super) fn urge(&self) {
        if !std::mem::replace(&mut self.0.unsaved.lock().is_urgent, true) {
            self.0.notify.notify_one();
        }
    }

    /// Follows the saves: what was given a number is durable once this has reached it.
    ///
    /// What this gives is never looked at with something locked, and nothing is locked while it is
    /// looked at: somebody who holds a lock and waits for it, beside one that looks at it and waits
    /// for the lock, would stop all clients once a save is to be told.
    #[must_use]
    pub fn saved(&self) -> watch::Receiver<u64> {
        self.0.saved.subscribe()
    }

    /// Waits until `is_over`, which is asked after every save and whenever wills are published,
    /// with nothing locked. Cancel-safe.
    pub async fn saved_until(mut saved: watch::Receiver<u64>, is_over: impl Fn(u64) -> bool) {
        loop {
            // Marked as seen before the rest is looked at: what comes in between is looked at
            // again.
            let number = *saved.borrow_and_update();
            if is_over(number) || saved.changed().await.is_err() {
                return;
            }
        }
    }

    /// The save that is under way, if there is one. To be called with nothing locked.
    pub(super) fn save_under_way(&self) -> Option<u64> {
        let number = self.0.unsaved.lock().number - 1;
        (number > *self.0.saved.borrow()).then_some(number)
    }

    /// Whether the last save failed: what is to be told after a save is told without it, and the
    /// log says so.
    #[must_use]
    pub fn cannot_save(&self) -> bool {
        self.0.unsaved.lock().is_unknown
    }
}
