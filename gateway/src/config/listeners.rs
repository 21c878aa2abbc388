//! The listeners, resolved: where devices connect, and how they are known there. Certificates and
//! keys are read and checked, so that a configuration that is called good can be started.

use std::net::SocketAddr;

use toml::Spanned;

use super::{LISTENERS_MAX, raw};
use crate::{
    clock,
    ingest::{
        self, ClientCert, Protocol, TlsSettings,
        listener::tls::{RECORD_BYTES_LEAST, RECORD_BYTES_MOST, TlsFile},
    },
    keys::{Text, Validator},
};

const LISTENER_ADDRESS_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1883);

impl Validator<'_> {
    pub(super) fn listeners(&mut self, raw: &[Spanned<raw::Listener>]) -> Vec<ingest::ListenerSettings> {
        self.count(raw, LISTENERS_MAX, "listeners");
        if raw.is_empty() {
            return vec![ingest::ListenerSettings::new(LISTENER_ADDRESS_DEFAULT)];
        }
        let mut listeners: Vec<ingest::ListenerSettings> = Vec::new();
        for listener in raw {
            let fields = listener.get_ref();
            let address = self.address(fields.address.as_ref(), LISTENER_ADDRESS_DEFAULT);
            let span = fields.address.as_ref().map_or(listener.span(), Spanned::span);
            let known = [("mqtt", Protocol::Mqtt), ("ws", Protocol::WebSocket)];
            let settings = ingest::ListenerSettings {
                anonymous: fields.anonymous.as_ref().is_none_or(|anonymous| *anonymous.get_ref()),
                protocol: self.one_of(fields.protocol.as_ref(), Protocol::Mqtt, "protocol", &known),
                tls: self.tls_of(fields),
                ..ingest::ListenerSettings::new(address)
            };
            if !address.ip().to_canonical().is_loopback() && !settings.knows_its_clients() {
                self.wrong(
                    &span,
                    format!(
                        "{address} can be reached by others, and anybody could publish; set anonymous = false and add users, \
                         require client certificates by tls, or use a loopback address, like \"127.0.0.1:1883\""
                    ),
                );
            }
            if address.port() != 0 && listeners.iter().any(|other| other.address == address) {
                self.wrong(&span, format!("{address} is listened on already; remove one"));
            }
            listeners.push(settings);
        }
        listeners
    }

    fn tls_of(&mut self, listener: &raw::Listener) -> Option<TlsSettings> {
        let raw = listener.max_record_bytes.as_ref();
        let max_record_bytes = self.given(raw, RECORD_BYTES_LEAST as i64..=RECORD_BYTES_MOST as i64);
        if let (Some(bytes), None) = (raw, &listener.tls) {
            self.wrong(
                &bytes.span(),
                "records are TLS's, and this listener has none; add \"tls\", or remove this",
            );
        }
        let tls = listener.tls.as_ref()?;
        Some(TlsSettings { max_record_bytes, ..self.tls(tls.get_ref()) })
    }

    fn tls(&mut self, raw: &raw::Tls) -> TlsSettings {
        let known = [
            ("none", ClientCert::None),
            ("optional", ClientCert::Optional),
            ("required", ClientCert::Required),
        ];
        let default = if raw.client_ca.is_some() { ClientCert::Required } else { ClientCert::None };
        let client_cert = self.one_of(raw.client_cert.as_ref(), default, "client_cert", &known);
        let mut is_whole = true;
        if let (Some(wanted), None, true) =
            (&raw.client_cert, &raw.client_ca, client_cert != ClientCert::None)
        {
            self.wrong(
                &wanted.span(),
                "client certificates from nobody; add \"client_ca\", the CA that signs them",
            );
            is_whole = false;
        }
        if let (Some(crl), true) = (&raw.crl, client_cert == ClientCert::None) {
            self.wrong(
                &crl.span(),
                "what is revoked, and no client certificates; add \"client_ca\", or remove this",
            );
            is_whole = false;
        }
        let path = |text: &Text| self.around.folder.join(text.get_ref());
        let settings = TlsSettings {
            cert: path(&raw.cert),
            key: path(&raw.key),
            client_ca: raw.client_ca.as_ref().map(path),
            client_cert,
            crl: raw.crl.as_ref().map(path),
            max_record_bytes: None,
        };
        if is_whole && let Err(error) = settings.check(clock::wall_ms()) {
            let key = match error.file {
                TlsFile::Cert => Some(&raw.cert),
                TlsFile::Key => Some(&raw.key),
                TlsFile::ClientCa => raw.client_ca.as_ref(),
                TlsFile::Crl => raw.crl.as_ref(),
            };
            self.wrong(&key.unwrap_or(&raw.cert).span(), error.to_string());
        }
        settings
    }
}
