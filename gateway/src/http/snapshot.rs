//! The gateway at a glance: what `/api/status` says and `tidegate status` shows. Plain data, both
//! ways.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    store,
    uplink::{HealthView, Outage, lasting},
};

/// The gateway now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The program's version.
    pub version: String,
    /// The gateway's identity, `[gateway] id`.
    pub id: String,
    /// Where the store lives.
    pub data_dir: PathBuf,
    /// Since when this process has been up, wall clock, milliseconds since 1970.
    pub started_ms: u64,
    /// Events can be stored and taken in.
    pub ready: bool,
    /// Why not, if not; empty when ready.
    pub not_ready: Vec<String>,
    /// What does not stop it and somebody should see to, such as a certificate that runs out.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Addresses at which devices reach it.
    pub listeners: Vec<SocketAddr>,
    /// The store; `None` while it is not open.
    pub store: Option<StoreView>,
    /// By uplink, in the order of the configuration, then those that are not in it any more and
    /// whose places are kept.
    pub uplinks: Vec<UplinkView>,
}

/// The store at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreView {
    /// Events ever stored.
    pub events: u64,
    /// Segments, the active one included.
    pub segments: u64,
    /// Bytes of the segments' files.
    pub file_bytes: u64,
    /// Bytes of all of the store's files.
    pub used_bytes: u64,
    /// Bytes that they may take.
    pub max_bytes: u64,
    /// Bytes that they can take: less than they may where the disk is smaller, or others fill it.
    #[serde(default)]
    pub room_bytes: u64,
    /// Events that some uplink will not get, given up by this process: each is in a gap record.
    pub dropped_events: u64,
    /// Bytes written to disk by this process.
    pub written_bytes: u64,
    /// How the wear budget stands; `null` without one.
    #[serde(default)]
    pub wear_budget: Option<WearBudgetView>,
    /// Dead letters: records that an upstream could not take.
    pub dead_letters: u64,
    /// Their bytes.
    pub dead_letter_bytes: u64,
    /// Why nothing more can be stored, if so.
    pub failure: Option<String>,
}

/// The wear budget at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WearBudgetView {
    /// Bytes that may be written per day.
    pub bytes_per_day: u64,
    /// Bytes that may be written now; below 0 they were written already.
    pub left_bytes: i64,
    /// How long a commit waits for company, in milliseconds, rounded up; 0 while it goes at once.
    pub linger_ms: u64,
    /// Since when commits wait, wall clock, milliseconds since 1970.
    pub lingers_since_ms: Option<u64>,
}

/// An uplink at a glance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UplinkView {
    /// Its name.
    pub name: String,
    /// It is not in the configuration any more: nothing is sent, and what waits for it is kept
    /// until it is forgotten.
    #[serde(default)]
    pub kept: bool,
    /// Where it goes, such as `mqtt://broker.example:1883`.
    pub upstream: String,
    /// Whether the upstream is connected.
    pub connected: bool,
    /// Since when it is connected or not, wall clock, milliseconds since 1970; `None` before the
    /// first attempt.
    pub since_ms: Option<u64>,
    /// Since when it is paused, wall clock, milliseconds since 1970; `null` while it is not.
    #[serde(default)]
    pub paused_since_ms: Option<u64>,
    /// Why there is no connection, since when, and when the next try is; `null` while there is one,
    /// or need be none.
    #[serde(default)]
    pub outage: Option<Outage>,
    /// Why the last connection ended or the last attempt failed; stays when it went well again.
    pub last_error: Option<String>,
    /// Why no commands come from the upstream; `null` where they do, or are not asked for.
    #[serde(default)]
    pub commands_error: Option<String>,
    /// The same, with since when and when the next try is.
    #[serde(default)]
    pub commands_outage: Option<Outage>,
    /// Events that the upstream acknowledged to this process.
    pub delivered_events: u64,
    /// Events that are stored and not yet acknowledged upstream.
    pub backlog_events: u64,
    /// Bytes of their records.
    pub backlog_bytes: u64,
    /// Age of the oldest of them, in seconds; 0 without backlog.
    pub backlog_age_seconds: f64,
}

impl From<&store::Status> for StoreView {
    fn from(status: &store::Status) -> Self {
        Self {
            events: status.events,
            segments: status.segments as u64,
            file_bytes: status.file_bytes,
            used_bytes: status.used_bytes,
            max_bytes: status.max_bytes,
            room_bytes: status.room_bytes,
            dropped_events: status.dropped_events,
            written_bytes: status.written_bytes,
            wear_budget: status.wear_budget.map(WearBudgetView::from),
            dead_letters: status.dead_letters,
            dead_letter_bytes: status.dead_letter_bytes,
            failure: status.failure.clone(),
        }
    }
}

