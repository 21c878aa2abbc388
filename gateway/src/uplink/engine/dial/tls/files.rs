//! From files to a configuration of the TLS library, with everything checked that can be before
//! there is a server.
//!
//! ```text
//!   ca, or the system's ─▶ roots ──────────────────────────────┐
//!   cert ─▶ chain ┐                                            ├─▶ ClientConfig, verifier
//!   key  ─▶ key ──┴▶ belong together ──────────────────────────┘
//! ```
//! Nothing of a key is in an error. A certificate that has expired, or is not valid yet, is used if
//! there is none better: the clock of a machine without network time may be wrong, and the server
//! says what it makes of it. The system's CAs are read when anything is loaded, and at SIGHUP.

use std::{
    hash::{DefaultHasher, Hasher as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
    crypto::ring,
    pki_types::CertificateDer,
    version::{TLS12, TLS13},
};

use super::settings::{KeyPair, TlsSettings};
use crate::pki::{FileFault, PrivateKey, Summary, certificates, date, early, expiry, private_key};

/// Which of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFile {
    /// `ca`, or the system's.
    Ca,
    /// `cert`
    Cert,
    /// `key`
    Key,
}

/// An uplink's TLS files cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub struct TlsError {
    /// Which one is wrong.
    pub file: TlsFile,
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it, and what to do.
    pub cause: TlsCause,
}

/// What is wrong with a file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsCause {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileFault),
    /// They do not belong together.
    #[error("the key does not belong to the certificate in {}; name the key that it was made with", .0.display())]
    Mismatch(PathBuf),
    /// The TLS library does not take it.
    #[error("it cannot be used: {0}")]
    Rejected(String),
    /// There is nobody to believe.
    #[error("this machine has no list of CAs{0}: install the package ca-certificates, or set tls.ca")]
    NoRoots(String),
    /// The one in use is better.
    #[error("the certificate expired on {0}; get a new one")]
    Expired(String),
    /// The one in use is better.
    #[error("the certificate is not valid before {0}; it is taken then, if this machine's clock is right")]
    NotYetValid(String),
}

/// What is used until the next load.
#[derive(Debug)]
pub struct Loaded {
    pub config: Arc<ClientConfig>,
    pub verifier: Arc<WebPkiServerVerifier>,
    /// Our own certificate.
    pub own: Option<Arc<Summary>>,
    /// Of all that was read.
    pub fingerprint: u64,
    /// The CAs of `ca`.
    cas: Vec<Summary>,
    /// The group may read the key.
    is_key_shared: bool,
}

/// Reads and checks all files.
pub fn load(settings: &TlsSettings) -> Result<Loaded, TlsError> {
    let error = |file, path: &Path, cause| TlsError { file, path: path.into(), cause };
    let ca_path = settings.ca.clone().unwrap_or_else(|| "tls".into());
    let ca_error = |cause| error(TlsFile::Ca, &ca_path, cause);
    let mut hasher = DefaultHasher::new();
    let (roots, cas) = match &settings.ca {
        Some(file) => roots(file, &mut hasher).map_err(ca_error)?,
        None => (system_roots(&mut hasher).map_err(ca_error)?, Vec::new()),
    };
    let provider = Arc::new(ring::default_provider());
    let rejected = |error: rustls::Error| TlsCause::Rejected(error.to_string());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| ca_error(TlsCause::Rejected(e.to_string())))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|e| ca_error(rejected(e)))?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone());
    let (mut config, mut own, mut is_key_shared) = (None, None, false);
    if let Some(KeyPair { cert, key }) = &settings.client {
        let chain = certificates(cert).map_err(|fault| error(TlsFile::Cert, cert, fault.into()))?;
        put(&chain, &mut hasher);
        let unreadable = || FileFault::Der("certificate", "it is no X.509".to_owned()).into();
        let summary = Summary::of(&chain[0]).ok_or_else(|| error(TlsFile::Cert, cert, unreadable()))?;
        own = Some(Arc::new(summary));
        let read = private_key(key).map_err(|fault| error(TlsFile::Key, key, fault.into()))?;
        let PrivateKey { der, is_shared } = read;
        hasher.write(der.secret_der());
        is_key_shared = is_shared;
        let with_key = builder.clone().with_client_auth_cert(chain, der).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => error(TlsFile::Key, key, TlsCause::Mismatch(cert.clone())),
            e => error(TlsFile::Key, key, rejected(e)),
        })?;
        config = Some(with_key);
    }
    let mut config = config.unwrap_or_else(|| builder.with_no_client_auth());
    config.alpn_protocols = settings.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    config.resumption = Resumption::disabled();
    let fingerprint = hasher.finish();
    Ok(Loaded { config: Arc::new(config), verifier, own, fingerprint, cas, is_key_shared })
}

/// Whether what was loaded is to replace what is in use.
pub fn judge_new(settings: &TlsSettings, used: &Loaded, new: &Loaded, now_s: u64) -> Result<(), TlsError> {
    let (Some(pair), Some(used), Some(new)) = (&settings.client, &used.own, &new.own) else { return Ok(()) };
    let is_used_good = used.not_before_s <= now_s && now_s <= used.not_after_s;
    let cause = if !is_used_good {
        return Ok(());
    } else if new.not_after_s < now_s {
        TlsCause::Expired(date(new.not_after_s).to_string())
    } else if new.not_before_s > now_s {
        TlsCause::NotYetValid(date(new.not_before_s).to_string())
    } else {
        return Ok(());
    };
    Err(TlsError { file: TlsFile::Cert, path: pair.cert.clone(), cause })
}

impl Loaded {
    /// What is wrong, or will be before long, and is used all the same.
    pub fn warnings(&self, settings: &TlsSettings, wall_ms: u64) -> Vec<String> {
        let now_s = wall_ms / 1000;
        let mut said = Vec::new();
        for ca in &self.cas {
            let what = format!("the CA \"{}\" in tls.ca", ca.subject);
            said.extend(expiry(&what, ca.not_after_s, now_s));
        }
        if let (Some(pair), Some(own)) = (&settings.client, &self.own) {
            let what = format!("the certificate {}", pair.cert.display());
            said.extend(expiry(&what, own.not_after_s, now_s));
            said.extend(early(&what, own.not_before_s, now_s));
            if self.is_key_shared {
                said.push(format!("its group may read the key {}: chmod 600 it", pair.key.display()));
            }
        }
        said
    }
}

fn roots(file: &Path, hasher: &mut DefaultHasher) -> Result<(RootCertStore, Vec<Summary>), TlsCause> {
    let ders = certificates(file)?;
    put(&ders, hasher);
    let (mut roots, mut cas) = (RootCertStore::empty(), Vec::new());
    for der in ders {
        cas.extend(Summary::of(&der));
        roots.add(der).map_err(|error| TlsCause::Rejected(error.to_string()))?;
    }
    Ok((roots, cas))
}

fn system_roots(hasher: &mut DefaultHasher) -> Result<RootCertStore, TlsCause> {
    let found = rustls_native_certs::load_native_certs();
    let certs: Vec<CertificateDer<'_>> = found.certs;
    put(&certs, hasher);
    let mut roots = RootCertStore::empty();
    // Some of a system's are old, and of a kind that nobody believes any more.
    let (taken, _) = roots.add_parsable_certificates(certs);
    if taken == 0 {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(TlsCause::NoRoots(why));
    }
    Ok(roots)
}

fn put(ders: &[CertificateDer<'_>], hasher: &mut DefaultHasher) {
    ders.iter().for_each(|der| hasher.write(der));
}
