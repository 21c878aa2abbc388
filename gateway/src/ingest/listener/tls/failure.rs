//! Why a handshake failed, in words for the log and in one word for the metric, and how often the
//! log is told.
//!
//! What the peer sent is never repeated but for the name in its certificate. Limits: [`TOLD_BURST`]
//! lines at once and one a second after that; how many were left out is said with the next.

use std::{
    io,
    time::{Duration, Instant},
};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible};

use super::{
    certificate::{NoIdentity, date},
    distrust::Distrust,
};

/// Lines that the log takes at once.
const TOLD_BURST: u32 = 20;
/// Time in which the log takes one line more.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Why no connection came of it. The client may try again; nothing was taken in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("its certificate expired{0}: give it a new one")]
    Expired(String),
    #[error("its certificate is not valid yet{0}: is this machine's clock right?")]
    NotYetValid(String),
    #[error(
        "its certificate is from a CA that is not in client_ca: add the CA, or give it a certificate of one that is there"
    )]
    UnknownCa,
    #[error("{0}")]
    Chain(Distrust),
    #[error("its certificate is not for clients: its extended key usage lacks clientAuth")]
    Usage,
    #[error("its certificate is revoked: give it a new one if it is to connect")]
    Revoked,
    #[error("whether its certificate is revoked is not known: crl has no list that its issuer made for it")]
    RevocationUnknown,
    #[error("its certificate is not good: {0}")]
    BadCertificate(String),
    #[error("it has no certificate, and one is required")]
    NoCertificate,
    #[error("its certificate names nobody: {0}")]
    NoIdentity(#[from] NoIdentity),
    #[error("it is too old: it offers neither TLS 1.3 nor a TLS 1.2 that names its signature algorithms")]
    Version,
    #[error("it offers nothing that is strong enough: {0}")]
    Incompatible(String),
    #[error("what it sends is no TLS: perhaps a client that is set to connect without")]
    NotTls,
    #[error("it does not accept this listener's certificate: {0}")]
    Distrusts(&'static str),
    #[error("it broke the handshake off: {0:?}")]
    Alert(AlertDescription),
    #[error("it did not finish the handshake in time")]
    Timeout,
    #[error("it closed the connection before the handshake was done")]
    Closed,
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// From what the library says.
    pub fn judge(error: &io::Error) -> Self {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => Failure::Closed,
                _ => Failure::Other(error.to_string()),
            };
        };
        Failure::of(error)
    }

    /// From what the library says.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Failure::certificate(error),
            Error::NoCertificatesPresented => Failure::NoCertificate,
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Failure::NotTls,
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                // What a TLS 1.1 client lacks is looked for before its version.
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => Failure::Version,
            Error::PeerIncompatible(what) => Failure::Incompatible(format!("{what:?}")),
            Error::AlertReceived(alert) => Failure::alert(*alert),
            error => Failure::Other(error.to_string()),
        }
    }

    fn certificate(error: &CertificateError) -> Self {
        use CertificateError as E;
        match error {
            E::Expired => Failure::Expired(String::new()),
            E::ExpiredContext { not_after, .. } => {
                Failure::Expired(format!(" on {}", date(not_after.as_secs())))
            }
            E::NotValidYet => Failure::NotYetValid(String::new()),
            E::NotValidYetContext { not_before, .. } => {
                Failure::NotYetValid(format!(", only from {} on", date(not_before.as_secs())))
            }
            E::UnknownIssuer => Failure::UnknownCa,
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Failure::Usage,
            E::Revoked => Failure::Revoked,
            E::UnknownRevocationStatus => Failure::RevocationUnknown,
            E::Other(OtherError(cause)) => match cause.downcast_ref::<Distrust>() {
                Some(distrust) => Failure::Chain(distrust.clone()),
                None => Failure::BadCertificate(cause.to_string()),
            },
            error => Failure::BadCertificate(error.to_string()),
        }
    }

    fn alert(alert: AlertDescription) -> Self {
        use AlertDescription as A;
        match alert {
            A::UnknownCA => Failure::Distrusts("it does not know the CA"),
            A::CertificateExpired => Failure::Distrusts("to the client it is expired or not valid yet"),
            A::BadCertificate => Failure::Distrusts("to the client it is bad, or for another name"),
            A::CertificateRevoked => Failure::Distrusts("to the client it is revoked"),
            A::UnsupportedCertificate => Failure::Distrusts("the client does not support its kind"),
            A::CertificateUnknown => Failure::Distrusts("the client does not say why"),
            alert => Failure::Alert(alert),
        }
    }

    /// The label of the metric.
    pub fn label(&self) -> &'static str {
        match self {
            Failure::Expired(_) => "expired",
            Failure::NotYetValid(_) => "not_yet_valid",
            Failure::UnknownCa => "unknown_ca",
            Failure::Chain(distrust) => distrust.label(),
            Failure::Usage => "usage",
            Failure::Revoked => "revoked",
            Failure::RevocationUnknown => "revocation_unknown",
            Failure::BadCertificate(_) => "bad_certificate",
            Failure::NoCertificate => "no_certificate",
            Failure::NoIdentity(_) => "no_identity",
            Failure::Version => "version",
            Failure::Incompatible(_) => "incompatible",
            Failure::NotTls => "not_tls",
            Failure::Distrusts(_) => "distrusted",
            Failure::Alert(_) => "alert",
            Failure::Timeout => "timeout",
            Failure::Closed => "closed",
            Failure::Other(_) => "other",
        }
    }

    /// Whether it is worth a line: whoever only opens and closes a port, as a health check does, is
    /// only counted.
    pub fn is_told(&self) -> bool {
        !matches!(self, Failure::Closed)
    }
}

