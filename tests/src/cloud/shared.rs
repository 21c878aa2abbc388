//! What the connections to a stand-in have in common: its limits, its manners of the moment, its
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
    session::{Welcome, no_session},
};
use crate::codec::WholeConnect;

/// What a test changes while the stand-in runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manners {
    /// How long an acknowledgement takes.
    pub ack_after: Duration,
    /// Of so many acknowledgements one is not sent, though its message is taken.
    pub drops_ack_in: Option<NonZeroU64>,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Shared {
    /// The platform.
    pub limits: Limits,
    manners: Mutex<Manners>,
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
        let manners = Manners { ack_after: limits.ack_after, drops_ack_in: None };
        Self {
            limits,
            manners: Mutex::new(manners),
            seen: Mutex::default(),
            clients: Mutex::default(),
            acks: Mutex::default(),
        }
    }

    /// The manners of the moment.
    #[must_use]
    pub fn manners(&self) -> Manners {
        *self.manners.lock()
    }

    /// Changes them.
    pub fn change_manners(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.manners.lock());
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
        welcome: Welcome,
        connection: &CancellationToken,
        now: Instant,
    ) -> Welcome {
        let mut clients = self.clients.lock();
        let keeps_session = connect.session_expiry_s > 0;
        let known = clients.get(&connect.client_id);
        let bucket = known.map(|known| known.bucket).unwrap_or_default();
        if let Some(known) = known {
            let since = now.saturating_duration_since(known.connected_at);
            if since < self.limits.connect_spacing {
                return Welcome::Closed(Breach::ConnectRate);
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
        welcome
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
    pub fn drops_ack(&self) -> bool {
        let mut acks = self.acks.lock();
        *acks += 1;
        let dropped = self.manners().drops_ack_in.is_some_and(|every| *acks % every == 0);
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
