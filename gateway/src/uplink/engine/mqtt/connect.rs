//! The handshake, and the messages that come from a broker, by rumqttc's codec. The only file that
//! names it.
//!
//! ```text
//!  events    out: CONNECT                                in: CONNACK
//!  commands  out: CONNECT with a session that is kept    in: CONNACK · PUBLISH
//! ```
//! Limits: a packet in to [`IN_BYTES_MAX`], a PUBLISH to what its caller allows. It holds no state
//! and reads no socket.

use std::fmt;

use bytes::{Bytes, BytesMut};
use rumqttc::{
    mqttbytes::{self, v4},
    v5::mqttbytes::v5,
};

use super::{
    answer::{Foreign, IN_BYTES_MAX, WireError, packet},
    notice::Moment,
    send::OUT_BYTES_MAX,
    settings::Settings,
};
use crate::{
    mqtt::{Password, Version},
    uplink::{engine::Notice, message::Will},
};

/// The user property that names a command.
const NAMED: &str = "id";
const CONNACK: u8 = 2;
/// By so many bytes another protocol is known.
const FOREIGN_BYTES: usize = 5;

/// What the upstream allows on this connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLimits {
    /// Publishes in flight. (Receive Maximum)
    pub receive_max: u16,
    /// Longest packet, in bytes. (Maximum Packet Size)
    pub packet_bytes_max: u32,
    /// Whether a retain flag may be set. (Retain Available)
    pub retain_available: bool,
    /// The keep-alive to use instead of ours, in seconds. (Server Keep Alive)
    pub keep_alive_s: Option<u16>,
    /// Topics that may have a number. (Topic Alias Maximum)
    pub topic_aliases: u16,
    /// The client id that it gave, where none was sent. (Assigned Client Identifier)
    pub assigned_id: Option<String>,
}

/// One PUBLISH that the upstream sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incoming {
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
    /// Incoming expiry interval, MQTT 5.
    pub expiry_s: Option<u32>,
}

/// A session that outlives its connection, for what the upstream sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PersistentSession {
    /// How long the upstream keeps it without a connection, in seconds; MQTT 5 only.
    pub expiry_s: u32,
    /// Messages that it may send before they are acknowledged; MQTT 5 only.
    pub receive_max: u16,
    /// Longest packet that it may send, in bytes; MQTT 5 only.
    pub packet_bytes_max: u32,
}

/// The CONNECT for `settings` and its events: no session, and the will of the settings. (MQTT
/// 3.1.1 and 5.0 section 3.1)
///
/// # Errors
/// [`WireError::Malformed`]: the settings were not checked.
pub fn connect(settings: &Settings, password: Option<&Password>) -> Result<BytesMut, WireError> {
    connect_with(settings, password, None)
}

/// The same with a session that outlives its connection, if one is to, and then without a will.
///
/// # Errors
/// [`WireError::Malformed`]: the settings were not checked.
pub fn connect_with(
    settings: &Settings,
    password: Option<&Password>,
    kept: Option<PersistentSession>,
) -> Result<BytesMut, WireError> {
    let mut out = BytesMut::new();
    let keep_alive = u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX);
    let client_id = settings.client_id.clone();
    let user = settings.user.clone().unwrap_or_default();
    let password = password.map_or(&[][..], Password::expose);
    let password = str::from_utf8(password).map_err(|_| WireError::Malformed)?.to_owned();
    let will = settings.will.as_ref().filter(|_| kept.is_none());
    let has_login = !user.is_empty() || !password.is_empty();
    match settings.version {
        Version::V311 => {
            let mut connect = v4::Connect::new(client_id);
            connect.keep_alive = keep_alive;
            connect.clean_session = kept.is_none();
            connect.last_will = will.map(|Will { topic, payload }| {
                v4::LastWill::new(topic.clone(), payload.clone(), mqttbytes::QoS::AtLeastOnce, false)
            });
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
            let will = will.map(|Will { topic, payload }| {
                let qos = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
                v5::LastWill::new(topic.clone(), payload.clone(), qos, false, None)
            });
            connect.write(&will, &login, &mut out).map_err(|_| WireError::Malformed)?;
        }
    }
    Ok(out)
}

