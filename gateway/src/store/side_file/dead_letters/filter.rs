//! Which dead letters are meant: by reason, device, kind, uplink and the time they were received.
//! Pure.

use super::{letter::Letter, reason::ReasonCode};
use crate::store::record::Kind;

/// What a dead letter has to be like; an empty filter takes every one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// The code of its reason.
    pub code: Option<ReasonCode>,
    /// Stands in the reason, in capitals or not.
    pub reason: Option<String>,
    /// Whose it is, see [`Record::device`](crate::store::Record::device).
    pub device: Option<String>,
    /// What the payload is.
    pub kind: Option<Kind>,
    /// The uplink's name.
    pub uplink: Option<String>,
    /// Received at this time or later, milliseconds since 1970.
    pub from_ms: Option<u64>,
    /// Received before this time, milliseconds since 1970.
    pub to_ms: Option<u64>,
}

impl DeadLetterFilter {
    /// Whether it takes every letter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it takes this letter.
    #[must_use]
    pub fn admits(&self, letter: &Letter<'_>) -> bool {
        let record = &letter.record;
        self.uplink.as_ref().is_none_or(|uplink| uplink == letter.uplink)
            && self.code.is_none_or(|code| code == letter.code)
            && self.kind.is_none_or(|kind| kind == record.kind)
            && self.from_ms.is_none_or(|from| record.received_ms >= from)
            && self.to_ms.is_none_or(|to| record.received_ms < to)
            && self.device.as_ref().is_none_or(|device| device == record.device())
            && self
                .reason
                .as_ref()
                .is_none_or(|part| letter.reason.to_lowercase().contains(&part.to_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Record;

    fn filter(change: impl FnOnce(&mut DeadLetterFilter)) -> DeadLetterFilter {
        let mut filter = DeadLetterFilter::default();
        change(&mut filter);
        filter
    }

    #[test]
    fn the_table_of_filters() {
        let letter = |topic, kind| Letter {
            uplink: "cloud",
            offset: 7,
            code: ReasonCode::Refused,
            reason: "The upstream refused it: Payload format invalid",
            set_aside_ms: 9_000,
            tries: 1,
            record: Record {
                kind,
                events: 1,
                qos: 0,
                received_ms: 5_000,
                client: "client-4",
                topic,
                payload: b"x",
                ..Record::default()
            },
        };
        let frame = letter("tg/s3/e", Kind::Frame);
        let foreign = letter("zigbee2mqtt/door", Kind::Json);
        // The filter, whether it takes the frame, whether it takes the foreign one.
        let table = [
            (filter(|_| {}), true, true),
            (filter(|f| f.code = Some(ReasonCode::Refused)), true, true),
            (filter(|f| f.code = Some(ReasonCode::NoBirth)), false, false),
            (filter(|f| f.reason = Some("PAYLOAD FORMAT".into())), true, true),
            (filter(|f| f.reason = Some("".into())), true, true),
            (filter(|f| f.reason = Some("too large".into())), false, false),
            (filter(|f| f.device = Some("s3".into())), true, false),
            (filter(|f| f.device = Some("client-4".into())), false, true),
            (filter(|f| f.device = Some("client".into())), false, false),
            (filter(|f| f.kind = Some(Kind::Frame)), true, false),
            (filter(|f| f.kind = Some(Kind::Json)), false, true),
            (filter(|f| f.kind = Some(Kind::Opaque)), false, false),
            (filter(|f| f.uplink = Some("cloud".into())), true, true),
            (filter(|f| f.uplink = Some("lake".into())), false, false),
            (filter(|f| f.from_ms = Some(5_000)), true, true),
            (filter(|f| f.from_ms = Some(5_001)), false, false),
            (filter(|f| f.to_ms = Some(5_000)), false, false),
            (filter(|f| f.to_ms = Some(5_001)), true, true),
            (filter(|f| (f.from_ms, f.to_ms) = (Some(5_000), Some(5_001))), true, true),
            (filter(|f| (f.kind, f.device) = (Some(Kind::Json), Some("s3".into()))), false, false),
        ];
        for (at, (filter, takes_frame, takes_foreign)) in table.iter().enumerate() {
            assert_eq!(filter.admits(&frame), *takes_frame, "{filter:?}");
            assert_eq!(filter.admits(&foreign), *takes_foreign, "{filter:?}");
            assert_eq!(filter.is_empty(), at == 0, "{filter:?}");
        }
    }
}
