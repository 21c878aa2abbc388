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
