//! Retained messages: the last one of each topic, for whoever subscribes later. Pure.
//!
//! Limits: as many, and as many bytes, as it is told. A message on a new topic that finds no room
//! is delivered and not retained, and counted: what is retained is never pushed out by what comes.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use super::message::Message;
use crate::mqtt::topics;

/// What an entry weighs beside its message and its topic, in bytes: two of a node's places, as
/// nodes may be half full.
const ENTRY_BYTES: usize = 64;

/// What retaining a message came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is the topic's message now, or there is none any more.
    Changed,
    /// There was none, and there is none.
    Same,
    /// There is no room for it, and so there is none any more.
    NoRoom {
        /// There was one.
        was_there: bool,
    },
}

/// The retained messages.
#[derive(Debug, Default)]
pub struct Retained {
    by_topic: BTreeMap<Box<str>, Arc<Message>>,
    bytes: usize,
    /// No message's time is over before this; `None` if no message's time is limited.
    next_over_ms: Option<u64>,
}

impl Retained {
    /// Retains `message`; an empty one takes the topic's message away `[MQTT-3.3.1-6]`.
    pub fn put(&mut self, message: &Arc<Message>, messages_max: usize, bytes_max: usize) -> Outcome {
        let before = self.by_topic.get(&message.topic).map_or(0, |before| weight(before));
        if message.payload.is_empty() {
            self.bytes -= before;
            let was_there = self.by_topic.remove(&message.topic).is_some();
            return if was_there { Outcome::Changed } else { Outcome::Same };
        }
        let after = weight(message);
        let is_full = before == 0 && self.by_topic.len() >= messages_max;
        if is_full || self.bytes - before + after > bytes_max {
            // The one before is not the last any more [MQTT-3.3.1-5].
            self.bytes -= before;
            return Outcome::NoRoom { was_there: self.by_topic.remove(&message.topic).is_some() };
        }
        self.bytes = self.bytes - before + after;
        self.next_over_ms = self.next_over_ms.into_iter().chain(over_ms(message)).min();
        self.by_topic.insert(message.topic.clone(), message.clone());
        Outcome::Changed
    }

    /// The messages whose topics `filter` takes, by topic; those behind the topic `after`, if there
    /// is one.
    pub fn matching<'a>(
        &'a self,
        filter: &'a str,
        after: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<Message>> + use<'a> {
        let fixed = filter.find(['+', '#']).map_or(filter, |at| &filter[..at]);
        // `a/#` takes `a` as well, which sorts before `a/`.
        let fixed = fixed.strip_suffix('/').unwrap_or(fixed);
        let from = after.map_or(Bound::Included(fixed), Bound::Excluded);
        self.by_topic
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(move |(topic, _)| topic.starts_with(fixed))
            .filter(move |(topic, _)| topics::matches(filter, topic))
            .map(|(_, message)| message)
    }

    /// Whether the time of one may be over.
    #[must_use]
    pub fn has_over(&self, now_ms: u64) -> bool {
        self.next_over_ms.is_some_and(|over_ms| over_ms <= now_ms)
    }

    /// Takes away those whose time is over, and gives their topics.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Box<str>> {
        let over: Vec<_> =
            self.by_topic.extract_if(.., |_, message| message.expires_in_s(now_ms) == Some(0)).collect();
        self.bytes -= over.iter().map(|(_, message)| weight(message)).sum::<usize>();
        self.next_over_ms = self.by_topic.values().filter_map(|message| over_ms(message)).min();
        over.into_iter().map(|(topic, _)| topic).collect()
    }

    /// The message of `topic`.
    #[must_use]
    pub fn get(&self, topic: &str) -> Option<&Arc<Message>> {
        self.by_topic.get(topic)
    }

    /// All of them: their sizes have to stay.
    pub fn messages_mut(&mut self) -> impl Iterator<Item = &mut Arc<Message>> {
        // Their times may change: looked for anew.
        self.next_over_ms = self.next_over_ms.map(|_| 0);
        self.by_topic.values_mut()
    }

    /// The topics that have one.
    pub fn topics(&self) -> impl Iterator<Item = &Box<str>> {
        self.by_topic.keys()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_topic.len()
    }
}

