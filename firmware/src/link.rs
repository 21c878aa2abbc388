//! The connection to the gateway: MQTT 5 by `rust-mqtt`, whose types stay in this file.
//!
//! Purpose: connect, publish at QoS 1, publish again with DUP, subscribe, ping, and take what comes
//! in apart. The bytes stay in the queue; the link knows packet identifiers only.
//!
//! What survives a connection is the [`Session`] (which identifiers are in flight), what dies with
//! it is the [`Link`]: each connection makes a new one and gives the session back at its end. What
//! the device says of itself ([`Said`]) is of the moment: its identifiers die with the connection,
//! acknowledged or not, and the next connection says it anew.
//!
//! Cancelling: [`Link::header`] alone may be dropped half-way. Any other call that is dropped
//! leaves the connection in the middle of a packet: the link is then only good for
//! [`Link::into_session`].
//!
//! Limits: [`WINDOW_MAX`] frames and [`SAID_MAX`] messages of the device's own in flight, packets
//! from the gateway up to [`PACKET_BYTES_MAX`]. Commands use up the memory of a connection
//! ([`MEMORY_BYTES`]) one after another; when less than a packet's is left, the connection is ended
//! in order, and the next one has all of it again.
//!
//! What it does not do: no replies to commands, no TLS (that is the board's stream), no queue, no
//! clock.

use core::num::{NonZeroU16, NonZeroU32};

use embedded_io_async::{Read, Write};
use heapless::Vec;
use rust_mqtt::Bytes;
use rust_mqtt::buffer::BumpBuffer;
use rust_mqtt::client::event::Event;
use rust_mqtt::client::options::{
    ConnectOptions, DisconnectOptions, PublicationOptions, SubscriptionOptions, TopicReference, WillOptions,
};
use rust_mqtt::client::{Client, MqttError};
use rust_mqtt::config::{KeepAlive, SessionExpiryInterval};
use rust_mqtt::header::FixedHeader;
use rust_mqtt::types::{MqttBinary, MqttString, TopicFilter, TopicName};

use crate::queue::PacketId;

/// Most publishes that may be unacknowledged at once.
pub const WINDOW_MAX: usize = 16;
/// Longest packet that the gateway may send, in bytes; it is told so in CONNECT ([MQTT-3.1.2-24]).
pub const PACKET_BYTES_MAX: usize = 256;
/// What a connection has for all that the gateway sends in it, in bytes: about ten commands of 80
/// bytes.
pub const MEMORY_BYTES: usize = 1024;
/// Most messages of the device's own in flight: a birth, a status, and a last status.
pub const SAID_MAX: usize = 3;
/// How long the gateway keeps the session of a device that is away, in seconds.
const SESSION_EXPIRY_S: NonZeroU32 = NonZeroU32::new(3600).expect("invariant: not zero");
const PACKET_BYTES: NonZeroU32 = NonZeroU32::new(PACKET_BYTES_MAX as u32).expect("invariant: not zero");

const SEND_MAX: usize = WINDOW_MAX + SAID_MAX;
const _: () = assert!(MEMORY_BYTES >= 2 * PACKET_BYTES_MAX, "room for CONNACK and a command");

/// One SUBSCRIBE, one incoming publish, [`SEND_MAX`] outgoing ones; no topic aliases.
type MqttSession = rust_mqtt::session::Session<1, 1, SEND_MAX, 0, 0>;
/// As the session, and no subscription identifiers or user properties are kept.
type MqttClient<'b, N> = Client<'b, 'b, N, BumpBuffer<'b>, 1, 1, SEND_MAX, 0, 0, 0, 0>;

