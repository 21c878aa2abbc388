//! What a session does with a PUBLISH: the hot path.
//!
//! ```text
//!   parse ─▶ properties, alias ─▶ arrives? ─▶ may it? ─▶ route ─┬─▶ the batch
//!                └ here already: told again     └ denied        └─▶ local subscribers, or nobody
//! ```

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use super::{Now, Session, SessionEvent, Sink, acks::Arrival};
use crate::{
    access::audit::Action,
    broker::{Incoming, Message, Routed, Wanted},
    mqtt::{
        Fault, Version,
        connect::Will,
        packet::Reply,
        properties,
        publish::{Publish, Qos},
        topics,
    },
    routing::{self, Malformed, Verdict},
    store::{Kind, Record},
};

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Nobody wants it.
    Dropped,
    /// It is with those who take it, and not stored.
    Transient,
    /// It is in the batch.
    Stored,
}

/// Topics without a route that one session tells of.
const UNROUTED_LOGGED_MAX: usize = 64;

impl Session {
    #[inline]
    pub(super) fn take_publish<S: Sink>(
        &mut self,
        now: Now,
        first: u8,
        body: &[u8],
        sink: &mut S,
    ) -> Result<(), Fault> {
        let publish = Publish::parse(first, body, self.version)?;
        self.counts.publishes += 1;
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut aliases = std::mem::take(&mut self.aliases);
        let result = properties::walk(publish.properties, &mut scratch).and_then(|walked| {
            let topic = match (walked.alias, publish.topic) {
                (None, "") => return Err(Fault::Protocol("neither a topic nor an alias for one")),
                (None, topic) => topic,
                (Some(alias), topic) => resolve(&mut aliases, alias, topic)?,
            };
            if !self.settings.topics.allow(topic) {
                return Err(Fault::Topic);
            }
            let publish = Publish { topic, properties: walked.forwarded, ..publish };
            if publish.qos == Qos::AtMostOnce || self.arrives(&publish)? {
                if !self.permissions.may_publish(publish.topic) {
                    return self.deny(&publish);
                }
                self.admit(now, &publish, sink);
            }
            Ok(())
        });
        (self.scratch, self.aliases) = (scratch, aliases);
        result
    }

    /// Whether a publish with a packet id is to be admitted, as opposed to one that is here
    /// already.
    #[inline]
    fn arrives(&mut self, publish: &Publish<'_>) -> Result<bool, Fault> {
        match self.acks.arrive(publish.packet_id, publish.qos, publish.dup) {
            Arrival::New => {
                let receive_max = usize::from(self.settings.inflight_max);
                if self.version == Version::V5 && self.acks.in_flight() > receive_max {
                    return Err(Fault::ReceiveMaximum);
                }
                Ok(true)
            }
            Arrival::Resend => Ok(false),
            Arrival::Received => {
                self.acks.stage(publish.packet_id, Reply::PubrecAgain);
                Ok(false)
            }
            Arrival::Reused => {
                if !std::mem::replace(&mut self.reported.packet_id_reused, true) {
                    self.events.push(SessionEvent::PacketIdReused(publish.packet_id));
                }
                Ok(true)
            }
        }
    }

    #[inline]
    fn admit<S: Sink>(&mut self, now: Now, publish: &Publish<'_>, sink: &mut S) {
        let (stored, unrouted) = match publish.qos {
            Qos::AtMostOnce => (None, None),
            Qos::AtLeastOnce => (Some(Reply::Puback), Some(Reply::PubackUnrouted)),
            Qos::ExactlyOnce => (Some(Reply::Pubrec), Some(Reply::PubrecUnrouted)),
        };
        let taken = self.store(now, publish, sink);
        let Some(reply) = (if taken == Taken::Dropped { unrouted } else { stored }) else { return };
        self.acks.stage(publish.packet_id, reply);
        if taken != Taken::Stored && publish.qos == Qos::ExactlyOnce && self.session_expiry_s == 0 {
            self.acks.mark_transient(publish.packet_id);
        }
    }

    /// Drops a publish that the client may not make, and tells it so. MQTT 3.1.1 has no word for it
    /// but the connection's end: an acknowledgement would be a lie. But a bridge brings what
    /// another gateway published on a topic of its own as well, cannot leave it out, and would be
    /// held up by it for ever: that is acknowledged and dropped, as what no route takes.
    #[cold]
    fn deny(&mut self, publish: &Publish<'_>) -> Result<(), Fault> {
        self.note_denied(Action::Publish, publish.topic);
        let is_bridged = self.dialect.is_bridge && topics::is_reserved(publish.topic);
        match (self.version, publish.qos) {
            (_, Qos::AtMostOnce) => return Ok(()),
            (_, Qos::AtLeastOnce) if is_bridged => self.acks.stage(publish.packet_id, Reply::PubackUnrouted),
            (_, Qos::ExactlyOnce) if is_bridged => self.acks.stage(publish.packet_id, Reply::PubrecUnrouted),
            (Version::V311, _) => return Err(Fault::NotAuthorized),
            (Version::V5, Qos::AtLeastOnce) => self.acks.stage(publish.packet_id, Reply::PubackDenied),
            (Version::V5, Qos::ExactlyOnce) => self.acks.stage(publish.packet_id, Reply::PubrecDenied),
        }
        Ok(())
    }

    #[cold]
    pub(super) fn note_denied(&mut self, action: Action, topic: &str) {
        self.counts.denied[action as usize] += 1;
        if !std::mem::replace(&mut self.reported.denied[action as usize], true) {
            self.events.push(SessionEvent::Denied(action, topic.to_owned()));
        }
    }

