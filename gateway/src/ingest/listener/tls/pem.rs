//! Sections of PEM files.

use std::path::Path;

use rustls::pki_types::{
    CertificateDer,
    pem::{PemObject, SectionKind},
};

use super::error::TlsCause;
use crate::reload;

/// All certificates of a file, one at least.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsCause> {
    let bytes = reload::read(file).map_err(TlsCause::Unreadable)?;
    sections(&bytes, "certificate", CertificateDer::from_pem)
}

/// All sections of one kind, one at least.
pub(super) fn sections<T>(
    bytes: &[u8],
    wanted: &'static str,
    take: impl Fn(SectionKind, Vec<u8>) -> Option<T>,
) -> Result<Vec<T>, TlsCause> {
    let (mut found, mut taken) = (Vec::new(), Vec::new());
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        let (kind, der) = section.map_err(|_| TlsCause::Pem)?;
        found.push(name(kind));
        taken.extend(take(kind, der));
    }
    if taken.is_empty() {
        found.dedup();
        let found = if found.is_empty() { "nothing in PEM".into() } else { found.join(", ") };
        return Err(TlsCause::Kind { wanted, found });
    }
    Ok(taken)
}

fn name(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::Certificate => "a certificate",
        SectionKind::PublicKey => "a public key",
        SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey => "a private key",
        SectionKind::Crl => "a list of revoked certificates",
        SectionKind::Csr => "a certificate request",
        _ => "something else",
    }
}
