//! A certificate authority for benchmarks and scenarios: P-256 keys, servers, clients that are
//! called by their CN. Its certificates do not expire, but for those that are to.

use std::{io, os::unix::fs::OpenOptionsExt as _, path::Path};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType, Error,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
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
        Self::named("Benchmark CA")
    }

    /// A new one of this name.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn named(name: &str) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
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
        self.sign(host, vec![host.into()], ExtendedKeyUsagePurpose::ServerAuth, None, None)
    }

    /// For a server called `localhost`, valid from the first day of one year to that of another.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn server_valid(&self, from: i32, to: i32) -> Result<Pair, Error> {
        let hosts = vec!["localhost".into()];
        self.sign("localhost", hosts, ExtendedKeyUsagePurpose::ServerAuth, None, Some((from, to)))
    }

    /// For a client.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn client(&self, name: &str) -> Result<Pair, Error> {
        self.sign(name, vec![], ExtendedKeyUsagePurpose::ClientAuth, None, None)
    }

    /// For a client, with this serial number.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn client_numbered(&self, name: &str, serial: u64) -> Result<Pair, Error> {
        self.sign(name, vec![], ExtendedKeyUsagePurpose::ClientAuth, Some(serial), None)
    }

    /// A list with these serial numbers, in PEM.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn revoke(&self, serials: &[u64]) -> Result<String, Error> {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer)?.pem()
    }

    fn sign(
        &self,
        name: &str,
        hosts: Vec<String>,
        usage: ExtendedKeyUsagePurpose,
        serial: Option<u64>,
        years: Option<(i32, i32)>,
    ) -> Result<Pair, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(hosts)?;
        params.serial_number = serial.map(SerialNumber::from);
        if let Some((from, to)) = years {
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        }
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
