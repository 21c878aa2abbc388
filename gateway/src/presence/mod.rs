//! What the gateway says of itself, as events that go through the log to every upstream, like those
//! of a device.
//!
//! ```text
//!  start ─▶ tidegate/birth ─▶ tidegate/health, again and again ─▶ tidegate/status "stopping" ─▶ stop
//!                                        ╎ killed, or the link is gone
//!                                        ▼
//!                          tidegate/status "offline": the last will, which an MQTT upstream publishes
//! ```
//! They are records of the log, with JSON payloads, published by the gateway's own id; nobody else
//! may publish there. So they have an offset and an identity, wait for an uplink in an outage, come
//! in order, and are written in every format. The last will alone is not in the log: it is handed
//! to the upstream with each connection. An upstream that only lost the connection hears a health
//! soon after it is back.
//!
//! Limits: one health in an interval, and one in [`BACK_WITHIN`] while upstreams come back; texts
//! and uplinks as in [`health`]. A store that is full takes no health. It measures nothing: whoever
//! starts it gives it a look at the gateway.

pub mod health;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

pub use health::{Health, UplinkHealth};

use crate::{
    clock,
    store::{AppendError, Batch, Intake, Kind, Record},
};

/// Where the gateway says that it has started.
pub const BIRTH_TOPIC: &str = "tidegate/birth";
/// Where it says how it is.
pub const HEALTH_TOPIC: &str = "tidegate/health";
/// Where it says that it goes.
pub const STATUS_TOPIC: &str = "tidegate/status";
/// How long its last words may take to be stored, and then to be delivered where there is a
/// connection.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// An upstream that took the gateway for gone hears no later than this that it is back.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// A look at the gateway.
pub type Look = Arc<dyn Fn() -> Health + Send + Sync>;

#[derive(Debug, Serialize)]
struct Birth<'a> {
    version: &'a str,
    interval_s: u64,
}

/// Whether the gateway is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It stops in order.
    Stopping,
    /// The upstream lost it.
    Offline,
}

#[derive(Debug, Serialize)]
struct Status {
    state: State,
}

/// The payload of the last will.
#[must_use]
pub fn offline() -> Vec<u8> {
    json(&Status { state: State::Offline })
}

/// One of the gateway's own records.
#[must_use]
pub fn record<'a>(gateway: &'a str, topic: &'a str, payload: &'a [u8], now_ms: u64) -> Record<'a> {
    let received_ms = now_ms;
    Record { kind: Kind::Json, events: 1, received_ms, client: gateway, topic, payload, ..Record::default() }
}

/// Says of the gateway with this id that it has started, how it is in every `every`, and on `stop`
/// that it stops; ends then.
pub async fn run(gateway: String, every: Duration, look: Look, intake: Intake, stop: CancellationToken) {
    let voice = Voice { gateway, intake };
    let birth = Birth { version: env!("CARGO_PKG_VERSION"), interval_s: every.as_secs() };
    if stop.run_until_cancelled(voice.put(BIRTH_TOPIC, json(&birth))).await.is_some() {
        let mut rhythm = Rhythm::new(every);
        let mut ticks = interval(rhythm.look_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let health = look();
            if rhythm.is_due(&health, clock::monotonic()) {
                voice.try_put(HEALTH_TOPIC, json(&health));
            }
        }
    }
    if timeout(LAST_WORDS_MAX, voice.put_durably(STATUS_TOPIC, json(&Status { state: State::Stopping })))
        .await
        .is_ok()
    {
        // The uplinks are told to stop next: what is stored now would wait for the next start.
        let _ = timeout(LAST_WORDS_MAX, delivered(&look)).await;
    }
}

/// Waits until nothing waits for those upstreams that are connected.
async fn delivered(look: &Look) {
    let mut looks = interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        if look().uplinks.values().all(|uplink| !uplink.connected || uplink.backlog_events == 0) {
            return;
        }
    }
}

/// When a health is due.
struct Rhythm {
    every: Duration,
    /// How often to look: a whole number of times in the interval.
    look_every: Duration,
    said_at: Option<Instant>,
    /// Since when the uplinks were connected that were connected when the last one was said.
    connected: BTreeMap<String, u64>,
}

