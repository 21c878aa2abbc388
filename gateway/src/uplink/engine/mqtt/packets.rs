//! MQTT on the wire, 3.1.1 and 5: the packets that an uplink sends and reads. The only file that names rumqttc.
//!
//! The handshake goes through rumqttc's codec. PUBLISH is written from the record's bytes straight into the
//! socket's buffer, and PUBACK is read in place: these two are all the traffic, and neither allocates.
//!
//! ```text
//!  events    out: CONNECT · PUBLISH (QoS 1) · PINGREQ · DISCONNECT
//!            in:  CONNACK · PUBACK · PINGRESP · DISCONNECT; anything else is passed over
//!  commands  CONNECT with a session that is kept, and PUBLISH in; the rest is in `commands/packets.rs`
//! ```
//! Limits: a packet in to [`IN_BYTES_MAX`], out to [`OUT_BYTES_MAX`]. It holds no state and reads no socket.

use bytes::{BufMut as _, Bytes, BytesMut};
use rumqttc::{
    mqttbytes::{self, v4},
    v5::mqttbytes::v5,
};

use super::reason::{self, Reason};
use crate::uplink::settings::{Password, Settings, Version};

/// Longest packet taken from the upstream, in bytes: it has nothing long to say.
pub const IN_BYTES_MAX: usize = 32 * 1024;
/// Longest packet that MQTT can carry, in bytes. (MQTT 5.0 section 2.1.4)
pub const OUT_BYTES_MAX: u32 = 5 + 268_435_455;
/// A PINGREQ. (MQTT 3.1.1 section 3.12)
pub const PINGREQ: [u8; 2] = [0xC0, 0];
/// A DISCONNECT without reason, in both versions. (MQTT 3.1.1 section 3.14)
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// The user property that names a command.
const NAMED: &str = "id";
const PUBLISH_QOS_1: u8 = 0x32;
const PUBLISH_RETAIN: u8 = 0x01;
const CONNACK: u8 = 2;
const PUBACK: u8 = 4;
const PINGRESP: u8 = 13;
const DISCONNECT_IN: u8 = 14;

/// What the upstream allows on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Publishes in flight. (Receive Maximum)
    pub receive_max: u16,
    /// Longest packet, in bytes. (Maximum Packet Size)
    pub packet_bytes_max: u32,
    /// Whether a retain flag may be set. (Retain Available)
    pub retain_available: bool,
    /// The keep-alive to use instead of ours, in seconds. (Server Keep Alive)
    pub keep_alive_s: Option<u16>,
}

/// Bytes from the upstream are not what it may send. The connection cannot be read on: close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A packet is cut short in itself, or has a length that cannot be.
    #[error("the upstream sent a packet that is not MQTT")]
    Malformed,
    /// A packet is longer than [`IN_BYTES_MAX`].
    #[error("the upstream sent a packet of {bytes} bytes, more than {IN_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The first packet is no CONNACK. \[MQTT-3.2.0-1\]
    #[error("the upstream answered CONNECT with something else than CONNACK")]
    NoConnack,
    /// The upstream refused the connection.
    #[error("the upstream refused the connection: {0}")]
    Refused(&'static str),
    /// The upstream takes QoS 0 only.
    #[error("the upstream takes QoS 0 only, which acknowledges nothing: use another one")]
    NoQos1,
}

/// A packet from the upstream, after the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbound {
    /// PUBACK with its reason code, 0 in MQTT 3.1.1.
    Ack {
        /// The packet id.
        id: u16,
        /// The reason code.
        reason: Reason,
    },
    /// PINGRESP.
    Pong,
    /// DISCONNECT with its reason code.
    Disconnect {
        /// The reason code.
        reason: Reason,
    },
    /// Something that needs no answer from us.
    Other,
}

/// One PUBLISH that the upstream sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The packet id; 0 with QoS 0, which asks for no PUBACK.
    pub id: u16,
    /// It may have been sent before.
    pub dup: bool,
    /// It was kept for whoever subscribes.
    pub retain: bool,
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// Correlation data, MQTT 5.
    pub correlation: Option<Bytes>,
    /// The user property `id`, MQTT 5.
    pub named: Option<String>,
    /// Content type, MQTT 5.
    pub content_type: Option<String>,
    /// Message expiry interval, MQTT 5.
    pub expiry_s: Option<u32>,
}

