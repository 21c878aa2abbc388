//! The ports: bound first, all of them, and served afterwards.
//!
//! ```text
//!   bind ──▶ Bound ──run──▶ accept loop ──▶ one task per connection, tracked
//!                            └ never waits for a peer; an error (no file descriptors left) backs off
//! ```
//! An address that is not loopback is refused before anything starts if its clients may be nobody.
//! On a stop nothing more is accepted or read; what is pending is waited for,
//! [`DRAIN_TIMEOUT`](super::limits::DRAIN_TIMEOUT) at most, and every client is told. Limits: see
//! `limiter`; what they do not let in waits in the kernel's queue. A handshake of TLS or WebSocket
//! is made in the connection's task: see [`tls`] and `websocket`.

pub mod settings;
pub mod tls;
mod websocket;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::spawn_blocking,
    time::{sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::{Shared, large::LargeRoom, serve},
    limiter::{ConnectionLimiter, Permit},
    metrics::Metrics,
    registry::{DisconnectHandle, Registry},
    settings::Settings,
};
use crate::{
    access::origin::Origin,
    broker::{self, Broker, StoreHandles},
    clock::{self, now},
    reload::Reloadable,
    store::Intake,
    telemetry::repeats::LogOnce,
};
pub use settings::{ListenerSettings, Protocol};
pub use tls::{ClientCert, TlsSettings};

use settings::{OPEN_TO_PAGES, transport};
use tls::{Secured, Tls, TlsError};

/// Connections that the kernel keeps for the accept loop, if its own limit (`net.core.somaxconn`)
/// allows: as many as come in some seconds after a power cut, for one that finds no place there
/// tries again after a second or more.
const BACKLOG: u32 = 4096;
/// Pause after accepting failed.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// A port could not be bound. Nothing is listening on it.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address can be reached from outside, and access would be anonymous.
    #[error(
        "listener {0}: access is anonymous, and this address can be reached from other machines; set anonymous = false, \
         require client certificates, or listen on 127.0.0.1 or [::1]"
    )]
    NotLoopback(SocketAddr),
    /// Its TLS files cannot be used.
    #[error("listener {address}: {cause}")]
    Tls {
        /// The address asked for.
        address: SocketAddr,
        /// Which file, what is wrong, what to do.
        cause: Box<TlsError>,
    },
    /// The operating system refused.
    #[error("listener {address}: {cause}; {}", advice(cause))]
    System {
        /// The address asked for.
        address: SocketAddr,
        /// What it said.
        cause: io::Error,
    },
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "another program listens there: stop it or choose another port",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose another port",
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has this address",
        _ => "check the address and the port",
    }
}

/// A port that is bound and not yet served: clients wait in the kernel's queue.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    anonymous: bool,
    protocol: Protocol,
    tls: Option<Arc<Tls>>,
}

impl Bound {
    /// What of it is loaded from files.
    #[must_use]
    pub fn reloadable(&self) -> Option<Arc<dyn Reloadable>> {
        self.tls.clone().map(|tls| tls as Arc<dyn Reloadable>)
    }

    /// Where it listens: the port that was taken, if port 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// Binds a port, and loads its certificates if it has any.
///
/// # Errors
/// [`BindError`] says where, what and what to do.
pub async fn bind(settings: &ListenerSettings) -> Result<Bound, BindError> {
    let address = settings.address;
    if !address.ip().to_canonical().is_loopback() && !settings.knows_its_clients() {
        return Err(BindError::NotLoopback(address));
    }
    if settings.is_overheard() {
        tracing::warn!(%address, "without TLS, passwords and events travel in the clear: give this listener tls");
    }
    if settings.is_open_to_pages() {
        tracing::warn!(%address, "{OPEN_TO_PAGES}");
    }
    let protocol = settings.protocol;
    let tls = match settings.tls.clone() {
        Some(settings) => Some(Arc::new(load(address, protocol, settings).await?)),
        None => None,
    };
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Bound { listener, address, anonymous: settings.anonymous, protocol, tls })
    };
    listen().map_err(|cause| BindError::System { address, cause })
}

