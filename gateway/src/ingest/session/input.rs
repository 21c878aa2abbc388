//! What a session does with each packet. PUBLISH first: everything else is rare.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{End, News, Now, Phase, Session, Sink};
use crate::{
    ingest::{
        acks::Arrival,
        admission::{self, Verdict},
        codec::{self, Will},
        error::Fault,
        packet::{self, Header, Reply, Version},
        properties,
        publish::{Publish, Qos},
    },
    store::Record,
};

/// Topics without a route that one session tells of.
const UNROUTED_TOLD_MAX: usize = 64;

impl Session {
    /// Takes the packet at the start of `input`, and gives its length; 0 if its end is not there.
    #[inline]
    pub(super) fn take_packet<S: Sink>(
        &mut self,
        now: Now,
        input: &[u8],
        sink: &mut S,
    ) -> Result<usize, Fault> {
        let Some(header) = Header::parse(input, self.settings.packet_bytes_max)? else { return Ok(0) };
        let Some(body) = input.get(header.bytes..header.packet_bytes()) else {
            // Said before its end is waited for: what does not speak MQTT need not send on.
            return if self.may_come(header) { Ok(0) } else { Err(Fault::NotConnect) };
        };
        if header.kind() == packet::PUBLISH && matches!(self.phase, Phase::Open) {
            self.take_publish(now, header.first, body, sink)?;
        } else {
            self.take_other(now, header, body, sink)?;
        }
        Ok(header.packet_bytes())
    }

    fn may_come(&self, header: Header) -> bool {
        matches!(self.phase, Phase::Open) || header.kind() == packet::CONNECT
    }

    #[inline]
    fn take_publish<S: Sink>(&mut self, now: Now, first: u8, body: &[u8], sink: &mut S) -> Result<(), Fault> {
        let publish = Publish::parse(first, body, self.version)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = properties::forwarded(publish.properties, &mut scratch).and_then(|properties| {
            let publish = Publish { properties, ..publish };
            if publish.qos == Qos::AtMostOnce || self.arrives(&publish)? {
                if !self.permit.may_publish(publish.topic) {
                    return self.deny(&publish);
                }
                self.admit(now, &publish, sink);
            }
            Ok(())
        });
        self.scratch = scratch;
        result
    }

    /// Whether a publish with a packet id is to be admitted, as opposed to one that is here already.
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
                if !std::mem::replace(&mut self.told.packet_id_reused, true) {
                    self.news.push(News::PacketIdReused(publish.packet_id));
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
        let is_stored = self.store(now, publish, sink);
        if let Some(reply) = if is_stored { stored } else { unrouted } {
            self.acks.stage(publish.packet_id, reply);
        }
    }

    /// Drops a publish that the client may not make, and tells it so. MQTT 3.1.1 has no word for it but the connection's
    /// end: an acknowledgement would be a lie.
    #[cold]
    fn deny(&mut self, publish: &Publish<'_>) -> Result<(), Fault> {
        self.note_denied(publish.topic);
        match (self.version, publish.qos) {
            (_, Qos::AtMostOnce) => return Ok(()),
            (Version::V311, _) => return Err(Fault::NotAuthorized),
            (Version::V5, Qos::AtLeastOnce) => self.acks.stage(publish.packet_id, Reply::PubackDenied),
            (Version::V5, Qos::ExactlyOnce) => self.acks.stage(publish.packet_id, Reply::PubrecDenied),
        }
        Ok(())
    }

    #[cold]
    pub(super) fn note_denied(&mut self, topic: &str) {
        self.counts.denied += 1;
        if !std::mem::replace(&mut self.told.denied, true) {
            self.news.push(News::Denied(topic.to_owned()));
        }
    }