/// A session that outlives its connection, for what the upstream sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// How long the upstream keeps it without a connection, in seconds; MQTT 5 only.
    pub expiry_s: u32,
    /// Messages that it may send before they are acknowledged; MQTT 5 only.
    pub receive_max: u16,
    /// Longest packet that it may send, in bytes; MQTT 5 only.
    pub packet_bytes_max: u32,
}

/// One PUBLISH to write.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// The topic, checked.
    pub topic: &'a [u8],
    /// The packet id, not 0.
    pub id: u16,
    /// The retain flag.
    pub retain: bool,
    /// Property bytes of MQTT 5, in two pieces, without their length; `None` in MQTT 3.1.1.
    pub properties: Option<[&'a [u8]; 2]>,
    /// The payload.
    pub payload: &'a [u8],
}

/// The CONNECT for `settings`: no session, no will. (MQTT 3.1.1 and 5.0 section 3.1)
///
/// # Errors
/// [`WireError::Malformed`]: the settings were not checked.
pub fn connect(settings: &Settings) -> Result<BytesMut, WireError> {
    connect_with(settings, None)
}

/// The same with a session that outlives its connection, if one is to.
///
/// # Errors
/// [`WireError::Malformed`]: the settings were not checked.
pub fn connect_with(settings: &Settings, kept: Option<Kept>) -> Result<BytesMut, WireError> {
    let mut out = BytesMut::new();
    let keep_alive = u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX);
    let client_id = settings.client_id.clone();
    let user = settings.user.clone().unwrap_or_default();
    let password = settings.password.as_ref().map_or("", Password::reveal).to_owned();
    let has_login = !user.is_empty() || !password.is_empty();
    match settings.version {
        Version::V311 => {
            let mut connect = v4::Connect::new(client_id);
            connect.keep_alive = keep_alive;
            connect.clean_session = kept.is_none();
            connect.login = has_login.then(|| v4::Login::new(user, password));
            connect.write(&mut out).map_err(|_| WireError::Malformed)?;
        }
        Version::V5 => {
            let properties = v5::ConnectProperties {
                max_packet_size: Some(kept.map_or(IN_BYTES_MAX as u32, |kept| kept.packet_bytes_max)),
                session_expiry_interval: kept.map(|kept| kept.expiry_s),
                receive_maximum: kept.map(|kept| kept.receive_max),
                ..Default::default()
            };
            let (clean_start, properties) = (kept.is_none(), Some(properties));
            let connect = v5::Connect { keep_alive, client_id, clean_start, properties };
            let login = has_login.then(|| v5::Login::new(user, password));
            connect.write(&None, &login, &mut out).map_err(|_| WireError::Malformed)?;
        }
    }
    Ok(out)
}

/// Reads the CONNACK at the start of `bytes`, and gives its length; `None` while it is not all there.
///
/// # Errors
/// [`WireError`]: there will be no connection.
pub fn connack(bytes: &[u8], version: Version) -> Result<Option<(Limits, usize)>, WireError> {
    let Some((kind, body, size)) = packet(bytes)? else { return Ok(None) };
    if kind >> 4 != CONNACK {
        return Err(WireError::NoConnack);
    }
    let [_, code, ..] = *body else { return Err(WireError::Malformed) };
    if code != 0 {
        // A broker that speaks 3.1.1 only answers in 3.1.1, whose codes are below 0x80.
        let old = version == Version::V311 || code < 0x80;
        return Err(WireError::Refused(if old {
            reason::connect_return_name(code)
        } else {
            Reason(code).name()
        }));
    }
    let mut limits = Limits {
        receive_max: u16::MAX,
        packet_bytes_max: OUT_BYTES_MAX,
        retain_available: true,
        keep_alive_s: None,
    };
    let mut copy = BytesMut::from(&bytes[..size]);
    match version {
        Version::V311 => {
            v4::Packet::read(&mut copy, IN_BYTES_MAX).map_err(|_: mqttbytes::Error| WireError::Malformed)?;
        }
        Version::V5 => {
            let read = v5::Packet::read(&mut copy, None).map_err(|_| WireError::Malformed)?;
            let v5::Packet::ConnAck(v5::ConnAck { properties, .. }) = read else {
                return Err(WireError::NoConnack);
            };
            if let Some(properties) = properties {
                limits.take(&properties)?;
            }
        }
    }
    Ok(Some((limits, size)))
}