    /// Pushes what a route or a local subscriber takes, or passes it on.
    #[inline]
    fn store<S: Sink>(&mut self, now: Now, publish: &Publish<'_>, sink: &mut S) -> Taken {
        let verdict = routing::judge(publish.topic, publish.payload, &self.settings.routes);
        let Verdict::Store { kind, events, urgent, device_level, malformed } = verdict else {
            return self.store_for_subscribers(now, publish, sink);
        };
        let record = Record { kind, events, urgent, device_level, ..record(&self.client, now, publish) };
        let bytes = push(&record, publish, sink);
        self.note_pushed(bytes);
        self.counts.events += u64::from(events);
        self.counts.bytes += (publish.topic.len() + publish.payload.len()) as u64;
        if let Some(malformed) = malformed {
            self.note_malformed(malformed, publish.topic);
        }
        Taken::Stored
    }

    /// What no route takes: for local subscribers, if there are any.
    #[cold]
    fn store_for_subscribers<S: Sink>(&mut self, now: Now, publish: &Publish<'_>, sink: &mut S) -> Taken {
        let record = Record { local: true, events: 0, ..record(&self.client, now, publish) };
        let incoming = Incoming {
            client: &self.client,
            topic: publish.topic,
            qos: record.qos,
            retain: publish.retain,
            is_id_kept: publish.packet_id != 0 && self.session_expiry_s > 0,
        };
        match self.broker.wants(&incoming, &self.staged) {
            Wanted::No => {
                self.note_unrouted(publish.topic);
                Taken::Dropped
            }
            Wanted::Transient => {
                let Routed { copies, reader } =
                    self.broker.route_transient(Message::of(&record, now.steady_ms));
                self.transient_copies += copies;
                if let Some(reader) = reader {
                    self.wait_for_reader(now, reader);
                }
                Taken::Transient
            }
            Wanted::Stored { pair, is_hurried } => {
                let bytes = push(&record, publish, sink);
                if is_hurried {
                    sink.hurry();
                }
                self.note_pushed(bytes);
                self.staged.insert(pair);
                Taken::Stored
            }
        }
    }

    #[inline]
    fn note_pushed(&mut self, bytes: usize) {
        self.acks.pushed();
        self.batched_bytes += bytes;
    }

    #[cold]
    fn note_malformed(&mut self, malformed: Malformed, topic: &str) {
        match malformed {
            // The fleet tells of it.
            Malformed::Frame => self.counts.malformed_frames += 1,
            Malformed::Text => {
                self.counts.malformed_texts += 1;
                if !std::mem::replace(&mut self.reported.no_text, true) {
                    self.events.push(SessionEvent::NoText(topic.to_owned()));
                }
            }
        }
    }

    #[cold]
    fn note_unrouted(&mut self, topic: &str) {
        self.counts.unrouted += 1;
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        let reported = &mut self.reported.unrouted;
        if reported.len() < UNROUTED_LOGGED_MAX && reported.insert(hasher.finish()) {
            self.events.push(SessionEvent::Unrouted(topic.to_owned()));
        }
    }

    /// Publishes the will, or leaves it to the broker for as long as it is to wait. Gives it if it
    /// went into the sink.
    pub(super) fn end_with_will<S: Sink>(
        &mut self,
        now: Now,
        will: Arc<Will>,
        sink: &mut S,
    ) -> Option<Arc<Will>> {
        let delay_s = will.delay_s.min(self.session_expiry_s);
        let publish = Publish {
            topic: &will.topic,
            packet_id: 0,
            qos: will.qos,
            dup: false,
            retain: will.retain,
            properties: &will.properties,
            payload: &will.payload,
        };
        if delay_s > 0 {
            self.broker.leave_will(&self.client, &will, now.steady_ms + u64::from(delay_s) * 1000);
            return None;
        }
        self.store(now, &publish, sink);
        Some(will)
    }
}

/// The topic that an alias stands for; a topic beside it is what it stands for from now on.
#[cold]
fn resolve<'a>(aliases: &'a mut Vec<Box<str>>, alias: u16, topic: &str) -> Result<&'a str, Fault> {
    let at = usize::from(alias) - 1;
    if !topic.is_empty() {
        if aliases.len() <= at {
            aliases.resize(at + 1, Box::default());
        }
        aliases[at] = topic.into();
    }
    match aliases.get(at) {
        Some(topic) if !topic.is_empty() => Ok(topic),
        _ => Err(Fault::Protocol("a topic alias that stands for nothing")),
    }
}

/// The record of a publish, as an event that no route says more of.
#[inline]
fn record<'a>(client: &'a str, now: Now, publish: &Publish<'a>) -> Record<'a> {
    Record {
        kind: Kind::Opaque,
        events: 1,
        retain: publish.retain,
        qos: publish.qos as u8,
        local: false,
        device_level: None,
        urgent: false,
        received_ms: now.wall_ms,
        client,
        topic: publish.topic,
        properties: publish.properties,
        payload: publish.payload,
    }
}

/// Gives what it weighs. A will has no packet id: nobody is owed an acknowledgement for it.
#[inline]
fn push<S: Sink>(record: &Record<'_>, publish: &Publish<'_>, sink: &mut S) -> usize {
    if publish.qos == Qos::ExactlyOnce && publish.packet_id != 0 {
        sink.push_exactly_once(record, publish.packet_id);
    } else {
        sink.push(record);
    }
    record.size()
}
