//! A small certificate authority for the tests, and the files that it writes.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidegate::clock;

const DAY_S: i64 = 24 * 3600;

/// Seconds since 1970, so many days from now.
pub fn days(days: i64) -> u64 {
    u64::try_from(clock::wall_ms() as i64 / 1000 + days * DAY_S).unwrap()
}

/// So many days from now, as a time of a crate that is not ours to name.
macro_rules! at {
    ($from_now:expr) => {
        at_s!(days($from_now))
    };
}

/// So many seconds since 1970.
macro_rules! at_s {
    ($s:expr) => {
        date_time_ymd(1970, 1, 1) + Duration::from_secs($s)
    };
}

/// What a certificate is to say.
#[derive(Clone)]
pub struct Wish {
    pub name: Option<&'static str>,
    pub serial: u64,
    /// From and to, in days from now.
    pub valid: (i64, i64),
    pub usage: ExtendedKeyUsagePurpose,
}

impl Wish {
    pub fn client(name: &'static str, serial: u64) -> Self {
        Wish { name: Some(name), serial, valid: (-1, 90), usage: ExtendedKeyUsagePurpose::ClientAuth }
    }

    pub fn server(serial: u64) -> Self {
        Wish { usage: ExtendedKeyUsagePurpose::ServerAuth, ..Wish::client("gateway", serial) }
    }
}

/// A certificate with its key.
pub struct Pair {
    pub certificate: Certificate,
    pub key: KeyPair,
}

impl Pair {
    pub fn der(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        (self.certificate.der().clone(), PrivateKeyDer::try_from(self.key.serialize_der()).unwrap())
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        fs::write(&cert, self.certificate.pem()).unwrap();
        fs::write(&key, self.key.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        (cert, key)
    }
}

pub struct Ca {
    pub certificate: Certificate,
    params: CertificateParams,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub fn new(name: &str, valid: (i64, i64)) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority(name, (days(valid.0), days(valid.1)));
        let certificate = params.self_signed(&key).unwrap();
        Ca { certificate, params: params.clone(), issuer: Issuer::new(params, key) }
    }

    /// This CA with other dates, from and to in seconds since 1970: the same name and key.
    pub fn dated(&self, valid_s: (u64, u64)) -> String {
        let mut params = self.params.clone();
        (params.not_before, params.not_after) = (at_s!(valid_s.0), at_s!(valid_s.1));
        params.self_signed(self.issuer.key()).unwrap().pem()
    }

    /// A CA that this one signed, good until `end_s` in seconds since 1970.
    pub fn authorize(&self, name: &str, serial: u64, end_s: u64) -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = authority(name, (days(-1), end_s));
        params.serial_number = Some(serial.into());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Ca { certificate, params: params.clone(), issuer: Issuer::new(params, key) }
    }

    pub fn sign(&self, wish: Wish) -> Pair {
        let end_s = days(wish.valid.1);
        self.sign_until(wish, end_s)
    }

    /// Signs a certificate that is good until `end_s` in seconds since 1970.
    pub fn sign_until(&self, wish: Wish, end_s: u64) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(match wish.usage {
            ExtendedKeyUsagePurpose::ServerAuth => vec!["localhost".to_owned()],
            _ => vec![],
        })
        .unwrap();
        params.distinguished_name = named(wish.name);
        params.serial_number = Some(wish.serial.into());
        (params.not_before, params.not_after) = (at!(wish.valid.0), at_s!(end_s));
        params.extended_key_usages = vec![wish.usage];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate, key }
    }

    /// A list of revoked serial numbers, due to be renewed in so many days.
    pub fn revoke(&self, serials: &[u64], due: i64) -> String {
        self.revoke_of(serials, due, None)
    }

    /// As above, of a part of what it signs.
    pub fn revoke_of(&self, serials: &[u64], due: i64, scope: Option<CrlScope>) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: at!(-1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: at!(-2),
            next_update: at!(due),
            crl_number: 1.into(),
            issuing_distribution_point: scope.map(|scope| CrlIssuingDistributionPoint {
                distribution_point: CrlDistributionPoint { uris: vec!["http://crl.example".into()] },
                scope: Some(scope),
            }),
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn authority(name: &str, valid_s: (u64, u64)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(Some(name));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (at_s!(valid_s.0), at_s!(valid_s.1));
    params
}

fn named(name: Option<&str>) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    if let Some(name) = name {
        distinguished.push(DnType::CommonName, name);
    }
    distinguished
}
