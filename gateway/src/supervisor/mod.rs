//! Wires the rooms, starts them, and stops them in the order of the flow.
//!
//! ```text
//! start   store opens, with what is known of devices ─▶ ports are bound ─▶ uplinks ─▶ commands, ingest ─▶ reload ─▶ http, fleet
//! stop    ingest, the gateway's last words ─▶ commands ─▶ uplinks and replays ─▶ fleet ─▶ store closes ─▶ http        each with a grace period, 10 s in all
//! ```
//!
//! A store that fails to write acknowledges nothing, says so on `/readyz`, and recovers by itself:
//! the process stays up. When the store closes or a task ends although nobody stopped it,
//! [`Gateway::failed`] resolves: the process says so and ends, and the service manager starts it
//! again.
//!
//! It moves no event itself.

mod error;
mod state;
mod task;
mod uplinks;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use error::StartError;
use state::GatewayState;
use task::{Failure, Task, fail};

use crate::{
    broker::Broker,
    catalog::Catalog,
    clock,
    config::Settings,
    fleet::{self, Fleet},
    http::{self, Snapshot},
    ingest, presence,
    reload::Reload,
    store::{Intake, Outbox, Store},
    telemetry,
    uplink::{EventContext, Replays},
};

/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long ingest may take to answer what is committed and to close its connections.
const INGEST_GRACE: Duration = Duration::from_millis(3500);
/// How long the uplinks and the replays may wait for what is in flight, all of them side by side.
const UPLINK_GRACE: Duration = Duration::from_millis(3500);
/// How long the fleet may take to save what it knows: the log has it if that fails.
const FLEET_GRACE: Duration = Duration::from_millis(500);
/// How long the store may take to commit what it took in and to close its files.
const STORE_GRACE: Duration = Duration::from_millis(2000);
/// How long HTTP may take to finish its answers.
const HTTP_GRACE: Duration = Duration::from_millis(500);
/// How often commands to devices are looked through for those that have expired.
const EXPIRE_EVERY: Duration = Duration::from_secs(2);
/// How long a task may take to let go of its ports and connections in a crash.
const CRASH_GRACE: Duration = Duration::from_secs(1);
/// All of stopping, as promised.
const STOP_MAX: Duration = Duration::from_secs(10);
const _: () = assert!(
    INGEST_GRACE.as_millis()
        + UPLINK_GRACE.as_millis()
        + FLEET_GRACE.as_millis()
        + STORE_GRACE.as_millis()
        + HTTP_GRACE.as_millis()
        <= STOP_MAX.as_millis()
);

/// A running gateway. Dropping it without [`Gateway::stop`] leaves its tasks to the runtime.
#[derive(Debug)]
pub struct Gateway {
    state: Arc<GatewayState>,
    uplinks: Vec<Task>,
    replays: Replays,
    ingest: Task,
    /// Gives devices their commands.
    commands: Task,
    reload: Task,
    http: Task,
    /// Ends what of the commands to devices has expired.
    expiry: Task,
    /// Says how the gateway is, if it is to.
    presence: Option<Task>,
    /// Follows the log, for what is known of devices.
    fleet: Task,
    http_address: SocketAddr,
    failure: Failure,
}

/// All ports, bound and not yet served.
struct Ports {
    doors: Vec<ingest::Bound>,
    window: http::Bound,
}

