//! From a name to a stream of bytes: the way to an upstream, the same for every engine.
//!
//! ```text
//!  Dialer::password:  read anew
//!  Dialer::open:  resolve.. ─▶ race.rs ─▶ proxy.rs ─▶ tls/ ─▶ a WebSocket ─▶ Stream
//!                   │ addresses.rs          if configured: CONNECT, TLS, WebSocket
//!  Dialer::handshake:  the engine's own ─▶ the address has answered
//! ```
//! Reading order: `settings`, here, `addresses`, `race`, `proxy`, `tls/`, `stream`, `steps`,
//! `error`. It knows no engine. A dialer belongs to one task, and keeps what is worth knowing from
//! one connection to the next: which addresses failed lately. Names are looked up at every connect.
//!
//! Limits: `limit` for the whole, which the caller holds; half of it for each step and for each
//! address, so that a step that hangs is told by its name; half of it from the first answer on as
//! well, where the name has other addresses to try. Cancel-safe: an address that had not answered
//! by then goes last, and a password that is still being read is waited for by the next connect.

mod addresses;
mod error;
pub mod keys;
mod proxy;
mod race;
mod settings;
mod steps;
mod stream;
#[cfg(test)]
pub(in crate::uplink) mod tests;
pub mod tls;

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    sync::watch,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{addresses::Addresses, proxy::tunnel, race::race};
pub use self::{
    error::OpenError,
    settings::{Layers, Proxy, Target},
    steps::{Done, Step},
    stream::{Stream, WebSocketEnd},
};
use super::password::{FreshPassword, PasswordReader, PasswordSource};
use crate::{clock, mqtt::Password, websocket};

/// Makes one connection after the other for one client of an upstream.
#[derive(Debug)]
pub struct Dialer {
    limit: Duration,
    addresses: Addresses,
    /// Reads the upstream's password.
    reader: PasswordReader,
    /// Reads the proxy's.
    proxy_reader: PasswordReader,
    /// What is waited for.
    step: Step,
    /// What was found on the way.
    done: Vec<Done>,
    /// The address of the connection.
    address: Option<SocketAddr>,
    /// The name has others.
    has_others: bool,
    /// Tells that the connection's TLS files were replaced.
    replaced: Option<watch::Receiver<u64>>,
    /// After how long the connection is to be made anew.
    renew_after: Option<Duration>,
    /// What names are at, in place of DNS.
    #[cfg(test)]
    names: Option<Vec<SocketAddr>>,
}

