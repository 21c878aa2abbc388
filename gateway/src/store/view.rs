//! A look into the open store from elsewhere: what HTTP and a replay use. It changes no event.
//!
//! Every call is one of short read transactions, blocking, to be made off the hot path; after the store was closed each
//! answers [`StoreError::Closed`](super::StoreError::Closed) or nothing. What it offers lies with what it looks at.

use std::sync::Arc;

use super::{error::StoreError, log::Log, record::Record};
use crate::clock;

/// A look into an open store. Cheap to clone; it does not keep the store open.
#[derive(Debug, Clone)]
pub struct View {
    pub(super) log: Arc<Log>,
}

impl View {
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self { log }
    }

    /// Keeps a record of `uplink` aside with its reason: durable when this returns. Blocking.
    ///
    /// # Errors
    /// [`StoreError`]: it is not kept.
    pub fn set_aside(
        &self,
        uplink: &str,
        offset: u64,
        record: &Record<'_>,
        reason: &str,
    ) -> Result<(), StoreError> {
        self.log.aside.put(uplink, offset, record, reason, clock::wall_ms())
    }
}