impl Gateway {
    /// Opens the store, binds all ports and starts all tasks.
    ///
    /// # Errors
    /// [`StartError`]: nothing runs, and no event was taken in.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        telemetry::recorder();
        telemetry::register(settings.uplinks.iter().map(|uplink| uplink.name.as_str()));
        let (store, knowledge) = open(&settings).await?;
        let bound = match bind(&settings).await {
            Ok(bound) => bound,
            Err(error) => {
                close(store).await;
                return Err(error);
            }
        };
        let gateway = Self::spawn(settings, store, knowledge, bound);
        gateway.announce();
        Ok(gateway)
    }

    fn spawn(
        settings: Settings,
        store: Store,
        knowledge: EventContext,
        Ports { doors, window }: Ports,
    ) -> Self {
        let (failure, _) = watch::channel(None);
        let (ends, view, outbox) = (ingest::StoreHandles::from(&store), store.view(), store.outbox());
        let view = view.of_gateway(&settings.gateway_id, settings.endurance_bytes);
        let replays = Replays::new(view.clone(), settings.uplinks.clone(), knowledge.clone());
        let reload = Reload::default();
        settings.uplinks.iter().filter_map(|uplink| uplink.upstream.tls()).for_each(|tls| reload.add(tls));
        let (uplinks, health) = uplinks::spawn(settings.uplinks, &store, &knowledge, &replays, &failure);
        doors.iter().filter_map(ingest::Bound::reloadable).for_each(|item| reload.add(item));
        reload.add(settings.ingest.access.clone());
        let state = Arc::new(GatewayState {
            id: settings.gateway_id,
            data_dir: settings.store.data_dir,
            started_ms: clock::wall_ms(),
            listeners: doors.iter().map(ingest::Bound::local_addr).collect(),
            uplinks: health,
            reload: reload.clone(),
            stopping: AtomicBool::new(false),
            store: Mutex::new(Some(store)),
        });
        watch_store(ends.intake.watermark(), state.clone(), failure.clone());
        let presence =
            settings.health_interval.map(|every| spawn_presence(every, &state, &ends.intake, &failure));
        let broker = Broker::new(settings.ingest.broker());
        let commands = {
            let (broker, outbox) = (broker.clone(), outbox.clone());
            Task::spawn("commands".into(), &failure, |stop| fleet::commands::run(broker, outbox, stop))
        };
        let ingest = Task::spawn("ingest".into(), &failure, |stop| {
            ingest::run_with(doors, ends, broker, settings.ingest, stop)
        });
        let reload = Task::spawn("reload".into(), &failure, |stop| reload.run(stop));
        let EventContext { catalog, fleet } = knowledge;
        let http_address = window.address();
        let rooms = http::Rooms {
            snapshot: state::snapshots(state.clone()),
            store: view.clone(),
            replays: replays.clone(),
            outbox: outbox.clone(),
            catalog: catalog.clone(),
            fleet: fleet.clone(),
        };
        let http = Task::spawn("http".into(), &failure, |stop| http::run(window, rooms, stop));
        let fleet = {
            let (outbox, view) = (outbox.clone(), view.clone());
            Task::spawn("fleet".into(), &failure, |stop| fleet::run(fleet, catalog, outbox, view, stop))
        };
        let expiry = Task::spawn("expiry".into(), &failure, |stop| expire(outbox, stop));
        Self {
            state,
            uplinks,
            replays,
            ingest,
            commands,
            reload,
            http,
            expiry,
            presence,
            fleet,
            http_address,
            failure,
        }
    }

    fn announce(&self) {
        let snapshot = self.snapshot();
        let (id, dir, store) =
            (&snapshot.id, snapshot.data_dir.display(), snapshot.store.unwrap_or_default());
        tracing::info!(
            "tidegate {VERSION}, gateway {id}: {dir} holds {} events, {} bytes in segments: {}",
            store.events,
            store.file_bytes,
            store.segments
        );
        // What the store says of the others is in the log already.
        let mut configured = snapshot.uplinks.iter().filter(|uplink| !uplink.kept).peekable();
        if configured.peek().is_none() {
            tracing::warn!("there is no uplink: events are stored and go nowhere; add an [[uplink]]");
        }
        for uplink in configured {
            let (name, upstream, events) = (&uplink.name, &uplink.upstream, uplink.backlog_events);
            let age = uplink.backlog_age_seconds;
            match events {
                0 => tracing::info!("uplink {name} to {upstream}: nothing to deliver"),
                _ => tracing::info!(
                    "uplink {name} to {upstream}: {events} events to deliver, oldest {age:.0} s"
                ),
            }
        }
        let listeners: Vec<String> = snapshot.listeners.iter().map(ToString::to_string).collect();
        tracing::info!(
            "devices connect to {}; status at http://{}/",
            listeners.join(", "),
            self.http_address
        );
    }

    /// The gateway now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.state.snapshot()
    }

    /// Where HTTP answers.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Loads anew what is loaded from files: certificates, keys, and the like. What cannot be
    /// loaded stays as it was.
    pub fn reload(&self) {
        self.state.reload.ask();
    }

    /// Resolves with the reason when the gateway cannot go on. Cancel-safe.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        // The sender lives in `self`, so waiting ends with a reason only. When the store fails the
        // rooms end as well, in any order: the store is the cause.
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => self.state.store_failure().or_else(|| reason.clone()).unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops in the order of the flow: takes in nothing more, answers what is committed, waits for
    /// what is in flight, closes the store. Ends within 10 s; what took longer is said and left: it
    /// loses nothing, for what is not acknowledged is sent again.
    pub async fn stop(self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        // Nothing waits for these.
        self.reload.stop.cancel();
        self.expiry.stop.cancel();
        let last_words = async {
            if let Some(presence) = self.presence {
                presence.stop(INGEST_GRACE).await;
            }
        };
        tokio::join!(self.ingest.stop(INGEST_GRACE), last_words);
        self.commands.stop.cancel();
        for uplink in &self.uplinks {
            uplink.stop.cancel();
        }
        let deadline = tokio::time::Instant::from_std(clock::monotonic()) + UPLINK_GRACE;
        let left = || deadline.saturating_duration_since(tokio::time::Instant::from_std(clock::monotonic()));
        let replays = tokio::spawn(async move { self.replays.stop(UPLINK_GRACE).await });
        for uplink in self.uplinks {
            uplink.stop(left()).await;
        }
        if !matches!(tokio::time::timeout(left(), replays).await, Ok(Ok(true))) {
            tracing::warn!("the replays did not stop within {UPLINK_GRACE:?}: they are left");
        }
        self.expiry.stop(left()).await;
        self.commands.stop(left()).await;
        self.fleet.stop(left().max(FLEET_GRACE)).await;
        let store = self.state.store.lock().take();
        if let Some(store) = store {
            close(store).await;
        }
        self.http.stop(HTTP_GRACE).await;
        tracing::info!("stopped");
    }

    /// Ends as SIGKILL would, as far as the files and the devices can tell: nothing more is
    /// written, nothing more is acknowledged, connections break.
    pub async fn crash(self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        let store = self.state.store.lock().take();
        if let Some(store) = store {
            let _ = tokio::task::spawn_blocking(move || store.crash()).await;
        }
        self.replays.stop(CRASH_GRACE).await;
        // Nothing can be acknowledged any more: what is left is to get the ports back.
        let others = [self.ingest, self.commands, self.reload, self.http, self.expiry, self.fleet];
        for task in self.uplinks.into_iter().chain(others).chain(self.presence) {
            task.stop(CRASH_GRACE).await;
        }
    }
}

