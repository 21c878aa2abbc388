//! Where a connection comes from: what is known of a client before its CONNECT.

use std::{net::SocketAddr, sync::Arc};

/// Where a connection comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The other end.
    pub peer: SocketAddr,
    /// The listener that it came to.
    pub listener: SocketAddr,
    /// The name in the client's certificate, which the TLS handshake checked.
    pub certified: Option<Arc<str>>,
    /// The listener admits clients that show nothing.
    pub anonymous: bool,
}
