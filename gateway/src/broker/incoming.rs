//! Messages that no route stores, as they come in: which way each goes to those who subscribe.

use super::{
    Broker,
    in_log::{Pair, Staged},
    message::Message,
    route::Routed,
};
use std::sync::Arc;

/// A message that no route stores, as it comes in.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// The client id of its publisher.
    pub client: &'a str,
    /// Its topic.
    pub topic: &'a str,
    /// Its QoS.
    pub qos: u8,
    /// It is to be retained.
    pub retain: bool,
    /// With QoS 2: its packet id outlives the connection, and so has to be stored.
    pub is_id_kept: bool,
}

/// What becomes of a message that no route stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nobody wants it.
    No,
    /// Passed on in memory: whoever takes it is connected, and keeps nothing.
    Transient,
    /// Stored for local subscribers: to be told with [`Broker::note_in_log`] when it is appended.
    Stored {
        /// Its client and topic.
        pair: Pair,
        /// Somebody waits for it, so its commit lingers but a moment.
        is_hurried: bool,
    },
}

impl Broker {
    /// Which way a message goes that no route stores. `staged` says what waits to be appended
    /// before it.
    #[must_use]
    pub fn wants(&self, incoming: &Incoming<'_>, staged: &Staged) -> Wanted {
        let Incoming { client, topic, qos, retain, is_id_kept } = *incoming;
        let (is_kept, is_taken) = {
            let tree = self.0.tree.read();
            let is_kept = qos > 0 && tree.keep(topic, client);
            (is_kept, is_kept || tree.is_taken(topic))
        };
        if !is_taken && !retain {
            return Wanted::No;
        }
        let pair = self.0.in_log.pair(client, topic);
        let follows = staged.contains(&pair) || self.0.in_log.holds(pair);
        match is_kept || retain || follows || (qos == 2 && is_id_kept) {
            // Where nobody waits for it but those to come, it waits for company like an event.
            true => Wanted::Stored { pair, is_hurried: is_kept || (is_taken && !retain) },
            false => Wanted::Transient,
        }
    }

    /// Messages of these pairs are in the intake, durable once the watermark has reached
    /// `durable_at`.
    pub fn note_in_log(&self, pairs: impl IntoIterator<Item = Pair>, durable_at: u64) {
        if self.0.in_log.note(pairs, durable_at) {
            self.0.notify.notify_one();
        }
    }

    /// Passes on a message that is not stored: it is in the queues of those who take it when this
    /// returns. Gives the copies that it has: whoever passes on
    /// [`COPIES_IN_A_TURN`](super::COPIES_IN_A_TURN) gives way to others.
    pub fn route_transient(&self, message: Message) -> Routed {
        self.route(&Arc::new(message))
    }
}
