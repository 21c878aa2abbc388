//! The library's judgement of a server's certificate, and what was judged: its error alone does not
//! say whose certificate it was.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::pki::Summary;

/// Remembers the chain that a server showed, for one handshake.
#[derive(Debug)]
pub struct Watching {
    inner: Arc<WebPkiServerVerifier>,
    seen: Mutex<Seen>,
}

/// What a server showed.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Its own certificate.
    pub server: Option<Summary>,
    /// Who signed the last of the chain that it showed.
    pub top_issuer: Option<String>,
}

impl Watching {
    pub fn new(inner: Arc<WebPkiServerVerifier>) -> Self {
        Self { inner, seen: Mutex::default() }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }
}

impl ServerCertVerifier for Watching {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if judged.is_err() {
            let top = intermediates.last().unwrap_or(end_entity);
            *self.seen.lock() = Seen {
                server: Summary::of(end_entity),
                top_issuer: Summary::of(top).map(|summary| summary.issuer),
            };
        }
        judged
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
