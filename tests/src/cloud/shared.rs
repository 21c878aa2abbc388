//! What the connections to a stand-in have in common: its limits, its behaviour of the moment, its
//! clients, and what it has seen.

use std::{
    collections::HashMap,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    breach::Breach,
    bucket::Bucket,
    limits::Limits,
    seen::{Connected, Message, Seen},
    session::{ConnectVerdict, no_session},
};
use crate::codec::WholeConnect;

/// What a test changes while the stand-in runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// How long an acknowledgement takes.
    pub ack_after: Duration,
    /// Of so many acknowledgements one is not sent, though its message is taken.
    pub drop_ack_every: Option<NonZeroU64>,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Shared {
    /// The platform.
    pub limits: Limits,
    behaviour: Mutex<Behaviour>,
    seen: Mutex<Seen>,
    clients: Mutex<HashMap<String, Known>>,
    acks: Mutex<u64>,
}

/// What is known of a client, over its connections.
#[derive(Debug)]
struct Known {
    bucket: Bucket,
    connected_at: Instant,
    connection: CancellationToken,
    keeps_session: bool,
}

impl Shared {
    /// Of a platform that nobody has come to.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let behaviour = Behaviour { ack_after: limits.ack_after, drop_ack_every: None };
        Self {
            limits,
            behaviour: Mutex::new(behaviour),
            seen: Mutex::default(),
            clients: Mutex::default(),
            acks: Mutex::default(),
        }
    }

    /// The behaviour of the moment.
    #[must_use]
    pub fn behaviour(&self) -> Behaviour {
        *self.behaviour.lock()
    }

    /// Changes them.
    pub fn change_behaviour(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock());
    }

    /// Looks at what was seen.
    pub fn with_seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock())
    }

    /// Takes down what a client did wrong.
    pub fn breach(&self, breach: Breach, whose: String) {
        self.seen.lock().breaches.push((breach, whose));
    }

    /// Takes down a message.
    pub fn record(&self, message: Message) {
        self.seen.lock().record(message);
    }

    /// Takes down a connection; gives its number.
    pub fn connected(&self, connect: WholeConnect, at: Instant) -> usize {
        let mut seen = self.seen.lock();
        seen.connections.push(Connected { at, connect });
        seen.connections.len() - 1
    }

    /// Lets a client in who may come in by itself: not too soon after its last connection, which
    /// this one takes over, and not with one session too many.
    pub fn admit(
        &self,
        connect: &WholeConnect,
        verdict: ConnectVerdict,
        connection: &CancellationToken,
        now: Instant,
    ) -> ConnectVerdict {
        let mut clients = self.clients.lock();
        let keeps_session = connect.session_expiry_s > 0;
        let known = clients.get(&connect.client_id);
        let bucket = known.map(|known| known.bucket).unwrap_or_default();
        if let Some(known) = known {
            let since = now.saturating_duration_since(known.connected_at);
            if since < self.limits.connect_spacing {
                return ConnectVerdict::Closed(Breach::ConnectRate);
            }
            known.connection.cancel();
        }
        let others = clients.iter().filter(|(id, known)| known.keeps_session && **id != connect.client_id);
        if keeps_session && others.count() >= self.limits.sessions_max {
            return no_session();
        }
        let connection = connection.clone();
        let known = Known { bucket, connected_at: now, connection, keeps_session };
        clients.insert(connect.client_id.clone(), known);
        verdict
    }

    /// Does something with what a client has left of its rate.
    pub fn with_bucket<T>(&self, client_id: &str, spend: impl FnOnce(&mut Bucket) -> T) -> T {
        let mut clients = self.clients.lock();
        match clients.get_mut(client_id) {
            Some(known) => spend(&mut known.bucket),
            None => spend(&mut Bucket::default()),
        }
    }

    /// Whether the acknowledgement that would be sent now is not to be.
    #[must_use]
    pub fn loses_ack(&self) -> bool {
        let mut acks = self.acks.lock();
        *acks += 1;
        let dropped = self.behaviour().drop_ack_every.is_some_and(|every| *acks % every == 0);
        if dropped {
            self.seen.lock().dropped_acks += 1;
        }
        dropped
    }

    /// The properties of CONNACK in MQTT 5 (section 3.2.2.3), for a client that asked for this
    /// keep-alive and is given that.
    #[must_use]
    pub fn grants(&self, asked_s: u16, granted_s: u16) -> Vec<u8> {
        let Limits { unacked_max, topic_alias_max, packet_bytes_max, retain, .. } = self.limits;
        let mut out = vec![];
        let mut put = |id: u8, value: &[u8]| {
            out.push(id);
            out.extend_from_slice(value);
        };
        put(0x24, &[super::limits::QOS_MAX]);
        put(0x25, &[retain.into()]);
        if unacked_max < u16::MAX {
            put(0x21, &unacked_max.to_be_bytes());
        }
        if packet_bytes_max > 0 {
            put(0x27, &packet_bytes_max.to_be_bytes());
        }
        if topic_alias_max > 0 {
            put(0x22, &topic_alias_max.to_be_bytes());
        }
        if granted_s != asked_s {
            put(0x13, &granted_s.to_be_bytes());
        }
        out
    }
}
