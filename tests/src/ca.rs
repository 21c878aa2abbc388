//! A certificate authority for benchmarks and scenarios: P-256 keys, servers, clients that are
//! called by their CN.
//!
//! It revokes nothing and its certificates do not expire.

use std::{io, os::unix::fs::OpenOptionsExt as _, path::Path};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::dial::Certified;

/// Who signs.
#[derive(Debug)]
pub struct Ca {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Pair {
    certificate: Certificate,
    key: KeyPair,
}

impl Ca {
    /// A new one.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn new() -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Benchmark CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// For a server called `localhost`.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn server(&self) -> Result<Pair, Error> {
        self.server_called("localhost")
    }

    /// For a server of this name.
    ///
    /// # Errors
    /// There are no random numbers, or the name is none.
    pub fn server_called(&self, host: &str) -> Result<Pair, Error> {
        self.sign(host, vec![host.into()], ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a client.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn client(&self, name: &str) -> Result<Pair, Error> {
        self.sign(name, vec![], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, name: &str, hosts: Vec<String>, usage: ExtendedKeyUsagePurpose) -> Result<Pair, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate, key })
    }

    /// Its certificate.
    #[must_use]
    pub fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    /// Writes its certificate.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        std::fs::write(file, self.certificate.pem())
    }
}

impl Pair {
    /// As rustls takes it.
    #[must_use]
    pub fn der(&self) -> Certified {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        (self.certificate.der().clone(), key)
    }

    /// Writes both; the key is for the owner alone.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, certificate: &Path, key: &Path) -> io::Result<()> {
        use std::io::Write as _;
        std::fs::write(certificate, self.certificate.pem())?;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(key)?;
        file.write_all(self.key.serialize_pem().as_bytes())
    }
}
