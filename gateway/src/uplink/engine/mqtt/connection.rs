//! A connection to a broker as delivery sees it: publishes with QoS 1, and what their PUBACKs say.
//!
//! A token is known by a packet id (`packet_ids.rs`). What a broker acknowledges beyond that is
//! passed on as a stray.
//!
//! Limits: 65,535 messages in flight, packet sizes as in `send.rs` and `answer.rs`, buffers as in
//! [`transport`](crate::uplink::engine::transport).

use std::{
    num::NonZeroU16,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    aliases::{Aliases, Naming},
    answer::{self, IN_BYTES_MAX, Inbound, WireError},
    connect::{ServerLimits, connack, connect, said},
    hint::{self, Way},
    notice::Moment,
    packet_ids::PacketIds,
    send::{DISCONNECT, PINGREQ, Properties, Publish},
    settings::{PORT_DEFAULT, Retain, Settings, SettingsError, Version},
};
use crate::mqtt::Password;
use crate::uplink::{
    engine::{
        Answer, Capabilities, Connection, Credentials, Engine, Lost, Notice, Progress, Silence, TokenRange,
        Verdict,
        dial::{Dialer, Layers, Stream},
        transport::Transport,
        url::Scheme,
    },
    message::{Message, Unsendable, Will},
};

/// A connection after its handshake.
#[derive(Debug)]
pub struct BrokerConnection<Io> {
    transport: Transport<Io>,
    version: Version,
    packet_bytes_max: u32,
    ids: PacketIds,
    aliases: Aliases,
    granted: String,
}

impl Engine for Settings {
    type Connection = BrokerConnection<Stream>;
    type Invalid = SettingsError;

