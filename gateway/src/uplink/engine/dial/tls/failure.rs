//! Why there is no TLS with a server, in one line that says what to do.
//!
//! What the server sent is repeated as far as [`Summary`] shows it.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::{files::TlsError, verify::Seen};
use crate::pki::{Summary, date};

/// Why there is no TLS. Nothing was sent to the server but the handshake.
#[derive(Debug, thiserror::Error)]
pub enum TlsFailure {
    /// Ours cannot be used.
    #[error("{0}")]
    Files(#[from] TlsError),
    /// No certificate can be for it.
    #[error("\"{0}\" is neither a DNS name nor an address: no certificate can be for it")]
    Name(String),
    /// The server's, by a CA that is not believed.
    #[error(
        "the server's certificate is signed by \"{issuer}\", which is not in {roots}: if it is the right server, put the \
         certificate of this CA into tls.ca"
    )]
    UnknownCa {
        /// Who signed it, or the last of those between.
        issuer: String,
        /// Where the CAs come from.
        roots: String,
    },
    /// The server's, by another CA of the name of one that is believed.
    #[error(
        "the server's certificate is signed by another CA of the name of one in {roots}, \"{issuer}\": if it is the right \
         server, put the certificate of its CA into tls.ca"
    )]
    OtherCa {
        /// Who signed it.
        issuer: String,
        /// Where the CAs come from.
        roots: String,
    },
    /// The server's, for others.
    #[error(
        "the server's certificate is for {names} and not for {wanted}: name one of these in url, or, if it is the right \
         server, in tls.server_name"
    )]
    WrongName {
        /// Whom it is for.
        names: String,
        /// Whom it should be for.
        wanted: String,
    },
    /// The server's.
    #[error(
        "the server's certificate expired on {end}, and it is {now} by this machine's clock: have it renewed there, or set \
         the clock"
    )]
    Expired {
        /// When.
        end: String,
        /// Now.
        now: String,
    },
    /// The server's.
    #[error(
        "the server's certificate is not valid before {start}, and it is {now} by this machine's clock: is the clock right?"
    )]
    NotYetValid {
        /// From when on.
        start: String,
        /// Now.
        now: String,
    },
    /// The server's.
    #[error("the server's certificate is not for servers: its extended key usage lacks serverAuth")]
    Usage,
    /// The server's.
    #[error("the server shows a CA's certificate as its own: have this CA sign one for the server")]
    CaAsServer,
    /// The server's.
    #[error("the server's certificate is not good: {0}")]
    BadCertificate(String),
    /// The server asks for one.
    #[error("the server wants a client certificate: set tls.cert and tls.key")]
    CertificateWanted,
    /// The server's word about ours.
    #[error("the server says that our certificate of {0} is revoked: get a new one")]
    Revoked(String),
    /// The server's word about ours.
    #[error(
        "the server does not accept our certificate of {own}, which is good from {start} until {end}, and it is {now} by \
         this machine's clock: get a new one, or set the clock that is wrong"
    )]
    OwnDates {
        /// Whose it is.
        own: String,
        /// From when on.
        start: String,
        /// Until when.
        end: String,
        /// Now.
        now: String,
    },
    /// The server's word about ours.
    #[error(
        "the server does not know the CA of our certificate of {0}, \"{1}\": register it there, or use a certificate of \
         another CA"
    )]
    OwnUnknownCa(String, String),
    /// The server's word about ours.
    #[error("the server does not accept our certificate of {0} ({1})")]
    OwnRefused(String, &'static str),
    /// The server's word about the name.
    #[error("the server knows no host of this name: set tls.server_name to the one that it knows")]
    UnknownName,
    /// The server's word about `alpn`.
    #[error("the server speaks none of the protocols in tls.alpn")]
    NoProtocol,
    /// Too old.
    #[error("the server speaks neither TLS 1.2 nor TLS 1.3")]
    Version,
    /// Nothing in common, or a certificate is missing.
    #[error(
        "the server broke the handshake off (handshake_failure): it wants another cipher, or a client certificate in tls.cert"
    )]
    Refused,
    /// Any other alert.
    #[error("the server broke TLS off: {0}")]
    Alert(String),
    /// Something else listens there.
    #[error("what answers there is not TLS: check the port, or leave TLS out of url")]
    NotTls,
    /// It says nothing.
    #[error(
        "the server closed the connection in the handshake: it may want no TLS at this port, or another tls.server_name"
    )]
    Closed,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl TlsFailure {
    /// From what the library says of a handshake.
    pub fn judge(error: &io::Error, seen: &Seen, own: Option<&Summary>, roots: &str, now_s: u64) -> Self {
        match inner(error) {
            Some(Error::InvalidCertificate(error)) => Self::certificate(error, seen, roots, now_s),
            Some(other) => Self::library(other, own, now_s),
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => Self::Closed,
                _ => Self::Other(error.to_string()),
            },
        }
    }

    /// From an error after the handshake, if it is one of TLS: with TLS 1.3 a server judges our
    /// certificate when we are done.
    pub fn of(error: &io::Error, own: Option<&Summary>, now_s: u64) -> Option<Self> {
        inner(error).map(|error| Self::library(error, own, now_s))
    }

    fn library(error: &Error, own: Option<&Summary>, now_s: u64) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::alert(*alert, own, now_s),
            Error::NoApplicationProtocol => Self::NoProtocol,
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => Self::Version,
            error => Self::Other(error.to_string()),
        }
    }

    fn certificate(error: &CertificateError, seen: &Seen, roots: &str, now_s: u64) -> Self {
        use CertificateError as E;
        let server = seen.server.clone().unwrap_or_default();
        let now = date(now_s).to_string();
        match error {
            E::UnknownIssuer => {
                let issuer = seen.top_issuer.clone().unwrap_or(server.issuer);
                Self::UnknownCa { issuer, roots: roots.to_owned() }
            }
            E::BadSignature => Self::OtherCa { issuer: server.issuer, roots: roots.to_owned() },
            E::NotValidForName | E::NotValidForNameContext { .. } => {
                let wanted = match error {
                    E::NotValidForNameContext { expected, .. } => expected.to_str().into_owned(),
                    _ => "this name".to_owned(),
                };
                let names = server.names.join(", ");
                Self::WrongName { names: if names.is_empty() { "no name".into() } else { names }, wanted }
            }
            E::Expired => Self::Expired { end: date(server.not_after_s).to_string(), now },
            E::ExpiredContext { not_after, .. } => {
                Self::Expired { end: date(not_after.as_secs()).to_string(), now }
            }
            E::NotValidYet => Self::NotYetValid { start: date(server.not_before_s).to_string(), now },
            E::NotValidYetContext { not_before, .. } => {
                Self::NotYetValid { start: date(not_before.as_secs()).to_string(), now }
            }
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Self::Usage,
            // The library has no variant for it.
            E::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => Self::CaAsServer,
            error => Self::BadCertificate(error.to_string()),
        }
    }

    fn alert(alert: AlertDescription, own: Option<&Summary>, now_s: u64) -> Self {
        use AlertDescription as A;
        // Of one that is not valid yet, OpenSSL says that it is bad.
        let is_in_time = |own: &Summary| own.not_before_s <= now_s && now_s <= own.not_after_s;
        let is_of_dates = |own: &Summary| match alert {
            A::CertificateExpired => true,
            A::BadCertificate | A::CertificateUnknown => !is_in_time(own),
            _ => false,
        };
        if let Some(own) = own.filter(|own| is_of_dates(own)) {
            return Self::of_dates(own, now_s);
        }
        let whose = |own: &Summary| format!("\"{}\"", own.subject);
        match (alert, own) {
            (A::UnrecognisedName, _) => Self::UnknownName,
            (A::NoApplicationProtocol, _) => Self::NoProtocol,
            (A::ProtocolVersion, _) => Self::Version,
            (A::CertificateRequired, _) | (A::BadCertificate, None) => Self::CertificateWanted,
            (A::HandshakeFailure, _) => Self::Refused,
            (A::CertificateRevoked, Some(own)) => Self::Revoked(whose(own)),
            (A::UnknownCA, Some(own)) => Self::OwnUnknownCa(whose(own), own.issuer.clone()),
            (A::DecryptError, Some(own)) => Self::OwnRefused(whose(own), "decrypt_error"),
            (A::BadCertificate, Some(own)) => Self::OwnRefused(whose(own), "bad_certificate"),
            (A::UnsupportedCertificate, Some(own)) => Self::OwnRefused(whose(own), "unsupported_certificate"),
            (A::CertificateUnknown, Some(own)) => Self::OwnRefused(whose(own), "certificate_unknown"),
            (A::AccessDenied, Some(own)) => Self::OwnRefused(whose(own), "access_denied"),
            (alert, _) => Self::Alert(format!("{alert:?}")),
        }
    }

    fn of_dates(own: &Summary, now_s: u64) -> Self {
        Self::OwnDates {
            own: format!("\"{}\"", own.subject),
            start: date(own.not_before_s).to_string(),
            end: date(own.not_after_s).to_string(),
            now: date(now_s).to_string(),
        }
    }
}

