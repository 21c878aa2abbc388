//! TLS before a stand-in: its certificate, and what it asks of its clients.
//!
//! A platform needs to be told its own name (SNI), some ports a protocol (ALPN), and most of them a
//! certificate of the client. Whoever lacks one is left without a word of MQTT.

use std::sync::Arc;

use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::breach::Breach;
use crate::{ca::Ca, dial::Certified};

/// What a client has to show.
#[derive(Clone)]
pub struct ServerTls {
    host: String,
    protocol: Option<Vec<u8>>,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("host", &self.host).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Of a server called `host`. Clients show a certificate of `clients`, if there is one.
    ///
    /// # Errors
    /// The certificates are of no use.
    pub fn new(host: &str, own: Certified, clients: Option<&Ca>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(ca.der())?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                config.with_client_cert_verifier(
                    verifier.map_err(|why| rustls::Error::General(why.to_string()))?,
                )
            }
        };
        let config = config.with_single_cert(vec![own.0], own.1)?;
        Ok(Self { host: host.into(), protocol: None, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// The same for clients that offer this protocol alone.
    #[must_use]
    pub fn with_protocol(mut self, protocol: &str) -> Self {
        let mut config = ServerConfig::clone(self.acceptor.config());
        config.alpn_protocols = vec![protocol.into()];
        self.acceptor = TlsAcceptor::from(Arc::new(config));
        self.protocol = Some(protocol.into());
        self
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// What the client lacks, and in words how that showed.
    pub async fn pass(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, (Breach, String)> {
        let accepted = self.acceptor.accept(stream).await;
        let stream = accepted.map_err(|why| (Breach::Handshake, why.to_string()))?;
        let (_, session) = stream.get_ref();
        let name = session.server_name().unwrap_or_default();
        if name != self.host {
            return Err((Breach::HostName, format!("it asks for {name:?}")));
        }
        let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
        if self.protocol.is_some() && protocol != self.protocol {
            return Err((Breach::Protocol, format!("{protocol:?}")));
        }
        Ok(stream)
    }
}
