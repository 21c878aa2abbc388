//! What clients' certificates are judged by, from files: the CAs of `client_ca`, and the lists of
//! `crl`.
//!
//! ```text
//!   client_ca ─▶ CAs, whatever their dates ──────────────────────────────────┬─▶ Trust
//!   crl ─▶ lists ─▶ has each CA one that it signed? ──yes────────────────────┘
//!            │        └ no: refused
//!            ├ the name of a CA, and another key: never used, and told
//!            └ the name of no CA: an intermediate's, judged with the chains that show it
//! ```
//! Every CA that has not expired needs a list. That all of them are expired is no reason not to
//! start: everything else has to go on, and whoever comes with a certificate is refused by its
//! cause.

use std::{path::Path, sync::Arc};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateRevocationListDer, pem::PemObject as _},
};
use webpki::{CertRevocationList, OwnedCertRevocationList, anchor_from_trusted_cert};

use super::{
    authority::Ca,
    certificate,
    error::{TlsCause, TlsError, TlsFile},
    lists::List,
    settings::{ClientCert, TlsSettings},
    trust::Trust,
};
use crate::{
    pki::{FileFault, certificates, sections},
    reload,
};

const WANTED_LIST: &str = "list of revoked certificates (X509 CRL)";

/// What is known of the clients' CAs.
#[derive(Debug)]
pub(super) struct Clients {
    pub trust: Arc<Trust>,
    /// When the first of the lists should have been renewed, in seconds since 1970.
    pub next_update_s: Option<u64>,
    /// Issuers of lists that have a CA's name and not its signature.
    pub unsigned: Vec<String>,
    /// Issuers of lists that have no CA's name.
    pub unknown: Vec<String>,
}

/// The lists of `crl`, by what can be said of them without a client.
#[derive(Default)]
struct Lists {
    all: Vec<List>,
    next_update_s: Option<u64>,
    unsigned: Vec<String>,
    unknown: Vec<String>,
}

/// Reads and checks `client_ca`, which is `file`, and `crl`.
pub(super) fn clients(
    settings: &TlsSettings,
    file: &Path,
    now_s: u64,
    provider: &Arc<CryptoProvider>,
) -> Result<Clients, TlsError> {
    let cas = cas(file)?;
    let mut lists = Lists::default();
    if let Some(file) = &settings.crl {
        lists = read_lists(file, &cas, provider)?;
        for ca in cas.iter().filter(|ca| ca.facts.not_after_s >= now_s) {
            let issuer = ca.issuer();
            if lists.all.iter().any(|list| list.is_of(&issuer, provider)) {
                continue;
            }
            let subject = ca.facts.subject.clone();
            let is_forged = lists.all.iter().any(|list| list.is_named(&issuer) && !list.is_signed());
            let cause = if is_forged { TlsCause::ForgedList(subject) } else { TlsCause::NoList(subject) };
            return Err(settings.error(TlsFile::Crl, cause));
        }
    }
    let Lists { all, next_update_s, unsigned, unknown } = lists;
    let all = settings.crl.is_some().then_some(all);
    let is_required = settings.client_cert == ClientCert::Required;
    let trust = Arc::new(Trust::new(cas, all, provider.clone(), is_required));
    Ok(Clients { trust, next_update_s, unsigned, unknown })
}

fn cas(file: &Path) -> Result<Vec<Ca>, TlsError> {
    let error = |cause| TlsError { file: TlsFile::ClientCa, path: file.into(), cause };
    let mut cas = Vec::new();
    for der in certificates(file).map_err(|fault| error(fault.into()))? {
        let facts = certificate::facts(&der).map_err(|e| error(FileFault::Der("certificate", e).into()))?;
        // What is trusted may sign, whatever it says of itself: a device's certificate here could
        // make more of them.
        if !facts.is_ca {
            return Err(error(TlsCause::NoCa(facts.subject)));
        }
        let anchor = anchor_from_trusted_cert(&der);
        let anchor = anchor.map_err(|e| error(TlsCause::Rejected(e.to_string())))?.to_owned();
        cas.push(Ca { anchor, facts });
    }
    Ok(cas)
}

fn read_lists(file: &Path, cas: &[Ca], provider: &CryptoProvider) -> Result<Lists, TlsError> {
    let error = |cause| TlsError { file: TlsFile::Crl, path: file.into(), cause };
    let bytes = reload::read(file).map_err(|e| error(FileFault::Unreadable(e).into()))?;
    let ders = sections(&bytes, WANTED_LIST, CertificateRevocationListDer::from_pem)
        .map_err(|fault| error(fault.into()))?;
    let mut lists = Lists::default();
    for der in ders {
        let read = certificate::list(&der).map_err(|e| error(FileFault::Der(WANTED_LIST, e).into()))?;
        let owned = OwnedCertRevocationList::from_der(&der);
        let owned = owned.map_err(|e| error(TlsCause::Rejected(e.to_string())))?;
        let list = List::new(CertRevocationList::Owned(owned), der);
        let is_named = cas.iter().any(|ca| list.is_named(&ca.issuer()));
        let is_signed = cas.iter().any(|ca| list.is_of(&ca.issuer(), provider));
        if is_named && !is_signed {
            lists.unsigned.push(read.issuer);
        } else {
            let due = lists.next_update_s.into_iter().chain(read.next_update_s).min();
            lists.next_update_s = due;
            if !is_named {
                lists.unknown.push(read.issuer);
            }
        }
        lists.all.push(list);
    }
    Ok(lists)
}
