//! Sections of PEM files.

use std::path::Path;

use rustls::pki_types::{
    CertificateDer,
    pem::{PemObject, SectionKind},
};

use super::fault::FileFault;
use crate::reload;

/// All certificates of a file, one at least.
///
/// # Errors
/// [`FileFault`]
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let bytes = reload::read(file).map_err(FileFault::Unreadable)?;
    sections(&bytes, "certificate", CertificateDer::from_pem)
}

/// All sections of one kind, one at least.
///
/// # Errors
/// [`FileFault`]
pub fn sections<T>(
    bytes: &[u8],
    wanted: &'static str,
    take: impl Fn(SectionKind, Vec<u8>) -> Option<T>,
) -> Result<Vec<T>, FileFault> {
    let (mut found, mut taken) = (Vec::new(), Vec::new());
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        let (kind, der) = section.map_err(|_| FileFault::Pem)?;
        found.push(name(kind));
        taken.extend(take(kind, der));
    }
    if taken.is_empty() {
        found.dedup();
        let found = if found.is_empty() { "nothing in PEM".into() } else { found.join(", ") };
        return Err(FileFault::Kind { wanted, found });
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
