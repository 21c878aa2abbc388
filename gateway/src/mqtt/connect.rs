//! CONNECT, read by the codec of `mqtt-protocol-core`.
//!
//! The codec checks lengths, text encoding and the properties allowed; this file adds what it
//! leaves out: reserved flags, bytes behind the packet's end, NUL in texts, a will's topic, and all
//! versions on one port (`level`).

use std::borrow::Cow;

use mqtt_protocol_core::mqtt::packet::{Properties, Property, v3_1_1, v5_0};

use super::{
    fault::Fault,
    level,
    limits::{NAME_BYTES_MAX, PROPERTIES_BYTES_MAX},
    parse::{NUL, check_texts, fault, whole},
    password::Password,
    publish::Qos,
    topics,
    version::{Dialect, Version},
};

/// A CONNECT, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// The version in whose packets it speaks.
    pub version: Version,
    /// What its protocol level says beside that.
    pub dialect: Dialect,
    /// As given: may be empty.
    pub client_id: String,
    /// Clean start (MQTT 5) or clean session (3.1.1).
    pub clean: bool,
    /// Keep-alive, in seconds; 0 is none.
    pub keep_alive_s: u16,
    /// How long the session outlives the connection, in seconds; `u32::MAX` for ever.
    pub session_expiry_s: u32,
    /// Longest packet that the client takes, in bytes.
    pub packet_bytes_max: usize,
    /// Publishes with QoS 1 and 2 that the client takes at a time; not 0.
    pub receive_max: u16,
    /// What to publish when the connection ends without a DISCONNECT.
    pub will: Option<Will>,
    /// Its user name, as given.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Password>,
}

/// A will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Its topic, checked.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Its retain flag.
    pub retain: bool,
    /// Its QoS.
    pub qos: Qos,
    /// How long it waits for the client to come back, in seconds.
    pub delay_s: u32,
    /// Its properties to forward, as on the wire, a message expiry interval first.
    pub properties: Vec<u8>,
}

/// A CONNECT that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// In whose form to answer.
    pub version: Version,
    /// Why.
    pub fault: Fault,
    /// Longest packet that the client takes, in bytes, as far as is known.
    pub packet_bytes_max: usize,
}

const RESERVED: u8 = 0x01;
const CLEAN: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;
/// Where the connect flags are, behind the protocol's name and level.
const FLAGS_AT: usize = 7;

/// Reads the CONNECT whose bytes after the fixed header are `body`.
///
/// # Errors
/// [`Refused`]: answer with [`refuse`](super::connack::refuse) and close.
pub fn read(body: &[u8]) -> Result<Connect, Refused> {
    let (version, dialect) = level::read(body).map_err(|(version, fault)| Refused {
        version,
        fault,
        packet_bytes_max: usize::MAX,
    })?;
    let refused = |fault, packet_bytes_max| Refused { version, fault, packet_bytes_max };
    let body = level::plain(dialect, body);
    let connect = connect_of(version, &body).map_err(|fault| refused(fault, usize::MAX))?;
    let connect = Connect { dialect, ..connect };
    check(&connect).map_err(|fault| refused(fault, connect.packet_bytes_max))?;
    Ok(connect)
}

fn connect_of(version: Version, body: &[u8]) -> Result<Connect, Fault> {
    let flags = *body.get(FLAGS_AT).ok_or(Fault::Malformed("CONNECT is cut short"))?;
    if flags & RESERVED != 0 || flags & WILL_QOS == WILL_QOS {
        return Err(Fault::Malformed("reserved connect flags"));
    }
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(Fault::Malformed("will flags without a will"));
    }
    match version {
        Version::V311 => connect_v311(flags, body),
        Version::V5 => connect_v5(flags, body),
    }
}

/// What the codec leaves out.
fn check(connect: &Connect) -> Result<(), Fault> {
    if connect.client_id.len() > NAME_BYTES_MAX || connect.client_id.contains('\0') {
        return Err(Fault::ClientId);
    }
    if connect.user.as_ref().is_some_and(|user| user.contains('\0')) {
        return Err(NUL);
    }
    if connect.will.as_ref().is_some_and(|will| topics::name(will.topic.as_bytes()).is_none()) {
        return Err(Fault::Topic);
    }
    Ok(())
}

