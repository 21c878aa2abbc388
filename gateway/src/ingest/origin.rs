//! Where a connection comes from: what is known of a client before its CONNECT.

use std::net::SocketAddr;

/// Where a connection comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The other end.
    pub peer: SocketAddr,
}
