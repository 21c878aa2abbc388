//! DISCONNECT both ways, by the codec of `mqtt-protocol-core`.

use mqtt_protocol_core::mqtt::{
    packet::{Property, v5_0},
    result_code::DisconnectReasonCode,
};

use super::{
    fault::Fault,
    parse::{check_texts, reason_string, whole},
    version::Version,
};

/// The DISCONNECT that tells an MQTT 5 client why; `None` where there is no code for the cause. The
/// cause in words is left out where the client does not take as much `[MQTT-3.14.2-3]`.
#[must_use]
pub fn because(fault: Fault, packet_bytes_max: usize) -> Option<Vec<u8>> {
    let code = DisconnectReasonCode::try_from(fault.disconnect_code()?).ok()?;
    let packet = v5_0::Disconnect::builder().reason_code(code).props(vec![reason_string(fault)?]).build();
    let packet = packet.ok()?.to_continuous_buffer();
    Some(if packet.len() <= packet_bytes_max { packet } else { vec![0xe0, 1, code as u8] })
}

/// What a client's DISCONNECT asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect {
    /// The will is to be published all the same.
    pub with_will: bool,
    /// A new time for the session to outlive the connection, in seconds.
    pub session_expiry_s: Option<u32>,
}

/// Reads the DISCONNECT in `body`. On MQTT 5 any reason but 0x00 leaves the will to be published
/// (section 3.1.2.5).
///
/// # Errors
/// [`Fault::Malformed`], [`Fault::Protocol`]
pub fn read(version: Version, body: &[u8]) -> Result<Disconnect, Fault> {
    if version == Version::V311 {
        return match body {
            [] => Ok(Disconnect { with_will: false, session_expiry_s: None }),
            _ => Err(Fault::Malformed("DISCONNECT with a body")),
        };
    }
    let packet = whole(v5_0::Disconnect::parse(body), body)?;
    packet.props().iter().try_for_each(check_texts)?;
    let session_expiry_s = packet.props().iter().flatten().find_map(|property| match property {
        Property::SessionExpiryInterval(seconds) => Some(seconds.val()),
        _ => None,
    });
    let normal = matches!(packet.reason_code(), None | Some(DisconnectReasonCode::NormalDisconnection));
    Ok(Disconnect { with_will: !normal, session_expiry_s })
}