async fn load(address: SocketAddr, protocol: Protocol, settings: TlsSettings) -> Result<Tls, BindError> {
    let loading = spawn_blocking(move || Tls::load(address, protocol.alpn(), settings));
    let failed = |cause: TlsError| BindError::Tls { address, cause: Box::new(cause) };
    match loading.await {
        Ok(loaded) => loaded.map_err(failed),
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// Serves all ports until `shutdown`, and returns when every connection has ended. The clients of
/// all ports are one set: a client id is connected once.
pub async fn run(ports: Vec<Bound>, store: StoreHandles, settings: Settings, shutdown: CancellationToken) {
    let broker = Broker::new(settings.broker());
    run_with(ports, store, broker, settings, shutdown).await;
}

/// The same with a broker that others use as well.
pub async fn run_with(
    ports: Vec<Bound>,
    store: StoreHandles,
    broker: Broker,
    settings: Settings,
    shutdown: CancellationToken,
) {
    let intake = store.intake.clone();
    let limiter = ConnectionLimiter::new(&settings);
    let settings = Arc::new(settings);
    let shared = Arc::new(Shared {
        registry: Arc::new(Registry::new(settings.connections_max)),
        settings,
        broker: broker.clone(),
        metrics: Metrics::new(broker.traffic()),
        log_once: LogOnce::default(),
        large: LargeRoom::default(),
    });
    let position = broker::restore(&broker, &store).await;
    // Subscribers get what is there until the last connection has ended, and what is owed is saved
    // then.
    let broker_shutdown = CancellationToken::new();
    let mut distributing =
        tokio::spawn(broker::run(broker.clone(), store, position, broker_shutdown.clone()));
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = broker.opened() => {}
        // Without it the listeners would serve half of what they say.
        ended = &mut distributing => return resume(ended),
    }
    let tasks = TaskTracker::new();
    for port in ports {
        if let Some(tls) = port.tls.clone() {
            tasks.spawn(tls.run(shutdown.clone()));
        }
        let acceptor = Acceptor {
            port,
            intake: intake.clone(),
            shared: shared.clone(),
            limiter: limiter.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(acceptor.accept(shutdown.clone()));
    }
    tasks.close();
    tokio::select! {
        () = tasks.wait() => {
            broker_shutdown.cancel();
            resume(distributing.await);
        }
        ended = &mut distributing => {
            resume(ended);
            // The store is closed, and with it end the connections.
            tasks.wait().await;
        }
    }
}

/// Goes on with a task's panic.
fn resume(ended: Result<(), tokio::task::JoinError>) {
    if let Err(panicked) = ended {
        std::panic::resume_unwind(panicked.into_panic());
    }
}

struct Acceptor {
    port: Bound,
    intake: Intake,
    shared: Arc<Shared>,
    limiter: Arc<ConnectionLimiter>,
    tasks: TaskTracker,
}

impl Acceptor {
    async fn accept(self, shutdown: CancellationToken) {
        let over = transport(self.port.protocol, self.port.tls.is_some());
        tracing::info!(address = %self.port.address, "listening for MQTT 3.1.1 and 5 over {over}");
        let mut is_failing = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                accepted = self.next(&shutdown) => accepted,
            };
            match accepted {
                Ok(None) => {}
                Ok(Some((stream, origin, disconnect, permit))) => {
                    if std::mem::replace(&mut is_failing, false) {
                        tracing::info!(address = %self.port.address, "accepting connections again");
                    }
                    self.spawn(stream, origin, disconnect, permit);
                }
                Err(cause) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!(address = %self.port.address, "connections cannot be accepted: {cause}; trying on");
                    }
                    sleep(ACCEPT_BACK_OFF).await;
                }
            }
        }
    }

    /// Serves a connection in a task of its own.
    fn spawn(&self, stream: TcpStream, origin: Origin, disconnect: DisconnectHandle, permit: Permit) {
        let (intake, shared) = (self.intake.clone(), self.shared.clone());
        match (self.port.tls.clone(), self.port.protocol) {
            (Some(tls), protocol) => {
                drop(self.tasks.spawn(serve_tls(
                    (tls, protocol),
                    stream,
                    origin,
                    intake,
                    shared,
                    disconnect,
                    permit,
                )));
            }
            (None, Protocol::Mqtt) => {
                drop(self.tasks.spawn(serve(stream, origin, intake, shared, disconnect, permit, now())));
            }
            (None, Protocol::WebSocket) => {
                drop(self.tasks.spawn(websocket::serve(stream, origin, intake, shared, disconnect, permit)));
            }
        }
    }

    /// The next connection, once there is a permit for it; `None` if it was closed, as too many
    /// come from its address.
    async fn next(
        &self,
        shutdown: &CancellationToken,
    ) -> io::Result<Option<(TcpStream, Origin, DisconnectHandle, Permit)>> {
        let room = self.limiter.room().await.ok_or(io::ErrorKind::Other)?;
        let (stream, peer) = self.port.listener.accept().await?;
        let disconnect = DisconnectHandle::new(shutdown);
        let Some(permit) = self.limiter.enter(peer.ip(), &disconnect, room) else {
            self.shared.metrics.refused_address();
            if self.shared.log_once.is_new(("connections per address", peer.ip())) {
                tracing::warn!(address = %peer.ip(), "too many connections from one address: closed (said once for it)");
            }
            return Ok(None);
        };
        if let Some(until) = self.limiter.pace(clock::monotonic()) {
            self.shared.metrics.paced();
            sleep_until(until.into()).await;
        }
        // Acknowledgements are small and there is nothing to wait for. A failure only costs time.
        let _ = stream.set_nodelay(true);
        let (listener, anonymous) = (self.port.address, self.port.anonymous);
        let origin = Origin { peer, listener, certified: None, anonymous };
        Ok(Some((stream, origin, disconnect, permit)))
    }
}

/// Serves one client behind TLS, from its first byte to its end.
async fn serve_tls(
    (tls, protocol): (Arc<Tls>, Protocol),
    stream: TcpStream,
    mut origin: Origin,
    intake: Intake,
    shared: Arc<Shared>,
    disconnect: DisconnectHandle,
    permit: Permit,
) {
    let Some(Secured { stream, certified, entry }) =
        tls.secure(stream, &origin, &disconnect, shared.settings.tls_timeout).await
    else {
        return;
    };
    origin.certified = certified;
    match protocol {
        Protocol::Mqtt => drop(serve(stream, origin, intake, shared, disconnect, permit, now()).await),
        Protocol::WebSocket => {
            Box::pin(websocket::serve(stream, origin, intake, shared, disconnect, permit)).await;
        }
    }
    drop(entry);
}