impl From<store::WearBudget> for WearBudgetView {
    fn from(budget: store::WearBudget) -> Self {
        Self {
            bytes_per_day: budget.bytes_per_day,
            left_bytes: budget.left_bytes,
            linger_ms: budget.linger.as_micros().div_ceil(1000) as u64,
            lingers_since_ms: budget.lingers_since_ms,
        }
    }
}

impl UplinkView {
    /// An uplink's view from where it goes, its backlog and its health at `now_ms` by the wall
    /// clock. A clock that was set back makes the age 0, never negative.
    #[must_use]
    pub fn new(upstream: &str, backlog: &store::Backlog, health: &HealthView, now_ms: u64) -> Self {
        let age_ms = backlog.oldest_received_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest));
        Self {
            name: backlog.uplink.clone(),
            kept: !backlog.is_configured,
            upstream: upstream.to_owned(),
            connected: health.connected,
            since_ms: health.since_ms,
            paused_since_ms: backlog.paused_since_ms,
            outage: health.outage.clone(),
            last_error: health.last_error.clone(),
            commands_error: health.commands_outage.as_ref().map(|outage| outage.why.clone()),
            commands_outage: health.commands_outage.clone(),
            delivered_events: health.delivered_events,
            backlog_events: backlog.events,
            backlog_bytes: backlog.bytes,
            backlog_age_seconds: age_ms as f64 / 1000.0,
        }
    }

    /// How it does at `now_ms` by the wall clock, in words: the same in `status` and over HTTP.
    #[must_use]
    pub fn state(&self, now_ms: u64) -> String {
        match (self.paused_since_ms, &self.outage, self.since_ms) {
            _ if self.kept => "not configured any more: what waits for it is kept".to_owned(),
            (Some(since_ms), ..) => {
                let (name, paused) = (&self.name, lasting(since_ms, now_ms));
                format!("paused {paused}: nothing is sent until \"tidegate uplinks resume {name}\"")
            }
            (None, Some(outage), _) => outage.at(now_ms),
            (None, None, Some(since_ms)) if self.connected => {
                let connected = format!("connected {}", lasting(since_ms, now_ms));
                match &self.commands_outage {
                    Some(outage) => format!("{connected}; no commands come: {}", outage.at(now_ms)),
                    None => connected,
                }
            }
            (None, None, _) => "connecting".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::Health;

    fn backlog(oldest_received_ms: Option<u64>) -> store::Backlog {
        store::Backlog {
            uplink: "cloud".into(),
            is_configured: true,
            paused_since_ms: None,
            events: 7,
            bytes: 70,
            oldest_received_ms,
        }
    }

    #[test]
    fn the_age_is_counted_from_the_oldest_event_and_never_negative() {
        for (oldest, now, seconds) in
            [(None, 5_000, 0.0), (Some(1_000), 3_500, 2.5), (Some(9_000), 5_000, 0.0)]
        {
            let view = UplinkView::new("mqtt://a:1883", &backlog(oldest), &Health::default().view(), now);
            assert!((view.backlog_age_seconds - seconds).abs() < 1e-9, "{oldest:?}: {view:?}");
        }
    }

    #[test]
    fn an_uplink_says_in_words_how_it_does() {
        let view = UplinkView { name: "cloud".into(), ..UplinkView::default() };
        let connected = UplinkView { connected: true, since_ms: Some(1_000), ..view.clone() };
        let outage = Some(Outage::new("refused".into(), 1_000, 71_000));
        let down = UplinkView { outage, since_ms: Some(1_000), ..view.clone() };
        let paused = UplinkView { paused_since_ms: Some(31_000), ..down.clone() };
        let commands_outage = Some(Outage::new("closed".into(), 61_000, 61_340));
        let deaf = UplinkView { commands_outage, ..connected.clone() };
        for (view, words) in [
            (&view, "connecting"),
            (
                &deaf,
                "connected for 60 s, since 1970-01-01T00:00:01Z; no commands come: closed; trying again in 340 ms",
            ),
            (&connected, "connected for 60 s, since 1970-01-01T00:00:01Z"),
            (&down, "refused; no connection for 60 s, since 1970-01-01T00:00:01Z; trying again in 10 s"),
            (
                &paused,
                "paused for 30 s, since 1970-01-01T00:00:31Z: nothing is sent until \"tidegate uplinks resume cloud\"",
            ),
            (
                &UplinkView { kept: true, ..paused.clone() },
                "not configured any more: what waits for it is kept",
            ),
        ] {
            assert_eq!(view.state(61_000), words);
        }
    }

    #[test]
    fn a_snapshot_survives_json() {
        let snapshot = Snapshot {
            id: "barn-7".into(),
            uplinks: vec![UplinkView::new(
                "mqtt://a:1883",
                &backlog(Some(1)),
                &Health::default().view(),
                2_001,
            )],
            store: Some(StoreView { events: 9, ..StoreView::default() }),
            ..Snapshot::default()
        };
        let json = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
    }
}