/// Reads the CONNACK at the start of `bytes`, and gives its length; `None` while it is not all
/// there.
///
/// # Errors
/// [`WireError`]: there will be no connection.
pub fn connack(bytes: &[u8], version: Version) -> Result<Option<(ServerLimits, usize)>, WireError> {
    let is_other = bytes.first().is_some_and(|kind| kind >> 4 != CONNACK);
    if is_other && let Some(foreign) = Foreign::of(bytes) {
        return Err(WireError::Foreign(foreign));
    }
    if is_other && bytes.len() >= FOREIGN_BYTES {
        return Err(WireError::NoConnack);
    }
    let Some((_, body, size)) = packet(bytes)? else { return Ok(None) };
    if is_other {
        return Err(WireError::NoConnack);
    }
    let [_, code, ..] = *body else { return Err(WireError::Malformed) };
    if code != 0 {
        let text = said(&bytes[..size]);
        return Err(WireError::Refused(Box::new(Notice::of_broker(Moment::Connect, code, version, text))));
    }
    let mut limits = ServerLimits::default();
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

/// What a CONNACK or a DISCONNECT of MQTT 5 says in words beside its code: the Reason String, and
/// the server to use instead. `None` where it says nothing, or nothing that can be read.
#[must_use]
pub fn said(packet: &[u8]) -> Option<String> {
    let words = match v5::Packet::read(&mut BytesMut::from(packet), None).ok()? {
        v5::Packet::ConnAck(connack) => {
            connack.properties.map(|read| [read.reason_string, read.server_reference])
        }
        v5::Packet::Disconnect(disconnect) => {
            disconnect.properties.map(|read| [read.reason_string, read.server_reference])
        }
        _ => None,
    };
    let words: Vec<String> = words?.into_iter().flatten().filter(|text| !text.is_empty()).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

/// Reads a whole PUBLISH.
///
/// # Errors
/// [`WireError::Malformed`]: it is none.
pub fn message(packet: &[u8], version: Version) -> Result<Incoming, WireError> {
    let mut copy = BytesMut::from(packet);
    match version {
        Version::V311 => match v4::Packet::read(&mut copy, packet.len()) {
            Ok(v4::Packet::Publish(v4::Publish { pkid: id, dup, retain, topic, payload, .. })) => {
                Ok(Incoming { id, dup, retain, topic, payload, ..Incoming::default() })
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
            Ok(Incoming {
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

impl Default for ServerLimits {
    /// Those of an upstream that says nothing of them.
    fn default() -> Self {
        Self {
            receive_max: u16::MAX,
            packet_bytes_max: OUT_BYTES_MAX,
            retain_available: true,
            keep_alive_s: None,
            topic_aliases: 0,
            assigned_id: None,
        }
    }
}

impl fmt::Display for ServerLimits {
    /// What it said of them, if anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        let mut said = Vec::new();
        if self.receive_max != usual.receive_max {
            said.push(format!("{} in flight", self.receive_max));
        }
        if self.packet_bytes_max != usual.packet_bytes_max {
            said.push(format!("packets of {} bytes", self.packet_bytes_max));
        }
        if !self.retain_available {
            said.push("nothing retained".to_owned());
        }
        if let Some(seconds) = self.keep_alive_s {
            said.push(format!("a keep-alive of {seconds} s"));
        }
        if self.topic_aliases > 0 {
            said.push(format!("{} topic aliases", self.topic_aliases));
        }
        if let Some(id) = &self.assigned_id {
            said.push(format!("the client id {id:?}"));
        }
        f.write_str(&said.join(", "))
    }
}

impl ServerLimits {
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
        self.topic_aliases = properties.topic_alias_max.unwrap_or(0);
        self.assigned_id.clone_from(&properties.assigned_client_identifier);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(version: Version) -> Settings {
        let mut settings = Settings::new("localhost", "barn-7-cloud".to_owned());
        settings.version = version;
        settings.user = Some("user".to_owned());
        settings
    }

    #[test]
    fn connect_asks_for_no_session_and_carries_the_login() {
        let mut bytes = connect(&settings(Version::V311), Some(&Password::new("secret"))).unwrap();
        let v4::Packet::Connect(read) = v4::Packet::read(&mut bytes, 1000).unwrap() else { panic!() };
        assert!(read.clean_session && read.keep_alive == 30 && read.client_id == "barn-7-cloud");
        assert_eq!(read.login, Some(v4::Login::new("user", "secret")));
        let mut bytes = connect(&settings(Version::V5), Some(&Password::new("secret"))).unwrap();
        let v5::Packet::Connect(read, None, login) = v5::Packet::read(&mut bytes, None).unwrap() else {
            panic!()
        };
        assert!(read.clean_start && read.keep_alive == 30 && read.client_id == "barn-7-cloud");
        assert_eq!(login, Some(v5::Login::new("user", "secret")));
    }

    #[test]
    fn a_will_goes_with_the_connection_for_events_alone() {
        let will = Will { topic: "up/tidegate/status".to_owned(), payload: b"gone".to_vec() };
        let with_will = |version| Settings { will: Some(will.clone()), ..settings(version) };
        let mut bytes = connect(&with_will(Version::V311), None).unwrap();
        let v4::Packet::Connect(read) = v4::Packet::read(&mut bytes, 1000).unwrap() else { panic!() };
        let read = read.last_will.unwrap();
        assert_eq!((&*read.topic, &read.message[..], read.qos as u8), (&*will.topic, &*will.payload, 1));
        assert!(!read.retain);
        let mut bytes = connect(&with_will(Version::V5), None).unwrap();
        let v5::Packet::Connect(_, Some(read), _) = v5::Packet::read(&mut bytes, None).unwrap() else {
            panic!()
        };
        assert_eq!((&read.topic[..], &read.message[..]), (will.topic.as_bytes(), &*will.payload));
        assert!(read.qos as u8 == 1 && !read.retain);
        let kept = PersistentSession { expiry_s: 9, receive_max: 9, packet_bytes_max: 900 };
        let mut bytes = connect_with(&with_will(Version::V311), None, Some(kept)).unwrap();
        let v4::Packet::Connect(read) = v4::Packet::read(&mut bytes, 1000).unwrap() else { panic!() };
        assert_eq!(read.last_will, None, "commands have no will");
    }

    #[test]
    fn connack_gives_the_limits_and_the_refusals() {
        let none = ServerLimits::default();
        assert_eq!(none.to_string(), "");
        let (old, new) = (Version::V311, Version::V5);
        let refused = |code, version, text: Option<&str>| {
            let notice = Notice::of_broker(Moment::Connect, code, version, text.map(str::to_owned));
            Err(WireError::Refused(Box::new(notice)))
        };
        let all: &[u8] = &[
            0x20, 24, 0, 0, 21, 0x21, 0, 9, 0x27, 0, 0, 1, 0, 0x25, 0, 0x13, 0, 7, 0x22, 0, 5, 0x12, 0, 2,
            b'i', b'd',
        ];
        let some = ServerLimits {
            receive_max: 9,
            packet_bytes_max: 256,
            retain_available: false,
            keep_alive_s: Some(7),
            topic_aliases: 5,
            assigned_id: Some("id".to_owned()),
        };
        let said = "9 in flight, packets of 256 bytes, nothing retained, a keep-alive of 7 s, 5 topic aliases, \
                    the client id \"id\"";
        assert_eq!(some.to_string(), said);
        type Case<'a> = (&'a [u8], Version, Result<Option<(ServerLimits, usize)>, WireError>);
        let cases: &[Case<'_>] = &[
            (&[], old, Ok(None)),
            (&[0x20, 2, 0], old, Ok(None)),
            (&[0x20, 2, 0, 0, 0x40], old, Ok(Some((none.clone(), 4)))),
            (&[0x20, 2, 0, 5], old, refused(5, old, None)),
            (&[0x20, 2, 0, 1], new, refused(1, new, None)),
            (&[0x20, 3, 0, 0x87, 0], new, refused(0x87, new, None)),
            (b"\x20\x08\0\x87\x05\x1f\0\x02no", new, refused(0x87, new, Some("no"))),
            (b"\x20\x0d\0\x9d\x0a\x1f\0\x02no\x1c\0\x02b1", new, refused(0x9D, new, Some("no; b1"))),
            // Words that cannot be read leave the code.
            (b"\x20\x08\0\x87\x05\x1f\0\x09no", new, refused(0x87, new, None)),
            (&[0x15, 3, 1], new, Err(WireError::Foreign(Foreign::Tls))),
            (b"HTTP/1.1 400 Bad Request\r\n", old, Err(WireError::Foreign(Foreign::Http))),
            (b"INFO {\"server_id\":\"a\"}\r\n", old, Err(WireError::Foreign(Foreign::Nats))),
            (b"220 mail.example ESMTP\r\n", old, Err(WireError::NoConnack)),
            (&[0x20, 3, 0, 0, 0], new, Ok(Some((none, 5)))),
            (all, new, Ok(Some((some, 26)))),
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
}