async fn open(settings: &Settings) -> Result<(Store, EventContext), StartError> {
    let store = settings.store.clone();
    let names: Vec<String> = settings.uplinks.iter().map(|uplink| uplink.name.clone()).collect();
    let opening = tokio::task::spawn_blocking(move || {
        crate::store::make_folder(&store.data_dir)
            .map_err(|cause| StartError::DataDir { path: store.data_dir.clone(), cause })?;
        let store = Store::open(store, &names)?;
        let catalog = Catalog::default();
        let fleet = Fleet::open(&store.view(), &catalog, &clock::reading())?;
        Ok((store, EventContext { catalog, fleet }))
    });
    match opening.await {
        Ok(opened) => opened,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

async fn bind(settings: &Settings) -> Result<Ports, StartError> {
    let mut doors = Vec::new();
    for listener in &settings.listeners {
        doors.push(ingest::bind(listener).await?);
    }
    let address = settings.http.address;
    let window = http::bind(&settings.http).await.map_err(|cause| StartError::Http { address, cause })?;
    Ok(Ports { doors, window })
}

async fn close(store: Store) {
    let closing = tokio::task::spawn_blocking(move || store.close());
    if tokio::time::timeout(STORE_GRACE, closing).await.is_err() {
        tracing::warn!("the store did not close within {STORE_GRACE:?}: the next start repairs it");
    }
}

/// Ends what has expired, until `stop`. An error is said by those who put and send: here it is
/// tried again.
async fn expire(outbox: Outbox, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EXPIRE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let (outbox, now_ms) = (outbox.clone(), clock::wall_ms());
        let expired = tokio::task::spawn_blocking(move || outbox.expire(now_ms)).await;
        if let Ok(Err(error)) = expired {
            tracing::debug!(%error, "what has expired cannot be noted now");
        }
    }
}

fn spawn_presence(every: Duration, state: &Arc<GatewayState>, intake: &Intake, failure: &Failure) -> Task {
    let (id, look, intake) = (state.id.clone(), state::look(state.clone()), intake.clone());
    Task::spawn("presence".into(), failure, |stop| presence::run(id, every, look, intake, stop))
}

/// Says why when the store takes nothing more although nobody closed it.
fn watch_store(
    mut watermark: watch::Receiver<crate::store::Watermark>,
    state: Arc<GatewayState>,
    failure: Failure,
) {
    tokio::spawn(async move {
        let _ = watermark.wait_for(|watermark| watermark.closed).await;
        if !state.stopping.load(Ordering::Relaxed) {
            let reason = state.store_failure();
            fail(&failure, reason.unwrap_or_else(|| "the store closed by itself: this is a defect".into()));
        }
    });
}

#[cfg(test)]
mod tests;
