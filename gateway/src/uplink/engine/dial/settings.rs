//! What lies between TCP and an engine's protocol: the settings that are the same for every engine.

use std::sync::Arc;

use super::{
    super::{password::PasswordSource, url},
    tls::Tls,
};

/// Longest path of a WebSocket, in bytes.
pub const PATH_BYTES_MOST: usize = 1024;
/// Longest user name for a proxy, in bytes.
pub const PROXY_USER_BYTES_MOST: usize = 1024;
/// The port of a proxy that names none.
pub const PROXY_PORT_DEFAULT: u16 = 3128;

/// The layers, from the lowest one up. Clones share the TLS files, so that a new certificate is
/// loaded once.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The HTTP proxy that makes the connections.
    pub proxy: Option<Proxy>,
    /// Its certificates, if TLS is spoken.
    pub tls: Option<Arc<Tls>>,
    /// The path of the WebSocket, if one is spoken.
    pub websocket: Option<String>,
}

/// An HTTP proxy that knows CONNECT.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Its host name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user, if it asks for one.
    pub user: Option<String>,
    /// Where the user's password comes from.
    pub password: Option<PasswordSource>,
}

/// Where to, and through what.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The upstream's host name or address.
    pub host: &'a str,
    /// The upstream's port.
    pub port: u16,
    /// What lies between.
    pub layers: &'a Layers,
}

impl Target<'_> {
    /// Host and port in one text.
    #[must_use]
    pub fn authority(&self) -> String {
        url::authority(self.host, self.port)
    }
}
