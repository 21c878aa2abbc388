//! The window into the gateway: health, metrics and status over HTTP, for this machine alone.
//!
//! ```text
//! GET /healthz     200 while the process lives
//! GET /readyz      200 when events can be stored and taken in; 503 with the reasons otherwise;
//!                  ?verbose: and how each uplink does
//! GET /metrics     Prometheus text
//! GET /api/status  the same at a glance, as JSON: see [`Snapshot`]
//!
//! GET    /api/dead-letters       a page of them: see `dead_letters.rs`
//! GET    /api/dead-letters/ID    one, whole
//! DELETE /api/dead-letters/ID    takes one away
//! POST   /api/dead-letters/drop  takes away all that a filter takes
//!
//! /api/uplinks                   how each uplink does, to pause and to forget one: see `uplinks.rs`
//! /api/replay                    events that are sent again: see `replay.rs`
//! /api/commands                  commands to devices: see `commands.rs`
//! GET /api/devices   what is known of each device: see `devices.rs`
//! GET /api/schemas   the kinds of event that were met: see `schemas.rs`
//! GET /api/store/…   a closer look at the store: see `store.rs`
//! ```
//!
//! Limits: see `serving.rs` for connections, `turns.rs` for large answers.
//!
//! It has no users and no TLS, and therefore binds to loopback only: the configuration refuses any
//! other address. Whoever may connect to the machine's loopback may read it, drop dead letters,
//! pause an uplink, forget one that is not configured, start a replay and send commands to devices.
//! A request that changes something has to say `Content-Type: application/json`: no page in a
//! browser on this machine can send that by itself. Nor does one get here under a name of its own,
//! or from another site: see `host.rs`.

mod answer;
mod command;
mod commands;
mod dead_letters;
mod devices;
mod host;
mod letter;
mod limiter;
mod look;
mod pages;
mod replay;
mod schemas;
mod serving;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod turns;
mod uplinks;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use command::{CommandItem, CommandList, CommandRequest};
pub use letter::{LetterItem, LetterPage};
pub use serving::HttpLimits;
pub use snapshot::{Snapshot, StoreView, UplinkView, WearBudgetView};
pub use store::{CAT_RECORDS_MAX, CatNote, VerifyLine, VerifyNote};
pub use uplinks::{Forgotten, Paused};

/// What is known of devices, as JSON.
pub use crate::fleet::{
    BootItem, DeviceItem, DeviceList, DeviceSheet, FaultItem, Presence, Quality, Run, Sent,
};
/// What a replay is asked for and how far it is, as JSON both ways.
pub use crate::uplink::{
    Counted, Found, KindName, Letters, Progress, Request as ReplayRequest, State as ReplayState, Stored, What,
};
use crate::{
    catalog::Catalog,
    fleet::Fleet,
    store::{Outbox, View},
    uplink::Replays,
};

/// How often samples are moved into the histograms, so that memory stays bounded when nobody
/// scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A loopback address.
    pub address: SocketAddr,
    /// What its clients may cost.
    pub limits: HttpLimits,
}

impl Settings {
    /// At `address`, with the limits that hold by default.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, limits: HttpLimits::default() }
    }
}

/// The gateway as it is now: asked at every request.
pub type SnapshotSource = Arc<dyn Fn() -> Snapshot + Send + Sync>;

/// What it looks at.
#[derive(Clone)]
pub struct Rooms {
    /// The gateway at a glance.
    pub snapshot: SnapshotSource,
    /// The store, for a closer look.
    pub store: View,
    /// Events that are sent again.
    pub replays: Replays,
    /// Commands to devices.
    pub outbox: Outbox,
    /// What events mean.
    pub catalog: Catalog,
    /// What is known of the devices.
    pub fleet: Fleet,
}

/// A bound port, not yet served.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    limits: HttpLimits,
}

impl Bound {
    /// The address with the port that was given, where port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Binds the port.
///
/// # Errors
/// The system's reason; nothing is bound.
pub async fn bind(settings: &Settings) -> io::Result<Bound> {
    let listener = TcpListener::bind(settings.address).await?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address, limits: settings.limits.clone() })
}

/// Serves until `shutdown`.
pub async fn run(bound: Bound, rooms: Rooms, shutdown: CancellationToken) {
    let serve = serving::serve(bound, pages::router(rooms), shutdown);
    let upkeep = async {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            ticks.tick().await;
            if let Some(recorder) = crate::telemetry::recorder() {
                recorder.run_upkeep();
            }
        }
    };
    tokio::select! {
        () = serve => {}
        () = upkeep => {}
    }
}
