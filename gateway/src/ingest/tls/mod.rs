//! TLS 1.2 and 1.3 at a port: handshakes, who a client is by its certificate, and new files without a restart.
//!
//! ```text
//!   accept loop ──▶ serve (the connection's own task) ──▶ handshake ──good──▶ connection
//!                                                            └ under tls_timeout; a failure is counted and told
//!   reload ──▶ load ──▶ the next handshakes; connections whose certificate is now revoked are ended
//! ```
//! Reading order: here, `files`, `clients`, `certificate`, `signature`, `failure`. Handshakes under way go on with what was loaded when they began; a
//! client that is revoked meanwhile is found afterwards, because it is listed before the revoked are looked at. Connections
//! stay when certificates, keys and CAs are replaced: only a certificate's revocation ends them.
//!
//! Limits: the place of a connection is taken before its handshake, so there are no more of these than of connections. An idle
//! connection has about 9 KB more than a plain one: the library's state, the client's certificate and 4 KB to read into. It
//! writes no file and keeps nothing over a restart. It does not judge what an identity may do.

mod certificate;
mod clients;
mod failure;
mod files;
mod signature;

use std::{collections::HashMap, fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub use files::{TlsCause, TlsError, TlsFile};

use super::{
    connection::{self, Shared},
    error::Fault,
    origin::Origin,
    places::Place,
    registry::Kick,
    reload::Reloadable,
    socket::{Wire, linger},
};
use crate::{clock, store::Intake, telemetry};
use certificate::{CertificateId, NoIdentity, Peer, date};
use failure::{Failure, Throttle};
use files::Loaded;

/// How long a client that was refused is still read from, so that it reads why.
const LINGER: Duration = Duration::from_millis(500);
/// From this many days before the end of a certificate on, it is warned of.
const EXPIRY_WARNING_DAYS: u64 = 30;
const DAY_S: u64 = 24 * 3600;

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCert {
    /// They are not asked.
    #[default]
    None,
    /// Those that have one are known by it.
    Optional,
    /// Those that have none are refused.
    Required,
}

/// The files of a listener with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The listener's certificate, and those between it and its CA.
    pub cert: PathBuf,
    /// The private key of it.
    pub key: PathBuf,
    /// The CAs whose clients are believed.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show a certificate; all but [`ClientCert::None`] need `client_ca`.
    pub client_cert: ClientCert,
    /// What these CAs have revoked.
    pub crl: Option<PathBuf>,
    /// Longest record that is sent, in bytes of what is encrypted in it; `None`: [`RECORD_BYTES_MOST`].
    pub max_record_bytes: Option<usize>,
}

/// The shortest that the longest record may be, in bytes: with less, heads and tags are most of what is sent.
pub const RECORD_BYTES_LEAST: usize = 64;
/// The longest record that TLS knows, in bytes: RFC 8446 section 5.1.
pub const RECORD_BYTES_MOST: usize = 16 * 1024;

impl TlsSettings {
    /// Reads and checks all files, at the time `wall_ms`, and uses nothing. May block. Gives what is wrong, or going to be, and is
    /// used all the same.
    ///
    /// # Errors
    /// [`TlsError`]: the first file that cannot be used.
    pub fn check(&self, wall_ms: u64) -> Result<Vec<String>, TlsError> {
        Ok(warnings(self, &files::load(self, wall_ms)?, wall_ms / 1000))
    }

    fn error(&self, file: TlsFile, cause: TlsCause) -> TlsError {
        let path = match file {
            TlsFile::Cert => Some(&self.cert),
            TlsFile::Key => Some(&self.key),
            TlsFile::ClientCa => self.client_ca.as_ref(),
            TlsFile::Crl => self.crl.as_ref(),
        };
        TlsError { file, path: path.cloned().unwrap_or_default(), cause }
    }
}

/// The TLS of one listener.
pub(super) struct Tls {
    /// As configured: the label of its metric.
    listener: String,
    settings: TlsSettings,
    loaded: RwLock<Loaded>,
    /// Connections with a certificate, by a number of their own.
    certified: Mutex<Certified>,
    throttle: Mutex<Throttle>,
}

