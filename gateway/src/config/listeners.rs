//! The listeners as meant: where devices connect.

use std::net::SocketAddr;

use toml::Spanned;

use super::{LISTENERS_MAX, meant::Judge, typed};
use crate::ingest;

const LISTENER_ADDRESS_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1883);

impl Judge<'_> {
    pub(super) fn listeners(&mut self, typed: &[Spanned<typed::Listener>]) -> Vec<ingest::ListenerSettings> {
        self.count(typed, LISTENERS_MAX, "listeners");
        if typed.is_empty() {
            return vec![ingest::ListenerSettings::new(LISTENER_ADDRESS_DEFAULT)];
        }
        let mut listeners: Vec<ingest::ListenerSettings> = Vec::new();
        for listener in typed {
            let fields = listener.get_ref();
            let address = self.address(fields.address.as_ref(), LISTENER_ADDRESS_DEFAULT);
            let span = fields.address.as_ref().map_or(listener.span(), Spanned::span);
            if let Some(anonymous) = fields.anonymous.as_ref().filter(|anonymous| !*anonymous.get_ref()) {
                self.wrong(
                    &anonymous.span(),
                    "this version knows no users; only true works, on a loopback address",
                );
            } else if !address.ip().is_loopback() {
                self.wrong(
                    &span,
                    format!(
                        "{address} can be reached by others, and without users anybody could publish; \
                             use a loopback address, like \"127.0.0.1:1883\""
                    ),
                );
            }
            if address.port() != 0 && listeners.iter().any(|other| other.address == address) {
                self.wrong(&span, format!("{address} is listened on already; remove one"));
            }
            listeners.push(ingest::ListenerSettings::new(address));
        }
        listeners
    }
}
