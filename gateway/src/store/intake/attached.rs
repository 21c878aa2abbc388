//! Whose QoS 2 packet ids are kept because the client is connected, and how many one client may
//! have. See `pending.rs`.

use std::sync::Arc;

use super::{Intake, batch::Batch};

/// A client that is connected. Dropped: the connection is gone.
#[derive(Debug)]
pub struct Attached {
    intake: Intake,
    client: Arc<str>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.intake.pending().detach(self.client.clone());
    }
}

impl Intake {
    /// Says that `client` is connected, for as long as the answer lives: its QoS 2 packet ids are
    /// not forgotten for want of room.
    #[must_use]
    pub fn attach(&self, client: Arc<str>) -> Attached {
        self.pending().attach(client.clone());
        Attached { intake: self.clone(), client }
    }

    /// Whether `client` has QoS 2 packet ids pending (from this process or one before).
    #[must_use]
    pub fn has_pending(&self, client: &str) -> bool {
        self.pending().has(client)
    }

    /// Whether this batch leaves its client with no more than `ids_max` QoS 2 packet ids that it
    /// did not release, as far as what it sent before is committed.
    #[must_use]
    pub fn keeps_within(&self, batch: &Batch, ids_max: usize) -> bool {
        let Some(client) = batch.receiver() else { return true };
        batch.keeps_within(self.pending().ids(client), ids_max)
    }
}