/// Why a connection is over, or could not be made. What was not acknowledged is still in the queue:
/// dial again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// No connection could be opened.
    #[error("the gateway cannot be reached")]
    Unreachable,
    /// The stream ended or broke.
    #[error("the connection broke")]
    Broken,
    /// The gateway did not answer, or took no bytes, for too long.
    #[error("the gateway does not answer")]
    Silent,
    /// The gateway refused the connection or ended it: reason code of CONNACK or DISCONNECT.
    #[error("the gateway ended the connection with reason {reason:#04x}")]
    Ended {
        /// The reason code ([MQTT-3.2.2.2], [MQTT-3.14.2.1]).
        reason: u8,
    },
    /// The gateway said something that MQTT 5 does not allow, or does not take QoS 1.
    #[error("the gateway broke the protocol")]
    Protocol,
    /// The frame is longer than the gateway takes: no connection will carry it.
    #[error("the frame is longer than the gateway takes")]
    TooLarge,
    /// The gateway's commands have used up this connection's memory: the next one has all of it
    /// again.
    #[error("the connection's memory for commands is used up")]
    MemoryUsedUp,
}

/// A password, which its Debug does not show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password<'p>(pub &'p str);

impl core::fmt::Debug for Password<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// Who connects, and how.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'h> {
    /// The client identifier: the device's name.
    pub client_id: &'h str,
    /// The password of the user that is called like the device; `None` connects without a user.
    pub password: Option<Password<'h>>,
    /// Forget what an earlier boot left behind ([MQTT-3.1.2-4]). Set until the first connection of
    /// a boot stands.
    pub clean_start: bool,
    /// The keep-alive interval wished for, in seconds.
    pub keep_alive_s: NonZeroU16,
    /// What the gateway publishes when the connection breaks: topic and payload. At QoS 1, not
    /// retained.
    pub will: (&'h str, &'h [u8]),
}

/// What a device says of itself: of the moment, never sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Its birth, which is retained.
    Birth,
    /// A status.
    Status,
}

/// What the gateway granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// It still has the session of the last connection.
    pub resumed: bool,
    /// How many publishes it takes unacknowledged ([MQTT-3.2.2.3.3]).
    pub receive_max: u16,
    /// The keep-alive interval that holds, in seconds; 0 for none.
    pub keep_alive_s: u16,
}

/// What came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'b> {
    /// PUBACK: the gateway has the frame.
    Acked(PacketId),
    /// PUBACK with a reason code of 0x80 or more: the gateway does not have the frame, and the
    /// identifier is free.
    Refused(PacketId, u8),
    /// PUBACK: the gateway has what the device said of itself.
    Heard(Said),
    /// PUBACK with a reason code of 0x80 or more: it does not.
    Unheard(Said, u8),
    /// A command with its payload. It is acknowledged.
    Command(&'b [u8]),
    /// Anything else: a sign of life.
    Other,
}

/// Which publishes are in flight, kept from connection to connection.
#[derive(Debug, Clone, Default)]
pub struct Session(MqttSession);

/// The head of a packet that comes in: pass it on to [`Link::body`].
#[derive(Debug)]
#[must_use]
pub struct Header(FixedHeader);

/// Memory for what the gateway sends in one connection.
#[derive(Debug)]
pub struct PacketBuffer<'b>(BumpBuffer<'b>);

impl<'b> PacketBuffer<'b> {
    /// Of [`MEMORY_BYTES`].
    pub fn new(memory: &'b mut [u8]) -> Self {
        PacketBuffer(BumpBuffer::new(memory))
    }
}

/// A connection.
pub struct Link<'b, N: Read + Write> {
    client: MqttClient<'b, N>,
    said: Vec<(PacketId, Said), SAID_MAX>,
    /// Set while the device says something: how many publishes were in flight before.
    saying: Option<usize>,
}

impl<'b, N: Read + Write> Link<'b, N> {
    /// A link that is not connected. `buffer` is used up by one connection: make a new one for
    /// each.
    pub fn new(session: Session, buffer: &'b mut PacketBuffer<'b>) -> Self {
        Link { client: Client::with_session(session.0, &mut buffer.0), said: Vec::new(), saying: None }
    }