/// Reads a whole PUBLISH.
///
/// # Errors
/// [`WireError::Malformed`]: it is none.
pub fn message(packet: &[u8], version: Version) -> Result<Message, WireError> {
    let mut copy = BytesMut::from(packet);
    match version {
        Version::V311 => match v4::Packet::read(&mut copy, packet.len()) {
            Ok(v4::Packet::Publish(v4::Publish { pkid: id, dup, retain, topic, payload, .. })) => {
                Ok(Message { id, dup, retain, topic, payload, ..Message::default() })
            }
            _ => Err(WireError::Malformed),
        },
        Version::V5 => {
            let Ok(v5::Packet::Publish(read)) = v5::Packet::read(&mut copy, None) else {
                return Err(WireError::Malformed);
            };
            let topic = String::from_utf8(read.topic.to_vec()).map_err(|_| WireError::Malformed)?;
            let properties = read.properties.unwrap_or_default();
            let named = properties.user_properties.into_iter().find(|(name, _)| name == NAMED);
            Ok(Message {
                id: read.pkid,
                dup: read.dup,
                retain: read.retain,
                topic,
                payload: read.payload,
                correlation: properties.correlation_data,
                named: named.map(|(_, id)| id),
                content_type: properties.content_type,
                expiry_s: properties.message_expiry_interval,
            })
        }
    }
}

impl Limits {
    fn take(&mut self, properties: &v5::ConnAckProperties) -> Result<(), WireError> {
        if properties.max_qos == Some(0) {
            return Err(WireError::NoQos1);
        }
        // Zero is a protocol error for both. (MQTT 5.0 sections 3.2.2.3.3 and 3.2.2.3.6)
        if properties.receive_max == Some(0) || properties.max_packet_size == Some(0) {
            return Err(WireError::Malformed);
        }
        self.receive_max = properties.receive_max.unwrap_or(u16::MAX);
        self.packet_bytes_max = properties.max_packet_size.unwrap_or(OUT_BYTES_MAX).min(OUT_BYTES_MAX);
        self.retain_available = properties.retain_available != Some(0);
        self.keep_alive_s = properties.server_keep_alive;
        Ok(())
    }
}

/// Reads the packet at the start of `bytes`, and gives its length; `None` while it is not all there.
///
/// # Errors
/// [`WireError`]: nothing after this point can be read.
#[inline]
pub fn inbound(bytes: &[u8]) -> Result<Option<(Inbound, usize)>, WireError> {
    // Nearly all of what comes is this.
    if let [0x40, 2, high, low, ..] = *bytes {
        return Ok(Some((Inbound::Ack { id: u16::from_be_bytes([high, low]), reason: Reason(0) }, 4)));
    }
    let Some((kind, body, size)) = packet(bytes)? else { return Ok(None) };
    let read = match (kind >> 4, body) {
        (PUBACK, [high, low]) => Inbound::Ack { id: u16::from_be_bytes([*high, *low]), reason: Reason(0) },
        (PUBACK, [high, low, reason, ..]) => {
            Inbound::Ack { id: u16::from_be_bytes([*high, *low]), reason: Reason(*reason) }
        }
        (PUBACK, _) => return Err(WireError::Malformed),
        (PINGRESP, _) => Inbound::Pong,
        (DISCONNECT_IN, body) => Inbound::Disconnect { reason: Reason(body.first().copied().unwrap_or(0)) },
        _ => Inbound::Other,
    };
    Ok(Some((read, size)))
}

impl Publish<'_> {
    /// The length of the packet, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        let rest = self.remaining();
        1 + length_bytes(rest) + rest
    }

    /// Appends the packet to `out`. The caller has checked that [`Publish::size`] is within [`OUT_BYTES_MAX`].
    /// (MQTT 3.1.1 and 5.0 section 3.3)
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.size() as usize);
        out.push(PUBLISH_QOS_1 | if self.retain { PUBLISH_RETAIN } else { 0 });
        put_length(out, self.remaining());
        out.put_u16(self.topic.len() as u16);
        out.extend_from_slice(self.topic);
        out.put_u16(self.id);
        if let Some([first, second]) = self.properties {
            put_length(out, (first.len() + second.len()) as u64);
            out.extend_from_slice(first);
            out.extend_from_slice(second);
        }
        out.extend_from_slice(self.payload);
    }

    fn remaining(&self) -> u64 {
        let properties = self.properties.map_or(0, |[first, second]| {
            let bytes = (first.len() + second.len()) as u64;
            length_bytes(bytes) + bytes
        });
        2 + self.topic.len() as u64 + 2 + properties + self.payload.len() as u64
    }
}

