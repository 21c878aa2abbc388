//! Retained messages on their way to a new subscription: as many at a time as the session's queue has room for.
//!
//! ```text
//!   SUBSCRIBE ─▶ replay: filter, last topic ─▶ half of the queue ─▶ written ─▶ the next half ─▶ …
//! ```
//! So a subscriber to `#` gets all that is retained, however many there are, and what is published meanwhile finds room. What is
//! retained by the time its topic's turn comes is sent. A replay is in memory: a restart ends it. Limits: one for each subscription;
//! what is in flight counts, so one that acknowledges nothing gets half of its limit and no more; a message that is larger than the
//! half is left out, and counted.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use super::{
    Broker,
    mailbox::{Mailbox, State, Subscription},
    outbound::Limits,
    route::Takers,
};

/// One subscription's retained messages.
#[derive(Debug)]
struct Replay {
    filter: Box<str>,
    subscription: Subscription,
    /// The topic sent last.
    after: Option<Box<str>>,
}

/// A session's.
#[derive(Debug, Default)]
pub(super) struct Replays(VecDeque<Replay>);

impl Replays {
    pub fn begin(&mut self, filter: &str, subscription: Subscription) {
        self.0.push_back(Replay { filter: filter.into(), subscription, after: None });
    }

    /// The subscription is over, or another.
    pub fn end(&mut self, filter: &str) {
        self.0.retain(|replay| *replay.filter != *filter);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Broker {
    /// Puts what is to be replayed into the session's queue. Whether there was anything.
    pub(super) fn replay(&self, mailbox: &Arc<Mailbox>) -> bool {
        // In this order, as everywhere.
        let takers = self.0.takers.read();
        self.replay_into(&takers, mailbox, &mut mailbox.state())
    }

    pub(super) fn replay_into(&self, takers: &Takers, mailbox: &Arc<Mailbox>, state: &mut State) -> bool {
        let limits = half(self.limits());
        let State { replays, outbound, .. } = state;
        // A good deal at a time: each begins with a search.
        let (messages, bytes) = outbound.held();
        if messages > limits.messages_max / 2 || bytes > limits.bytes_max / 2 {
            return false;
        }
        let mut has_any = false;
        while let Some(Replay { filter, subscription, after }) = replays.0.front_mut() {
            let (options, ids) = (subscription.options, subscription.id.as_slice());
            for message in takers.retained_for(filter, after.clone().as_deref()) {
                // Its own, too, are not local.
                let is_own = options.is_no_local() && *message.publisher == **mailbox.client();
                if !is_own && !outbound.push(message, message.qos.min(options.qos()), true, ids, limits) {
                    if outbound.copies() > 0 {
                        return has_any;
                    }
                    self.0.counts.queue_full.fetch_add(1, Ordering::Relaxed);
                }
                has_any = true;
                *after = Some(message.topic.clone());
            }
            replays.0.pop_front();
        }
        has_any
    }
}

/// The other half is for what is published meanwhile.
fn half(limits: Limits) -> Limits {
    Limits {
        messages_max: limits.messages_max.div_ceil(2),
        bytes_max: limits.bytes_max.div_ceil(2),
        ..limits
    }
}
