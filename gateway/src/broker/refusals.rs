//! What local clients are refused for want of room, as the log tells it: to whom, which bound, its
//! value, and the key that raises it.
//!
//! Told the first time and whenever it happened twice as often, by client and bound, as
//! [`Repeats`](crate::telemetry::repeats::Repeats) counts. What happens while something
//! is locked is noted as a [`Refusal`] and told after that.

use super::{
    Broker,
    message::Message,
    outbound::QueueLimits,
    settings::{SUBSCRIPTIONS_BYTES_MAX, Settings},
    share::QUEUED_BYTES_MAX,
};

/// A bound that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    /// It is no filter, or too long or too deep.
    Filter,
    /// A client's subscriptions.
    Subscriptions,
    /// The subscriptions of all clients.
    AllSubscriptions,
    /// Sessions, and nobody is away whose might end.
    Sessions,
    /// Messages of QoS 1 and 2 that a session is owed.
    QueuedMessages,
    /// Bytes that a session is owed.
    QueuedBytes,
    /// Its share of the bytes that all sessions are owed.
    ShareOfQueued,
    /// Retained messages.
    RetainedMessages,
    /// Their bytes.
    RetainedBytes,
    /// Their bytes in a small store.
    RetainedInStore,
}

/// What is to be told.
#[derive(Debug)]
pub(super) struct Refusal {
    client: Box<str>,
    topic: Box<str>,
    bound: Bound,
    times: u64,
}

impl Bound {
    /// What keeps a session that is owed so many messages and bytes from one more.
    pub(super) fn of_queue(qos: u8, held: (usize, usize), limits: QueueLimits, settings: &Settings) -> Self {
        match qos > 0 && held.0 >= limits.messages_max {
            true => Bound::QueuedMessages,
            false if limits.bytes_max < settings.queued_bytes_max => Bound::ShareOfQueued,
            false => Bound::QueuedBytes,
        }
    }

    /// What keeps a message from being retained beside so many others.
    pub(super) fn of_retained(messages: usize, bytes_max: usize, settings: &Settings) -> Self {
        match messages >= settings.retained_messages_max {
            true => Bound::RetainedMessages,
            false if bytes_max < settings.retained_bytes_max => Bound::RetainedInStore,
            false => Bound::RetainedBytes,
        }
    }

    /// What happened, why, and what to do about it.
    fn words(self, settings: &Settings) -> String {
        const MIB: usize = 1024 * 1024;
        let refused = "a subscription is refused";
        let lost = "a subscriber loses a message";
        let kept = "a message is delivered and not retained";
        let raise = "raise it in the configuration";
        let Settings { subscriptions_max, sessions_max, topics, .. } = settings;
        match self {
            Bound::Filter => format!(
                "{refused}: it is no topic filter, or above [limits] topic_bytes = {} or topic_levels = {}",
                topics.bytes, topics.levels
            ),
            Bound::Subscriptions => {
                format!("{refused}: the client has [limits] subscriptions = {subscriptions_max}; {raise}")
            }
            Bound::AllSubscriptions => format!(
                "{refused}: those of all clients take {} MiB, which no key raises; use wildcards in place of many filters",
                SUBSCRIPTIONS_BYTES_MAX / MIB
            ),
            Bound::Sessions => format!(
                "{refused}: there are [limits] sessions = {sessions_max}, and nobody is away whose may end; {raise}"
            ),
            Bound::QueuedMessages => format!(
                "{lost}: it is owed [limits] queued_messages = {}; {raise}, or let it read faster",
                settings.queued_messages_max
            ),
            Bound::QueuedBytes => format!(
                "{lost}: it is owed [limits] queued_bytes = {}; {raise}, or let it read faster",
                settings.queued_bytes_max
            ),
            Bound::ShareOfQueued => format!(
                "{lost}: it is owed its share of the {} MiB of all sessions (less in a small store), which no key raises; let it read faster",
                QUEUED_BYTES_MAX / MIB
            ),
            Bound::RetainedMessages => format!(
                "{kept}: there are [limits] retained_messages = {}; {raise}",
                settings.retained_messages_max
            ),
            Bound::RetainedBytes => {
                format!("{kept}: all take [limits] retained_bytes = {}; {raise}", settings.retained_bytes_max)
            }
            Bound::RetainedInStore => {
                format!("{kept}: all take what a small store has for them; raise [store] max_bytes")
            }
        }
    }
}

impl Broker {
    /// A subscription of `client` is refused.
    #[cold]
    pub fn report_refused(&self, client: &str, filter: &str, bound: Bound) {
        if let Some(times) = self.0.warned.refusals.more((client, bound), 1) {
            self.report(&Refusal { client: client.into(), topic: filter.into(), bound, times });
        }
    }

    /// `message` is refused, on account of `client`, as others were: so many `times`, with it.
    /// Gives what is to be told.
    #[cold]
    pub(super) fn note_refused(
        &self,
        client: &str,
        message: &Message,
        bound: Bound,
        times: u64,
    ) -> Option<Refusal> {
        let times = self.0.warned.refusals.more((client, bound), times)?;
        Some(Refusal { client: client.into(), topic: message.topic.clone(), bound, times })
    }

    /// To be called with nothing locked.
    pub(super) fn report(&self, refusal: &Refusal) {
        let Refusal { client, topic, bound, times } = refusal;
        tracing::warn!(%client, ?topic, times, "{}", bound.words(&self.0.settings));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_that_was_reached_is_named_with_its_key() {
        let settings = Settings { queued_messages_max: 5, retained_messages_max: 7, ..Settings::default() };
        let limits = |messages_max, bytes_max| QueueLimits {
            messages_max,
            bytes_max,
            all_bytes_max: usize::MAX,
            is_again: false,
        };
        let all = settings.queued_bytes_max;
        let queue = |held, limits| Bound::of_queue(1, held, limits, &settings).words(&settings);
        let retained = |n, bytes_max| Bound::of_retained(n, bytes_max, &settings).words(&settings);
        for (words, key) in [
            (queue((5, 10), limits(5, all)), "[limits] queued_messages = 5"),
            (queue((4, 10), limits(5, all)), "[limits] queued_bytes = 1048576"),
            (queue((4, 10), limits(5, all - 1)), "12 MiB"),
            (retained(7, settings.retained_bytes_max), "[limits] retained_messages = 7"),
            (retained(6, settings.retained_bytes_max), "[limits] retained_bytes = 16777216"),
            (retained(6, settings.retained_bytes_max - 1), "[store] max_bytes"),
        ] {
            assert!(words.contains(key), "{words}");
        }
    }
}
