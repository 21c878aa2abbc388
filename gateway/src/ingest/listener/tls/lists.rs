//! Lists of the revoked: which of them count for a chain, and whether they name anything in it.
//!
//! ```text
//!   path: client ◀─ intermediate ◀─ ... ◀─ CA     each arrow: signed by
//!     each issuer ─▶ its lists, by name and key ─▶ is what it signed in the path on one of them?
//!                      └ none: refused, as nobody knows
//! ```
//! A signature of a list is checked once for each key, and not at every handshake: a list of
//! 100,000 has 4 MB. A list with an issuing distribution point is for a part of what its issuer
//! signed; whether it is for what is in the path is left to the TLS library, which checks all of it
//! anew.

use std::slice;

use parking_lot::Mutex;
use rustls::{
    CertificateError, Error,
    crypto::CryptoProvider,
    pki_types::{CertificateRevocationListDer, UnixTime},
};
use webpki::{Cert, CertRevocationList, KeyUsage, RevocationOptionsBuilder, VerifiedPath};

use super::{
    authority::{Ca, Issuer},
    certificate,
    distrust::{Distrust, library, subject, words},
    signature::PublicKey,
};

/// Keys that are remembered to have signed a list or not: of intermediates in good paths, so their
/// CAs say how many there are.
const JUDGED_KEYS_MAX: usize = 16;

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

/// Whether nothing of a path that is good otherwise is revoked, and everything could be on a list.
pub(super) fn check(
    lists: &[List],
    ca: &Ca,
    path: &VerifiedPath<'_>,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), Error> {
    let between: Vec<&Cert<'_>> = path.intermediate_certificates().collect();
    let key = |cert: &&Cert<'_>| PublicKey(cert.subject_public_key_info().as_ref().into());
    let keys: Vec<_> = between.iter().map(key).collect();
    let issuers = between.iter().zip(&keys).map(|(cert, key)| Issuer { name: cert.subject(), key });
    let mut below: &Cert<'_> = path.end_entity();
    let (mut used, mut missing) = (Vec::new(), None);
    for (at, issuer) in issuers.chain([ca.issuer()]).enumerate() {
        let own = || lists.iter().filter(|list| list.is_of(&issuer, provider)).map(|list| &list.list);
        if own().any(|list| list.issuing_distribution_point().is_none() && names(list, below)) {
            let is_device = at == 0;
            let between = || words(Distrust::BetweenRevoked(subject(&below.der())));
            return Err(if is_device { CertificateError::Revoked.into() } else { between() });
        }
        let signer = between.get(at);
        if own().next().is_none() {
            let name = signer.map_or_else(|| ca.facts.subject.clone(), |cert| subject(&cert.der()));
            let is_forged = lists.iter().any(|list| list.is_named(&issuer) && !list.is_signed());
            missing = Some(if is_forged { Distrust::ForgedList(name) } else { Distrust::NoList(name) });
        }
        used.extend(own());
        if let Some(signer) = signer {
            if !certificate::may_sign_lists(&signer.der()) {
                return Err(library(webpki::Error::IssuerNotCrlSigner));
            }
            below = signer;
        }
    }
    // That something is revoked says more than that a list is missing.
    if let Some(missing) = missing {
        return Err(words(missing));
    }
    if used.iter().all(|list| list.issuing_distribution_point().is_none()) {
        return Ok(());
    }
    check_parts(&used, ca, path, now, provider)
}

/// Whether a list has a certificate of its issuer.
fn names(list: &CertRevocationList<'_>, cert: &Cert<'_>) -> bool {
    // A list that is kept as it is here was read whole, so none of its entries is an error.
    !matches!(list.find_serial(cert.serial()), Ok(None))
}

/// As [`check`], by the TLS library.
fn check_parts(
    lists: &[&CertRevocationList<'_>],
    ca: &Ca,
    path: &VerifiedPath<'_>,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), Error> {
    let Ok(options) = RevocationOptionsBuilder::new(lists) else { return Ok(()) };
    let between: Vec<_> = path.intermediate_certificates().map(Cert::der).collect();
    let judged = path.end_entity().verify_for_usage(
        provider.signature_verification_algorithms.all,
        slice::from_ref(&ca.anchor),
        &between,
        now,
        KeyUsage::client_auth(),
        Some(options.build()),
        None,
    );
    judged.map(drop).map_err(library)
}
