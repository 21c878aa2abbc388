//! What is on its way through the log to local subscribers, so that no later message of the same
//! client on the same topic overtakes it. Pure.
//!
//! ```text
//!   publish ─┬─ stored ─ appended, durable at a ticket ─ committed ─ routed by the broker ─▶ queues
//!            └─ passed on, unless an earlier one of its client and topic is on that way: then it follows it ─▶ queues
//! ```
//! Two ways with one order for each client and topic (`[MQTT-4.6.0-6]`, and stricter: whatever the
//! QoS). It holds over a client's connections as well, so its will does not come behind what it
//! publishes when it is back. What is passed on is in the queues before its session takes the next
//! packet, so what is stored never overtakes that.
//!
//! Limits: [`IN_LOG_MAX`] pairs of client and topic. While there are more, whatever is published on
//! a topic without a route follows through the log, which is slower and right. Memory only: what
//! was passed on before a crash is gone with it.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
};

use parking_lot::Mutex;

/// Pairs of client and topic that are on their way at most, 16 bytes each.
pub const IN_LOG_MAX: usize = 16 * 1024;

/// A client and a topic. Two pairs that are taken for one keep more order than they have to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pair(u64);

/// Pairs with a message in a batch that is not appended yet.
pub type Staged = HashSet<Pair>;

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct InLog {
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By pair: its last message is durable once the watermark has reached this.
    durable_at: HashMap<Pair, u64>,
    /// The same, of all those that found no place.
    others_durable_at: u64,
    /// What is durable below this is routed.
    routed: u64,
}

impl State {
    fn is_waiting(&self) -> bool {
        !self.durable_at.is_empty() || self.others_durable_at > self.routed
    }
}

impl InLog {
    /// The pair of this client and topic.
    pub fn pair(&self, client: &str, topic: &str) -> Pair {
        Pair(self.hasher.hash_one((client, topic)))
    }

    /// Whether an earlier message of the pair may be on its way.
    pub fn holds(&self, pair: Pair) -> bool {
        let state = self.state.lock();
        state.others_durable_at > state.routed || state.durable_at.contains_key(&pair)
    }

    /// Messages of these pairs are in the intake, durable once the watermark has reached
    /// `durable_at`. Whether they are the first that are waited for.
    pub fn note(&self, pairs: impl IntoIterator<Item = Pair>, durable_at: u64) -> bool {
        let mut state = self.state.lock();
        let was_waiting = state.is_waiting();
        if durable_at > state.routed {
            for pair in pairs {
                if state.durable_at.len() < IN_LOG_MAX || state.durable_at.contains_key(&pair) {
                    state.durable_at.insert(pair, durable_at);
                } else {
                    state.others_durable_at = state.others_durable_at.max(durable_at);
                }
            }
        }
        !was_waiting && state.is_waiting()
    }

    /// Whether anything is on its way.
    pub fn is_waiting(&self) -> bool {
        self.state.lock().is_waiting()
    }

    /// What is durable at the watermark `routed` is in the queues of those who take it.
    pub fn note_routed(&self, routed: u64) {
        let mut state = self.state.lock();
        state.routed = state.routed.max(routed);
        let routed = state.routed;
        state.durable_at.retain(|_, durable_at| *durable_at > routed);
        if state.durable_at.is_empty() {
            state.durable_at.shrink_to(IN_LOG_MAX / 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_held_until_what_it_has_in_the_log_is_routed() {
        let in_log = InLog::default();
        let (one, two) = (in_log.pair("a", "t"), in_log.pair("b", "t"));
        assert!(one != two && one != in_log.pair("a", "u") && one == in_log.pair("a", "t"));
        assert!(in_log.note([one], 5));
        assert!(!in_log.note([one, two], 7), "something was waited for before");
        for (routed, held) in [(4, true), (6, true), (7, false)] {
            in_log.note_routed(routed);
            assert_eq!((in_log.holds(one), in_log.is_waiting()), (held, held), "{routed}");
        }
        assert!(!in_log.note([one], 7) && !in_log.holds(one), "it was routed before it was noted");
        assert!(in_log.note([one], 8));
        in_log.note_routed(3);
        assert!(in_log.holds(one));
    }

    #[test]
    fn beyond_its_bound_it_holds_every_pair_until_those_are_routed() {
        let in_log = InLog::default();
        let pair = |n: usize| in_log.pair("a", &n.to_string());
        in_log.note((0..=IN_LOG_MAX).map(pair), 1);
        assert_eq!(in_log.state.lock().durable_at.len(), IN_LOG_MAX);
        assert!(in_log.holds(in_log.pair("of", "no message")));
        in_log.note_routed(1);
        assert!(!in_log.is_waiting() && (0..=IN_LOG_MAX).map(pair).all(|pair| !in_log.holds(pair)));
        assert!(in_log.state.lock().durable_at.capacity() < IN_LOG_MAX / 16, "the memory is given back");
    }
}
