//! One connection to a stand-in: what comes in, what goes out, and when something is due. No
//! socket, no clock.
//!
//! Limits: a packet is held until it is whole, whatever its size; one that is too long is judged
//! only then.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio_util::sync::CancellationToken;

use super::{
    breach::Breach,
    seen::Message,
    session::{self, ConnectVerdict, PublishVerdict, Session},
    shared::Shared,
};
use crate::codec::{self, Ack, Packet, Received, Version, WholeConnect};

/// The longest time without CONNECT.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// What time it is, for the session and for tokens.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// Monotonic.
    pub now: Instant,
    /// Seconds of the Unix era.
    pub unix_s: u64,
}

/// A connection.
#[derive(Debug)]
pub struct Connection<'a> {
    shared: &'a Shared,
    /// What was received and not yet read.
    pub input: BytesMut,
    /// What is to be sent.
    pub output: BytesMut,
    /// Another connection has taken over when this is cancelled.
    pub taken_over: CancellationToken,
    client: Option<Client>,
    acks: VecDeque<PendingAck>,
    paused_until: Option<Instant>,
    token_ends_at: Option<Instant>,
    silent_at: Option<Instant>,
    closed: bool,
}

/// Who is connected.
#[derive(Debug)]
struct Client {
    id: String,
    version: Version,
    session: Session,
    number: usize,
    keep_alive: Duration,
}

#[derive(Debug)]
struct PendingAck {
    due: Instant,
    packet_id: u16,
    bytes: usize,
}

impl<'a> Connection<'a> {
    /// A new one, that has said nothing.
    #[must_use]
    pub fn new(shared: &'a Shared, now: Instant) -> Self {
        Self {
            shared,
            input: BytesMut::new(),
            output: BytesMut::new(),
            taken_over: CancellationToken::new(),
            client: None,
            acks: VecDeque::new(),
            paused_until: None,
            token_ends_at: None,
            silent_at: Some(now + CONNECT_LIMIT),
            closed: false,
        }
    }

