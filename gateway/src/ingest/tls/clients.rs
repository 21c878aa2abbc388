//! How clients' certificates are judged: by the CAs of `client_ca` and by the lists of `crl`, each list with the key that signed it.
//!
//! ```text
//!   client_ca ─▶ CAs, those that are expired left out ─▶ groups without two CAs of one name ─▶ a verifier each
//!   crl ─▶ lists ─▶ signed by one of these CAs? ─▶ to its group          no CA's name (an intermediate's): to all groups
//!                     └ no: not used, and told
//! ```
//! The TLS library chooses a list by its issuer's name, so while a CA is renewed under its name with a new key it would find the
//! wrong list for half of the clients: a verifier never sees two keys of one name. Every valid CA needs a list that it signed. A
//! list that is out of date is used on, with a warning: a gateway that nobody brings a new one must not lock everybody out.

use std::{collections::HashSet, path::Path, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject as _},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{
    ClientCert, TlsSettings,
    certificate::{self, CertificateId, Facts},
    files::{TlsCause, TlsError, TlsFile, certificates, sections},
    signature::PublicKey,
};
use crate::ingest::{reload, tls::certificate::date};

const WANTED_LIST: &str = "list of revoked certificates (X509 CRL)";

/// What is known of the clients' CAs.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// The expired ones included.
    pub cas: Vec<Facts>,
    pub revoked: HashSet<CertificateId>,
    /// When the first of the lists should have been renewed, in seconds since 1970.
    pub next_update_s: Option<u64>,
    /// Issuers of lists that no CA signed.
    pub unsigned: Vec<String>,
}

struct Ca {
    der: CertificateDer<'static>,
    facts: Facts,
}

/// A list of the revoked, and whose it is.
struct List {
    der: CertificateRevocationListDer<'static>,
    read: certificate::Revoked,
    /// The CA that signed it. `None`: no CA has its issuer's name, and the chain that a client sends has to show its key.
    signer: Option<PublicKey>,
}

type Verifier = Arc<dyn ClientCertVerifier>;

/// Reads and checks `client_ca`, which is `file`, and `crl`.
pub(super) fn clients(
    settings: &TlsSettings,
    file: &Path,
    now_s: u64,
    provider: &Arc<CryptoProvider>,
) -> Result<(Verifier, Clients), TlsError> {
    let cas = cas(file, now_s)?;
    let valid = || cas.iter().filter(|ca| ca.facts.not_after_s >= now_s);
    let (mut lists, mut unsigned) = (Vec::new(), Vec::new());
    if let Some(file) = &settings.crl {
        (lists, unsigned) = read_lists(file, &cas, provider)?;
        for ca in valid() {
            if lists.iter().any(|list| list.signer.as_ref() == Some(&ca.facts.key)) {
                continue;
            }
            let subject = ca.facts.subject.clone();
            let is_forged = unsigned.iter().any(|list| list.issuer == ca.facts.subject_der);
            let cause = if is_forged { TlsCause::ForgedList(subject) } else { TlsCause::NoList(subject) };
            return Err(settings.error(TlsFile::Crl, cause));
        }
    }
    let verifier = verifier(settings, &groups(valid()), &lists, provider)?;
    let next_update_s = lists.iter().filter_map(|list| list.read.next_update_s).min();
    let revoked = lists.into_iter().flat_map(|list| {
        let signer = list.signer;
        list.read.certificates.into_iter().map(move |id| id.of(signer.clone()))
    });
    let revoked = revoked.collect();
    let unsigned = unsigned.into_iter().map(|list| list.issuer_text).collect();
    Ok((
        verifier,
        Clients { cas: cas.into_iter().map(|ca| ca.facts).collect(), revoked, next_update_s, unsigned },
    ))
}

fn cas(file: &Path, now_s: u64) -> Result<Vec<Ca>, TlsError> {
    let error = |cause| TlsError { file: TlsFile::ClientCa, path: file.into(), cause };
    let mut cas = Vec::new();
    for der in certificates(file).map_err(error)? {
        let facts = certificate::facts(&der).map_err(|e| error(TlsCause::Der("certificate", e)))?;
        // What is trusted may sign, whatever it says of itself: a device's certificate here could make more of them.
        if !facts.is_ca {
            return Err(error(TlsCause::NoCa(facts.subject)));
        }
        cas.push(Ca { der, facts });
    }
    let last = cas.iter().map(|ca| ca.facts.not_after_s).max().unwrap_or_default();
    if last < now_s {
        return Err(error(TlsCause::NoValidCa(date(last).to_string())));
    }
    Ok(cas)
}

