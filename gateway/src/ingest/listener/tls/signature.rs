//! Whether a key signed a certificate or a list of the revoked: what tells two CAs of one name
//! apart.
//!
//! Both are a sequence of what is signed, the algorithm and the signature (RFC 5280, 4.1 and 5.1),
//! and are checked as the TLS library checks them, with the algorithms that it has. It judges
//! nothing else: no date, no purpose, no chain.

use rustls::crypto::WebPkiSupportedAlgorithms;
use x509_cert::der::{
    Decode as _, Reader as _, SliceReader,
    asn1::{AnyRef, BitStringRef},
};

/// Tag of a SEQUENCE in DER.
const SEQUENCE: u8 = 0x30;

/// A public key, as the DER of its SubjectPublicKeyInfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey(pub Box<[u8]>);

impl PublicKey {
    /// Whether this key signed what `der` is.
    pub fn signed(&self, der: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> bool {
        self.check(der, algorithms).unwrap_or(false)
    }

    /// `None`: it cannot be read.
    fn check(&self, der: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> Option<bool> {
        let mut parts = SliceReader::new(sequence(der)?).ok()?;
        let message = parts.tlv_bytes().ok()?;
        let by = sequence(parts.tlv_bytes().ok()?)?;
        let signature = BitStringRef::from_der(parts.tlv_bytes().ok()?).ok()?.as_bytes()?;
        let mut parts = SliceReader::new(sequence(&self.0)?).ok()?;
        let kind = sequence(parts.tlv_bytes().ok()?)?;
        let key = BitStringRef::from_der(parts.tlv_bytes().ok()?).ok()?.as_bytes()?;
        let mut fitting = algorithms.all.iter().filter(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == kind && algorithm.signature_alg_id().as_ref() == by
        });
        Some(fitting.any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok()))
    }
}

/// What is in a sequence.
fn sequence(der: &[u8]) -> Option<&[u8]> {
    let is_sequence = der.first() == Some(&SEQUENCE);
    is_sequence.then(|| AnyRef::from_der(der).ok()).flatten().map(|any| any.value())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::crypto::ring;

    use crate::ingest::listener::tls::certificate;

    #[test]
    fn a_key_signed_what_it_signed_and_nothing_else() {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        let made = || CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (mine, other) = (made(), made());
        let key = certificate::facts(mine.der()).unwrap().key;
        assert!(key.signed(mine.der(), &algorithms));
        assert!(!key.signed(other.der(), &algorithms), "the same name, and another key");
        for at in 0..mine.der().len() {
            let mut bad = mine.der().to_vec();
            bad[at] ^= 1;
            assert!(!key.signed(&bad, &algorithms), "byte {at}");
        }
    }
}
