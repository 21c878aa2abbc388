//! What a reason code of MQTT 5 means for a message. Pure. (MQTT 5.0 section 2.4)
//!
//! A PUBACK with a failure reason is no acknowledgement: either the event can never be taken, and
//! becomes a dead letter, or the upstream cannot take it now, and it is sent again later.

use super::notice::{Moment, advise};
use crate::{
    mqtt::{Version, reason::Reason},
    uplink::engine::{Refusal, Verdict},
};

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
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        // Receive Maximum exceeded, message rate too high, quota exceeded.
        let is_of_a_rate = matches!(reason.0, 0x93 | 0x96 | 0x97);
        let advice = advise(Moment::Later, reason.0, Version::V5);
        Self::hex(reason.name(), reason.0.into()).of_a_rate(is_of_a_rate).advised(advice)
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
