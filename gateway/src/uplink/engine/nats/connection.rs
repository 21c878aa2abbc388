//! A connection to a NATS server after its handshake: messages out, JetStream's answers in.
//!
//! It answers the server's pings by itself. An error of the server ends the connection: most of
//! them do anyway, and one about the right to publish names no message, so that delivery has to
//! find out which one it was.

use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::{Answer, Lost, Progress, Refusal, TokenRange, transport::Transport},
    answer, subject,
    wire::{self, Delivered, Inbound, Publish},
};
use crate::uplink::message::{Message, Unsendable};

/// The header by which a stream tells copies.
const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The header that names the only stream that may take a message.
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
/// What the headers begin with that the server acts upon: a device must not write one.
const RESERVED: &str = "Nats-";
/// The attribute that every CloudEvent has.
const CLOUD_EVENT: &str = "ce-specversion";

/// How the server's errors begin, and whether what was sent may be the reason.
const ERRORS: [(&str, bool); 13] = [
    ("permissions violation", true),
    ("maximum payload", true),
    ("maximum control line", true),
    ("invalid publish subject", true),
    ("parser error", true),
    ("unknown protocol", true),
    ("authorization violation", false),
    ("user authentication", false),
    ("account authentication", false),
    ("stale connection", false),
    ("slow consumer", false),
    ("server shutdown", false),
    ("maximum connections", false),
];

/// A connection after its handshake.
#[derive(Debug)]
pub struct Connection<Io> {
    transport: Transport<Io>,
    terms: Terms,
    scratch: Scratch,
}

/// What is the same for all messages of a connection.
#[derive(Debug)]
pub struct Terms {
    /// What the subjects of answers begin with.
    pub inbox: String,
    /// What the ids of messages begin with: of two uplinks into one stream, each has its own.
    pub uplink: String,
    /// The only stream that is to take them, if one is configured.
    pub stream: Option<String>,
    /// Longest message that the server takes, headers included, in bytes.
    pub payload_bytes_max: u64,
}

/// What a message is put together in.
#[derive(Debug, Default)]
struct Scratch {
    subject: Vec<u8>,
    id: Vec<u8>,
    headers: Vec<u8>,
}

impl<Io> Connection<Io> {
    /// Over a transport whose handshake is done.
    #[must_use]
    pub fn new(transport: Transport<Io>, terms: Terms) -> Self {
        Self { transport, terms, scratch: Scratch::default() }
    }
}

impl Terms {
    /// Puts a message together, if the server takes it.
    fn prepare<'m>(
        &'m self,
        token: u64,
        message: &Message<'m>,
        scratch: &'m mut Scratch,
    ) -> Result<Publish<'m>, Unsendable> {
        let Scratch { subject, id, headers } = scratch;
        subject.clear();
        headers.clear();
        subject::put(message.topic.as_bytes(), subject).map_err(|_| {
            Unsendable::Unfit("its topic makes a subject of more than 3 KiB, which NATS does not take")
        })?;
        id.clear();
        id.extend_from_slice(self.uplink.as_bytes());
        id.push(b'/');
        message.copy_id.put(id);
        wire::put_header(MESSAGE_ID, id, headers);
        put_headers(message, self.stream.as_deref(), headers);
        let inbox = self.inbox.as_bytes();
        let publish = Publish { subject, inbox, token, headers, payload: message.payload };
        if publish.size() > self.payload_bytes_max {
            let bytes_max = u32::try_from(self.payload_bytes_max).unwrap_or(u32::MAX);
            return Err(Unsendable::TooLong { bytes: publish.size(), bytes_max });
        }
        Ok(publish)
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin + Send> super::super::Connection for Connection<Io> {
    fn check(&mut self, message: &Message<'_>) -> Result<(), Unsendable> {
        let Self { terms, scratch, .. } = self;
        terms.prepare(0, message, scratch).map(drop)
    }

    fn send(&mut self, token: u64, message: &Message<'_>) -> Result<(), Unsendable> {
        let Self { transport, terms, scratch } = self;
        terms.prepare(token, message, scratch).map(|publish| publish.write(transport.outbox()))
    }

    fn has_room(&self) -> bool {
        self.transport.has_room()
    }

    fn has_unwritten(&self) -> bool {
        self.transport.has_unwritten()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Progress, Lost>> {
        self.transport.poll(context)
    }

    fn answer(&mut self) -> Result<Option<Answer>, Lost> {
        loop {
            let read = wire::inbound(self.transport.inbox()).map_err(|error| Lost::Protocol(error.into()))?;
            let Some((inbound, bytes)) = read else { return Ok(None) };
            let (mut answer, mut is_ping) = (None, false);
            match inbound {
                Inbound::Message(delivered) => answer = self.terms.judge(&delivered),
                Inbound::Pong => answer = Some(Answer::Pong),
                Inbound::Ping => is_ping = true,
                Inbound::Info(info) => self.terms.payload_bytes_max = info.max_payload,
                Inbound::Error(words) => return Err(ended(words)),
                Inbound::Ok => {}
            }
            self.transport.take(bytes);
            if is_ping {
                self.transport.outbox().extend_from_slice(wire::PONG);
            }
            if answer.is_some() {
                return Ok(answer);
            }
        }
    }

    fn ping(&mut self) {
        self.transport.outbox().extend_from_slice(wire::PING);
    }

    async fn close(&mut self) {
        // NATS has no goodbye. If this does not get through, the server sees a closed connection.
        let _ = self.transport.finish().await;
    }
}

impl Terms {
    /// What JetStream makes of the message whose token its answer names; nothing if it names none.
    fn judge(&self, delivered: &Delivered<'_>) -> Option<Answer> {
        let token = delivered.subject.strip_prefix(self.inbox.as_bytes())?.strip_prefix(b".")?;
        let token = std::str::from_utf8(token).ok()?.parse().ok()?;
        let verdict = answer::judge(delivered.status, delivered.payload, self.stream.as_deref());
        Some(Answer::Settled(TokenRange::one(token), verdict))
    }
}

/// Appends the headers of a message.
fn put_headers(message: &Message<'_>, stream: Option<&str>, out: &mut Vec<u8>) {
    if let Some(stream) = stream {
        wire::put_header(EXPECTED_STREAM, stream.as_bytes(), out);
    }
    let mut is_cloud_event = false;
    for (name, value) in message.headers.iter().filter(|(name, _)| may_be_header(name)) {
        is_cloud_event |= name == CLOUD_EVENT;
        wire::put_header(name, value, out);
    }
    if let Some(content_type) = message.content_type {
        // (NATS protocol binding for CloudEvents)
        let name = if is_cloud_event { "ce-datacontenttype" } else { "Content-Type" };
        wire::put_header(name, content_type.as_bytes(), out);
    }
}

/// Whether a header may have this name, whoever gave it.
fn may_be_header(name: &str) -> bool {
    let is_reserved = name.get(..RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED));
    !name.is_empty() && !is_reserved && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
}

/// The end of a connection for an error of the server.
fn ended(words: &[u8]) -> Lost {
    let words = String::from_utf8_lossy(words).to_ascii_lowercase();
    let known = ERRORS.iter().find(|(name, _)| words.trim_start_matches('\'').starts_with(name));
    let (name, blames_message) =
        known.copied().unwrap_or(("an error that this version does not name", false));
    Lost::Disconnected { notice: Box::new(Refusal::new(name, 0).into()), blames_message }
}