/// First byte, body and whole length of a packet.
type Framed<'a> = (u8, &'a [u8], usize);

/// The packet at the start of `bytes`.
fn packet(bytes: &[u8]) -> Result<Option<Framed<'_>>, WireError> {
    let Some((kind, head, size)) = framed(bytes)? else { return Ok(None) };
    if size > IN_BYTES_MAX {
        return Err(WireError::TooLong { bytes: size });
    }
    Ok(bytes.get(head..size).map(|body| (kind, body, size)))
}

/// First byte, length of the fixed header and length of all of the packet at the start of `bytes`, which need not be all
/// there.
///
/// # Errors
/// [`WireError::Malformed`]: it has a length that cannot be.
pub fn framed(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, WireError> {
    let Some((&kind, rest)) = bytes.split_first() else { return Ok(None) };
    let mut length = 0;
    for (at, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let head = 1 + at + 1;
            return Ok(Some((kind, head, head + length)));
        }
    }
    if rest.len() >= 4 { Err(WireError::Malformed) } else { Ok(None) }
}

/// Appends a length as MQTT writes it. (MQTT 5.0 section 1.5.5)
pub fn put_length(out: &mut Vec<u8>, mut length: u64) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn length_bytes(length: u64) -> u64 {
    match length {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(version: Version) -> Settings {
        let mut settings = Settings::new("cloud", "localhost", "barn-7");
        settings.version = version;
        settings.user = Some("user".to_owned());
        settings.password = Some(Password::new("secret".to_owned()));
        settings
    }

    #[test]
    fn connect_asks_for_no_session_and_carries_the_login() {
        let mut bytes = connect(&settings(Version::V311)).unwrap();
        let v4::Packet::Connect(read) = v4::Packet::read(&mut bytes, 1000).unwrap() else { panic!() };
        assert!(read.clean_session && read.keep_alive == 30 && read.client_id == "barn-7-cloud");
        assert_eq!(read.login, Some(v4::Login::new("user", "secret")));
        let mut bytes = connect(&settings(Version::V5)).unwrap();
        let v5::Packet::Connect(read, None, login) = v5::Packet::read(&mut bytes, None).unwrap() else {
            panic!()
        };
        assert!(read.clean_start && read.keep_alive == 30 && read.client_id == "barn-7-cloud");
        assert_eq!(login, Some(v5::Login::new("user", "secret")));
    }

    #[test]
    fn ping_and_disconnect_are_as_the_codec_writes_them() {
        let mut bytes = BytesMut::new();
        v4::PingReq.write(&mut bytes).unwrap();
        v4::Disconnect.write(&mut bytes).unwrap();
        v5::Disconnect::new(v5::DisconnectReasonCode::NormalDisconnection).write(&mut bytes).unwrap();
        assert_eq!(bytes[..], [PINGREQ, DISCONNECT, DISCONNECT].concat());
    }

    #[test]
    fn connack_gives_the_limits_and_the_refusals() {
        let none = Limits {
            receive_max: u16::MAX,
            packet_bytes_max: OUT_BYTES_MAX,
            retain_available: true,
            keep_alive_s: None,
        };
        let refused = |why| Err(WireError::Refused(why));
        let (old, new) = (Version::V311, Version::V5);
        let all: &[u8] = &[0x20, 16, 0, 0, 13, 0x21, 0, 9, 0x27, 0, 0, 1, 0, 0x25, 0, 0x13, 0, 7];
        let some =
            Limits { receive_max: 9, packet_bytes_max: 256, retain_available: false, keep_alive_s: Some(7) };
        type Case<'a> = (&'a [u8], Version, Result<Option<(Limits, usize)>, WireError>);
        let cases: &[Case<'_>] = &[
            (&[], old, Ok(None)),
            (&[0x20, 2, 0], old, Ok(None)),
            (&[0x20, 2, 0, 0, 0x40], old, Ok(Some((none, 4)))),
            (&[0x20, 2, 0, 5], old, refused("not authorized")),
            (&[0x20, 2, 0, 1], new, refused("unacceptable protocol version")),
            (&[0x20, 3, 0, 0x87, 0], new, refused("not authorized")),
            (&[0x20, 3, 0, 0, 0], new, Ok(Some((none, 5)))),
            (all, new, Ok(Some((some, 18)))),
            (&[0x20, 5, 0, 0, 2, 0x24, 0], new, Err(WireError::NoQos1)),
            (&[0x20, 6, 0, 0, 3, 0x21, 0, 0], new, Err(WireError::Malformed)),
            (&[0xD0, 0], old, Err(WireError::NoConnack)),
            (&[0x20, 1, 0], old, Err(WireError::Malformed)),
            (&[0x20, 0xFF, 0xFF, 0xFF, 0xFF], old, Err(WireError::Malformed)),
            (&[0x20, 0xFF, 0xFF, 0x03], old, Err(WireError::TooLong { bytes: 65_539 })),
        ];
        for (bytes, version, expected) in cases {
            assert_eq!(connack(bytes, *version), *expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_the_upstream_sends_is_read() {
        type Case<'a> = (&'a [u8], Option<(Inbound, usize)>);
        let cases: &[Case<'_>] = &[
            (&[0x40, 2, 1, 2, 0x40], Some((Inbound::Ack { id: 258, reason: Reason(0) }, 4))),
            (&[0x40, 2, 1], None),
            (&[0x40], None),
            (&[0x40, 3, 0, 9, 0x97], Some((Inbound::Ack { id: 9, reason: Reason(0x97) }, 5))),
            (&[0x40, 4, 0, 9, 0x10, 0], Some((Inbound::Ack { id: 9, reason: Reason(0x10) }, 6))),
            (&[0xD0, 0], Some((Inbound::Pong, 2))),
            (&[0xE0, 0], Some((Inbound::Disconnect { reason: Reason(0) }, 2))),
            (&[0xE0, 1, 0x8B], Some((Inbound::Disconnect { reason: Reason(0x8B) }, 3))),
            (&[0x30, 3, 0, 1, b'a'], Some((Inbound::Other, 5))),
        ];
        for (bytes, expected) in cases {
            assert_eq!(inbound(bytes), Ok(*expected), "{bytes:?}");
        }
        assert_eq!(inbound(&[0x40, 1, 0]), Err(WireError::Malformed));
    }

    proptest! {
        #[test]
        fn a_publish_reads_back_with_the_codec(
            topic in "[a-z/]{1,300}",
            id in 1_u16..,
            retain: bool,
            payload in prop::collection::vec(any::<u8>(), 0..20_000),
        ) {
            let mut publish =
                Publish { topic: topic.as_bytes(), id, retain, properties: None, payload: &payload };
            let mut out = vec![];
            publish.write(&mut out);
            prop_assert_eq!(out.len() as u64, publish.size());
            let read = v4::Packet::read(&mut BytesMut::from(&out[..]), 1 << 20).unwrap();
            let v4::Packet::Publish(read) = read else { panic!() };
            prop_assert_eq!((read.topic.as_bytes(), read.pkid, read.retain), (topic.as_bytes(), id, retain));
            prop_assert_eq!((read.qos as u8, read.dup, &read.payload[..]), (1, false, &payload[..]));

            publish.properties = Some([&[0x26, 0, 1, b'k', 0, 1, b'v'], &[0x01, 1]]);
            out.clear();
            publish.write(&mut out);
            prop_assert_eq!(out.len() as u64, publish.size());
            let read = v5::Packet::read(&mut BytesMut::from(&out[..]), None).unwrap();
            let v5::Packet::Publish(read) = read else { panic!() };
            prop_assert_eq!((&read.topic[..], read.pkid, read.retain), (topic.as_bytes(), id, retain));
            prop_assert_eq!((read.qos as u8, &read.payload[..]), (1, &payload[..]));
            let properties = read.properties.unwrap();
            prop_assert_eq!(properties.user_properties, vec![("k".to_owned(), "v".to_owned())]);
            prop_assert_eq!(properties.payload_format_indicator, Some(1));
        }

        #[test]
        fn no_bytes_from_the_upstream_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for version in [Version::V311, Version::V5] {
                for kind in [bytes.first().copied().unwrap_or(0), 0x20, 0x40, 0xE0] {
                    let mut bytes = bytes.clone();
                    if let Some(first) = bytes.first_mut() { *first = kind }
                    if let Ok(Some((_, size))) = connack(&bytes, version) { prop_assert!(size <= bytes.len()) }
                    if let Ok(Some((_, size))) = inbound(&bytes) { prop_assert!(size > 0 && size <= bytes.len()) }
                }
            }
        }
    }
}