    /// It is to be closed, once the output is sent.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Nothing is to be read now.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused_until.is_some()
    }

    /// When to call [`Connection::advance`] again at the latest.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        let ack = self.acks.front().map(|ack| ack.due);
        [ack, self.paused_until, self.token_ends_at, self.silent_at].into_iter().flatten().min()
    }

    /// Something was received.
    pub fn heard(&mut self, now: Instant) {
        if let Some(client) = &self.client {
            self.silent_at = (!client.keep_alive.is_zero()).then(|| now + client.keep_alive * 3 / 2);
        }
    }

    /// Does what is due, and reads what can be read.
    pub fn advance(&mut self, time: Time) {
        if self.token_ends_at.is_some_and(|end| end <= time.now) {
            // The platform closes, and the client is to have come again before: no breach of its
            // own, but counted.
            return self.close(Breach::TokenOver);
        }
        if self.silent_at.is_some_and(|end| end <= time.now) && !self.is_paused() {
            return self.close(Breach::Silence);
        }
        self.acknowledge(time.now);
        if self.paused_until.is_some_and(|end| end <= time.now) {
            self.paused_until = None;
            self.heard(time.now);
        }
        while !self.closed && !self.is_paused() {
            let Some((first, start, end)) = codec::frame(&self.input) else { break };
            if first >> 4 == 1 {
                let body = self.input.split_to(end).freeze().slice(start..);
                match codec::read_whole_connect(body) {
                    Some(connect) if self.client.is_none() => self.connect(connect, time),
                    _ => self.close(Breach::Malformed),
                }
                continue;
            }
            let version = self.client.as_ref().map(|client| client.version);
            let packet = version.map(|version| codec::take_packet(&mut self.input, version));
            match packet {
                Some(Ok(Some(packet))) => self.take(packet, time.now),
                _ => self.close(Breach::Malformed),
            }
        }
    }

    fn connect(&mut self, connect: WholeConnect, time: Time) {
        let limits = &self.shared.limits;
        let (id, version) = (connect.client_id.clone(), connect.version);
        let mut said = session::judge_connect(limits, &connect, time.unix_s);
        if matches!(said, ConnectVerdict::Accepted { .. }) {
            said = self.shared.admit(&connect, said, &self.taken_over, time.now);
        }
        let ends_unix_s = match said {
            ConnectVerdict::Closed(breach) => return self.close_for(breach, &id),
            ConnectVerdict::Refused((old, new), breach) => {
                match version {
                    Version::V311 => self.output.extend_from_slice(&[0x20, 2, 0, old]),
                    Version::V5 => self.output.extend_from_slice(&[0x20, 3, 0, new, 0]),
                }
                return self.close_for(breach, &id);
            }
            ConnectVerdict::Accepted { ends_unix_s } => ends_unix_s,
        };
        let (low, high) = (*limits.keep_alive_s.start(), *limits.keep_alive_s.end());
        let asked_s = connect.keep_alive_s;
        // No keep-alive at all is as long as can be.
        let granted_s = if asked_s == 0 && low > 0 { high } else { asked_s.clamp(low, high) };
        if granted_s != asked_s {
            self.shared.breach(Breach::KeepAlive, format!("{id}: {asked_s} s"));
        }
        codec::put_connack(&mut self.output, version, false, &self.shared.grants(asked_s, granted_s));
        self.token_ends_at = ends_unix_s.map(|end| time.now + Duration::from_secs(end - time.unix_s));
        let number = self.shared.connected(connect, time.now);
        let (session, keep_alive) = (Session::new(version), Duration::from_secs(granted_s.into()));
        self.client = Some(Client { id, version, session, number, keep_alive });
        self.heard(time.now);
    }

    fn take(&mut self, packet: Packet, now: Instant) {
        match packet {
            Packet::Publish(publish) => self.publish(publish, now),
            Packet::Subscribe { packet_id, filters } => {
                let version = self.client.as_ref().map_or(Version::V311, |client| client.version);
                codec::put_suback(&mut self.output, version, packet_id, filters);
            }
            Packet::PingReq => codec::put_pingresp(&mut self.output),
            Packet::Disconnect(_) => self.closed = true,
            _ => self.close(Breach::Malformed),
        }
    }

    fn publish(&mut self, mut publish: Received, now: Instant) {
        let Some(client) = &mut self.client else { return };
        let limits = &self.shared.limits;
        if let Err(breach) = client.session.resolve(limits, &mut publish) {
            return self.close(breach);
        }
        let bytes = publish.topic.len() + publish.payload.len();
        let verdict =
            self.shared.with_bucket(&client.id, |bucket| client.session.judge(limits, bucket, &publish, now));
        let taken = matches!(verdict, PublishVerdict::Take | PublishVerdict::TakeAndPause(_));
        let (packet_id, is_asked_for) = (publish.packet_id, publish.qos > 0);
        let (connection, client_id) = (client.number, client.id.clone());
        self.shared.record(Message { at: now, connection, client_id, publish, taken });
        if taken && is_asked_for {
            let due = now + self.shared.behaviour().ack_after;
            self.acks.push_back(PendingAck { due, packet_id, bytes });
        }
        match verdict {
            PublishVerdict::Take => {}
            PublishVerdict::TakeAndPause(wait) => self.paused_until = Some(now + wait),
            PublishVerdict::Discard(breach) => self.note(breach),
            PublishVerdict::Close(breach) => self.close(breach),
            PublishVerdict::Disconnect(reason, breach) => {
                if self.client.as_ref().is_some_and(|client| client.version == Version::V5) {
                    self.output.extend_from_slice(&[0xE0, 1, reason]);
                }
                self.close(breach);
            }
        }
    }

    fn acknowledge(&mut self, now: Instant) {
        while let Some(ack) = self.acks.pop_front_if(|ack| ack.due <= now) {
            let Some(client) = &mut self.client else { return };
            client.session.acknowledged(ack.bytes);
            if !self.shared.loses_ack() {
                codec::put_ack(&mut self.output, Ack::PubAck, ack.packet_id, 0);
            }
        }
    }

    fn note(&self, breach: Breach) {
        let id = self.client.as_ref().map_or("", |client| &client.id);
        self.shared.breach(breach, id.into());
    }

    fn close(&mut self, breach: Breach) {
        self.note(breach);
        self.closed = true;
    }

    fn close_for(&mut self, breach: Breach, id: &str) {
        self.shared.breach(breach, id.into());
        self.closed = true;
    }
}
