//! What is known of the running gateway, for whoever looks in.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use super::VERSION;
use crate::{
    clock,
    http::{Snapshot, SnapshotSource, StoreView, UplinkView},
    presence::{self, Health, UplinkHealth},
    reload::Reload,
    store::Store,
    uplink,
};

/// What HTTP looks at.
#[derive(Debug)]
pub(super) struct GatewayState {
    pub(super) id: String,
    pub(super) data_dir: PathBuf,
    pub(super) started_ms: u64,
    pub(super) listeners: Vec<SocketAddr>,
    /// By uplink: where it goes, and how it does.
    pub(super) uplinks: Vec<(String, Arc<uplink::Health>)>,
    pub(super) reload: Reload,
    pub(super) stopping: AtomicBool,
    /// `None` once it is closed.
    pub(super) store: Mutex<Option<Store>>,
}

impl GatewayState {
    /// Why the store cannot go on, if so.
    pub(super) fn store_failure(&self) -> Option<String> {
        let reason = self.store.lock().as_ref().and_then(|store| store.status().failure)?;
        Some(format!("the store has failed and nothing more is acknowledged: {reason}"))
    }

    /// The gateway now.
    pub(super) fn snapshot(&self) -> Snapshot {
        let status = self.store.lock().as_ref().map(Store::status);
        let now_ms = clock::wall_ms();
        let mut not_ready = Vec::new();
        if self.stopping.load(Ordering::Relaxed) {
            not_ready.push("the gateway is stopping".to_owned());
        }
        match &status {
            None => not_ready.push("the store is closed".into()),
            Some(status) => {
                not_ready.extend(status.failure.iter().map(|reason| format!("the store fails: {reason}")));
                if status.is_full && status.room_bytes < status.max_bytes {
                    not_ready.push(format!(
                        "the disk has no space left for the store ({} of {} bytes): events are refused until something is delivered, or deleted by somebody else",
                        status.used_bytes, status.room_bytes
                    ));
                } else if status.is_full {
                    not_ready.push(format!(
                        "the store is full ({} of {} bytes): events are refused until something is delivered",
                        status.used_bytes, status.max_bytes
                    ));
                }
            }
        }
        let mut warnings = self.reload.warnings();
        let budget = status.as_ref().and_then(|status| status.wear_budget);
        if let Some(budget) = budget.filter(|budget| budget.lingers_since_ms.is_some()) {
            warnings.push(format!(
                "more was written than [store] wear_budget gives: commits wait {:.0?} for company, and acknowledgements with them",
                budget.linger
            ));
        }
        let backlogs = status.as_ref().map(|status| status.backlogs.as_slice()).unwrap_or_default();
        // Behind those that are configured come those that are not.
        let (nowhere, unknown) = (String::new(), Arc::default());
        let known = self.uplinks.iter().map(|(upstream, health)| (upstream, health));
        let known = known.chain(std::iter::repeat((&nowhere, &unknown)));
        let uplinks: Vec<UplinkView> = backlogs
            .iter()
            .zip(known)
            .map(|(backlog, (upstream, health))| UplinkView::new(upstream, backlog, &health.view(), now_ms))
            .collect();
        warnings.extend(uplinks.iter().filter(|uplink| uplink.kept).map(|uplink| {
            let (name, events) = (&uplink.name, uplink.backlog_events);
            format!(
                "the uplink {name} is not configured any more, and {events} events are kept for it: configure it again, or run \
                 \"tidegate uplinks forget {name}\""
            )
        }));
        let paused = uplinks.iter().filter(|uplink| uplink.paused_since_ms.is_some() && !uplink.kept);
        warnings.extend(paused.map(|uplink| {
            let (name, events) = (&uplink.name, uplink.backlog_events);
            format!("the uplink {name} is {}; {events} events wait for it", uplink.state(now_ms))
        }));
        Snapshot {
            version: VERSION.into(),
            id: self.id.clone(),
            data_dir: self.data_dir.clone(),
            started_ms: self.started_ms,
            ready: not_ready.is_empty(),
            not_ready,
            warnings,
            listeners: self.listeners.clone(),
            store: status.as_ref().map(StoreView::from),
            uplinks,
        }
    }
}

/// Looks at the gateway, for HTTP.
pub(super) fn snapshots(state: Arc<GatewayState>) -> SnapshotSource {
    Arc::new(move || state.snapshot())
}

/// What the gateway says of itself, made of what is known of it.
pub(super) fn look(state: Arc<GatewayState>) -> presence::Look {
    let started = clock::monotonic();
    Arc::new(move || {
        let Snapshot { version, ready, not_ready, warnings, store, uplinks, .. } = state.snapshot();
        let store = store.unwrap_or_default();
        let uplinks = uplinks.into_iter().filter(|uplink| !uplink.kept).map(|uplink| {
            let health = UplinkHealth {
                connected: uplink.connected,
                since_ms: uplink.since_ms,
                paused: uplink.paused_since_ms.is_some(),
                backlog_events: uplink.backlog_events,
                backlog_bytes: uplink.backlog_bytes,
                backlog_age_s: uplink.backlog_age_seconds as u64,
            };
            (uplink.name, health)
        });
        let health = Health {
            version,
            uptime_s: clock::monotonic().duration_since(started).as_secs(),
            ready,
            not_ready: presence::health::texts(&not_ready),
            warnings: presence::health::texts(&warnings),
            store_used_bytes: store.used_bytes,
            store_room_bytes: store.room_bytes,
            written_bytes: store.written_bytes,
            stored_events: store.events,
            dropped_events: store.dropped_events,
            dead_letters: store.dead_letters,
            ..Health::default()
        };
        health.with_uplinks(uplinks.collect())
    })
}
