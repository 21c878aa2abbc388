//! TLS 1.2 and 1.3 at a port: handshakes, who a client is by its certificate, and new files without
//! a restart.
//!
//! ```text
//!   accept loop ──▶ secure (in the connection's own task) ──▶ handshake ──good──▶ a stream, for MQTT or WebSocket
//!                                                            └ under tls_timeout; a failure is counted and told
//!   reload ──▶ load ──▶ the next handshakes; connections whose chain is no longer good are ended
//!   time ────▶ a certificate or CA ends ──▶ likewise
//! ```
//! Reading order: `settings`, here, `files` with `error` and the room `pki`, `clients`, `trust`,
//! `lists`, `authority`, `live`, `certificate`, `signature`, `distrust`, `failure`, `warnings`. A
//! connection lives as long as a handshake with its chain would be let through: its
//! certificate and those up to the CA are neither expired nor revoked, and the CA is in client_ca
//! and valid. Handshakes under way go on with what was loaded when they began, and are judged again
//! afterwards if something else was loaded meanwhile. A load whose lists would leave it unknown
//! whether a connected client is revoked is refused: a list that is missing or forged must not end
//! what is good.
//!
//! Limits: a connection's permit is taken before its handshake, so there are no more of these
//! than of connections. An idle connection has about 9 KB more than a plain one: the library's
//! state, the client's chain twice and 4 KB to read into. It writes no file and keeps nothing over
//! a restart. It does not judge what an identity may do.

mod authority;
mod certificate;
mod clients;
mod distrust;
mod error;
mod failure;
mod files;
mod lists;
mod live;
mod settings;
mod signature;
mod trust;
mod warnings;