/// All lists with whose they are, and those that are of a CA by name and not by its key.
fn read_lists(
    file: &Path,
    cas: &[Ca],
    provider: &CryptoProvider,
) -> Result<(Vec<List>, Vec<certificate::Revoked>), TlsError> {
    let error = |cause| TlsError { file: TlsFile::Crl, path: file.into(), cause };
    let bytes = reload::read(file).map_err(|e| error(TlsCause::Unreadable(e)))?;
    let ders = sections(&bytes, WANTED_LIST, CertificateRevocationListDer::from_pem).map_err(error)?;
    let (mut lists, mut unsigned) = (Vec::new(), Vec::new());
    for der in ders {
        let read = certificate::revoked(&der).map_err(|e| error(TlsCause::Der(WANTED_LIST, e)))?;
        let named: Vec<_> = cas.iter().filter(|ca| ca.facts.subject_der == read.issuer).collect();
        let algorithms = &provider.signature_verification_algorithms;
        let signer = named.iter().find(|ca| ca.facts.key.signed(&der, algorithms));
        match signer {
            None if !named.is_empty() => unsigned.push(read),
            signer => lists.push(List { der, read, signer: signer.map(|ca| ca.facts.key.clone()) }),
        }
    }
    Ok((lists, unsigned))
}

/// The CAs in groups, in none of which two different keys have one name.
fn groups<'a>(cas: impl Iterator<Item = &'a Ca>) -> Vec<Vec<&'a Ca>> {
    let mut groups: Vec<Vec<&Ca>> = Vec::new();
    for ca in cas {
        let (name, key) = (&ca.facts.subject_der, &ca.facts.key);
        let fits = |group: &&mut Vec<&Ca>| {
            group.iter().all(|other| other.facts.subject_der != *name || other.facts.key == *key)
        };
        match groups.iter_mut().find(fits) {
            Some(group) => group.push(ca),
            None => groups.push(vec![ca]),
        }
    }
    groups
}

fn verifier(
    settings: &TlsSettings,
    groups: &[Vec<&Ca>],
    lists: &[List],
    provider: &Arc<CryptoProvider>,
) -> Result<Verifier, TlsError> {
    let mut verifiers = Vec::new();
    for group in groups {
        let mut roots = RootCertStore::empty();
        for ca in group {
            let rejected = |e: Error| settings.error(TlsFile::ClientCa, TlsCause::Rejected(e.to_string()));
            roots.add(ca.der.clone()).map_err(rejected)?;
        }
        let of_group = |list: &&List| {
            list.signer.as_ref().is_none_or(|signer| group.iter().any(|ca| ca.facts.key == *signer))
        };
        let lists = lists.iter().filter(of_group).map(|list| list.der.clone());
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).with_crls(lists);
        let builder = match settings.client_cert {
            ClientCert::Required => builder,
            ClientCert::Optional | ClientCert::None => builder.allow_unauthenticated(),
        };
        let rejected = |e: rustls::server::VerifierBuilderError| {
            settings.error(TlsFile::Crl, TlsCause::Rejected(e.to_string()))
        };
        verifiers.push(builder.build().map_err(rejected)?);
    }
    Ok(match verifiers.len() {
        1 => verifiers.swap_remove(0),
        _ => Arc::new(AnyOf::new(verifiers)),
    })
}

/// Takes a client that one of several verifiers takes.
#[derive(Debug)]
struct AnyOf {
    verifiers: Vec<Verifier>,
    hints: Vec<DistinguishedName>,
}

impl AnyOf {
    /// Of one at least.
    fn new(verifiers: Vec<Verifier>) -> Self {
        let hints = verifiers.iter().flat_map(|verifier| verifier.root_hint_subjects().to_vec()).collect();
        AnyOf { verifiers, hints }
    }
}

/// How much an error says of the client: of another CA's key it is a stranger.
fn weight(error: &Error) -> u8 {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => 0,
        Error::InvalidCertificate(CertificateError::BadSignature) => 1,
        _ => 2,
    }
}

impl ClientCertVerifier for AnyOf {
    fn client_auth_mandatory(&self) -> bool {
        self.verifiers.iter().all(|verifier| verifier.client_auth_mandatory())
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let mut worst = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for verifier in &self.verifiers {
            match verifier.verify_client_cert(own, between, now) {
                Ok(verified) => return Ok(verified),
                Err(error) if weight(&error) >= weight(&worst) => worst = error,
                Err(_) => {}
            }
        }
        Err(worst)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifiers[0].verify_tls12_signature(message, own, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifiers[0].verify_tls13_signature(message, own, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifiers[0].supported_verify_schemes()
    }
}
