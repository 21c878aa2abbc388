//! The connection to the gateway: MQTT 5 by `rust-mqtt`, whose types stay in this file.
//!
//! Purpose: connect, publish at QoS 1, publish again with DUP, ping, and take what comes in apart. The bytes stay in the
//! queue; the link knows packet identifiers only.
//!
//! What survives a connection is the [`Session`] (which identifiers are in flight), what dies with it is the [`Link`]:
//! each connection makes a new one and gives the session back at its end.
//!
//! Cancelling: [`Link::header`] alone may be dropped half-way. Any other call that is dropped leaves the connection in
//! the middle of a packet: the link is then only good for [`Link::into_session`].
//!
//! Limits: [`WINDOW_MAX`] publishes in flight, packets from the gateway up to [`PACKET_BYTES_MAX`].
//!
//! What it does not do: no subscriptions yet to commands, no TLS (that is the board's stream), no queue, no clock.

use core::num::{NonZeroU16, NonZeroU32};

use embedded_io_async::{Read, Write};
use rust_mqtt::Bytes;
use rust_mqtt::buffer::BumpBuffer;
use rust_mqtt::client::event::Event;
use rust_mqtt::client::options::{ConnectOptions, DisconnectOptions, PublicationOptions, TopicReference};
use rust_mqtt::client::{Client, MqttError};
use rust_mqtt::config::{KeepAlive, SessionExpiryInterval};
use rust_mqtt::header::FixedHeader;
use rust_mqtt::types::{MqttBinary, MqttString, TopicName};

use crate::queue::PacketId;

/// Most publishes that may be unacknowledged at once.
pub const WINDOW_MAX: usize = 16;
/// Longest packet that the gateway may send, in bytes; it is told so in CONNECT ([MQTT-3.1.2-24]).
pub const PACKET_BYTES_MAX: usize = 256;
/// How long the gateway keeps the session of a device that is away, in seconds.
const SESSION_EXPIRY_S: NonZeroU32 = NonZeroU32::new(3600).expect("invariant: not zero");
const PACKET_BYTES: NonZeroU32 = NonZeroU32::new(PACKET_BYTES_MAX as u32).expect("invariant: not zero");

/// No SUBSCRIBE, one incoming publish, [`WINDOW_MAX`] outgoing ones; no topic aliases.
type MqttSession = rust_mqtt::session::Session<0, 1, WINDOW_MAX, 0, 0>;
/// As the session, and no subscription identifiers or user properties are kept.
type MqttClient<'b, N> = Client<'b, 'b, N, BumpBuffer<'b>, 0, 1, WINDOW_MAX, 0, 0, 0, 0>;

/// Why a connection is over, or could not be made. What was not acknowledged is still in the queue: dial again.
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
    /// Forget what an earlier boot left behind ([MQTT-3.1.2-4]). Set until the first connection of a boot stands.
    pub clean_start: bool,
    /// The keep-alive interval wished for, in seconds.
    pub keep_alive_s: NonZeroU16,
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
pub enum Incoming {
    /// PUBACK: the gateway has it.
    Acked(PacketId),
    /// PUBACK with a reason code of 0x80 or more: the gateway does not have it, and the identifier is free.
    Refused(PacketId, u8),
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
    /// [`PACKET_BYTES_MAX`] bytes are enough.
    pub fn new(memory: &'b mut [u8]) -> Self {
        PacketBuffer(BumpBuffer::new(memory))
    }
}

/// A connection.
pub struct Link<'b, N: Read + Write> {
    client: MqttClient<'b, N>,
}

impl<'b, N: Read + Write> Link<'b, N> {
    /// A link that is not connected. `buffer` is used up by one connection: make a new one for each.
    pub fn new(session: Session, buffer: &'b mut PacketBuffer<'b>) -> Self {
        Link { client: Client::with_session(session.0, &mut buffer.0) }
    }

    /// CONNECT over a fresh stream, and wait for CONNACK.
    ///
    /// # Errors
    /// [`LinkError`]; the link is then only good for [`Link::into_session`], and the session is as it was.
    pub async fn connect(&mut self, stream: N, hello: &Hello<'_>) -> Result<Granted, LinkError> {
        let mut options = ConnectOptions::new()
            .keep_alive(KeepAlive::Seconds(hello.keep_alive_s))
            .session_expiry_interval(SessionExpiryInterval::Seconds(SESSION_EXPIRY_S))
            .maximum_packet_size(PACKET_BYTES);
        options.clean_start = hello.clean_start;
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
        let topic = MqttString::from_str(topic).ok().and_then(TopicName::new).ok_or(LinkError::Protocol)?;
        let options = PublicationOptions::new(TopicReference::Name(topic)).at_least_once();
        let payload = Bytes::from(payload);
        let done = match resend.and_then(|id| self.tracked(id)) {
            Some(id) => self.client.republish(id, &options, payload).await,
            None => self.client.publish(&options, payload).await.map(|_| ()),
        };
        done.map_err(|error| cause(&error))
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
    /// [`LinkError`]: the connection is over.
    pub async fn header(&mut self) -> Result<Header, LinkError> {
        self.client.poll_header().await.map(Header).map_err(|error| cause(&error))
    }

    /// Reads the rest of the packet.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is over.
    pub async fn body(&mut self, header: Header) -> Result<Incoming, LinkError> {
        match self.client.poll_body(header.0).await {
            Ok(Event::PublishAcknowledged(ack)) => Ok(Incoming::Acked(ack.packet_identifier.get())),
            Ok(Event::PublishRejected(reject)) => {
                Ok(Incoming::Refused(reject.packet_identifier.get(), reject.reason_code.value()))
            }
            Ok(_) => Ok(Incoming::Other),
            Err(error) => Err(cause(&error)),
        }
    }

    /// DISCONNECT; gives the stream back, to be closed.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is over without a word.
    pub async fn disconnect(&mut self) -> Result<N, LinkError> {
        self.client.disconnect(&DisconnectOptions::new()).await.map_err(|error| cause(&error))
    }

    /// Ends the link and keeps the session.
    #[must_use]
    pub fn into_session(self) -> Session {
        Session(self.client.session().clone())
    }

    fn tracked(&self, id: PacketId) -> Option<rust_mqtt::types::PacketIdentifier> {
        self.client.session().outbound_publishes.iter().map(|(tracked, _)| *tracked).find(|t| t.get() == id)
    }
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
