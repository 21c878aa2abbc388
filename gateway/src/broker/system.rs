//! What the gateway says of itself below `$SYS/`, by mosquitto's names, for the health checks and
//! panels that look there.
//!
//! ```text
//!   connections ─ Traffic ─┐
//!   sessions, subscriptions, retained ─┴▶ figures ─ a subscription to $SYS/… ─▶ retained, for it
//!                                              └── every 10 s, while somebody subscribes ─▶ subscribers
//! ```
//! The figures are made when somebody looks and kept in memory: nothing of them is stored, saved or
//! counted against the retained messages. They are of QoS 0, and of this run of the gateway. A
//! wildcard in the first level takes none of them `[MQTT-4.7.2-1]`; who may see them, the access
//! rules say.
//!
//! Limits: [`TOPICS_MAX`] topics; made again [`LOOK_MS`] after the last time at the earliest.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Broker, message::Message};
use crate::mqtt::topics::SYSTEM;

/// How often subscribers get them, in milliseconds.
const SAY_MS: u64 = 10_000;
/// How old they may be for one who subscribes, in milliseconds: anybody can subscribe again and
/// again.
const LOOK_MS: u64 = 1_000;
/// Topics.
pub const TOPICS_MAX: usize = 12;

/// What connections count for all to see, since the start.
#[derive(Debug, Default)]
pub struct Traffic {
    connected: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    publishes_received: AtomicU64,
    publishes_sent: AtomicU64,
    publishes_dropped: AtomicU64,
}

impl Traffic {
    /// A client was accepted.
    pub fn connected(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
    }

    /// A client that was accepted is gone.
    pub fn disconnected(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }

    /// Packets that one read held, those that were answered since the one before, and how many of
    /// the former are publishes.
    pub fn count(&self, received: u64, sent: u64, publishes: u64) {
        for (count, n) in
            [(&self.received, received), (&self.sent, sent), (&self.publishes_received, publishes)]
        {
            if n > 0 {
                count.fetch_add(n, Ordering::Relaxed);
            }
        }
    }

    /// Copies that went out to subscribers, and copies that did not.
    pub fn delivered(&self, sent: u64, dropped: u64) {
        self.publishes_sent.fetch_add(sent, Ordering::Relaxed);
        self.publishes_dropped.fetch_add(dropped, Ordering::Relaxed);
    }
}

/// When the figures were made and said, by the steady clock, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// The first look at the clock.
    started: AtomicU64,
    /// The last one.
    now: AtomicU64,
    looked: AtomicU64,
    said: AtomicU64,
}

impl Broker {
    /// What connections count.
    #[must_use]
    pub fn traffic(&self) -> Arc<Traffic> {
        self.0.traffic.clone()
    }

    /// Says the figures to those who subscribe to them, if it is time.
    pub(super) fn say_figures(&self, now_ms: u64) {
        let times = &self.0.figures_at;
        let _ = times.started.compare_exchange(0, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        times.now.store(now_ms, Ordering::Relaxed);
        let is_taken = {
            let tree = self.0.tree.read();
            NAMES.iter().any(|name| tree.is_taken(&topic(name)))
        };
        // Who subscribes gets them at once: the next time is a whole interval later.
        if is_taken && now_ms < times.said.load(Ordering::Relaxed) + SAY_MS {
            return;
        }
        times.said.store(now_ms, Ordering::Relaxed);
        if !is_taken {
            return;
        }
        times.looked.store(now_ms, Ordering::Relaxed);
        for message in self.figures() {
            self.route(&message);
        }
    }

    /// Makes the figures that one gets who subscribes now, unless they are new.
    pub(super) fn look_at_figures(&self) {
        let times = &self.0.figures_at;
        let now_ms = times.now.load(Ordering::Relaxed);
        let looked = times.looked.load(Ordering::Relaxed);
        if looked > 0 && now_ms < looked + LOOK_MS {
            return;
        }
        times.looked.store(now_ms.max(1), Ordering::Relaxed);
        let figures = self.figures();
        let mut tree = self.0.tree.write();
        figures.iter().for_each(|message| tree.keep_figure(message));
    }

    fn figures(&self) -> Vec<Arc<Message>> {
        let (mut away, mut subscriptions) = (0, 0);
        for mailbox in self.0.sessions.lock().values() {
            let state = mailbox.state();
            away += u64::from(state.away_since_ms.is_some());
            subscriptions += state.subscriptions.len() as u64;
        }
        let (traffic, times) = (&self.0.traffic, &self.0.figures_at);
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (connected, sent) = (of(&traffic.connected), of(&traffic.publishes_sent));
        let uptime_s = of(&times.now).saturating_sub(of(&times.started)) / 1000;
        let retained = self.0.tree.read().retained.len() as u64;
        let numbers = [
            connected,
            away,
            connected + away,
            of(&traffic.received),
            of(&traffic.sent) + sent,
            of(&traffic.publishes_received),
            sent,
            of(&traffic.publishes_dropped),
            subscriptions,
            retained,
        ];
        let texts =
            [format!("tidegate version {}", env!("CARGO_PKG_VERSION")), format!("{uptime_s} seconds")];
        let values = texts.into_iter().chain(numbers.map(|number| number.to_string()));
        NAMES.iter().zip(values).map(|(name, value)| message(name, value)).collect()
    }
}

/// Their topics below `$SYS/broker/`, as mosquitto has them.
const NAMES: [&str; TOPICS_MAX] = [
    "version",
    "uptime",
    "clients/connected",
    "clients/disconnected",
    "clients/total",
    "messages/received",
    "messages/sent",
    "publish/messages/received",
    "publish/messages/sent",
    "publish/messages/dropped",
    "subscriptions/count",
    "retained messages/count",
];

fn topic(name: &str) -> String {
    format!("{SYSTEM}broker/{name}")
}

fn message(name: &str, value: String) -> Arc<Message> {
    Arc::new(Message {
        topic: topic(name).into(),
        payload: value.into_bytes().into(),
        properties: Box::default(),
        publisher: Box::default(),
        qos: 0,
        retain: true,
        received_ms: 0,
        expiry_s: None,
        command: None,
    })
}