    const SCHEMES: &'static [Scheme] = &[
        Scheme::plain("mqtt", PORT_DEFAULT),
        Scheme::plain("mqtts", 8883).in_tls(),
        Scheme::plain("ws", 80).in_websocket(),
        Scheme::plain("wss", 443).in_websocket().in_tls(),
    ];
    const ONE_CLIENT_OF_A_NAME: bool = true;

    fn check(&self) -> Result<(), SettingsError> {
        Self::check(self)
    }

    fn scheme(&self) -> &'static str {
        match (&self.layers.tls, &self.layers.websocket) {
            (None, None) => "mqtt",
            (Some(_), None) => "mqtts",
            (None, Some(_)) => "ws",
            (Some(_), Some(_)) => "wss",
        }
    }

    fn credentials(&self) -> Credentials<'_> {
        let (user, password) = (self.user.as_deref(), self.password.as_ref());
        Credentials { client_id: &self.client_id, user, password }
    }

    fn layers(&self) -> &Layers {
        &self.layers
    }

    fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    fn rename(&mut self, suffix: &str) {
        self.client_id += suffix;
    }

    fn set_will(&mut self, will: Option<Will>) {
        self.will = will;
    }

    fn hint(&self, silence: Silence) -> Option<String> {
        let Layers { tls, websocket, .. } = &self.layers;
        let way = Way {
            port: self.port,
            has_tls: tls.is_some(),
            has_websocket: websocket.is_some(),
            version: self.version,
        };
        hint::hint(way, silence)
    }

    async fn connect(&self, dialer: &mut Dialer) -> Result<(Self::Connection, Capabilities), Lost> {
        let password = dialer.password(self.password.as_ref(), self.renew).await?;
        let stream = dialer.open(&self.target()).await?;
        let transport = Transport::new(stream, IN_BYTES_MAX);
        dialer.handshake(BrokerConnection::shake_hands(transport, self, password.as_ref())).await
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> BrokerConnection<Io> {
    async fn shake_hands(
        mut transport: Transport<Io>,
        settings: &Settings,
        password: Option<&Password>,
    ) -> Result<(Self, Capabilities), Lost> {
        transport.outbox().extend_from_slice(&connect(settings, password)?);
        loop {
            transport.moved().await?;
            if let Some((limits, size)) = connack(transport.inbox(), settings.version)? {
                transport.take(size);
                let packet_bytes_max =
                    limits.packet_bytes_max.min(settings.packet_bytes_max.unwrap_or(u32::MAX));
                let connection = Self {
                    transport,
                    version: settings.version,
                    packet_bytes_max,
                    ids: PacketIds::new(),
                    aliases: Aliases::new(limits.topic_aliases),
                    granted: limits.to_string(),
                };
                return Ok((connection, capabilities(&limits, settings)));
            }
        }
    }

    /// What the PUBACKs that come first acknowledge one after the other, and takes them: nearly all
    /// that comes is of this kind.
    fn acknowledged(&mut self) -> Option<TokenRange> {
        let (mut range, mut bytes) = (None::<TokenRange>, 0);
        for id in answer::plain_acks(self.transport.inbox()) {
            let Some(token) = self.ids.token(id) else { break };
            match &mut range {
                None => range = Some(TokenRange::one(token)),
                Some(range) if range.end == token => range.end += 1,
                Some(_) => break,
            }
            bytes += answer::PLAIN_ACK_BYTES;
        }
        self.transport.take(bytes);
        range
    }

    #[inline]
    fn publish<'m>(&self, message: &Message<'m>, id: u16, naming: Naming) -> Result<Publish<'m>, Unsendable> {
        let (topic, alias) = match naming {
            Naming::Topic => (message.topic, None),
            Naming::Both(alias) => (message.topic, Some(alias)),
            Naming::Alias(alias) => ("", Some(alias)),
        };
        let properties = match self.version {
            Version::V311 => None,
            Version::V5 => Some(Properties {
                is_text: message.is_text,
                content_type: message.content_type,
                alias,
                expiry_s: message.expiry_s,
                user: message.headers.bytes(),
                others: message.mqtt_properties,
            }),
        };
        let (topic, retain, payload) = (topic.as_bytes(), message.retain, message.payload);
        let publish = Publish { topic, id, retain, properties, payload };
        let (bytes, bytes_max) = (publish.size(), self.packet_bytes_max);
        if bytes > u64::from(bytes_max) { Err(Unsendable::TooLong { bytes, bytes_max }) } else { Ok(publish) }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin + Send> Connection for BrokerConnection<Io> {
    fn check(&mut self, message: &Message<'_>) -> Result<(), Unsendable> {
        self.publish(message, 1, Naming::Topic).map(drop)
    }

    #[inline]
    fn send(&mut self, token: u64, message: &Message<'_>) -> Result<(), Unsendable> {
        let id = self.ids.id(token);
        let mut naming = self.aliases.naming(message.topic.as_bytes());
        if matches!(naming, Naming::Both(_)) && self.publish(message, id, naming).is_err() {
            // An alias saves bytes later on; no event becomes too long for it.
            naming = Naming::Topic;
        }
        self.publish(message, id, naming)?.write(self.transport.outbox());
        self.aliases.sent(naming, message.topic.as_bytes());
        self.ids.sent(token, id);
        Ok(())
    }

    #[inline]
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
        if let Some(tokens) = self.acknowledged() {
            return Ok(Some(Answer::Settled(tokens, Verdict::Accepted)));
        }
        while let Some((inbound, bytes)) = answer::inbound(self.transport.inbox())? {
            let answer = match inbound {
                Inbound::Ack { id, reason } => Some(match self.ids.token(id) {
                    Some(token) => Answer::Settled(TokenRange::one(token), reason.judge()),
                    None => Answer::Stray(id.into()),
                }),
                Inbound::Pong => Some(Answer::Pong),
                Inbound::Disconnect { reason } => {
                    let text = said(&self.transport.inbox()[..bytes]);
                    let notice = Notice::of_broker(Moment::Later, reason.0, self.version, text);
                    let blames_message = reason.blames_publish();
                    return Err(Lost::Disconnected { notice: Box::new(notice), blames_message });
                }
                Inbound::Other => None,
            };
            self.transport.take(bytes);
            if answer.is_some() {
                return Ok(answer);
            }
        }
        Ok(None)
    }

    fn granted(&self) -> &str {
        &self.granted
    }

    fn ping(&mut self) {
        self.transport.outbox().extend_from_slice(&PINGREQ);
    }

    async fn close(&mut self) {
        self.transport.outbox().extend_from_slice(&DISCONNECT);
        // If the goodbye does not get through, the upstream sees a closed connection, which is as
        // good.
        let _ = self.transport.finish().await;
    }
}