impl Dialer {
    /// For connects that take this long at most.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            addresses: Addresses::default(),
            reader: PasswordReader::default(),
            proxy_reader: PasswordReader::default(),
            step: Step::Start,
            done: Vec::new(),
            address: None,
            has_others: false,
            replaced: None,
            renew_after: None,
            #[cfg(test)]
            names: None,
        }
    }

    /// What is waited for, and after a failure what was.
    #[must_use]
    pub fn step(&self) -> &Step {
        &self.step
    }

    /// What the steps of the last connect found, as far as it came.
    #[must_use]
    pub fn done(&self) -> &[Done] {
        &self.done
    }

    /// The address of the connection: the upstream's, or the proxy's.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Makes the way to `target`, up to the engine's own handshake.
    ///
    /// # Errors
    /// [`OpenError`] says at which step, where, and what to do.
    pub async fn open(&mut self, target: &Target<'_>) -> Result<Stream, OpenError> {
        self.begin();
        let proxy = target.layers.proxy.as_ref();
        let (host, port) = proxy.map_or((target.host, target.port), |proxy| (&proxy.host, proxy.port));
        let password = match proxy.and_then(|proxy| proxy.password.as_ref()) {
            Some(source) => {
                let read = read(&mut self.step, self.limit / 2, &mut self.proxy_reader, source);
                Some(read.await?.password)
            }
            None => None,
        };
        let found = self.resolve(host, port).await?;
        let (mut stream, address) = self.connect(found).await?;
        if let Some(proxy) = proxy {
            let authority = target.authority();
            let tunnelling = tunnel(&mut stream, proxy, password.as_ref(), &authority);
            let tunnelled = self.within(Step::Proxy(address), tunnelling).await?;
            tunnelled.map_err(|cause| OpenError::Proxy { address, cause })?;
            self.done.push(Done::Tunnelled(authority));
        }
        let stream = self.secure(stream, address, target).await?;
        self.upgrade(stream, address, target).await
    }

    /// Does the engine's handshake: when it is done, the address has answered.
    ///
    /// # Errors
    /// Those of the handshake, and [`OpenError::Timeout`].
    pub async fn handshake<T, E: From<OpenError>>(
        &mut self,
        shaking: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let limit = if self.has_others { self.limit / 2 } else { self.limit };
        self.step = self.address.map_or(Step::Start, Step::Handshake);
        let shaken = timeout(limit, shaking).await;
        let shaken = shaken.map_err(|_| OpenError::Timeout { step: self.step.clone(), limit })??;
        if let Some(address) = self.address {
            self.addresses.answered(address);
        }
        Ok(shaken)
    }

    /// Cancels `stop` when the connection is to be ended in order and made anew, for as long as the
    /// answer lives: its TLS files are replaced by others, or its password ends.
    pub fn cancel_when_stale(&self, stop: &CancellationToken) -> AbortOnDropHandle<()> {
        let (replaced, renew_after, stop) = (self.replaced.clone(), self.renew_after, stop.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(renew_after.unwrap_or_default()), if renew_after.is_some() => {}
                () = changed(replaced) => {}
            }
            stop.cancel();
        }))
    }

    /// The password for the connect that follows, read anew, and from when on the connection is
    /// stale for it, which is after `renew` if that was set.
    ///
    /// # Errors
    /// [`OpenError::Password`], or that it could not be read in time.
    pub async fn password(
        &mut self,
        source: Option<&PasswordSource>,
        renew: Option<Duration>,
    ) -> Result<Option<Password>, OpenError> {
        self.begin();
        self.renew_after = renew;
        let Some(source) = source else { return Ok(None) };
        let fresh = read(&mut self.step, self.limit / 2, &mut self.reader, source).await?;
        self.renew_after = fresh.renew_after(renew);
        Ok(Some(fresh.password))
    }

    /// Forgets what was found on the way of the connect before this one.
    fn begin(&mut self) {
        self.step = Step::Start;
        self.done.clear();
        (self.address, self.replaced, self.has_others) = (None, None, false);
    }

    /// Does a step within its share of the time.
    async fn within<T>(&mut self, step: Step, doing: impl Future<Output = T>) -> Result<T, OpenError> {
        within(&mut self.step, self.limit / 2, step, doing).await
    }

    async fn resolve(&mut self, host: &str, port: u16) -> Result<Vec<SocketAddr>, OpenError> {
        let stand_in = self.stand_in();
        let looking = async {
            match stand_in {
                Some(names) => Ok(names),
                None => lookup_host((host, port)).await.map(Iterator::collect),
            }
        };
        let found = self.within(Step::Resolve(host.to_owned()), looking).await?;
        let unknown = |cause| OpenError::Resolve { host: host.to_owned(), cause };
        let found = self.addresses.order(found.map_err(unknown)?, clock::monotonic());
        if found.is_empty() {
            return Err(unknown(std::io::Error::other("it has no address")));
        }
        self.has_others = found.len() > 1;
        self.done.push(Done::Resolved(host.to_owned(), found.clone()));
        Ok(found)
    }

    /// What a test has names be at, in place of DNS: addresses with ports, separated by commas.
    fn stand_in(&self) -> Option<Vec<SocketAddr>> {
        #[cfg(test)]
        if self.names.is_some() {
            return self.names.clone();
        }
        fail::fail_point!("dial-names", |names| {
            names.map(|names| names.split(',').filter_map(|address| address.parse().ok()).collect())
        });
        None
    }

    async fn connect(&mut self, found: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), OpenError> {
        self.step = Step::Connect(found.clone());
        let raced = race(found, self.limit / 2).await;
        let now = clock::monotonic();
        let failed = match &raced {
            Ok((.., failed)) | Err(failed) => failed,
        };
        for (address, error) in failed {
            self.addresses.failed(*address, now);
            self.done.push(Done::Failed(*address, error.to_string()));
        }
        let (stream, address, _) = raced.map_err(OpenError::Connect)?;
        self.addresses.failed(address, now);
        self.address = Some(address);
        self.done.push(Done::Connected(address));
        Ok((stream, address))
    }

    async fn secure(
        &mut self,
        stream: TcpStream,
        address: SocketAddr,
        target: &Target<'_>,
    ) -> Result<Stream, OpenError> {
        let Some(tls) = &target.layers.tls else { return Ok(Stream::Tcp(stream)) };
        // Before anything is loaded: a change from here on is seen.
        self.replaced = Some(tls.changes());
        let shaking = Box::pin(tls.handshake(stream, target.host));
        let shaken = self.within(Step::Tls(address), shaking).await?;
        let failed = |cause| OpenError::Tls { address, cause: Box::new(cause) };
        let (stream, secured) = shaken.map_err(failed)?;
        self.done.push(Done::Secured(Box::new(secured)));
        Ok(Stream::Tls(Box::new(stream)))
    }

    async fn upgrade(
        &mut self,
        stream: Stream,
        address: SocketAddr,
        target: &Target<'_>,
    ) -> Result<Stream, OpenError> {
        let Some(path) = &target.layers.websocket else { return Ok(stream) };
        let authority = target.authority();
        let shaking = websocket::shake_hands(stream, &authority, path);
        let shaken = self.within(Step::WebSocket(address), shaking).await?;
        let stream = shaken.map_err(|cause| OpenError::WebSocket { address, cause })?;
        self.done.push(Done::Upgraded(path.clone()));
        Ok(Stream::WebSocket(Box::new(stream)))
    }
}

/// Does a step, which is the one that is waited for from now on, within this time.
async fn within<T>(
    waited_for: &mut Step,
    limit: Duration,
    step: Step,
    doing: impl Future<Output = T>,
) -> Result<T, OpenError> {
    *waited_for = step;
    timeout(limit, doing).await.map_err(|_| OpenError::Timeout { step: waited_for.clone(), limit })
}

/// Reads a password, which is a step.
async fn read(
    waited_for: &mut Step,
    limit: Duration,
    reader: &mut PasswordReader,
    source: &PasswordSource,
) -> Result<FreshPassword, OpenError> {
    let step = Step::Password(source.to_string());
    within(waited_for, limit, step, reader.read(source)).await?.map_err(OpenError::Password)
}

/// Waits for a change; for ever if there is nothing that may.
async fn changed(replaced: Option<watch::Receiver<u64>>) {
    if let Some(mut replaced) = replaced
        && replaced.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
