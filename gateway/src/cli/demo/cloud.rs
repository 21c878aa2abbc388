//! The stand-in cloud: rumqttd on loopback, and a link to it that can be cut.
//!
//! ```text
//! uplink ──▶ link (can be cut) ──▶ rumqttd ──▶ witness
//! ```
//!
//! rumqttd keeps its log in memory and throws the oldest away when it is full, acknowledged or not:
//! the log is made large enough for a demo of hours. It has no shutdown: its threads end with the
//! process.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cli::Failure;

/// Bytes of rumqttd's in-memory log per segment, and how many segments it has.
const LOG_SEGMENT_BYTES: usize = 64 << 20;
const LOG_SEGMENTS: usize = 16;
/// Largest payload that the cloud takes, in bytes.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// How long the broker may take until its port answers.
const UP_MAX: Duration = Duration::from_secs(10);

/// The cloud. Dropping it cuts the link for good.
#[derive(Debug)]
pub(super) struct Cloud {
    broker: SocketAddr,
    link: SocketAddr,
    up: watch::Sender<bool>,
    _stop: DropGuard,
}

impl Cloud {
    /// Starts the broker and the link, which is up.
    pub(super) async fn start() -> Result<Self, Failure> {
        let failed =
            |cause: io::Error| Failure::Unavailable(format!("the stand-in cloud cannot start: {cause}"));
        let broker = free_address().map_err(failed)?;
        let config = broker_config(broker);
        std::thread::Builder::new()
            .name("cloud".into())
            .spawn(move || {
                if let Err(error) = rumqttd::Broker::new(config).start() {
                    tracing::error!("the stand-in cloud ended: {error}");
                }
            })
            .map_err(failed)?;
        let answers = async {
            while TcpStream::connect(broker).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await
            }
        };
        tokio::time::timeout(UP_MAX, answers).await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?;

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let link = listener.local_addr().map_err(failed)?;
        let (up, state) = watch::channel(true);
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(carry(listener, broker, state)));
        Ok(Self { broker, link, up, _stop: stop.drop_guard() })
    }

    /// Where the broker is, without the link: for the witness.
    pub(super) fn broker(&self) -> SocketAddr {
        self.broker
    }

    /// Where the gateway's uplink goes.
    pub(super) fn link(&self) -> SocketAddr {
        self.link
    }

    /// Cuts the link: connections break, new ones are closed at once.
    pub(super) fn cut(&self) {
        self.up.send_replace(false);
    }

    /// Mends the link.
    pub(super) fn mend(&self) {
        self.up.send_replace(true);
    }
}

/// Carries every connection while the link is up.
async fn carry(listener: TcpListener, broker: SocketAddr, up: watch::Receiver<bool>) {
    loop {
        let Ok((mut near, _)) = listener.accept().await else { continue };
        let mut state = up.clone();
        if !*state.borrow_and_update() {
            continue;
        }
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(broker).await else { return };
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                // Cut, or the cloud is gone.
                _ = state.wait_for(|up| !up) => {}
            }
        });
    }
}

/// An address that was free a moment ago: rumqttd does not say which port it was given.
fn free_address() -> io::Result<SocketAddr> {
    StdListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn broker_config(listen: SocketAddr) -> rumqttd::Config {
    let server = rumqttd::ServerSettings {
        name: "cloud".into(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections: rumqttd::ConnectionSettings {
            connection_timeout_ms: 5000,
            max_payload_size: PAYLOAD_BYTES_MAX,
            max_inflight_count: 500,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    rumqttd::Config {
        router: rumqttd::RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 200,
            max_segment_size: LOG_SEGMENT_BYTES,
            max_segment_count: LOG_SEGMENTS,
            ..rumqttd::RouterConfig::default()
        },
        v5: Some(HashMap::from([("cloud".to_owned(), server)])),
        ..rumqttd::Config::default()
    }
}
