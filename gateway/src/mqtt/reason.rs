//! The reason codes of MQTT 5 and their names. Pure. (MQTT 5.0 section 2.4)
//!
//! What a code means for an event is for whoever gets it to judge.

use std::fmt;

/// "No matching subscribers".
pub const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
/// "No subscription existed".
pub const NO_SUBSCRIPTION: u8 = 0x11;
/// "Not authorized".
pub const NOT_AUTHORIZED: u8 = 0x87;
/// "Topic Filter invalid".
pub const FILTER_INVALID: u8 = 0x8f;
/// "Quota exceeded".
pub const QUOTA_EXCEEDED: u8 = 0x97;

/// A reason code, shown as its name and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub u8);

impl Reason {
    /// Its name, as the standard writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            0x00 => "success",
            0x01 => "granted QoS 1",
            0x02 => "granted QoS 2",
            0x04 => "disconnect with will message",
            0x10 => "no matching subscribers",
            0x11 => "no subscription existed",
            0x18 => "continue authentication",
            0x19 => "re-authenticate",
            0x80 => "unspecified error",
            0x81 => "malformed packet",
            0x82 => "protocol error",
            0x83 => "implementation specific error",
            0x84 => "unsupported protocol version",
            0x85 => "client identifier not valid",
            0x86 => "bad user name or password",
            0x87 => "not authorized",
            0x88 => "server unavailable",
            0x89 => "server busy",
            0x8A => "banned",
            0x8B => "server shutting down",
            0x8C => "bad authentication method",
            0x8D => "keep alive timeout",
            0x8E => "session taken over",
            0x8F => "topic filter invalid",
            0x90 => "topic name invalid",
            0x91 => "packet identifier in use",
            0x92 => "packet identifier not found",
            0x93 => "receive maximum exceeded",
            0x94 => "topic alias invalid",
            0x95 => "packet too large",
            0x96 => "message rate too high",
            0x97 => "quota exceeded",
            0x98 => "administrative action",
            0x99 => "payload format invalid",
            0x9A => "retain not supported",
            0x9B => "QoS not supported",
            0x9C => "use another server",
            0x9D => "server moved",
            0x9E => "shared subscriptions not supported",
            0x9F => "connection rate exceeded",
            0xA0 => "maximum connect time",
            0xA1 => "subscription identifiers not supported",
            0xA2 => "wildcard subscriptions not supported",
            _ => "a reason that MQTT 5 does not name",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#04x})", self.name(), self.0)
    }
}

/// The name of a CONNACK return code of MQTT 3.1.1. (MQTT 3.1.1 section 3.2.2.3)
#[must_use]
pub fn connect_return_name(code: u8) -> &'static str {
    match code {
        0 => "accepted",
        1 => "unacceptable protocol version",
        2 => "identifier rejected",
        3 => "server unavailable",
        4 => "bad user name or password",
        5 => "not authorized",
        _ => "a code that MQTT 3.1.1 does not name",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_standard_has_its_name_and_no_other_code_has_one() {
        let no_name = Reason(0xFF).name();
        let named: Vec<u8> = (0..=0xFF).filter(|code| Reason(*code).name() != no_name).collect();
        // MQTT 5.0, table 2-6: 0x80 to 0xA2 without a gap.
        let expected: Vec<u8> = [0, 1, 2, 4, 0x10, 0x11, 0x18, 0x19].into_iter().chain(0x80..=0xA2).collect();
        assert_eq!(named, expected);
        let mut names: Vec<_> = named.iter().map(|code| Reason(*code).name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), expected.len(), "no two codes share a name");
        assert_eq!(Reason(0x9F).to_string(), "connection rate exceeded (0x9f)");
        assert_eq!((0..7).filter(|code| connect_return_name(*code).starts_with("a code")).count(), 1);
    }
}