fn inner(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_our_certificate_is_told_with_whose_it_is_and_what_to_do() {
        use AlertDescription as A;
        let own = |not_before_s, not_after_s| Summary {
            subject: "CN=gate".into(),
            issuer: "CN=ca".into(),
            not_before_s,
            not_after_s,
            ..Summary::default()
        };
        let (own, early, late) = (own(0, 2000), own(1500, 2000), own(0, 900));
        for (alert, own, words) in [
            (A::CertificateRequired, None, "wants a client certificate: set tls.cert and tls.key"),
            (A::BadCertificate, None, "wants a client certificate"),
            (A::CertificateRevoked, Some(&own), "our certificate of \"CN=gate\" is revoked: get a new one"),
            (A::UnknownCA, Some(&own), "does not know the CA of our certificate of \"CN=gate\", \"CN=ca\""),
            (
                A::CertificateExpired,
                Some(&late),
                "our certificate of \"CN=gate\", which is good from 1970-01-01T00:00:00Z until 1970-01-01T00:15:00Z, and it is \
                 1970-01-01T00:16:40Z by this machine's clock",
            ),
            (A::CertificateExpired, Some(&own), "good from 1970-01-01T00:00:00Z until 1970-01-01T00:33:20Z"),
            (A::BadCertificate, Some(&early), "good from 1970-01-01T00:25:00Z until 1970-01-01T00:33:20Z"),
            (A::CertificateUnknown, Some(&late), "good from 1970-01-01T00:00:00Z until 1970-01-01T00:15:00Z"),
            (
                A::BadCertificate,
                Some(&own),
                "does not accept our certificate of \"CN=gate\" (bad_certificate)",
            ),
            (A::UnrecognisedName, None, "set tls.server_name"),
            (A::NoApplicationProtocol, None, "none of the protocols in tls.alpn"),
            (A::ProtocolVersion, None, "neither TLS 1.2 nor TLS 1.3"),
            (A::HandshakeFailure, None, "handshake_failure"),
            (A::InternalError, None, "InternalError"),
        ] {
            let error = io::Error::new(io::ErrorKind::InvalidData, Error::AlertReceived(alert));
            let said = TlsFailure::of(&error, own, 1000).unwrap().to_string();
            assert!(said.contains(words), "{alert:?}: {said}");
        }
        assert!(TlsFailure::of(&io::ErrorKind::ConnectionReset.into(), None, 1000).is_none());
    }
}
