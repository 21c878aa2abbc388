//! The steps of a connect: which one is under way, and what those before it found. The log, and
//! whoever asks for a diagnosis, use the same words.

use std::{fmt, net::SocketAddr};

use super::tls::Secured;

/// What is waited for: it continues "no answer within 5s".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    #[default]
    Start,
    /// A password, from the place that is named here.
    Password(String),
    /// The addresses of a name.
    Resolve(String),
    /// A TCP connection to any of these.
    Connect(Vec<SocketAddr>),
    /// The proxy's tunnel.
    Proxy(SocketAddr),
    /// TLS.
    Tls(SocketAddr),
    /// WebSocket.
    WebSocket(SocketAddr),
    /// The engine's own handshake.
    Handshake(SocketAddr),
}

/// What a step found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// The addresses of a name, in the order in which they are tried.
    Resolved(String, Vec<SocketAddr>),
    /// An address that failed before another one took the connection.
    Failed(SocketAddr, String),
    /// The address that took the connection.
    Connected(SocketAddr),
    /// The proxy made a tunnel to this host and port.
    Tunnelled(String),
    /// The TLS handshake is done.
    Secured(Box<Secured>),
    /// The WebSocket is open, at this path.
    Upgraded(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Start => f.write_str("from anything"),
            Step::Password(place) => write!(f, "from the disk about {place}"),
            Step::Resolve(host) => write!(f, "from DNS about {host}"),
            Step::Connect(addresses) => write!(f, "from {}", list(addresses)),
            Step::Proxy(address) => write!(f, "from the proxy {address} to CONNECT"),
            Step::Tls(address) => write!(f, "from {address} in the TLS handshake"),
            Step::WebSocket(address) => write!(f, "from {address} to the request for a WebSocket"),
            Step::Handshake(address) => write!(f, "from {address}, which took the connection"),
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Done::Resolved(host, addresses) => write!(f, "{host} is at {}", list(addresses)),
            Done::Failed(address, why) => write!(f, "{address} takes no connection: {why}"),
            Done::Connected(address) => write!(f, "{address} takes the connection"),
            Done::Tunnelled(target) => write!(f, "the proxy connects to {target}"),
            Done::Secured(secured) => write!(f, "{secured}"),
            Done::Upgraded(path) => write!(f, "WebSocket at {path}"),
        }
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}