    /// CONNECT over a fresh stream, and wait for CONNACK.
    ///
    /// # Errors
    /// [`LinkError`]; the link is then only good for [`Link::into_session`], and the session is as
    /// it was.
    pub async fn connect(&mut self, stream: N, hello: &Hello<'_>) -> Result<Granted, LinkError> {
        let mut options = ConnectOptions::new()
            .keep_alive(KeepAlive::Seconds(hello.keep_alive_s))
            .session_expiry_interval(SessionExpiryInterval::Seconds(SESSION_EXPIRY_S))
            .maximum_packet_size(PACKET_BYTES);
        options.clean_start = hello.clean_start;
        let (topic, payload) = hello.will;
        let payload = MqttBinary::from_slice(payload).map_err(|_| LinkError::Protocol)?;
        options.will = Some(WillOptions::new(topic_name(topic)?, payload).at_least_once());
        let client_id = MqttString::from_str(hello.client_id).map_err(|_| LinkError::Protocol)?;
        if let Some(password) = hello.password {
            options.user_name = Some(client_id.clone());
            options.password =
                Some(MqttBinary::from_slice(password.0.as_bytes()).map_err(|_| LinkError::Protocol)?);
        }
        let resumed = match self.client.connect(stream, &options, Some(client_id)).await {
            Ok(connected) => connected.session_present,
            Err(error) => return Err(cause(&error)),
        };
        Ok(Granted {
            resumed,
            receive_max: self.client.server_config().receive_maximum.get(),
            keep_alive_s: match self.client.shared_config().keep_alive {
                KeepAlive::Infinite => 0,
                KeepAlive::Seconds(seconds) => seconds.get(),
            },
        })
    }

