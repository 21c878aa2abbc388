//! What a replay is asked for, and why it may be refused. Plain data, both ways: HTTP and the
//! command line carry it.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::store::{DeadLetterFilter, Kind, ReasonCode, Record, record::NAME_BYTES_MAX};

/// Sends stored events again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The uplink to send them by.
    pub uplink: String,
    /// Which events.
    pub what: What,
    /// Counts them, and sends nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Events a second at most; without it, as fast as the upstream takes them.
    #[serde(default)]
    pub events_per_s: Option<NonZeroU32>,
}

/// Which events to send again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// What the store still holds.
    Stored(Stored),
    /// What an upstream could not take.
    DeadLetters(Letters),
}

/// Dead letters of one uplink. Each that is acknowledged is taken away; one that is refused again
/// stays, with its tries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letters {
    /// The uplink that could not deliver them; without it, the one to send them by.
    #[serde(default)]
    pub of: Option<String>,
    /// Those with these numbers; without any, all that the rest takes.
    #[serde(default)]
    pub ids: Vec<u64>,
    /// Those whose reason has this code; for what the gateway asks for itself.
    #[serde(skip)]
    pub code: Option<ReasonCode>,
    /// What stands in the reason, in capitals or not.
    #[serde(default)]
    pub reason: Option<String>,
    /// Of this device.
    #[serde(default)]
    pub device: Option<String>,
    /// Of this kind.
    #[serde(default)]
    pub kind: Option<KindName>,
    /// Received at this time or later, milliseconds since 1970.
    #[serde(default)]
    pub from_ms: Option<u64>,
    /// Received before this time.
    #[serde(default)]
    pub to_ms: Option<u64>,
}

/// Stored events, by time, device and kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// Received at this time or later, by the gateway's clock as it is known now, milliseconds
    /// since 1970.
    pub from_ms: u64,
    /// Received before this time.
    pub to_ms: u64,
    /// Of this device, see [`Record::device`].
    #[serde(default)]
    pub device: Option<String>,
    /// Of this kind.
    #[serde(default)]
    pub kind: Option<KindName>,
}

/// A [`Kind`] by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KindName {
    /// Tidegate frames.
    Frame,
    /// JSON of foreign devices.
    Json,
    /// Text of foreign devices.
    Text,
    /// Anything else.
    Opaque,
}

/// A replay was refused. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no uplink of this name.
    #[error("there is no uplink \"{name}\"; this gateway has: {}", known_or_none(known))]
    UnknownUplink {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// No time lies in the range.
    #[error("the time to replay to is not after the time to replay from: nothing lies between them")]
    EmptyRange,
    /// No device has such a name.
    #[error("the device's name is {bytes} bytes long, and none is longer than {NAME_BYTES_MAX}")]
    LongDevice {
        /// How long it is.
        bytes: usize,
    },
    /// The uplink is paused.
    #[error("the uplink \"{name}\" is paused: resume it first, with \"tidegate uplinks resume {name}\"")]
    Paused {
        /// Its name.
        name: String,
    },
    /// Others are under way.
    #[error("{running} replays are under way, which is the most at a time: wait for one, or cancel it")]
    TooMany {
        /// How many.
        running: usize,
    },
    /// The gateway is stopping.
    #[error("the gateway is stopping: start the replay again when it is back")]
    Stopping,
}

fn known_or_none(known: &[String]) -> String {
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}

impl Request {
    /// Checks what can be checked without looking into the store.
    pub(super) fn check(&self) -> Result<(), Refused> {
        let (from_ms, to_ms, device) = match &self.what {
            What::Stored(stored) => (stored.from_ms, stored.to_ms, &stored.device),
            What::DeadLetters(letters) => {
                (letters.from_ms.unwrap_or(0), letters.to_ms.unwrap_or(u64::MAX), &letters.device)
            }
        };
        if from_ms >= to_ms {
            return Err(Refused::EmptyRange);
        }
        match device {
            Some(device) if device.len() > NAME_BYTES_MAX => Err(Refused::LongDevice { bytes: device.len() }),
            _ => Ok(()),
        }
    }
}