#[derive(Default)]
struct Certified {
    last: u64,
    connections: HashMap<u64, (CertificateId, Kick)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Tls {
    /// Loads the files. May block.
    pub fn load(address: SocketAddr, settings: TlsSettings) -> Result<Self, TlsError> {
        let loaded = files::load(&settings, clock::wall_ms())?;
        let tls = Tls {
            listener: address.to_string(),
            settings,
            loaded: RwLock::new(loaded),
            certified: Mutex::default(),
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

    /// The handshake, and who the client is by its certificate.
    async fn handshake(
        &self,
        stream: TcpStream,
    ) -> Result<(Box<TlsStream<TcpStream>>, Option<Peer>), Failure> {
        let config = self.loaded.read().config.clone();
        let stream = match TlsAcceptor::from(config).accept(stream).into_fallible().await {
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
        let certificates = stream.get_ref().1.peer_certificates();
        let peer = certificates.and_then(|chain| chain.first()).map(|own| self.peer(own)).transpose()?;
        Ok((Box::new(stream), peer))
    }

    /// Who a client is, and by which CA.
    fn peer(&self, der: &[u8]) -> Result<Peer, NoIdentity> {
        let Peer { identity, id } = certificate::peer(der)?;
        let signer = self.loaded.read().signer(der, &id.issuer);
        Ok(Peer { identity, id: id.of(signer) })
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

    /// Lists a connection for as long as the answer lives. `None`: its certificate was revoked meanwhile.
    fn enter(self: &Arc<Self>, id: CertificateId, kick: &Kick) -> Option<Entry> {
        let mut certified = self.certified.lock();
        certified.last += 1;
        let number = certified.last;
        certified.connections.insert(number, (id.clone(), kick.clone()));
        drop(certified);
        let entry = Entry { tls: self.clone(), number };
        (!self.loaded.read().clients.revoked.contains(&id)).then_some(entry)
    }

    fn end_revoked(&self) {
        let loaded = self.loaded.read();
        let certified = self.certified.lock();
        let revoked = certified.connections.values().filter(|(id, _)| loaded.clients.revoked.contains(id));
        let mut ended = 0;
        for (_, kick) in revoked {
            kick.leave(Fault::NotAuthorized);
            ended += 1;
        }
        if ended > 0 {
            tracing::warn!(listener = %self.listener, "connections ended because their certificate is revoked: {ended}");
        }
    }
}

/// A connection with a certificate.
struct Entry {
    tls: Arc<Tls>,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tls.certified.lock().connections.remove(&self.number);
    }
}

impl<Io: Wire> Wire for TlsStream<Io> {
    fn acknowledge(&self) {
        self.get_ref().0.acknowledge();
    }
}

/// Serves one client from its first byte to its end.
pub(super) async fn serve(
    tls: Arc<Tls>,
    stream: TcpStream,
    mut origin: Origin,
    intake: Intake,
    shared: Arc<Shared>,
    kick: Kick,
    place: Place,
) {
    let handshake = Box::pin(timeout(shared.settings.tls_timeout, tls.handshake(stream)));
    let token = kick.token().clone();
    let shaken = tokio::select! {
        biased;
        () = token.cancelled() => return,
        shaken = handshake => shaken.unwrap_or(Err(Failure::Timeout)),
    };
    let entered = shaken.and_then(|(stream, peer)| {
        let Some(Peer { identity, id }) = peer else { return Ok((stream, None)) };
        let entry = tls.enter(id, &kick).ok_or(Failure::Revoked)?;
        origin.certified = Some(identity);
        Ok((stream, Some(entry)))
    });
    let (stream, entry) = match entered {
        Ok(entered) => entered,
        Err(failure) => return tls.failed(&origin, &failure),
    };
    drop(tls);
    connection::serve(stream, origin, intake, shared, kick, place).await;
    drop(entry);
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
        let loaded = files::load(&self.settings, wall_ms).map_err(|error| error.to_string())?;
        let ends_s = loaded.own.not_after_s;
        // One that has expired is served if there is none better.
        if ends_s < wall_ms / 1000 && ends_s < self.loaded.read().own.not_after_s {
            let cause = TlsCause::Expired(date(ends_s).to_string());
            return Err(self.settings.error(TlsFile::Cert, cause).to_string());
        }
        *self.loaded.write() = loaded;
        self.set_expiry();
        self.end_revoked();
        Ok(())
    }

    fn warnings(&self, wall_ms: u64) -> Vec<String> {
        let said = warnings(&self.settings, &self.loaded.read(), wall_ms / 1000);
        said.iter().map(|warning| format!("listener {}: {warning}", self.listener)).collect()
    }
}

fn warnings(settings: &TlsSettings, loaded: &Loaded, now_s: u64) -> Vec<String> {
    let mut said = Vec::new();
    let cert = settings.cert.display();
    said.extend(expiry(&format!("the certificate {cert}"), loaded.own.not_after_s, now_s));
    if loaded.own.not_before_s > now_s {
        let from = date(loaded.own.not_before_s);
        said.push(format!(
            "the certificate {cert} is not valid before {from}: is this machine's clock right?"
        ));
    }
    for ca in &loaded.clients.cas {
        said.extend(expiry(&format!("the CA {} in client_ca", ca.subject), ca.not_after_s, now_s));
    }
    if let Some(due) = loaded.clients.next_update_s.filter(|due| *due < now_s) {
        said.push(format!("crl was to be renewed by {}: the old list is used on", date(due)));
    }
    for issuer in &loaded.clients.unsigned {
        said.push(format!("crl has a list of {issuer} that no CA in client_ca signed: it is not used"));
    }
    if loaded.is_key_shared {
        said.push(format!("its group may read the key {}: chmod 600 it", settings.key.display()));
    }
    said
}

/// The number of days is part of the words, so that they are new, and logged, every day.
fn expiry(what: &str, not_after_s: u64, now_s: u64) -> Option<String> {
    let on = date(not_after_s);
    match not_after_s.checked_sub(now_s).map(|left_s| left_s / DAY_S) {
        None => Some(format!("{what} expired on {on}: renew it")),
        Some(days) if days < EXPIRY_WARNING_DAYS => {
            Some(format!("{what} expires in {days} days, on {on}: renew it"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_told_from_thirty_days_before_it_on() {
        let end = 100 * DAY_S;
        for (now_s, said) in [
            (end - 30 * DAY_S, None),
            (end - 30 * DAY_S + 1, Some("it expires in 29 days, on 1970-04-11T00:00:00Z: renew it")),
            (end - 6 * DAY_S, Some("it expires in 6 days, on 1970-04-11T00:00:00Z: renew it")),
            (end, Some("it expires in 0 days, on 1970-04-11T00:00:00Z: renew it")),
            (end + 1, Some("it expired on 1970-04-11T00:00:00Z: renew it")),
        ] {
            assert_eq!(expiry("it", end, now_s).as_deref(), said);
        }
    }
}
