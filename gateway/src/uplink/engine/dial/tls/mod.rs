//! TLS 1.2 and 1.3 towards an upstream, by rustls with ring.
//!
//! ```text
//!   files.rs  CAs, certificate and key ─▶ Tls ─┬─ handshake ─ verify.rs ─▶ a stream, or failure.rs in words
//!   reload ─── changed, and good ─────────────▶└─ changes: who is connected by the old ones reconnects
//! ```
//! A file that changed is loaded by `reload`, once it is settled and good; the next connect uses
//! it, and a standing connection ends in order and is made anew, so that a certificate is in use
//! before the one it replaces ends. Bad files leave the old ones in use, and are told. Nothing is
//! resumed: every connect proves the server anew. Limits: those of [`reload`](crate::reload).

mod failure;
mod files;
mod settings;
mod verify;

use std::{fmt, path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, sync::watch, task::spawn_blocking};
use tokio_rustls::TlsConnector;

pub use self::{
    failure::TlsFailure,
    files::{TlsCause, TlsError, TlsFile},
    settings::{ALPN_BYTES_MOST, ALPN_MOST, KeyPair, TlsSettings},
};
use self::{files::Loaded, verify::Watching};
use super::stream::Secure;
use crate::{clock, pki::Summary, reload::Reloadable};

/// The TLS of one uplink: its files, and what was loaded from them.
pub struct Tls {
    /// Whose it is, for people.
    owner: String,
    settings: TlsSettings,
    loaded: Mutex<Option<Arc<Loaded>>>,
    /// Counts the loads of something else than before.
    changes: watch::Sender<u64>,
}

/// What a handshake agreed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secured {
    /// Such as "TLS 1.3".
    pub version: &'static str,
    /// The protocol that the server chose of those in `alpn`.
    pub alpn: Option<String>,
    /// The server's certificate.
    pub server: Option<Summary>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl fmt::Display for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.version)?;
        if let Some(alpn) = &self.alpn {
            write!(f, " with {alpn:?}")?;
        }
        match &self.server {
            Some(server) => write!(f, "; the server's certificate is {server}"),
            None => Ok(()),
        }
    }
}

/// Whether a certificate can be for this name.
#[must_use]
pub fn is_server_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

impl Tls {
    /// For this uplink. Nothing is loaded before the first connect.
    #[must_use]
    pub fn new(uplink: &str, settings: TlsSettings) -> Self {
        let owner = format!("uplink {uplink}");
        Self { owner, settings, loaded: Mutex::default(), changes: watch::Sender::new(0) }
    }

    /// Reads and checks all files and keeps nothing. May block. Gives what is wrong, or going to
    /// be, and is used all the same.
    ///
    /// # Errors
    /// [`TlsError`]: the first file that cannot be used.
    pub fn check(&self, wall_ms: u64) -> Result<Vec<String>, TlsError> {
        files::load(&self.settings).map(|loaded| loaded.warnings(&self.settings, wall_ms))
    }

    /// Tells of files that were replaced from here on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Shakes hands over `stream` with `host`, or with `server_name` in its place. To be called
    /// with a time limit; cancel-safe.
    ///
    /// # Errors
    /// [`TlsFailure`]
    pub async fn handshake(
        self: &Arc<Self>,
        stream: TcpStream,
        host: &str,
    ) -> Result<(Secure, Secured), TlsFailure> {
        let loaded = self.loaded().await?;
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        let server = ServerName::try_from(name.to_owned()).map_err(|_| TlsFailure::Name(name.to_owned()))?;
        let watching = Arc::new(Watching::new(loaded.verifier.clone()));
        let mut config = (*loaded.config).clone();
        config.dangerous().set_certificate_verifier(watching.clone());
        let connecting = TlsConnector::from(Arc::new(config)).connect(server, stream);
        let stream = match connecting.await {
            Ok(stream) => stream,
            Err(error) => {
                let roots = self.settings.roots();
                let now_s = clock::wall_ms() / 1000;
                return Err(TlsFailure::judge(
                    &error,
                    &watching.seen(),
                    loaded.own.as_deref(),
                    &roots,
                    now_s,
                ));
            }
        };
        let state = stream.get_ref().1;
        let secured = Secured {
            version: match state.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
                _ => "TLS 1.2",
            },
            alpn: state.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            server: state.peer_certificates().and_then(|chain| Summary::of(chain.first()?)),
        };
        Ok((Secure { stream, own: loaded.own.clone() }, secured))
    }

    /// What is in use, loaded if nothing is.
    async fn loaded(self: &Arc<Self>) -> Result<Arc<Loaded>, TlsFailure> {
        if let Some(loaded) = self.loaded.lock().clone() {
            return Ok(loaded);
        }
        let tls = self.clone();
        let loading = spawn_blocking(move || files::load(&tls.settings)).await;
        let loaded = loading.map_err(|error| TlsFailure::Other(error.to_string()))??;
        Ok(self.loaded.lock().get_or_insert(Arc::new(loaded)).clone())
    }
}

impl Reloadable for Tls {
    fn kind(&self) -> &'static str {
        "uplink-tls"
    }

    fn name(&self) -> String {
        format!("the TLS files of {}", self.owner)
    }

    fn files(&self) -> Vec<PathBuf> {
        let TlsSettings { ca, client, .. } = &self.settings;
        let pair = client.iter().flat_map(|pair| [&pair.cert, &pair.key]);
        ca.iter().chain(pair).cloned().collect()
    }

    fn load(&self, wall_ms: u64) -> Result<(), String> {
        let loaded = files::load(&self.settings).map_err(|error| error.to_string())?;
        let mut used = self.loaded.lock();
        // What nobody uses yet is read by the next connect.
        let Some(used) = used.as_mut() else { return Ok(()) };
        if used.fingerprint == loaded.fingerprint {
            return Ok(());
        }
        files::judge_new(&self.settings, used, &loaded, wall_ms / 1000).map_err(|error| error.to_string())?;
        *used = Arc::new(loaded);
        self.changes.send_modify(|loads| *loads += 1);
        Ok(())
    }

    fn warnings(&self, wall_ms: u64) -> Vec<String> {
        let loaded = self.loaded.lock().clone();
        let said = loaded.map(|loaded| loaded.warnings(&self.settings, wall_ms)).unwrap_or_default();
        said.iter().map(|warning| format!("{}: {warning}", self.owner)).collect()
    }
}
