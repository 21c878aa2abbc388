//! Whether a client's chain of certificates is good at a time: what handshakes ask, and what is
//! asked again of connections.
//!
//! ```text
//!   chain, now ─▶ for each CA of client_ca: a path to it? ─▶ is the CA valid now?
//!                   │                                          └▶ its lists, by name and key
//!                   │                                               └▶ is nothing of it revoked?
//!                   └ no: the next CA, which may have the same name
//! ```
//! The TLS library would choose a list by its issuer's name alone, and would not look at a CA's own
//! dates. So a path is looked for to one CA at a time, and only those lists count that the keys of
//! this path signed: a list in a CA's or an intermediate's name that it did not sign is as good as
//! none. Every issuer in a path needs a list if there is `crl` at all. A list that is out of date
//! is used on: a gateway that nobody brings a new one must not lock everybody out.
//!
//! Time is an argument. Limits: a chain of [`CHAIN_BYTES_MAX`]; the library's own of signatures and
//! paths that are tried, for each CA that has the name of an issuer in the chain.

use std::{cell::RefCell, slice, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::{
    authority::Ca,
    certificate::{self, CHAIN_BYTES_MAX, Facts, date},
    distrust::{Distrust, library, subject, words},
    lists::{self, List},
};

/// What clients' chains are judged by, until the next load.
#[derive(Debug)]
pub(super) struct Trust {
    cas: Vec<Ca>,
    /// `None`: nothing can be revoked.
    lists: Option<Vec<List>>,
    provider: Arc<CryptoProvider>,
    hints: Vec<DistinguishedName>,
    is_required: bool,
}

impl Trust {
    pub fn new(
        cas: Vec<Ca>,
        lists: Option<Vec<List>>,
        provider: Arc<CryptoProvider>,
        is_required: bool,
    ) -> Self {
        let hints = cas.iter().map(|ca| DistinguishedName::in_sequence(&ca.anchor.subject)).collect();
        Trust { cas, lists, provider, hints, is_required }
    }

    /// The CAs, whatever their dates.
    pub fn cas(&self) -> impl Iterator<Item = &Facts> {
        self.cas.iter().map(|ca| &ca.facts)
    }

    /// Whether a CA is valid at this time: without one no client with a certificate gets in.
    pub fn has_valid_ca(&self, now_s: u64) -> bool {
        self.cas.iter().any(|ca| ca.check_dates(now_s).is_ok())
    }

    /// Judges a chain, the client's own certificate and those that it showed beside it.
    pub fn judge(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let bytes = own.len() + between.iter().map(|der| der.len()).sum::<usize>();
        if bytes > CHAIN_BYTES_MAX {
            return Err(words(Distrust::LongChain(bytes)));
        }
        let parsed = EndEntityCert::try_from(own).map_err(library)?;
        let others: Vec<_> = between.iter().filter_map(|der| EndEntityCert::try_from(der).ok()).collect();
        let mut worst = CertificateError::UnknownIssuer.into();
        for ca in &self.cas {
            let signed = |cert: &EndEntityCert<'_>| cert.issuer() == ca.anchor.subject.as_ref();
            if !signed(&parsed) && !others.iter().any(signed) {
                continue;
            }
            match self.judge_by(ca, &parsed, between, now) {
                Ok(()) => return Ok(()),
                Err(error) if weight(&error) >= weight(&worst) => worst = error,
                Err(_) => {}
            }
        }
        Err(worst)
    }

    fn judge_by(
        &self,
        ca: &Ca,
        own: &EndEntityCert<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let why = RefCell::new(None);
        let is_good = |path: &VerifiedPath<'_>| {
            let dated = ca.check_dates(now.as_secs()).map_err(words);
            let listed = || {
                self.lists.as_ref().map_or(Ok(()), |lists| lists::check(lists, ca, path, now, &self.provider))
            };
            dated.and_then(|()| listed()).map_err(|cause| {
                *why.borrow_mut() = Some(cause);
                webpki::Error::UnknownRevocationStatus
            })
        };
        let found = own.verify_for_usage(
            self.provider.signature_verification_algorithms.all,
            slice::from_ref(&ca.anchor),
            between,
            now,
            KeyUsage::client_auth(),
            None,
            Some(&is_good),
        );
        match found {
            Ok(_) => Ok(()),
            Err(error) => Err(why.into_inner().unwrap_or_else(|| dated(error, own, between))),
        }
    }
}

/// The library says when a certificate of the chain expired, and not which one.
fn dated(error: webpki::Error, own: &EndEntityCert<'_>, between: &[CertificateDer<'_>]) -> Error {
    let webpki::Error::CertExpired { not_after, .. } = &error else { return library(error) };
    let end_s = not_after.as_secs();
    let has_ended = |der: &CertificateDer<'_>| {
        certificate::facts(der).is_ok_and(|facts: Facts| facts.not_after_s == end_s)
    };
    match between.iter().find(|der| has_ended(der)) {
        Some(der) if !has_ended(&own.der()) => {
            words(Distrust::BetweenExpired(subject(der), date(end_s).to_string()))
        }
        _ => library(error),
    }
}

/// How much an error says of the client: of another CA's key it is a stranger.
fn weight(error: &Error) -> u8 {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => 0,
        Error::InvalidCertificate(CertificateError::BadSignature) => 1,
        _ => 2,
    }
}

impl ClientCertVerifier for Trust {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(own, between, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, own, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, own, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