impl From<WireError> for Lost {
    fn from(error: WireError) -> Self {
        Self::Protocol(Box::new(error))
    }
}

fn capabilities(limits: &ServerLimits, settings: &Settings) -> Capabilities {
    Capabilities {
        in_flight_max: NonZeroU16::new(limits.receive_max).unwrap_or(NonZeroU16::MIN),
        keep_alive: limits.keep_alive_s.map_or(settings.keep_alive, |s| Duration::from_secs(s.into())),
        retains: limits.retain_available && settings.retain == Retain::AsPublished,
        has_headers: settings.version == Version::V5,
        // The binding for MQTT has none. (CloudEvents 1.0.2, MQTT binding, section 3.1.3)
        attribute_prefix: "",
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::poll_fn, io, pin::Pin};

    use tokio::io::ReadBuf;

    use super::*;

    /// A peer that said something, closed, and takes no more.
    struct Closed(VecDeque<&'static [u8]>);

    impl AsyncRead for Closed {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            space: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.pop_front() {
                // Not there yet: the write comes first.
                Some([]) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(bytes) => space.put_slice(bytes),
                None => {}
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Closed {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// What a broker that takes packets of so many bytes, and one alias, is sent first.
    async fn connected(packet_bytes_max: u8) -> BrokerConnection<Closed> {
        let settings =
            Settings { version: Version::V5, ..Settings::new("localhost", "barn-7-cloud".to_owned()) };
        let properties = [0x27, 0, 0, 0, packet_bytes_max, 0x22, 0, 1];
        let connack = [&[0x20, 3 + properties.len() as u8, 0, 0, properties.len() as u8][..], &properties];
        let peer = Closed([&[][..], Box::leak(connack.concat().into_boxed_slice())].into());
        BrokerConnection::shake_hands(Transport::new(peer, IN_BYTES_MAX), &settings, None).await.unwrap().0
    }

    #[tokio::test]
    async fn an_alias_makes_no_event_too_long() {
        let message = Message { topic: "site/1", payload: &[0; 50], ..Message::default() };
        let whole = connected(255).await.publish(&message, 1, Naming::Topic).unwrap().size();
        let mut connection = connected(whole as u8).await;
        for token in 0..3 {
            assert_eq!(connection.send(token, &message), Ok(()), "message {token}");
        }
        let longer = Message { payload: &[0; 51], ..message };
        assert!(connection.send(3, &longer).is_err());
    }

    #[tokio::test]
    async fn what_the_peer_said_before_it_closed_is_heard_though_it_takes_no_more() {
        let settings = Settings::new("localhost", "barn-7-cloud".to_owned());
        let peer = Closed([&[][..], &[0x20, 2], &[0, 0, 0x40, 2, 0, 1]].into());
        let (mut connection, _) =
            BrokerConnection::shake_hands(Transport::new(peer, IN_BYTES_MAX), &settings, None).await.unwrap();
        connection.send(0, &Message { topic: "a", ..Message::default() }).unwrap();
        let accepted = Answer::Settled(TokenRange::one(0), crate::uplink::engine::Verdict::Accepted);
        assert_eq!(connection.answer().unwrap(), Some(accepted));
        assert_eq!(connection.answer().unwrap(), None);
        assert!(matches!(poll_fn(|cx| connection.poll(cx)).await, Err(Lost::Closed)));
    }
}