use std::{collections::HashSet, fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::spawn_blocking, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

pub use error::{TlsCause, TlsError, TlsFile};
pub use settings::{ClientCert, RECORD_BYTES_LEAST, RECORD_BYTES_MOST, TlsSettings};

use crate::{
    access::origin::Origin,
    clock,
    ingest::{
        connection::socket::{LINGER, Wire, linger},
        registry::DisconnectHandle,
    },
    reload::Reloadable,
    telemetry,
};
use certificate::date;
use distrust::Distrust;
use failure::{Failure, Throttle};
use files::Loaded;
use live::{Chain, Connection, Connections, Live};
use warnings::warnings;

impl TlsSettings {
    /// Reads and checks all files, at the time `wall_ms`, and uses nothing. May block. Gives what
    /// is wrong, or going to be, and is used all the same.
    ///
    /// # Errors
    /// [`TlsError`]: the first file that cannot be used.
    pub fn check(&self, wall_ms: u64) -> Result<Vec<String>, TlsError> {
        let loaded = files::load(self, b"mqtt", wall_ms)?;
        Ok(warnings(self, &loaded, wall_ms).into_iter().chain(warnings::notes(&loaded)).collect())
    }
}

/// The TLS of one listener.
pub(super) struct Tls {
    /// As configured: the label of its metric.
    listener: String,
    /// What is spoken over it, as TLS names it (ALPN).
    alpn: &'static [u8],
    settings: TlsSettings,
    loaded: RwLock<Arc<Loaded>>,
    live: Live,
    throttle: Mutex<Throttle>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Tls {
    /// Loads the files. May block.
    pub fn load(address: SocketAddr, alpn: &'static [u8], settings: TlsSettings) -> Result<Self, TlsError> {
        let loaded = files::load(&settings, alpn, clock::wall_ms())?;
        let tls = Tls {
            listener: address.to_string(),
            alpn,
            settings,
            loaded: RwLock::new(Arc::new(loaded)),
            live: Live::default(),
            throttle: Mutex::default(),
        };
        tls.set_expiry();
        Ok(tls)
    }

    fn set_expiry(&self) {
        let expiry_s = self.loaded.read().own.not_after_s;
        metrics::gauge!(telemetry::CERTIFICATE_EXPIRY, "listener" => self.listener.clone())
            .set(expiry_s as f64);
    }

    /// Ends connections whose chain time has made bad, until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        if self.settings.client_cert == ClientCert::None {
            return;
        }
        loop {
            let cas_end_s = self.loaded.read().cas_end_s();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.live.wait(&cas_end_s, clock::wall_ms()) => {}
            }
            let tls = self.clone();
            let looked = spawn_blocking(move || tls.end_due(clock::wall_ms())).await;
            if let Err(failed) = looked {
                tracing::error!(
                    "a look at the clients' certificates failed: {failed}: this is a defect, please report it"
                );
            }
        }
    }

    /// The stream once its handshake is done; `None` if there is none: why is told and counted
    /// here.
    pub async fn secure(
        self: &Arc<Self>,
        stream: TcpStream,
        origin: &Origin,
        disconnect: &DisconnectHandle,
        limit: Duration,
    ) -> Option<Secured> {
        let handshake = Box::pin(timeout(limit, self.handshake(stream)));
        let shaken = tokio::select! {
            biased;
            () = disconnect.token().cancelled() => return None,
            shaken = handshake => shaken.unwrap_or(Err(Failure::Timeout)),
        };
        let secured = shaken.and_then(|Shaken { stream, chain, loaded, at_ms }| {
            let Some(chain) = chain else { return Ok(Secured { stream, certified: None, entry: None }) };
            let identity = certificate::identity(&chain.own)?;
            let connection = Connection { identity: identity.clone(), chain, disconnect: disconnect.clone() };
            let entry = self.enter(connection, &loaded, at_ms)?;
            Ok(Secured { stream, certified: Some(identity), entry: Some(entry) })
        });
        secured.map_err(|failure| self.failed(origin, &failure)).ok()
    }

    /// The handshake, what it was made with, and what the client showed.
    async fn handshake(&self, stream: TcpStream) -> Result<Shaken, Failure> {
        let at_ms = clock::wall_ms();
        let loaded = self.loaded.read().clone();
        let stream = match TlsAcceptor::from(loaded.config.clone()).accept(stream).into_fallible().await {
            Ok(stream) => stream,
            Err((error, mut stream)) => {
                let failure = Failure::judge(&error);
                let last = async {
                    stream.shutdown().await?;
                    linger(&mut stream).await
                };
                // Whether it reads why or the time is over makes no difference here.
                let _ = timeout(LINGER, last).await;
                return Err(failure);
            }
        };
        let chain = stream.get_ref().1.peer_certificates().and_then(Chain::new);
        Ok(Shaken { stream: Box::new(stream), chain, loaded, at_ms })
    }

    fn failed(&self, origin: &Origin, failure: &Failure) {
        metrics::counter!(telemetry::TLS_FAILURES, "reason" => failure.label()).increment(1);
        if !failure.is_told() {
            return;
        }
        let Some(hidden) = self.throttle.lock().take(clock::monotonic()) else { return };
        let (peer, listener) = (origin.peer, &self.listener);
        match hidden {
            0 => tracing::warn!(%peer, %listener, "no TLS connection: {failure}"),
            _ => {
                tracing::warn!(%peer, %listener, "no TLS connection: {failure} ({hidden} more before it were not told)")
            }
        }
    }

    /// Keeps a connection's chain for as long as the answer lives.
    ///
    /// # Errors
    /// It is not good by what was loaded since its handshake.
    fn enter(
        self: &Arc<Self>,
        connection: Connection,
        loaded: &Arc<Loaded>,
        at_ms: u64,
    ) -> Result<Entry, Failure> {
        let connection = Arc::new(connection);
        let number = self.live.add(connection.clone(), at_ms / 1000);
        let entry = Entry { tls: self.clone(), number };
        // Whatever is loaded from here on finds it.
        let current = self.loaded.read().clone();
        if !Arc::ptr_eq(&current, loaded) {
            current.judge(&connection.chain, clock::wall_ms())?;
        }
        Ok(entry)
    }

    fn end_due(&self, wall_ms: u64) {
        let loaded = self.loaded.read().clone();
        let due = self.live.due(&loaded.cas_end_s(), wall_ms / 1000);
        live::end(&self.listener, &bad(&loaded, due, wall_ms));
    }

    /// Uses what was loaded, and ends the connections that are not good by it.
    fn replace(&self, loaded: Loaded, wall_ms: u64) -> Result<(), TlsError> {
        let before = self.live.all();
        let known: HashSet<u64> = before.iter().map(|(number, _)| *number).collect();
        let mut ended = bad(&loaded, before, wall_ms);
        let unlisted = ended.iter().find_map(|(_, failure)| match failure {
            Failure::RevocationUnknown => Some(TlsCause::NoListOfPart),
            Failure::Chain(Distrust::NoList(ca)) => Some(TlsCause::NoListBetween(ca.clone())),
            Failure::Chain(Distrust::ForgedList(ca)) => Some(TlsCause::ForgedListBetween(ca.clone())),
            _ => None,
        });
        if let Some(cause) = unlisted {
            return Err(self.settings.error(TlsFile::Crl, cause));
        }
        let loaded = Arc::new(loaded);
        *self.loaded.write() = loaded.clone();
        self.set_expiry();
        // Those that came meanwhile.
        let mut new = self.live.all();
        new.retain(|(number, _)| !known.contains(number));
        ended.extend(bad(&loaded, new, wall_ms));
        live::end(&self.listener, &ended);
        Ok(())
    }
}

