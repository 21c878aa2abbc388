//! The CAs of `client_ca`, and who may have signed a list of the revoked.

use rustls::pki_types::TrustAnchor;

use super::{
    certificate::{Facts, date},
    distrust::Distrust,
    signature::PublicKey,
};

/// A CA of `client_ca`.
#[derive(Debug)]
pub(super) struct Ca {
    pub anchor: TrustAnchor<'static>,
    pub facts: Facts,
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

    /// Whether it is valid at this time.
    pub fn check_dates(&self, now_s: u64) -> Result<(), Distrust> {
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
