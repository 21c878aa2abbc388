//! What is wrong with a client's chain of certificates, in words for the log and in the TLS
//! library's errors, by which it chooses the alert that the client gets.
//!
//! What the library has no words for is carried through it as an error of its own kind, and found
//! again by `failure`.

use std::sync::Arc;

use rustls::{CertificateError, Error, OtherError};

use super::certificate::{self, CHAIN_BYTES_MAX};
use crate::printable;

/// What is wrong with a chain beyond what the TLS library has words for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Distrust {
    #[error("the CA {0} in client_ca, which is behind its certificate, expired on {1}: renew this CA")]
    CaExpired(String, String),
    #[error(
        "the CA {0} in client_ca, which is behind its certificate, is not valid before {1}: is this machine's clock right?"
    )]
    CaNotYetValid(String, String),
    #[error("the certificate of {0} between its own and its CA's expired on {1}: give it a new chain")]
    BetweenExpired(String, String),
    #[error(
        "the CA {0} between its certificate and client_ca is revoked: give it a certificate of another CA"
    )]
    BetweenRevoked(String),
    #[error(
        "whether its certificate is revoked is not known: crl has no list of the CA {0}; put this CA's list beside the others"
    )]
    NoList(String),
    #[error(
        "whether its certificate is revoked is not known: crl has a list of the CA {0} that this CA did not sign; get the \
         list anew from this CA"
    )]
    ForgedList(String),
    #[error("its chain of certificates has {0} bytes, and {CHAIN_BYTES_MAX} at most are taken")]
    LongChain(usize),
}

impl Distrust {
    /// The label of the metric.
    pub fn label(&self) -> &'static str {
        match self {
            Distrust::CaExpired(..) => "ca_expired",
            Distrust::CaNotYetValid(..) => "ca_not_yet_valid",
            Distrust::BetweenExpired(..) => "expired",
            Distrust::BetweenRevoked(_) => "revoked",
            Distrust::NoList(_) | Distrust::ForgedList(_) => "revocation_unknown",
            Distrust::LongChain(_) => "bad_certificate",
        }
    }
}

pub(super) fn words(distrust: Distrust) -> Error {
    CertificateError::Other(OtherError(Arc::new(distrust))).into()
}

/// For people. What is read here is in a path that is good, and still was not written by this
/// house.
pub(super) fn subject(der: &[u8]) -> String {
    let subject = certificate::facts(der).map(|facts| facts.subject);
    subject.map_or_else(|_| "without a name".into(), |subject| printable::line(&subject).into_owned())
}

/// As the TLS library has it: by this it chooses the alert that the client gets.
pub(super) fn library(error: webpki::Error) -> Error {
    use webpki::Error as E;
    match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        E::InvalidCertValidity => CertificateError::Expired,
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::CertRevoked => CertificateError::Revoked,
        E::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
    .into()
}