/// Those whose chains are not good, and why, but for those that were told to leave already.
fn bad(loaded: &Loaded, connections: Connections, wall_ms: u64) -> Vec<(Arc<Connection>, Failure)> {
    let stay = connections.into_iter().filter(|(_, connection)| connection.disconnect.cause().is_none());
    let judged = stay.filter_map(|(_, connection)| {
        let failure = loaded.judge(&connection.chain, wall_ms).err()?;
        Some((connection, failure))
    });
    judged.collect()
}

/// A handshake that is done.
struct Shaken {
    stream: Box<TlsStream<TcpStream>>,
    chain: Option<Chain>,
    loaded: Arc<Loaded>,
    /// When it began, by the clock on the wall.
    at_ms: u64,
}

/// A stream whose handshake is done.
pub(super) struct Secured {
    pub stream: Box<TlsStream<TcpStream>>,
    /// The name in the client's certificate.
    pub certified: Option<Arc<str>>,
    /// Keeps the client's chain, so that the connection ends with its proof; until it is dropped.
    pub entry: Option<Entry>,
}

/// A connection with a certificate.
pub(super) struct Entry {
    tls: Arc<Tls>,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tls.live.remove(self.number);
    }
}

impl<Io: Wire> Wire for TlsStream<Io> {
    fn acknowledge(&self) {
        self.get_ref().0.acknowledge();
    }
}

impl Reloadable for Tls {
    fn kind(&self) -> &'static str {
        "tls"
    }

    fn name(&self) -> String {
        format!("the TLS files of listener {}", self.listener)
    }

    fn files(&self) -> Vec<PathBuf> {
        let TlsSettings { cert, key, client_ca, crl, .. } = &self.settings;
        [Some(cert), Some(key), client_ca.as_ref(), crl.as_ref()].into_iter().flatten().cloned().collect()
    }

    fn load(&self, wall_ms: u64) -> Result<(), String> {
        let loaded = files::load(&self.settings, self.alpn, wall_ms).map_err(|error| error.to_string())?;
        let ends_s = loaded.own.not_after_s;
        let used = self.loaded.read().clone();
        // One that has expired is served if there is none better.
        if ends_s < wall_ms / 1000 && ends_s < used.own.not_after_s {
            let cause = TlsCause::Expired(date(ends_s).to_string());
            return Err(self.settings.error(TlsFile::Cert, cause).to_string());
        }
        if used.has_valid_ca(wall_ms) && !loaded.has_valid_ca(wall_ms) {
            return Err(self.settings.error(TlsFile::ClientCa, TlsCause::NoValidCa).to_string());
        }
        self.replace(loaded, wall_ms).map_err(|error| error.to_string())
    }

    fn warnings(&self, wall_ms: u64) -> Vec<String> {
        let mut said = warnings(&self.settings, &self.loaded.read(), wall_ms);
        said.extend(self.live.soon(wall_ms / 1000));
        said.iter().map(|warning| format!("listener {}: {warning}", self.listener)).collect()
    }
}
