//! What a certificate or a list of the revoked says, as far as a listener has to know it.
//!
//! Signatures, chains and purposes are judged by the TLS library; nothing read here is believed
//! before it has done so. A client's identity is its subject's common name, or, where there is
//! none, the first DNS name. It is judged by the rule of all names ([`check_name`]), here and
//! nowhere else in another way: an identity becomes part of topics and of log lines.

use std::sync::Arc;

use x509_cert::{
    Certificate, TbsCertificate,
    crl::CertificateList,
    der::{Decode as _, Encode as _, oid::AssociatedOid, oid::db::rfc4519, oid::db::rfc5280},
    ext::pkix::{
        BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, name::DirectoryString,
        name::GeneralName,
    },
};

use super::signature::PublicKey;
use crate::access::name::{BadName, check_name};
pub(super) use crate::pki::date;

/// Longest chain of certificates that a client may show, in bytes: it is kept as long as the client
/// is connected. One of a device has about 600 bytes, and one with RSA keys and an intermediate
/// 3,000.
pub(super) const CHAIN_BYTES_MAX: usize = 16 * 1024;

/// A certificate of our own or of a CA.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// For people.
    pub subject: String,
    pub not_before_s: u64,
    pub not_after_s: u64,
    /// It may be a server's.
    pub is_for_servers: bool,
    /// It says of itself that it is a CA.
    pub is_ca: bool,
    pub key: PublicKey,
}

/// A list of the revoked.
#[derive(Debug)]
pub(super) struct ListFacts {
    /// For people.
    pub issuer: String,
    /// When the next list was promised for, in seconds since 1970.
    pub next_update_s: Option<u64>,
}

/// Why a certificate gives no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoIdentity {
    #[error("it has neither a common name nor a DNS name")]
    Nameless,
    #[error("it has more than one common name")]
    Ambiguous,
    #[error("its name {0:?} is no identity: {1}")]
    Unusable(String, BadName),
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

/// Reads a certificate of our own or of a CA.
pub(super) fn facts(der: &[u8]) -> Result<Facts, String> {
    let certificate = Certificate::from_der(der).map_err(text)?;
    let tbs = certificate.tbs_certificate();
    let validity = tbs.validity();
    let usage = extension::<ExtendedKeyUsage>(tbs)?;
    let purposes = [rfc5280::ID_KP_SERVER_AUTH, rfc5280::ANY_EXTENDED_KEY_USAGE];
    Ok(Facts {
        subject: tbs.subject().to_string(),
        not_before_s: validity.not_before.to_unix_duration().as_secs(),
        not_after_s: validity.not_after.to_unix_duration().as_secs(),
        is_for_servers: usage.is_none_or(|usage| usage.0.iter().any(|purpose| purposes.contains(purpose))),
        key: PublicKey(tbs.subject_public_key_info().to_der().map_err(text)?.into()),
        is_ca: extension::<BasicConstraints>(tbs)?.is_some_and(|constraints| constraints.ca),
    })
}

/// Who a client is by its certificate.
pub(super) fn identity(der: &[u8]) -> Result<Arc<str>, NoIdentity> {
    let unreadable = |error| NoIdentity::Unreadable(text(error));
    let certificate = Certificate::from_der(der).map_err(unreadable)?;
    let tbs = certificate.tbs_certificate();
    let mut names = tbs.subject().iter().filter(|attribute| attribute.oid == rfc4519::COMMON_NAME);
    let name = match (names.next(), names.next()) {
        (Some(_), Some(_)) => return Err(NoIdentity::Ambiguous),
        (Some(name), None) => {
            DirectoryString::try_from(&name.value).map_err(unreadable)?.value().into_owned()
        }
        (None, _) => dns_name(tbs)?.ok_or(NoIdentity::Nameless)?,
    };
    if let Err(cause) = check_name(&name) {
        return Err(NoIdentity::Unusable(name, cause));
    }
    Ok(name.into())
}

