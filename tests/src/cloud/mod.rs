//! Stand-ins of the clouds that an MQTT uplink meets: servers that hold their clients to the
//! platforms' limits, and write down every message and every breach.
//!
//! ```text
//!  mod.rs         sockets: a stand-in that runs, plain or behind TLS
//!  ├ platforms    aws_iot · azure_iot_hub · azure_event_grid · emqx_serverless · …
//!  ├ connection   packets in, packets out, what is due
//!  │ ├ session    pure: verdicts on CONNECT and PUBLISH
//!  │ └ shared     clients, behaviour of the moment
//!  │   └ seen     messages for the oracle, breaches
//!  └ pure: limits · bucket · breach · sas
//! ```
//! A stand-in forgets sessions and delivers nothing to anyone. It says what its platform says about
//! a mistake, which is mostly nothing; the test reads it in [`Seen::breaches`].

pub mod breach;
mod bucket;
mod connection;
pub mod limits;
pub mod platforms;
pub mod sas;
mod seen;
mod session;
mod shared;
pub mod tls;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::{sleep_until, timeout},
};

pub use self::{
    breach::Breach,
    seen::{Message, PREFIX, Seen},
    shared::Behaviour,
};
use self::{
    connection::{Connection, Time},
    limits::Limits,
    shared::Shared,
    tls::ServerTls,
};
use crate::clock;

/// The longest time that a client may take for the handshake of TLS.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);
/// Read at once, in bytes.
const READ_BYTES: usize = 1 << 16;

/// A running stand-in. Ends with the value.
#[derive(Debug)]
pub struct StandIn {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl StandIn {
    /// Starts one on a free port, without TLS.
    pub async fn start(limits: Limits) -> Self {
        Self::open(limits, None).await
    }

    /// Starts one behind TLS.
    pub async fn start_behind(limits: Limits, tls: ServerTls) -> Self {
        Self::open(limits, Some(tls)).await
    }

    async fn open(limits: Limits, tls: Option<ServerTls>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared::new(limits));
        let task = tokio::spawn(accept(listener, shared.clone(), tls));
        Self { address, shared, task }
    }

    /// The address without TLS as the gateway's configuration names it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Changes its behaviour: how long acknowledgements take, and which are not sent.
    pub fn change_behaviour(&self, change: impl FnOnce(&mut Behaviour)) {
        self.shared.change_behaviour(change);
    }

    /// Looks at what it has seen. It takes nothing in meanwhile.
    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        self.shared.with_seen(look)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<ServerTls>) {
    // Dropped with this task, and its connections with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        connections.spawn(let_in(stream, shared.clone(), tls.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn let_in(stream: TcpStream, shared: Arc<Shared>, tls: Option<ServerTls>) {
    let Some(tls) = tls else { return serve(stream, &shared).await };
    match timeout(HANDSHAKE_LIMIT, tls.pass(stream)).await {
        Ok(Ok(stream)) => serve(stream, &shared).await,
        Ok(Err((breach, why))) => shared.breach(breach, why),
        Err(_) => shared.breach(Breach::Handshake, "it does not come to an end".into()),
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) {
    let mut connection = Connection::new(shared, clock::now());
    let taken_over = connection.taken_over.clone();
    let conversation = async {
        while converse(&mut stream, &mut connection).await.is_ok() && !connection.is_closed() {}
        // What was said at the end is still heard.
        let _ = stream.shutdown().await;
    };
    tokio::select! {
        () = conversation => {}
        () = taken_over.cancelled() => {}
    }
}

/// Sends what there is to say, and waits for something to hear or to do.
async fn converse(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    connection: &mut Connection<'_>,
) -> std::io::Result<()> {
    let wake_at = connection.wake_at();
    let wake = async {
        match wake_at {
            Some(at) => sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    };
    let is_paused = connection.is_paused();
    connection.input.reserve(READ_BYTES);
    tokio::select! {
        read = stream.read_buf(&mut connection.input), if !is_paused => {
            if read? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            connection.heard(clock::now());
        }
        () = wake => {}
    }
    connection.advance(Time { now: clock::now(), unix_s: clock::unix_s() });
    stream.write_all(&connection.output).await?;
    connection.output.clear();
    stream.flush().await
}

#[cfg(test)]
mod tests;
