//! What a stand-in has seen: every message, every connection, every breach of the rules.
//!
//! A message that arrived and was thrown away is sent again: for what must not be missing counts
//! what was taken, for order and identity all that arrived.

use std::{collections::BTreeMap, time::Instant};

use super::breach::Breach;
use crate::{
    codec::{Received, WholeConnect},
    oracle::{self, Ledger, Recorder, Verdict},
};

/// What the uplinks of the scenarios put before a topic.
pub const PREFIX: &str = "up/";

/// A PUBLISH that arrived.
#[derive(Debug, Clone)]
pub struct Message {
    /// When.
    pub at: Instant,
    /// On which connection, counted from 0.
    pub connection: usize,
    /// From whom.
    pub client_id: String,
    /// All of it, its alias resolved.
    pub publish: Received,
    /// It was taken; if not, it was thrown away or closed the connection.
    pub taken: bool,
}

/// A CONNECT that was accepted.
#[derive(Debug, Clone)]
pub struct Connected {
    /// When.
    pub at: Instant,
    /// All of it.
    pub connect: WholeConnect,
}

/// All that was seen, in order.
#[derive(Debug)]
pub struct Seen {
    /// What arrived.
    pub messages: Vec<Message>,
    /// Who came in.
    pub connections: Vec<Connected>,
    /// What was wrong, and in words with whom.
    pub breaches: Vec<(Breach, String)>,
    /// Acknowledgements that were kept back by the test's wish.
    pub dropped_acks: u64,
    messages_taken: usize,
    arrived: Recorder,
    taken: Recorder,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            messages: vec![],
            connections: vec![],
            breaches: vec![],
            dropped_acks: 0,
            messages_taken: 0,
            arrived: Recorder::new(PREFIX),
            taken: Recorder::new(PREFIX),
        }
    }
}

impl Seen {
    /// Takes a message down.
    pub fn record(&mut self, message: Message) {
        let plain = in_plain_topic(&message.publish);
        self.arrived.record(&plain);
        if message.taken {
            self.taken.record(&plain);
            self.messages_taken += 1;
        }
        self.messages.push(message);
    }

    /// How often each breach happened.
    #[must_use]
    pub fn breaches(&self) -> BTreeMap<Breach, usize> {
        let mut counts = BTreeMap::new();
        self.breaches.iter().for_each(|(breach, _)| *counts.entry(*breach).or_default() += 1);
        counts
    }

    /// Messages that were taken, copies included, whatever is in them.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.messages_taken
    }

    /// Whether everything that was acknowledged to the devices was taken.
    #[must_use]
    pub fn is_complete(&self, ledgers: &[Ledger]) -> bool {
        oracle::is_complete(ledgers, &self.taken)
    }

    /// The oracle's word; its copies are all that arrived more than once.
    ///
    /// # Panics
    /// A promise is broken; the message says which.
    pub fn demand(&self, ledgers: &[Ledger]) -> Verdict {
        let arrived = oracle::judge(ledgers, &self.arrived);
        arrived.demand();
        let taken = oracle::judge(ledgers, &self.taken);
        assert!(taken.lost.is_empty(), "arrived and never taken: {:?}", taken.lost);
        arrived
    }
}

/// The message as a broker would have got it: an IoT Hub's has one topic for all, whose property
/// bag names the device.
fn in_plain_topic(publish: &Received) -> Received {
    let topic = String::from_utf8_lossy(&publish.topic);
    let Some((_, bag)) = topic.split_once("/messages/events/") else { return publish.clone() };
    let device = bag.split('&').find_map(|pair| pair.strip_prefix("device="));
    let Some(device) = device.and_then(super::sas::decode) else { return publish.clone() };
    Received { topic: format!("{PREFIX}{}", oracle::topic_of(&device)).into(), ..publish.clone() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock;

    fn message(topic: &str, count: u32, taken: bool) -> Message {
        let publish = Received {
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            payload: oracle::payload("d", count).into(),
            qos: 1,
            packet_id: 1,
            dup: false,
            retain: false,
            properties: Bytes::new(),
        };
        Message { at: clock::now(), connection: 0, client_id: "c".into(), publish, taken }
    }

    fn ledger(events: usize) -> Ledger {
        let (name, topic) = ("d".to_owned(), oracle::topic_of("d"));
        Ledger { name, topic, qos: 1, sends: vec![1; events], acked: vec![true; events], ..Ledger::default() }
    }

    #[test]
    fn what_was_thrown_away_counts_for_order_and_is_missing_until_it_is_taken() {
        let mut seen = Seen::default();
        let topic = "up/plant/d/value";
        seen.record(message(topic, 0, true));
        seen.record(message(topic, 1, false));
        seen.record(message(topic, 2, true));
        assert!(!seen.is_complete(&[ledger(3)]));
        seen.record(message(topic, 1, true));
        assert!(seen.is_complete(&[ledger(3)]));
        assert_eq!(seen.demand(&[ledger(3)]).copies, 1);
        assert_eq!(seen.taken(), 3);
    }

    #[test]
    fn a_property_bag_names_the_device_of_a_message_to_an_iot_hub() {
        let mut seen = Seen::default();
        seen.record(message("devices/gate/messages/events/device=d&type=x", 0, true));
        seen.demand(&[ledger(1)]);
    }
}
