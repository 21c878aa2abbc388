//! One port: where it is, what it speaks, and who may come without a name.

use std::net::SocketAddr;

use super::tls::{ClientCert, TlsSettings};

/// What a listener is told whose [`ListenerSettings::is_open_to_pages`].
pub const OPEN_TO_PAGES: &str =
    "whoever shows a page to a browser on this machine can connect here by it: set anonymous = false";

/// What is spoken on a port, with or without TLS below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// MQTT.
    #[default]
    Mqtt,
    /// MQTT over WebSocket.
    WebSocket,
}

impl Protocol {
    /// Its name in TLS, by which a client may ask for it (ALPN). A WebSocket begins with HTTP, and
    /// browsers ask for that.
    #[must_use]
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Protocol::Mqtt => b"mqtt",
            Protocol::WebSocket => b"http/1.1",
        }
    }
}

/// What MQTT is spoken over, in words.
#[must_use]
pub fn transport(protocol: Protocol, has_tls: bool) -> &'static str {
    match (protocol, has_tls) {
        (Protocol::Mqtt, false) => "TCP",
        (Protocol::Mqtt, true) => "TLS",
        (Protocol::WebSocket, false) => "WebSocket",
        (Protocol::WebSocket, true) => "WebSocket and TLS",
    }
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Where to listen. Port 0 takes a free one: see
    /// [`Bound::local_addr`](super::Bound::local_addr).
    pub address: SocketAddr,
    /// Whether clients are taken that are nobody: on a loopback address only, unless certificates
    /// are required.
    pub anonymous: bool,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its certificates, if it speaks TLS.
    pub tls: Option<TlsSettings>,
}

impl ListenerSettings {
    /// A port with nothing set but where it is.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, anonymous: true, protocol: Protocol::Mqtt, tls: None }
    }

    /// Whether only clients get in that are known by something.
    #[must_use]
    pub fn knows_its_clients(&self) -> bool {
        let client_cert = self.tls.as_ref().map_or(ClientCert::None, |tls| tls.client_cert);
        !self.anonymous || client_cert == ClientCert::Required
    }

    /// Whether a page from anywhere can connect, by the browser that shows it: it gets to loopback
    /// addresses as well, and WebSocket leaves it to the server to look where a page is from.
    #[must_use]
    pub fn is_open_to_pages(&self) -> bool {
        self.protocol == Protocol::WebSocket && !self.knows_its_clients()
    }

    /// Whether passwords travel to it in the clear, and not within this machine only.
    #[must_use]
    pub fn is_overheard(&self) -> bool {
        self.tls.is_none() && !self.address.ip().to_canonical().is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_known_by_users_or_by_certificates_that_are_required() {
        let tls = |client_cert| {
            let none = std::path::PathBuf::new;
            Some(TlsSettings {
                cert: none(),
                key: none(),
                client_ca: None,
                client_cert,
                crl: None,
                max_record_bytes: None,
            })
        };
        for (anonymous, tls, known) in [
            (true, None, false),
            (true, tls(ClientCert::None), false),
            (true, tls(ClientCert::Optional), false),
            (true, tls(ClientCert::Required), true),
            (false, None, true),
            (false, tls(ClientCert::None), true),
        ] {
            let address = "192.0.2.1:1883".parse().unwrap();
            let protocol = Protocol::WebSocket;
            let settings = ListenerSettings { address, anonymous, protocol, tls };
            assert_eq!(settings.knows_its_clients(), known, "{settings:?}");
            assert_eq!(settings.is_open_to_pages(), !known, "{settings:?}");
            assert_eq!(settings.is_overheard(), settings.tls.is_none());
        }
    }
}