/// When its time is over, if that is limited.
fn over_ms(message: &Message) -> Option<u64> {
    message.expiry_s.map(|expiry_s| message.received_ms.saturating_add(u64::from(expiry_s) * 1000))
}

fn weight(message: &Message) -> usize {
    message.size() + message.topic.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(topic: &str, payload: &str) -> Arc<Message> {
        Arc::new(Message {
            topic: topic.into(),
            payload: payload.as_bytes().into(),
            properties: Box::default(),
            publisher: "p".into(),
            qos: 1,
            retain: true,
            received_ms: 1000,
            expiry_s: None,
            command: None,
        })
    }

    #[test]
    fn the_last_message_of_a_topic_stays_until_an_empty_one_comes() {
        let no_room = |was_there| Outcome::NoRoom { was_there };
        let mut retained = Retained::default();
        let mut put = |topic, payload| retained.put(&message(topic, payload), 2, 1500);
        assert_eq!([put("a", "1"), put("a", "2"), put("b", "1")], [Outcome::Changed; 3]);
        assert_eq!((put("c", "1"), put("c", "")), (no_room(false), Outcome::Same));
        assert_eq!(put("b", ""), Outcome::Changed);
        assert_eq!(put("b", &"x".repeat(1500)), no_room(false));
        assert_eq!((&*retained.get("a").unwrap().payload, retained.len()), (&b"2"[..], 1));
        assert_eq!(retained.put(&message("a", &"x".repeat(1500)), 2, 1500), no_room(true));
        assert_eq!((retained.len(), retained.bytes), (0, 0), "the one before is not the last any more");
        retained.put(&message("a", "3"), 2, 1000);
        retained.put(&message("a", ""), 2, 1000);
        assert_eq!((retained.len(), retained.bytes), (0, 0));
    }

    #[test]
    fn what_is_over_is_gone() {
        let mut retained = Retained::default();
        retained.put(&Arc::new(Message { expiry_s: Some(2), ..(*message("a", "1")).clone() }), 9, 999);
        retained.put(&Arc::new(Message { expiry_s: Some(5), ..(*message("b", "1")).clone() }), 9, 999);
        assert!(!retained.has_over(2999) && retained.expire(2999).is_empty());
        assert!(retained.has_over(3000));
        assert_eq!(retained.expire(3000), ["a".into()]);
        assert!(!retained.has_over(5999) && retained.has_over(6000));
        retained.messages_mut().for_each(|message| Arc::make_mut(message).received_ms = 0);
        assert!(retained.has_over(5000));
        assert_eq!(retained.expire(5000), ["b".into()]);
        assert!(!retained.has_over(u64::MAX));
        assert_eq!((retained.len(), retained.bytes), (0, 0));
    }

    proptest! {
        #[test]
        fn a_filter_finds_what_it_takes(
            all in prop::collection::vec("[$ab]{0,2}(/[ab]{0,2}){0,3}", 0..20),
            filter in "[ab+$]{0,2}(/[ab+]{0,1}){0,3}(/#)?|#",
        ) {
            prop_assume!(topics::check_filter(&filter).is_ok());
            let mut retained = Retained::default();
            let mut all: Vec<_> = all.into_iter().filter(|t| topics::name(t.as_bytes()).is_some()).collect();
            for topic in &all {
                retained.put(&message(topic, "1"), 99, 999_999);
            }
            all.sort();
            all.dedup();
            all.retain(|topic| topics::matches(&filter, topic));
            let found = |after| retained.matching(&filter, after).map(|m| m.topic.to_string()).collect::<Vec<_>>();
            prop_assert_eq!(found(None), all.clone());
            for (n, topic) in all.iter().enumerate() {
                prop_assert_eq!(&found(Some(topic.as_str())), &all[n + 1..]);
            }
        }
    }
}