    /// Pushes what a route takes; gives whether one does.
    #[inline]
    fn store<S: Sink>(&mut self, now: Now, publish: &Publish<'_>, sink: &mut S) -> bool {
        let verdict = admission::judge(publish.topic, publish.payload, &self.settings.routes);
        let Verdict::Store { kind, events, urgent, malformed } = verdict else {
            self.note_unrouted(publish.topic);
            return false;
        };
        let record = Record {
            kind,
            events,
            retain: publish.retain,
            urgent,
            received_ms: now.wall_ms,
            client: &self.client,
            topic: publish.topic,
            properties: publish.properties,
            payload: publish.payload,
        };
        if publish.qos == Qos::ExactlyOnce {
            sink.push_exactly_once(&record, publish.packet_id);
        } else {
            sink.push(&record);
        }
        self.acks.pushed();
        self.batched_bytes += record.size();
        self.counts.events += u64::from(events);
        self.counts.bytes += (publish.topic.len() + publish.payload.len()) as u64;
        self.counts.malformed_frames += u64::from(malformed);
        true
    }

    #[cold]
    fn note_unrouted(&mut self, topic: &str) {
        self.counts.unrouted += 1;
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        let told = &mut self.told.unrouted;
        if told.len() < UNROUTED_TOLD_MAX && told.insert(hasher.finish()) {
            self.news.push(News::Unrouted(topic.to_owned()));
        }
    }

    pub(super) fn push_will<S: Sink>(&mut self, now: Now, will: &Will, sink: &mut S) {
        let publish = Publish {
            topic: &will.topic,
            packet_id: 0,
            qos: Qos::AtMostOnce,
            dup: false,
            retain: will.retain,
            properties: &will.properties,
            payload: &will.payload,
        };
        self.admit(now, &publish, sink);
    }

    #[cold]
    fn take_other<S: Sink>(
        &mut self,
        now: Now,
        header: Header,
        body: &[u8],
        sink: &mut S,
    ) -> Result<(), Fault> {
        if matches!(self.phase, Phase::Fresh) {
            return self.take_first(now, header, body);
        }
        header.check_flags()?;
        match header.kind() {
            packet::PUBREL => {
                let packet_id = codec::pubrel(self.version, body)?;
                sink.push_release(&self.client, packet_id);
                self.acks.pushed();
                self.acks.release(packet_id);
                self.acks.stage(packet_id, Reply::Pubcomp);
                Ok(())
            }
            packet::PINGREQ if body.is_empty() => {
                self.emit(&packet::PINGRESP);
                Ok(())
            }
            packet::SUBSCRIBE => {
                let suback = codec::suback(self.version, body)?;
                self.emit(&suback);
                if !std::mem::replace(&mut self.told.subscribes, true) {
                    self.news.push(News::Subscribes);
                }
                Ok(())
            }
            packet::UNSUBSCRIBE => {
                let unsuback = codec::unsuback(self.version, body)?;
                self.emit(&unsuback);
                Ok(())
            }
            packet::DISCONNECT => self.take_disconnect(body),
            packet::CONNECT => Err(Fault::Protocol("a second CONNECT")),
            packet::AUTH => Err(Fault::Protocol("AUTH without an authentication method")),
            _ => Err(Fault::Protocol("a packet that a client may not send here")),
        }
    }

    fn take_first(&mut self, now: Now, header: Header, body: &[u8]) -> Result<(), Fault> {
        if header.kind() != packet::CONNECT {
            return Err(Fault::NotConnect);
        }
        header.check_flags()?;
        match codec::connect(body) {
            Ok(connect) => self.phase = Phase::Deciding(Some(Box::new(connect))),
            Err(refused) => self.refuse(now, refused),
        }
        Ok(())
    }

    fn take_disconnect(&mut self, body: &[u8]) -> Result<(), Fault> {
        let disconnect = codec::disconnect(self.version, body)?;
        if let Some(seconds) = disconnect.session_expiry_s {
            if self.session_expiry_s == 0 && seconds > 0 {
                return Err(Fault::Protocol("a session expiry in DISCONNECT and none in CONNECT"));
            }
            self.session_expiry_s = seconds;
        }
        self.phase = Phase::Ended(End::Disconnect { with_will: disconnect.with_will });
        Ok(())
    }
}
