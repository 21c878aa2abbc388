//! MQTT 5 reason codes: their names, and what each means for an event. Pure. (MQTT 5.0 section 2.4)
//!
//! A PUBACK with a failure reason is no acknowledgement: either the event can never be taken (it is
//! set aside), or the upstream cannot take it now (it is sent again later).

use std::fmt;

use crate::uplink::engine::{Refusal, Verdict};

/// A reason code, shown as its name and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub u8);

impl Reason {
    /// The verdict, where this stands in a PUBACK.
    #[must_use]
    #[inline]
    pub fn judge(self) -> Verdict {
        match self.0 {
            // Codes below 0x80 are success; 0x10 says that nobody has subscribed, which is not the
            // event's concern.
            0x00..0x80 => Verdict::Accepted,
            0x87 | 0x90 | 0x95 | 0x99 => Verdict::Rejected(self.into()),
            _ => Verdict::Retry(self.into()),
        }
    }

    /// Whether a DISCONNECT for this reason may be the fault of what was sent last. (MQTT 5.0
    /// section 3.14.2.1)
    ///
    /// Not those that speak of the upstream's or the connection's state: they would come whatever
    /// was sent. A quota and a rate may be those of a single topic.
    #[must_use]
    pub fn blames_publish(self) -> bool {
        matches!(self.0, 0x80..=0x83 | 0x87 | 0x90 | 0x94..=0x97 | 0x99..=0x9B)
    }

    /// Its name, as the standard writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            0x00 => "success",
            0x10 => "no matching subscribers",
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
            0x9F => "connection rate exceeded",
            0xA0 => "maximum connect time",
            _ => "a reason that MQTT 5 does not name",
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::hex(reason.name(), reason.0.into())
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
    fn every_reason_of_a_puback_has_its_verdict() {
        let accepted = |_| Verdict::Accepted;
        for (reason, verdict) in [
            (0x00, accepted as fn(Refusal) -> Verdict),
            (0x10, accepted),
            (0x80, Verdict::Retry),
            (0x83, Verdict::Retry),
            (0x87, Verdict::Rejected),
            (0x90, Verdict::Rejected),
            (0x91, Verdict::Retry),
            (0x95, Verdict::Rejected),
            (0x97, Verdict::Retry),
            (0x99, Verdict::Rejected),
            (0xFF, Verdict::Retry),
        ] {
            let reason = Reason(reason);
            assert_eq!(reason.judge(), verdict(reason.into()), "{reason}");
        }
    }

    #[test]
    fn a_disconnect_for_the_upstreams_own_reasons_blames_no_event() {
        for reason in [0x00, 0x88, 0x89, 0x8B, 0x8D, 0x8E, 0x93, 0x98, 0x9C, 0x9D, 0x9F, 0xA0] {
            assert!(!Reason(reason).blames_publish(), "{}", Reason(reason));
        }
        for reason in [0x80, 0x81, 0x82, 0x87, 0x90, 0x95, 0x96, 0x97, 0x99, 0x9A, 0x9B] {
            assert!(Reason(reason).blames_publish(), "{}", Reason(reason));
        }
    }
}