    /// PUBLISH at QoS 1: under `resend` with DUP, else under a new identifier, which is then
    /// [`newest`](Link::newest), also when the write fails half-way.
    ///
    /// # Errors
    /// [`LinkError::TooLarge`] leaves the connection as it was; after any other it is over.
    pub async fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        resend: Option<PacketId>,
    ) -> Result<(), LinkError> {
        let options = PublicationOptions::new(TopicReference::Name(topic_name(topic)?)).at_least_once();
        let payload = Bytes::from(payload);
        let done = match resend.and_then(|id| self.tracked(id)) {
            Some(id) => self.client.republish(id, &options, payload).await,
            None => self.client.publish(&options, payload).await.map(|_| ()),
        };
        done.map_err(|error| cause(&error))
    }

    /// PUBLISH at QoS 1 of what the device says of itself. There must be room for it:
    /// [`has_room`](Link::has_room).
    ///
    /// # Errors
    /// [`LinkError::TooLarge`] leaves the connection as it was; after any other it is over.
    pub async fn say(&mut self, topic: &str, payload: &[u8], what: Said) -> Result<(), LinkError> {
        let mut options = PublicationOptions::new(TopicReference::Name(topic_name(topic)?)).at_least_once();
        options.retain = what == Said::Birth && self.client.server_config().retain_supported;
        self.saying = Some(self.in_flight());
        let id = self.client.publish(&options, Bytes::from(payload)).await.map_err(|error| cause(&error))?;
        self.saying = None;
        match id {
            Some(id) => self.said.push((id.get(), what)).map_err(|_| LinkError::Protocol),
            None => Ok(()),
        }
    }

    /// Whether [`say`](Link::say) has room: the gateway takes one more publish, and none of this
    /// sort is on its way.
    #[must_use]
    pub fn may_say(&self, what: Said) -> bool {
        self.has_room() && self.said.iter().all(|(_, said)| *said != what)
    }

    /// Whether [`say`](Link::say) has room for one message more, whatever it is.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.has_quota() && !self.said.is_full()
    }

    /// Whether the gateway takes one more publish unacknowledged, those of the last connection
    /// included.
    #[must_use]
    pub fn has_quota(&self) -> bool {
        self.in_flight() < usize::from(self.client.server_config().receive_maximum.get())
    }

    /// SUBSCRIBE at QoS 1. An answer that says no is [`Incoming::Other`]: the device then hears no
    /// commands.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is over.
    pub async fn subscribe(&mut self, topic: &str) -> Result<(), LinkError> {
        let filter =
            MqttString::from_str(topic).ok().and_then(TopicFilter::new).ok_or(LinkError::Protocol)?;
        let options = SubscriptionOptions::new().at_least_once();
        self.client.subscribe(filter, &options).await.map(|_| ()).map_err(|error| cause(&error))
    }

    /// How many publishes are in flight, those of the last connection included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.client.session().outbound_publishes.len()
    }

    /// The identifier of the publish begun last.
    #[must_use]
    pub fn newest(&self) -> Option<PacketId> {
        self.client.session().outbound_publishes.last().map(|(id, _)| id.get())
    }

    /// PINGREQ.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is over.
    pub async fn ping(&mut self) -> Result<(), LinkError> {
        self.client.ping().await.map_err(|error| cause(&error))
    }

    /// Waits for the head of a packet. Cancel-safe.
    ///
    /// # Errors
    /// [`LinkError::MemoryUsedUp`] leaves the connection as it was, and is said until the
    /// connection is ended. After any other it is over.
    pub async fn header(&mut self) -> Result<Header, LinkError> {
        if self.client.buffer().remaining_len() < PACKET_BYTES_MAX {
            return Err(LinkError::MemoryUsedUp);
        }
        self.client.poll_header().await.map(Header).map_err(|error| cause(&error))
    }

    /// Reads the rest of the packet.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is over.
    pub async fn body(&mut self, header: Header) -> Result<Incoming<'b>, LinkError> {
        match self.client.poll_body(header.0).await {
            Ok(Event::PublishAcknowledged(ack)) => {
                let id = ack.packet_identifier.get();
                Ok(self.take_said(id).map_or(Incoming::Acked(id), Incoming::Heard))
            }
            Ok(Event::PublishRejected(reject)) => {
                let (id, reason) = (reject.packet_identifier.get(), reject.reason_code.value());
                let said = self.take_said(id);
                Ok(said.map_or(Incoming::Refused(id, reason), |said| Incoming::Unheard(said, reason)))
            }
            Ok(Event::Publish(publish)) => {
                let Bytes::Borrowed(payload) = publish.message;
                Ok(Incoming::Command(payload))
            }
            Ok(_) => Ok(Incoming::Other),
            Err(error) => Err(cause(&error)),
        }
    }

    fn take_said(&mut self, id: PacketId) -> Option<Said> {
        let at = self.said.iter().position(|(said, _)| *said == id)?;
        Some(self.said.swap_remove(at).1)
    }

    /// DISCONNECT; gives the stream back, to be closed.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is over without a word.
    pub async fn disconnect(&mut self) -> Result<N, LinkError> {
        self.client.disconnect(&DisconnectOptions::new()).await.map_err(|error| cause(&error))
    }

    /// Ends the link and keeps the session, without what the device said of itself.
    #[must_use]
    pub fn into_session(self) -> Session {
        let mut session = self.client.session().clone();
        // It broke off, and its identifier is the newest.
        if self.saying.is_some_and(|before| session.outbound_publishes.len() > before) {
            session.outbound_publishes.pop();
        }
        session.outbound_publishes.retain(|(id, _)| self.said.iter().all(|(said, _)| *said != id.get()));
        Session(session)
    }

    fn tracked(&self, id: PacketId) -> Option<rust_mqtt::types::PacketIdentifier> {
        self.client.session().outbound_publishes.iter().map(|(tracked, _)| *tracked).find(|t| t.get() == id)
    }
}

fn topic_name(topic: &str) -> Result<TopicName<'_>, LinkError> {
    MqttString::from_str(topic).ok().and_then(TopicName::new).ok_or(LinkError::Protocol)
}

fn cause<const PROPERTIES: usize>(error: &MqttError<'_, PROPERTIES>) -> LinkError {
    match error {
        MqttError::Network(_) | MqttError::RecoveryRequired => LinkError::Broken,
        MqttError::Disconnect { reason, .. } => LinkError::Ended { reason: reason.value() },
        MqttError::ServerMaximumPacketSizeExceeded | MqttError::PacketMaximumLengthExceeded => {
            LinkError::TooLarge
        }
        _ => LinkError::Protocol,
    }
}