/// Reads a list of the revoked.
pub(super) fn list(der: &[u8]) -> Result<ListFacts, String> {
    let list = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(der).map_err(text)?.tbs_cert_list;
    Ok(ListFacts {
        issuer: list.issuer.to_string(),
        next_update_s: list.next_update.map(|time| time.to_unix_duration().as_secs()),
    })
}

/// Whether a CA's certificate lets its key sign lists of the revoked: one that says nothing does.
pub(super) fn may_sign_lists(der: &[u8]) -> bool {
    let Ok(certificate) = Certificate::from_der(der) else { return false };
    let usage = extension::<KeyUsage>(certificate.tbs_certificate());
    usage.is_ok_and(|usage| usage.is_none_or(|usage| usage.crl_sign()))
}

fn dns_name(tbs: &TbsCertificate) -> Result<Option<String>, NoIdentity> {
    let names = extension::<SubjectAltName>(tbs).map_err(NoIdentity::Unreadable)?;
    let names = names.map(|names| names.0).unwrap_or_default();
    Ok(names.iter().find_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        _ => None,
    }))
}

fn extension<'a, T: x509_cert::der::Decode<'a, Error = x509_cert::der::Error> + AssociatedOid>(
    tbs: &'a TbsCertificate,
) -> Result<Option<T>, String> {
    Ok(tbs.get_extension::<T>().map_err(text)?.map(|(_, extension)| extension))
}

fn text(error: x509_cert::der::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    use super::*;
    use crate::access::name::NAME_BYTES_MAX;

    fn certificate(names: &[&str], dns: &[&str]) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(dns.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String((*name).into()));
        }
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_identity_is_the_common_name_else_the_first_dns_name_and_has_to_be_usable() {
        let (long, wide) = ("x".repeat(NAME_BYTES_MAX + 1), "ü".repeat(NAME_BYTES_MAX / 2 + 1));
        let unusable = |name: &str, cause| Err(NoIdentity::Unusable(name.into(), cause));
        for (names, dns, expected) in [
            (&["stall-3"][..], &["other.example"][..], Ok("stall-3")),
            (&[], &["a.example", "b.example"], Ok("a.example")),
            (&["Kühlraum-1"], &[], Ok("Kühlraum-1")),
            (&[], &[], Err(NoIdentity::Nameless)),
            (&["Kühlraum 1"], &[], unusable("Kühlraum 1", BadName::Character)),
            (&["it's"], &[], unusable("it's", BadName::Character)),
            (&["anonymous"], &[], unusable("anonymous", BadName::Reserved)),
            (&["$SYS"], &[], unusable("$SYS", BadName::Character)),
            (&["a/b"], &["a.example"], unusable("a/b", BadName::Character)),
            (&["+"], &[], unusable("+", BadName::Character)),
            (&["a#"], &[], unusable("a#", BadName::Character)),
            (&["a\0"], &[], unusable("a\0", BadName::Character)),
            (&["a\n"], &[], unusable("a\n", BadName::Character)),
            (&["a\u{202e}b"], &[], unusable("a\u{202e}b", BadName::Character)),
            (&[long.as_str()], &[], unusable(&long, BadName::TooLong)),
            (&[wide.as_str()], &[], unusable(&wide, BadName::TooLong)),
        ] {
            let found = identity(&certificate(names, dns)).map(|identity| identity.to_string());
            assert_eq!(found, expected.map(str::to_owned), "{names:?} {dns:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_are_an_error() {
        let good = certificate(&["a"], &[]);
        for length in [0, 1, 10, good.len() - 1] {
            assert!(matches!(identity(&good[..length]), Err(NoIdentity::Unreadable(_))));
            assert!(facts(&good[..length]).is_err() && list(&good[..length]).is_err());
        }
    }

    #[test]
    fn no_byte_that_is_changed_makes_a_reader_panic() {
        let good = certificate(&["stall-3"], &["a.example"]);
        for at in 0..good.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= change;
                let (_, _, _) = (identity(&bad), facts(&bad), list(&bad));
            }
        }
    }
}
