//! Why there is no way to an upstream. Nothing was sent to it that it could act on.

use std::{fmt, io, net::SocketAddr, time::Duration};

use super::{proxy::NoTunnel, race::Failed, steps::Step, tls::TlsFailure};
use crate::websocket::Refused;

/// Why there is no way to an upstream: which step failed, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The name has no address, or none is told.
    #[error("cannot connect: {host} cannot be looked up: {cause}; check the name, and this machine's DNS")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's reason.
        cause: io::Error,
    },
    /// There is no password to connect with, to the upstream or to its proxy.
    #[error("no password: {0}")]
    Password(io::Error),
    /// No address takes a connection.
    #[error("cannot connect: {}", Tries(.0))]
    Connect(Vec<Failed>),
    /// The proxy makes no tunnel.
    #[error("cannot connect through the proxy {address}: {cause}")]
    Proxy {
        /// Where it is.
        address: SocketAddr,
        /// Why.
        cause: NoTunnel,
    },
    /// The files of TLS cannot be used, or the handshake failed.
    #[error("no TLS with {address}: {cause}")]
    Tls {
        /// The address that was tried.
        address: SocketAddr,
        /// Why.
        cause: Box<TlsFailure>,
    },
    /// What answers speaks no WebSocket.
    #[error("{address}: {cause}")]
    WebSocket {
        /// The address that was tried.
        address: SocketAddr,
        /// Why.
        cause: Refused,
    },
    /// A step took longer than its share.
    #[error("no answer within {limit:?} {step}")]
    Timeout {
        /// What was waited for.
        step: Step,
        /// How long.
        limit: Duration,
    },
}

/// Addresses that were tried, and why each failed.
struct Tries<'a>(&'a [Failed]);

impl fmt::Display for Tries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (address, error)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "; " };
            write!(f, "{comma}{address}: {error}")?;
        }
        Ok(())
    }
}
