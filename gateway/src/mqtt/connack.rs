//! CONNACK, written by the codec of `mqtt-protocol-core`: what a client that is accepted is
//! granted, or why it is refused.

use mqtt_protocol_core::mqtt::{
    packet::{Properties, v3_1_1, v5_0},
    result_code::{ConnectReasonCode, ConnectReturnCode, MqttError},
};

use super::{connect::Refused, limits::TOPIC_ALIAS_MAX, parse::reason_string, version::Version};

/// What a CONNACK that accepts says.
#[derive(Debug, Clone, Copy)]
pub struct Accepted<'a> {
    /// The client's version.
    pub version: Version,
    /// A session of the client is continued.
    pub session_present: bool,
    /// The client id that it was given, if it came without one.
    pub assigned_client_id: Option<&'a str>,
    /// How long the session outlives the connection, in seconds, if that is not as long as asked
    /// for.
    pub session_expiry_s: Option<u32>,
    /// The keep-alive that is granted instead of the one asked for, in seconds.
    pub server_keep_alive_s: Option<u16>,
    /// Publishes with QoS 1 and 2 that the gateway takes at a time.
    pub receive_max: u16,
    /// Longest packet that the gateway takes, in bytes.
    pub packet_bytes_max: u32,
}

/// The CONNACK that accepts; `None` if it cannot be encoded, which is a client id longer than
/// checked.
#[must_use]
pub fn accept(accepted: &Accepted<'_>) -> Option<Vec<u8>> {
    if accepted.version == Version::V311 {
        let packet = v3_1_1::Connack::builder()
            .session_present(accepted.session_present)
            .return_code(ConnectReturnCode::Accepted)
            .build();
        return packet.ok().map(|packet| packet.to_continuous_buffer());
    }
    let packet = v5_0::Connack::builder()
        .session_present(accepted.session_present)
        .reason_code(ConnectReasonCode::Success)
        .props(announced(accepted).ok()?)
        .build();
    packet.ok().map(|packet| packet.to_continuous_buffer())
}

fn announced(accepted: &Accepted<'_>) -> Result<Properties, MqttError> {
    use mqtt_protocol_core::mqtt::packet as p;
    let mut properties: Properties = vec![
        p::ReceiveMaximum::new(accepted.receive_max)?.into(),
        p::RetainAvailable::new(1)?.into(),
        p::MaximumPacketSize::new(accepted.packet_bytes_max)?.into(),
        p::TopicAliasMaximum::new(TOPIC_ALIAS_MAX)?.into(),
    ];
    if let Some(id) = accepted.assigned_client_id {
        properties.push(p::AssignedClientIdentifier::new(id)?.into());
    }
    if let Some(seconds) = accepted.session_expiry_s {
        properties.push(p::SessionExpiryInterval::new(seconds)?.into());
    }
    if let Some(seconds) = accepted.server_keep_alive_s {
        properties.push(p::ServerKeepAlive::new(seconds)?.into());
    }
    Ok(properties)
}

/// The CONNACK that refuses; `None` where the version has no code for the cause: close without one.
/// The cause in words is left out where the client does not take as much `[MQTT-3.2.2-19]`.
#[must_use]
pub fn refuse(refused: Refused) -> Option<Vec<u8>> {
    let code = refused.fault.connack_code(refused.version)?;
    match refused.version {
        Version::V311 => Some(vec![0x20, 2, 0, code]),
        Version::V5 => {
            let packet = v5_0::Connack::builder()
                .session_present(false)
                .reason_code(ConnectReasonCode::try_from(code).ok()?)
                .props(vec![reason_string(refused.fault)?])
                .build();
            let packet = packet.ok()?.to_continuous_buffer();
            Some(if packet.len() <= refused.packet_bytes_max { packet } else { vec![0x20, 3, 0, code, 0] })
        }
    }
}
