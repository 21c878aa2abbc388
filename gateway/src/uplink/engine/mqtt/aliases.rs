//! Topic aliases of one connection: a topic that repeats goes out as a number. Pure. (MQTT 5.0
//! section 3.3.2.3.4)
//!
//! ```text
//!  topic ─ hash ─▶ slot ─┬ holds it ──────────────▶ the alias alone
//!                        ├ was asked for it before ▶ topic and alias: from now on the slot holds it
//!                        └ neither ───────────────▶ the topic as ever
//! ```
//! Each topic has one slot that it may lie in. A topic that comes up twice before the one that is
//! there comes again takes its place. So a table of any size is of use to however many topics, and
//! a topic that comes once costs nothing.
//!
//! Limits: as many as the upstream grants, to [`ALIASES_MAX`], and topics to [`TOPIC_BYTES_MAX`].
//! Nothing is allocated for a message once the slots have grown. An upstream that grants none costs
//! a comparison.

/// Aliases that are used at the most.
const ALIASES_MAX: u16 = 128;
/// A shorter topic is no longer than its alias.
const TOPIC_BYTES_MIN: usize = 5;
/// A longer topic is sent as it is: the table has a bound.
const TOPIC_BYTES_MAX: usize = 1024;

/// The aliases that one connection has.
#[derive(Debug, Default)]
pub struct Aliases {
    slots: Vec<Slot>,
}

#[derive(Debug, Default, Clone)]
struct Slot {
    /// What the alias means; empty if nothing yet.
    topic: Vec<u8>,
    /// The hash of the topic that was last asked for and is not there, or 0.
    asked: u64,
}

/// How a message names its topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Naming {
    /// By the topic alone.
    #[default]
    Topic,
    /// By the topic, which has this alias from now on.
    Both(u16),
    /// By the alias alone.
    Alias(u16),
}

impl Aliases {
    /// For an upstream that grants so many.
    #[must_use]
    pub fn new(granted: u16) -> Self {
        Self { slots: vec![Slot::default(); granted.min(ALIASES_MAX).into()] }
    }

    /// How a message on this topic is to name it. It holds once that message is sent: then
    /// [`Aliases::sent`] has to be told.
    #[inline]
    pub fn naming(&mut self, topic: &[u8]) -> Naming {
        if self.slots.is_empty() {
            return Naming::Topic;
        }
        self.look_up(topic)
    }

    fn look_up(&mut self, topic: &[u8]) -> Naming {
        if !(TOPIC_BYTES_MIN..=TOPIC_BYTES_MAX).contains(&topic.len()) {
            return Naming::Topic;
        }
        let hash = hash(topic);
        let at = (hash % self.slots.len() as u64) as usize;
        let slot = &mut self.slots[at];
        // Aliases count from 1.
        let alias = at as u16 + 1;
        if slot.topic == topic {
            slot.asked = 0;
            return Naming::Alias(alias);
        }
        if std::mem::replace(&mut slot.asked, hash) == hash { Naming::Both(alias) } else { Naming::Topic }
    }

    /// A message on this topic was sent, and named it so.
    #[inline]
    pub fn sent(&mut self, naming: Naming, topic: &[u8]) {
        let Naming::Both(alias) = naming else { return };
        let Some(slot) = self.slots.get_mut(usize::from(alias) - 1) else { return };
        slot.topic.clear();
        slot.topic.extend_from_slice(topic);
        slot.asked = 0;
    }
}

/// Eight bytes at a time: topics need no protection against whoever chooses them, as a slot that is
/// fought over costs what no alias costs.
fn hash(topic: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let (words, rest) = topic.as_chunks::<8>();
    let hash = words.iter().fold(topic.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let last = rest.iter().fold(0, |last, byte| last << 8 | u64::from(*byte));
    // 0 is no topic's.
    (mix(hash, last) ^ hash >> 32).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn send(aliases: &mut Aliases, topic: &str) -> Naming {
        let naming = aliases.naming(topic.as_bytes());
        aliases.sent(naming, topic.as_bytes());
        naming
    }

    #[test]
    fn a_topic_that_repeats_is_named_by_its_alias() {
        let mut aliases = Aliases::new(1);
        let named: Vec<Naming> = ["site/1", "site/1", "site/1", "site/2", "site/1", "site/2", "site/2"]
            .map(|topic| send(&mut aliases, topic))
            .into();
        use Naming::{Alias, Both, Topic};
        assert_eq!(named, [Topic, Both(1), Alias(1), Topic, Alias(1), Topic, Both(1)]);
        assert_eq!(send(&mut aliases, "site/1"), Topic, "another has its place");
        assert_eq!(send(&mut aliases, "a/b"), Topic, "it is shorter than an alias");
    }

    #[test]
    fn an_upstream_that_grants_none_gets_none_and_one_that_grants_all_a_few() {
        let mut aliases = Aliases::new(0);
        assert!((0..3).all(|_| send(&mut aliases, "site/1") == Naming::Topic));
        assert_eq!(Aliases::new(u16::MAX).slots.len(), usize::from(ALIASES_MAX));
        let mut aliases = Aliases::new(9);
        let long = "t".repeat(TOPIC_BYTES_MAX + 1);
        assert!((0..3).all(|_| send(&mut aliases, &long) == Naming::Topic));
    }

    #[test]
    fn a_message_that_was_not_sent_changes_nothing() {
        let mut aliases = Aliases::new(1);
        send(&mut aliases, "site/1");
        assert_eq!(aliases.naming(b"site/1"), Naming::Both(1));
        assert_eq!(send(&mut aliases, "site/1"), Naming::Both(1), "the upstream was not told of it");
    }

    proptest! {
        #[test]
        fn the_upstream_reads_the_topics_that_were_meant(
            granted in 0_u16..200,
            topics in prop::collection::vec(("[ab]{0,3}/[a-c]{1,12}", any::<bool>()), 1..300),
        ) {
            let (mut aliases, mut upstream) = (Aliases::new(granted), HashMap::new());
            for (topic, goes) in topics {
                let naming = aliases.naming(topic.as_bytes());
                if !goes { continue }
                aliases.sent(naming, topic.as_bytes());
                let read = match naming {
                    Naming::Topic => topic.clone(),
                    Naming::Both(alias) => {
                        upstream.insert(alias, topic.clone());
                        topic.clone()
                    }
                    Naming::Alias(alias) => upstream[&alias].clone(),
                };
                prop_assert_eq!(read, topic);
                prop_assert!(upstream.keys().all(|alias| (1..=granted).contains(alias)));
            }
        }
    }
}
