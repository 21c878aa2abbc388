//! From files to a configuration of the TLS library, with everything checked that can be before a
//! client comes.
//!
//! ```text
//!   cert ─▶ chain, for servers ────────┐
//!   key  ─▶ not for everybody to read ─┴▶ belong together ─┐
//!   client_ca, crl ─▶ see `clients` ───────────────────────┴─▶ ServerConfig
//! ```
//! Nothing of a key is in an error. A certificate that is not valid yet is taken, as a machine
//! without network time starts with a wrong clock; so is one that has expired, as everything else
//! has to go on: a client that looks refuses it, and new lists of the revoked are loaded beside it.
//! Both are warned of. Nor does a client_ca without a CA that is valid now keep anything from
//! starting. Sessions are resumed on listeners without client certificates only: the library would
//! not ask again whether a certificate is still good.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, UnixTime},
    server::{NoServerSessionStorage, ServerSessionMemoryCache},
    version::{TLS12, TLS13},
};

use super::{
    certificate::{self, Facts},
    clients::{Clients, clients},
    error::{TlsCause, TlsError, TlsFile},
    failure::Failure,
    live::Chain,
    settings::{ClientCert, TlsSettings},
};
use crate::pki::{FileFault, PrivateKey, certificates, private_key};

/// Sessions that can be resumed, per listener: about 1 KB each.
const RESUMABLE_MAX: usize = 1024;
/// What a TLS record begins with: RFC 8446 section 5.1.
const RECORD_HEAD_BYTES: usize = 5;

/// What is used until the next load.
pub(super) struct Loaded {
    pub config: Arc<ServerConfig>,
    pub own: Facts,
    /// Without client certificates there is nothing to judge them by.
    pub clients: Option<Clients>,
    /// The group may read the key.
    pub is_key_shared: bool,
}

/// Reads and checks all files.
pub(super) fn load(settings: &TlsSettings, alpn: &[u8], wall_ms: u64) -> Result<Loaded, TlsError> {
    let now_s = wall_ms / 1000;
    let (chain, own) = own(&settings.cert)?;
    let key = private_key(&settings.key).map_err(|fault| settings.error(TlsFile::Key, fault.into()))?;
    let PrivateKey { der: key, is_shared: is_key_shared } = key;
    let provider = Arc::new(ring::default_provider());
    let clients = match &settings.client_ca {
        Some(file) if settings.client_cert != ClientCert::None => {
            Some(clients(settings, file, now_s, &provider)?)
        }
        _ => None,
    };
    let rejected = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => {
            settings.error(TlsFile::Key, TlsCause::Mismatch(settings.cert.clone()))
        }
        error => settings.error(TlsFile::Key, TlsCause::Rejected(error.to_string())),
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(rejected)?;
    let builder = match &clients {
        Some(clients) => builder.with_client_cert_verifier(clients.trust.clone()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(rejected)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    // The library counts the record's head as well.
    config.max_fragment_size = settings.max_record_bytes.map(|bytes| bytes + RECORD_HEAD_BYTES);
    if clients.is_some() {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.session_storage = ServerSessionMemoryCache::new(RESUMABLE_MAX);
        config.send_tls13_tickets = 1;
    }
    Ok(Loaded { config: Arc::new(config), own, clients, is_key_shared })
}

impl Loaded {
    /// Whether a client's chain is good at this time.
    pub fn judge(&self, chain: &Chain, wall_ms: u64) -> Result<(), Failure> {
        let Some(clients) = &self.clients else { return Ok(()) };
        let now = UnixTime::since_unix_epoch(Duration::from_millis(wall_ms));
        clients.trust.judge(&chain.own, &chain.between, now).map_err(|error| Failure::of(&error))
    }

    /// When the CAs of clients end, in seconds since 1970.
    pub fn cas_end_s(&self) -> Vec<u64> {
        let cas = self.clients.iter().flat_map(|clients| clients.trust.cas());
        cas.map(|ca| ca.not_after_s).collect()
    }

    /// Whether a client with a good certificate could connect.
    pub fn has_valid_ca(&self, wall_ms: u64) -> bool {
        self.clients.as_ref().is_none_or(|clients| clients.trust.has_valid_ca(wall_ms / 1000))
    }
}

fn own(file: &Path) -> Result<(Vec<CertificateDer<'static>>, Facts), TlsError> {
    let error = |cause| TlsError { file: TlsFile::Cert, path: file.into(), cause };
    let chain = certificates(file).map_err(|fault| error(fault.into()))?;
    let facts = certificate::facts(&chain[0]).map_err(|e| error(FileFault::Der("certificate", e).into()))?;
    if !facts.is_for_servers {
        return Err(error(TlsCause::Usage));
    }
    Ok((chain, facts))
}
