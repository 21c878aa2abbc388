//! Where a connection comes from: what is known of a client before its CONNECT.

use std::{net::SocketAddr, sync::Arc};

/// Where a connection comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The other end.
    pub peer: SocketAddr,
    /// Who it is, by a certificate that was checked.
    pub certified: Option<Arc<str>>,
    /// Its listener takes clients that are nobody.
    pub anonymous: bool,
}

impl Origin {
    /// Whether whoever comes from there may go on: known by a certificate, or allowed to be nobody.
    pub fn is_let_in(&self) -> bool {
        self.anonymous || self.certified.is_some()
    }
}