impl Rhythm {
    fn new(every: Duration) -> Self {
        let looks = every.as_millis().div_ceil(BACK_WITHIN.as_millis()) as u32;
        Self { every, look_every: every / looks.max(1), said_at: None, connected: BTreeMap::new() }
    }

    /// Whether this health is to be said: its time has come, or an uplink has a new connection.
    fn is_due(&mut self, health: &Health, now: Instant) -> bool {
        let uplinks = health.uplinks.iter().filter(|(_, uplink)| uplink.connected);
        let connected: BTreeMap<String, u64> =
            uplinks.filter_map(|(name, uplink)| Some((name.clone(), uplink.since_ms?))).collect();
        let is_back = connected.iter().any(|(name, since)| self.connected.get(name) != Some(since));
        // A timer is never quite on time.
        let is_time = self.said_at.is_none_or(|said| now - said + self.look_every / 2 >= self.every);
        if is_back || is_time {
            (self.said_at, self.connected) = (Some(now), connected);
        }
        is_back || is_time
    }
}

fn json(said: &impl Serialize) -> Vec<u8> {
    // They are made of numbers, texts and maps with text keys: nothing of it can fail.
    serde_json::to_vec(said).unwrap_or_default()
}

/// Puts records of the gateway's own into the log.
struct Voice {
    gateway: String,
    intake: Intake,
}

impl Voice {
    fn batch(&self, topic: &str, payload: &[u8]) -> Batch {
        let mut batch = Batch::default();
        batch.push(&record(&self.gateway, topic, payload, clock::wall_ms()));
        batch
    }

    /// Puts it, if there is room.
    fn try_put(&self, topic: &str, payload: Vec<u8>) {
        if let Err(error) = self.intake.append(&mut self.batch(topic, &payload)) {
            tracing::debug!(topic, %error, "what the gateway says of itself is left out");
        }
    }

    /// Puts it once there is room, and gives its ticket; `None` where the store is closed.
    async fn put(&self, topic: &str, payload: Vec<u8>) -> Option<u64> {
        loop {
            let mut batch = self.batch(topic, &payload);
            match self.intake.append(&mut batch) {
                Ok(ticket) => return Some(ticket),
                Err(AppendError::Closed) => return None,
                Err(AppendError::Full | AppendError::StoreFull) => self.intake.room(&batch).await,
            }
        }
    }

    /// The same, and waits until it is on disk.
    async fn put_durably(&self, topic: &str, payload: Vec<u8>) {
        let Some(ticket) = self.put(topic, payload).await else { return };
        // Nobody waits for company when the gateway stops.
        self.intake.hurry();
        let mut watermark = self.intake.watermark();
        let _ = watermark.wait_for(|mark| mark.closed || mark.committed > ticket).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(connected: bool, since_ms: u64) -> Health {
        let uplink = UplinkHealth { connected, since_ms: Some(since_ms), ..UplinkHealth::default() };
        Health::default().with_uplinks(BTreeMap::from([("cloud".to_owned(), uplink)]))
    }

    #[test]
    fn a_health_is_said_in_every_interval_and_when_an_upstream_is_back() {
        let mut rhythm = Rhythm::new(Duration::from_secs(65));
        assert_eq!(rhythm.look_every, Duration::from_secs(65) / 7, "more often than every 10 s");
        let (start, look_every) = (clock::monotonic(), rhythm.look_every);
        let mut at = |look: u32, connected, since_ms| {
            rhythm.is_due(&health(connected, since_ms), start + look_every * look)
        };
        assert!(at(0, true, 1), "the first");
        assert!((1..7).all(|look| !at(look, true, 1)));
        assert!(at(7, true, 1), "a whole interval later");
        assert!(!at(8, false, 2), "an upstream that is gone hears nothing");
        assert!(at(9, true, 3), "it is back");
        assert!(at(10, true, 4), "it came back between two looks");
        assert!((11..17).all(|look| !at(look, true, 4)) && at(17, true, 4));
        assert_eq!(Rhythm::new(Duration::from_secs(1)).look_every, Duration::from_secs(1));
    }
}