/// Holds the log back.
#[derive(Debug)]
pub(super) struct Throttle {
    left: u32,
    since: Option<Instant>,
    hidden: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Throttle { left: TOLD_BURST, since: None, hidden: 0 }
    }
}

impl Throttle {
    /// Whether a line may be written, and how many were not since the last one.
    pub fn take(&mut self, now: Instant) -> Option<u64> {
        let since = *self.since.get_or_insert(now);
        let gained = now.saturating_duration_since(since).as_secs() / TOLD_EVERY.as_secs();
        if gained > 0 {
            let gained = u32::try_from(gained).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(gained).min(TOLD_BURST);
            self.since = Some(now);
        }
        if self.left == 0 {
            self.hidden += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.hidden))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_says_becomes_a_cause_with_a_label() {
        let other = |distrust| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(std::sync::Arc::new(distrust))))
        };
        for (error, label) in [
            (Error::InvalidCertificate(CertificateError::Expired), "expired"),
            (Error::InvalidCertificate(CertificateError::NotValidYet), "not_yet_valid"),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), "unknown_ca"),
            (Error::InvalidCertificate(CertificateError::InvalidPurpose), "usage"),
            (Error::InvalidCertificate(CertificateError::Revoked), "revoked"),
            (Error::InvalidCertificate(CertificateError::UnknownRevocationStatus), "revocation_unknown"),
            (Error::InvalidCertificate(CertificateError::BadSignature), "bad_certificate"),
            (other(Distrust::CaExpired("CN=a".into(), "b".into())), "ca_expired"),
            (other(Distrust::ForgedList("CN=a".into())), "revocation_unknown"),
            (Error::NoCertificatesPresented, "no_certificate"),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "not_tls"),
            (Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered), "version"),
            (Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired), "version"),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), "incompatible"),
            (Error::AlertReceived(AlertDescription::UnknownCA), "distrusted"),
            (Error::AlertReceived(AlertDescription::UserCanceled), "alert"),
            (Error::DecryptError, "other"),
        ] {
            let text = format!("{error:?}");
            let failure = Failure::judge(&io::Error::new(io::ErrorKind::InvalidData, error));
            assert_eq!(failure.label(), label, "{text}");
        }
        assert_eq!(Failure::judge(&io::ErrorKind::UnexpectedEof.into()).label(), "closed");
        assert_eq!(Failure::judge(&io::Error::other("odd")).label(), "other");
    }

    #[test]
    fn a_scanner_gets_a_few_lines_and_then_one_a_second() {
        let (mut throttle, start) = (Throttle::default(), crate::clock::monotonic());
        let told = |throttle: &mut Throttle, at| (0..100).filter(|_| throttle.take(at).is_some()).count();
        assert_eq!(told(&mut throttle, start), TOLD_BURST as usize);
        assert_eq!(told(&mut throttle, start + Duration::from_millis(999)), 0);
        assert_eq!(throttle.take(start + Duration::from_secs(1)), Some(180));
        assert_eq!(throttle.take(start + Duration::from_secs(1)), None);
        assert_eq!(told(&mut throttle, start + Duration::from_secs(3600)), TOLD_BURST as usize);
    }
}
