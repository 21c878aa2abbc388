//! A look at the gateway as it is now, and the gauges that are set from it when they are asked for.

use super::{Snapshot, SnapshotSource, UplinkView};
use crate::telemetry;

/// Asks on a thread that may block, for the answer may take a read from the disk.
pub(super) async fn look(source: SnapshotSource) -> Snapshot {
    match tokio::task::spawn_blocking(move || source()).await {
        Ok(snapshot) => snapshot,
        Err(failed) => Snapshot {
            not_ready: vec![format!("its status cannot be read: {failed}")],
            ..Snapshot::default()
        },
    }
}

/// Sets all gauges.
pub(super) fn set_gauges(snapshot: &Snapshot) {
    if let Some(store) = &snapshot.store {
        metrics::gauge!(telemetry::STORE_BYTES).set(store.file_bytes as f64);
        metrics::gauge!(telemetry::SEGMENTS).set(store.segments as f64);
        metrics::gauge!(telemetry::STORE_MAX_BYTES).set(store.max_bytes as f64);
        metrics::gauge!(telemetry::DEAD_LETTERS).set(store.dead_letters as f64);
        metrics::gauge!(telemetry::DEAD_LETTER_BYTES).set(store.dead_letter_bytes as f64);
    }
    let kept = snapshot.uplinks.iter().filter(|uplink| uplink.kept).count();
    metrics::gauge!(telemetry::UPLINKS_KEPT).set(kept as f64);
    snapshot.uplinks.iter().for_each(set_backlog);
}

/// What waits for an uplink, and whether anything is sent.
pub(super) fn set_backlog(uplink: &UplinkView) {
    let gauge = |name| metrics::gauge!(name, telemetry::UPLINK_LABEL => uplink.name.clone());
    gauge(telemetry::BACKLOG_EVENTS).set(uplink.backlog_events as f64);
    gauge(telemetry::BACKLOG_BYTES).set(uplink.backlog_bytes as f64);
    gauge(telemetry::BACKLOG_AGE).set(uplink.backlog_age_seconds);
    gauge(telemetry::UPLINK_PAUSED).set(if uplink.paused_since_ms.is_some() { 1.0 } else { 0.0 });
    gauge(telemetry::UPLINK_CONNECTED).set(if uplink.connected { 1.0 } else { 0.0 });
}