impl Letters {
    /// As the store asks for them, to be sent by `uplink`.
    pub(super) fn filter(&self, uplink: &str) -> DeadLetterFilter {
        DeadLetterFilter {
            code: self.code,
            reason: self.reason.clone(),
            device: self.device.clone(),
            kind: self.kind.map(Kind::from),
            uplink: Some(self.of.as_deref().unwrap_or(uplink).to_owned()),
            from_ms: self.from_ms,
            to_ms: self.to_ms,
        }
    }
}

impl Stored {
    /// Whether a record is asked for, whatever its time.
    pub(super) fn takes(&self, record: &Record<'_>) -> bool {
        !record.local
            && self.kind.is_none_or(|kind| kind == record.kind.into())
            && self.device.as_ref().is_none_or(|device| device == record.device())
    }
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::Frame => Self::Frame,
            KindName::Json => Self::Json,
            KindName::Text => Self::Text,
            KindName::Opaque => Self::Opaque,
        }
    }
}

impl From<Kind> for KindName {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Frame => Self::Frame,
            Kind::Json => Self::Json,
            Kind::Text => Self::Text,
            Kind::Opaque => Self::Opaque,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(kind: Kind, client: &'a str, topic: &'a str) -> Record<'a> {
        Record { kind, events: 1, qos: 0, received_ms: 50, client, topic, payload: &[], ..Record::default() }
    }

    #[test]
    fn a_record_is_taken_by_device_and_kind() {
        let all = Stored { from_ms: 0, to_ms: 100, device: None, kind: None };
        let device = |device: &str| Stored { device: Some(device.to_owned()), ..all.clone() };
        let frame = record(Kind::Frame, "client", "tg/stall-3/e");
        let foreign = record(Kind::Json, "client", "zigbee2mqtt/door");
        for (stored, record, taken) in [
            (all.clone(), frame, true),
            (device("stall-3"), frame, true),
            (device("client"), frame, false),
            (device("client"), foreign, true),
            (device("clien"), foreign, false),
            (Stored { kind: Some(KindName::Json), ..all.clone() }, foreign, true),
            (Stored { kind: Some(KindName::Json), ..all.clone() }, frame, false),
        ] {
            assert_eq!(stored.takes(&record), taken, "{stored:?} of {record:?}");
        }
    }

    #[test]
    fn a_request_that_can_bring_nothing_is_refused() {
        let with = |stored: Stored| Request {
            uplink: "cloud".to_owned(),
            what: What::Stored(stored),
            dry_run: false,
            events_per_s: None,
        };
        let range = |from_ms, to_ms| Stored { from_ms, to_ms, device: None, kind: None };
        assert_eq!(with(range(5, 6)).check(), Ok(()));
        assert_eq!(with(range(5, 5)).check(), Err(Refused::EmptyRange));
        let long = Stored { device: Some("d".repeat(1025)), ..range(5, 6) };
        assert_eq!(with(long).check(), Err(Refused::LongDevice { bytes: 1025 }));
        let unknown = |known: &[&str]| Refused::UnknownUplink {
            name: "x".to_owned(),
            known: known.iter().map(|n| (*n).to_owned()).collect(),
        };
        assert!(unknown(&["cloud", "lake"]).to_string().ends_with("this gateway has: cloud, lake"));
        assert!(unknown(&[]).to_string().ends_with("this gateway has: none"));
    }

    #[test]
    fn a_request_is_json_without_what_was_not_asked_for() {
        let text = r#"{"uplink":"cloud","what":{"stored":{"from_ms":1,"to_ms":2,"kind":"frame"}}}"#;
        let request: Request = serde_json::from_str(text).unwrap();
        let What::Stored(stored) = &request.what else { panic!("{request:?}") };
        assert_eq!(
            (stored.kind, request.dry_run, request.events_per_s),
            (Some(KindName::Frame), false, None)
        );
        let again: Request = serde_json::from_str(&serde_json::to_string(&request).unwrap()).unwrap();
        assert_eq!(again, request);
        assert!(serde_json::from_str::<Request>(&text.replace("from_ms", "since_ms")).is_err());
    }
}
