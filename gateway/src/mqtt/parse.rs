//! What the files of the rare packets share: a packet as a whole, its texts, and a cause in words.
//!
//! The codec of `mqtt-protocol-core` checks that a text is UTF-8; that it holds no NUL is checked
//! here. Limits: none of its own, as a packet is bounded before it is read.

use mqtt_protocol_core::mqtt::{
    packet::{Properties, Property, ReasonString, prelude::PropertyValueAccess as _},
    result_code::MqttError,
};

use super::fault::Fault;

/// A text that holds NUL `[MQTT-1.5.4-2]`.
pub const NUL: Fault = Fault::Malformed("a text holds NUL");

/// Checks that no text among the properties holds NUL, which the codec takes.
pub fn check_texts(all: &Properties) -> Result<(), Fault> {
    let has_nul = |property: &Property| {
        property.as_str().is_some_and(|text| text.contains('\0'))
            || property.as_key_value().is_some_and(|(key, value)| key.contains('\0') || value.contains('\0'))
    };
    if all.iter().any(has_nul) { Err(NUL) } else { Ok(()) }
}

/// A packet that was read from all of `body`.
pub fn whole<P>(read: Result<(P, usize), MqttError>, body: &[u8]) -> Result<P, Fault> {
    match read.map_err(fault)? {
        (packet, length) if length == body.len() => Ok(packet),
        _ => Err(Fault::Malformed("bytes behind the packet's end")),
    }
}

/// What a failure of the codec is.
pub fn fault(error: MqttError) -> Fault {
    match error {
        MqttError::ProtocolError => Fault::Protocol("a field or property that is not allowed there"),
        _ => Fault::Malformed("a field is cut short or not what it should be"),
    }
}

/// A cause in words, for people.
pub fn reason_string(fault: Fault) -> Option<Property> {
    ReasonString::new(fault.to_string()).ok().map(Into::into)
}
