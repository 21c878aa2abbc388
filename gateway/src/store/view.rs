//! A look into the open store from elsewhere: what HTTP and a replay use. It changes no event.
//!
//! Every call is one of short read transactions, blocking, to be made off the hot path; after the store was closed each
//! answers [`StoreError::Closed`](super::StoreError::Closed) or nothing. What it offers lies with what it looks at.

use std::sync::Arc;

use super::log::Log;

/// A look into an open store. Cheap to clone; it does not keep the store open.
#[derive(Debug, Clone)]
pub struct View {
    pub(super) log: Arc<Log>,
}

impl View {
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self { log }
    }
}
