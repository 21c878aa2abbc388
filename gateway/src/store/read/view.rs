//! A look into the open store from elsewhere: what HTTP and a replay use. It changes no event.
//!
//! Every call is one of short read transactions, blocking, to be made off the hot path; after the
//! store was closed each answers [`StoreError::Closed`](crate::store::StoreError::Closed) or
//! nothing. What it offers lies with what it looks at.

use std::sync::Arc;

use crate::{
    clock::{Reading, Timeline},
    store::{
        error::StoreError,
        log::Log,
        side_file::{
            fleet,
            sessions::{self, Change, KeptSessions},
        },
    },
};

/// A look into an open store. Cheap to clone; it does not keep the store open.
#[derive(Debug, Clone)]
pub struct View {
    pub(in crate::store) log: Arc<Log>,
    /// What the events' ids begin with, once told.
    pub(in crate::store) gateway_id: Option<Arc<str>>,
    /// Bytes that the card is rated for, if that was told.
    pub(in crate::store) endurance_bytes: Option<u64>,
}

impl View {
    pub(in crate::store) fn new(log: Arc<Log>) -> Self {
        Self { log, gateway_id: None, endurance_bytes: None }
    }

    /// The gateway's clock, once its journal is loaded.
    #[must_use]
    pub fn timeline(&self) -> &Timeline {
        &self.log.timeline
    }

    /// What is kept of local subscribers' sessions; `None` where there is nothing.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be read now. It is as it was.
    pub fn load_sessions(&self, now: &Reading) -> Result<Option<KeptSessions>, StoreError> {
        self.log.sessions.load(now, self.session_bytes_max())
    }

    /// Bytes that may be held of local subscribers' sessions and retained messages, so that their
    /// file stays within its part of the store.
    #[must_use]
    pub fn session_bytes_max(&self) -> u64 {
        sessions::held_bytes_max(self.log.meter.room_bytes())
    }

    /// Keeps changes of local subscribers' sessions, and that the log up to `position` is in them:
    /// durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it is kept.
    pub fn save_sessions(&self, changes: Vec<Change>, position: u64) -> Result<(), StoreError> {
        self.log.sessions.save(changes, position)
    }

    /// What is kept of the devices; `None` where there is nothing.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be read now. It is as it was.
    pub fn load_fleet(&self) -> Result<Option<fleet::KeptFleet>, StoreError> {
        self.log.fleet.load()
    }

    /// Keeps changes of what is known of the devices, and that the log up to `position` is in them:
    /// durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it is kept.
    pub fn save_fleet(&self, changes: &[fleet::Change], position: u64) -> Result<(), StoreError> {
        let retention = self.log.retention.lock().clone();
        self.log.fleet.save(changes, position, &retention)
    }

    /// Keeps the store from deleting what is delivered from this offset on, for the consumer of
    /// this name.
    pub fn hold(&self, consumer: &'static str, offset: u64) {
        self.log.holds.set(consumer, offset);
    }

    /// Whether the store needs the room of what is held for the consumer of this name.
    #[must_use]
    pub fn is_hold_in_the_way(&self, consumer: &str) -> bool {
        self.log.holds.is_in_the_way(consumer)
    }
}
