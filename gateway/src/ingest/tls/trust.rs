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
//! dates. So a path is looked for to one CA at a time, and only those lists are given to the
//! library that the keys of this path signed: a list in a CA's or an intermediate's name that it
//! did not sign is as good as none. Every issuer in a path needs a list if there is `crl` at all. A
//! list that is out of date is used on: a gateway that nobody brings a new one must not lock
//! everybody out.
//!
//! Time is an argument. Limits: a chain of [`CHAIN_BYTES_MAX`]; the library's own of signatures and
//! paths that are tried, for each CA that has the name of an issuer in the chain.

use std::{cell::RefCell, slice, sync::Arc};

use parking_lot::Mutex;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use webpki::{Cert, CertRevocationList, EndEntityCert, KeyUsage, RevocationOptionsBuilder, VerifiedPath};

use super::{
    certificate::{self, Facts, date},
    signature::PublicKey,
};
use crate::printable;

/// Longest chain of certificates that a client may show, in bytes: it is kept as long as the client
/// is connected. One of a device has about 600 bytes, and one with RSA keys and an intermediate
/// 3,000.
pub(super) const CHAIN_BYTES_MAX: usize = 16 * 1024;
/// Keys that are remembered to have signed a list or not: of intermediates in good paths, so their
/// CAs say how many there are.
const JUDGED_KEYS_MAX: usize = 16;

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

/// A CA of `client_ca`.
#[derive(Debug)]
pub(super) struct Ca {
    pub anchor: TrustAnchor<'static>,
    pub facts: Facts,
}

/// A list of the revoked.
#[derive(Debug)]
pub(super) struct List {
    pub list: CertRevocationList<'static>,
    pub der: CertificateRevocationListDer<'static>,
    /// Keys of which it is known whether they signed it.
    judged: Mutex<Vec<(PublicKey, bool)>>,
}

impl List {
    pub fn new(list: CertRevocationList<'static>, der: CertificateRevocationListDer<'static>) -> Self {
        List { list, der, judged: Mutex::default() }
    }

    /// Whether it has this issuer's name.
    pub fn is_named(&self, issuer: &Issuer<'_>) -> bool {
        self.list.issuer() == issuer.name
    }

    /// Whether a key is known that signed it.
    pub fn is_signed(&self) -> bool {
        self.judged.lock().iter().any(|(_, is_signed)| *is_signed)
    }

    /// Whether it is this issuer's by name and key.
    pub fn is_of(&self, issuer: &Issuer<'_>, provider: &CryptoProvider) -> bool {
        if !self.is_named(issuer) {
            return false;
        }
        let mut judged = self.judged.lock();
        if let Some((_, is_signed)) = judged.iter().find(|(key, _)| key == issuer.key) {
            return *is_signed;
        }
        let is_signed = issuer.key.signed(&self.der, &provider.signature_verification_algorithms);
        if judged.len() < JUDGED_KEYS_MAX {
            judged.push((issuer.key.clone(), is_signed));
        }
        is_signed
    }
}

/// Whose a list may be.
pub(super) struct Issuer<'a> {
    /// As the library gives it: the content of its DER.
    pub name: &'a [u8],
    pub key: &'a PublicKey,
}

impl Ca {
    pub fn issuer(&self) -> Issuer<'_> {
        Issuer { name: &self.anchor.subject, key: &self.facts.key }
    }

    fn check_dates(&self, now_s: u64) -> Result<(), Distrust> {
        let Facts { subject, not_before_s, not_after_s, .. } = &self.facts;
        if *not_after_s < now_s {
            return Err(Distrust::CaExpired(subject.clone(), date(*not_after_s).to_string()));
        }
        if *not_before_s > now_s {
            return Err(Distrust::CaNotYetValid(subject.clone(), date(*not_before_s).to_string()));
        }
        Ok(())
    }
}

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
            let listed =
                || self.lists.as_ref().map_or(Ok(()), |lists| self.check_lists(lists, ca, path, now));
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

    /// Whether nothing of a path that is good otherwise is revoked.
    fn check_lists(
        &self,
        lists: &[List],
        ca: &Ca,
        path: &VerifiedPath<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let between: Vec<&Cert<'_>> = path.intermediate_certificates().collect();
        let keys: Vec<_> =
            between.iter().map(|cert| PublicKey(cert.subject_public_key_info().as_ref().into())).collect();
        let issuer = |(cert, key): (&&Cert<'_>, _)| (cert.subject().to_vec(), key);
        let named: Vec<_> = between.iter().zip(&keys).map(issuer).collect();
        let issuers = named.iter().map(|(name, key)| Issuer { name, key }).chain([ca.issuer()]);
        let mut used = Vec::new();
        let mut missing = None;
        for (at, issuer) in issuers.enumerate() {
            let own = lists.iter().filter(|list| list.is_of(&issuer, &self.provider)).map(|list| &list.list);
            let own: Vec<_> = own.collect();
            // What this issuer signed in the path, if that is no device's.
            let below = at.checked_sub(1).map(|below| between[below]);
            if let Some(below) = below
                && own.iter().any(|list| matches!(list.find_serial(below.serial()), Ok(Some(_))))
            {
                return Err(words(Distrust::BetweenRevoked(subject(&below.der()))));
            }
            if own.is_empty() {
                let name =
                    between.get(at).map_or_else(|| ca.facts.subject.clone(), |cert| subject(&cert.der()));
                let is_forged = lists.iter().any(|list| list.is_named(&issuer) && !list.is_signed());
                missing = Some(if is_forged { Distrust::ForgedList(name) } else { Distrust::NoList(name) });
            }
            used.extend(own);
        }
        // That something is revoked says more than that a list is missing.
        if let Some(missing) = missing {
            return Err(words(missing));
        }
        let Ok(options) = RevocationOptionsBuilder::new(&used) else { return Ok(()) };
        let ders: Vec<_> = between.iter().map(|cert| cert.der()).collect();
        let judged = path.end_entity().verify_for_usage(
            self.provider.signature_verification_algorithms.all,
            slice::from_ref(&ca.anchor),
            &ders,
            now,
            KeyUsage::client_auth(),
            Some(options.build()),
            None,
        );
        judged.map(drop).map_err(library)
    }
}

fn words(distrust: Distrust) -> Error {
    CertificateError::Other(OtherError(Arc::new(distrust))).into()
}

/// For people. What is read here is in a path that is good, and still was not written by this
/// house.
fn subject(der: &[u8]) -> String {
    let subject = certificate::facts(der).map(|facts| facts.subject);
    subject.map_or_else(|_| "without a name".into(), |subject| printable::line(&subject).into_owned())
}

/// The library says when a certificate of the chain expired, and not which one.
fn dated(error: webpki::Error, own: &EndEntityCert<'_>, between: &[CertificateDer<'_>]) -> Error {
    let webpki::Error::CertExpired { time, .. } = &error else { return library(error) };
    let is_over = |facts: &Facts| facts.not_after_s < time.as_secs();
    if certificate::facts(&own.der()).is_ok_and(|own| is_over(&own)) {
        return library(error);
    }
    let expired = between.iter().filter_map(|der| certificate::facts(der).ok()).find(is_over);
    expired.map_or_else(
        || library(error),
        |facts| {
            let subject = printable::line(&facts.subject).into_owned();
            words(Distrust::BetweenExpired(subject, date(facts.not_after_s).to_string()))
        },
    )
}

/// As the TLS library has it: by this it chooses the alert that the client gets.
fn library(error: webpki::Error) -> Error {
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