fn connect_v311(flags: u8, body: &[u8]) -> Result<Connect, Fault> {
    let packet = whole(v3_1_1::Connect::parse(body), body)?;
    let will = packet.will_topic().map(|topic| Will {
        topic: topic.to_owned(),
        payload: packet.will_payload().unwrap_or_default().to_vec(),
        retain: packet.will_retain(),
        qos: will_qos(flags),
        delay_s: 0,
        properties: Vec::new(),
    });
    Ok(Connect {
        version: Version::V311,
        dialect: Dialect::default(),
        client_id: packet.client_id().to_owned(),
        clean: packet.clean_session(),
        keep_alive_s: packet.keep_alive(),
        session_expiry_s: if packet.clean_session() { 0 } else { u32::MAX },
        packet_bytes_max: usize::MAX,
        receive_max: u16::MAX,
        will,
        user: packet.user_name().map(str::to_owned),
        password: packet.password().map(Password::new),
    })
}

fn connect_v5(flags: u8, body: &[u8]) -> Result<Connect, Fault> {
    let (body, lone_password) = without_lone_password(flags, body)?;
    let packet = whole(v5_0::Connect::parse(&body), &body)?;
    let (mut session_expiry_s, mut packet_bytes_max, mut receive_max) = (0, usize::MAX, u16::MAX);
    check_texts(packet.props())?;
    check_texts(packet.will_props())?;
    if packet.props().iter().any(|property| matches!(property, Property::AuthenticationMethod(_))) {
        return Err(Fault::Authentication);
    }
    for property in packet.props() {
        match property {
            Property::AuthenticationData(_) => {
                return Err(Fault::Protocol("authentication data without an authentication method"));
            }
            Property::SessionExpiryInterval(seconds) => session_expiry_s = seconds.val(),
            Property::ReceiveMaximum(publishes) => receive_max = publishes.val(),
            Property::MaximumPacketSize(bytes) => packet_bytes_max = bytes.val() as usize,
            _ => {}
        }
    }
    let will = match packet.will_topic() {
        None => None,
        Some(topic) => Some(Will {
            topic: topic.to_owned(),
            payload: packet.will_payload().unwrap_or_default().to_vec(),
            retain: packet.will_retain(),
            qos: will_qos(flags),
            delay_s: will_delay_s(packet.will_props()),
            properties: will_properties(packet.will_props())?,
        }),
    };
    Ok(Connect {
        version: Version::V5,
        dialect: Dialect::default(),
        client_id: packet.client_id().to_owned(),
        clean: flags & CLEAN != 0,
        keep_alive_s: packet.keep_alive(),
        session_expiry_s,
        packet_bytes_max,
        receive_max,
        will,
        user: packet.user_name().map(str::to_owned),
        password: lone_password.or_else(|| packet.password().map(Password::new)),
    })
}

/// MQTT 5 allows a password without a user name (section 3.1.2.9), the codec does not. The password
/// is the last field, so it is cut off and given beside the rest.
fn without_lone_password(flags: u8, body: &[u8]) -> Result<(Cow<'_, [u8]>, Option<Password>), Fault> {
    if flags & (PASSWORD | USER_NAME) != PASSWORD {
        return Ok((Cow::Borrowed(body), None));
    }
    let mut body = body.to_vec();
    body[FLAGS_AT] &= !PASSWORD;
    let (_, length) = v5_0::Connect::parse(&body).map_err(fault)?;
    let password = match body[length..].split_first_chunk::<2>() {
        Some((length, rest)) if rest.len() == usize::from(u16::from_be_bytes(*length)) => Password::new(rest),
        _ => return Err(Fault::Malformed("the password is cut short")),
    };
    body.truncate(length);
    Ok((Cow::Owned(body), Some(password)))
}

fn will_qos(flags: u8) -> Qos {
    match flags & WILL_QOS {
        0 => Qos::AtMostOnce,
        0x08 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    }
}

fn will_delay_s(all: &Properties) -> u32 {
    let delay = all.iter().find_map(|property| match property {
        Property::WillDelayInterval(delay) => Some(delay.val()),
        _ => None,
    });
    delay.unwrap_or_default()
}

/// Those of a will's properties that `properties` would forward of a PUBLISH, in the same order.
fn will_properties(all: &Properties) -> Result<Vec<u8>, Fault> {
    let is_no_topic = |property: &Property| match property {
        Property::ResponseTopic(topic) => topics::name(topic.val().as_bytes()).is_none(),
        _ => false,
    };
    if all.iter().any(is_no_topic) {
        return Err(Fault::Topic);
    }
    let is_expiry = |property: &&Property| matches!(property, Property::MessageExpiryInterval(_));
    let is_other = |property: &&Property| {
        !matches!(property, Property::MessageExpiryInterval(_) | Property::WillDelayInterval(_))
    };
    let kept = all.iter().filter(is_expiry).chain(all.iter().filter(is_other));
    let kept = kept.flat_map(Property::to_continuous_buffer).collect::<Vec<u8>>();
    if kept.len() > PROPERTIES_BYTES_MAX { Err(Fault::Quota) } else { Ok(kept) }
}
