//! What a certificate says of itself, for people: nothing here is proved.
//!
//! Limits: [`NAMES_SHOWN`] names of [`NAME_CHARS_SHOWN`] characters. Characters that a terminal
//! might act on are escaped.

use std::{fmt, time::Duration};

use x509_cert::{
    Certificate,
    der::Decode as _,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use crate::printable;

/// So many names are shown.
const NAMES_SHOWN: usize = 8;
/// Longest name that is shown whole, in characters.
const NAME_CHARS_SHOWN: usize = 128;

/// Whose a certificate is, and until when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// From when on it is good, in seconds since 1970.
    pub not_before_s: u64,
    /// Until when it is good, in seconds since 1970.
    pub not_after_s: u64,
}

impl Summary {
    /// Reads a certificate; `None` if it cannot be read.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let tbs = certificate.tbs_certificate();
        let names = tbs.get_extension::<SubjectAltName>().ok().flatten().map(|(_, names)| names.0);
        let names = names.iter().flatten().filter_map(name).take(NAMES_SHOWN);
        Some(Self {
            subject: shown(&tbs.subject().to_string()),
            issuer: shown(&tbs.issuer().to_string()),
            names: names.map(|name| shown(&name)).collect(),
            not_before_s: tbs.validity().not_before.to_unix_duration().as_secs(),
            not_after_s: tbs.validity().not_after.to_unix_duration().as_secs(),
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, issuer, names, not_after_s, .. } = self;
        let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
        write!(f, "of \"{subject}\", signed by \"{issuer}\", for {names}, good until {}", date(*not_after_s))
    }
}

/// A time for people.
pub fn date(s: u64) -> impl fmt::Display {
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_secs(s))
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => match *bytes.as_bytes() {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            ref bytes => Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        },
        _ => None,
    }
}

fn shown(text: &str) -> String {
    let part: String = text.chars().take(NAME_CHARS_SHOWN).collect();
    printable::line(&part).into_owned()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn der(common_name: &str, names: &[&str]) -> Vec<u8> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_is_shown_with_subject_issuer_names_and_end() {
        let summary = Summary::of(&der("cloud", &["a.example", "10.0.0.1", "::1"])).unwrap();
        assert_eq!(
            summary.to_string(),
            "of \"CN=cloud\", signed by \"CN=cloud\", for a.example, 10.0.0.1, ::1, good until 2031-02-03T00:00:00Z"
        );
    }

    #[test]
    fn what_a_terminal_might_act_on_is_escaped_and_a_long_name_cut() {
        let summary = Summary::of(&der(&format!("a\u{1b}[31m{}", "x".repeat(200)), &[])).unwrap();
        assert!(!summary.subject.contains('\u{1b}') && summary.subject.len() < 160, "{summary}");
        assert!(summary.to_string().contains("for no name"), "{summary}");
        assert_eq!(Summary::of(b"no certificate"), None);
    }
}
