//! How events go out: as they came, or decoded, as JSON, CloudEvents or ThingsBoard's telemetry,
//! with one message for each event. A format makes messages; it knows no engine, but for what that
//! can carry.
//!
//! ```text
//!  record ─┬─ raw.rs        one message, the payload as it came
//!          └─ decoded.rs  facts and data of each event ─┬─ json.rs         an envelope around the data
//!                 │                                       ├─ cloudevents.rs  attributes beside it, or around it
//!                 │                                       └─ thingsboard.rs  values by device and time
//!              catalog: what the bodies mean · fleet: when it was
//! ```
//! Every copy of an event has the same id, whatever the format. Limits are those of the upstream
//! and of the catalog.

mod cloudevents;
mod context;
mod decoded;
mod facts;
mod json;
mod messages;
pub mod name;
mod payload;
mod prepared;
mod raw;
mod thingsboard;

use std::{num::NonZeroU16, time::Duration};

use super::{engine::Capabilities, message::Will, settings::Settings};
use crate::{presence, store::StoreIds};

pub use self::{context::EventContext, decoded::Decoded, name::FormatName, raw::Raw};

/// Above all offsets that a log can come to.
const WILL_OFFSET: u64 = 1 << 63;
/// What a will can carry: what is said of an event has to be in its payload.
const PAYLOAD_ALONE: Capabilities = Capabilities {
    in_flight_max: NonZeroU16::MIN,
    keep_alive: Duration::ZERO,
    retains: false,
    has_headers: false,
    attribute_prefix: "",
};

/// Writes events in the format of one uplink.
#[derive(Debug)]
pub enum Format {
    /// As they came.
    Raw(Raw),
    /// Decoded.
    Decoded(Box<Decoded>),
}

impl Format {
    /// For the uplink of `settings`, over a store with these ids.
    #[must_use]
    pub fn new(settings: &Settings, ids: &StoreIds, context: &EventContext) -> Self {
        match settings.format {
            FormatName::Raw => Self::Raw(Raw::new(settings, ids)),
            FormatName::Json | FormatName::CloudEvents | FormatName::ThingsBoard => {
                Self::Decoded(Box::new(Decoded::new(settings, ids, context.clone())))
            }
        }
    }

    /// What says at the upstream that the gateway is away, if there is a topic for it there: the
    /// last will of a connection that begins at `now_ms`. It is no record of the log, so its id has
    /// a number that no record has.
    pub fn will(&mut self, gateway: &str, now_ms: u64) -> Option<Will> {
        let payload = presence::offline();
        let record = presence::record(gateway, presence::STATUS_TOPIC, &payload, now_ms);
        let message = match self {
            Self::Raw(raw) => raw.message(WILL_OFFSET | now_ms, &record, &PAYLOAD_ALONE).ok()?,
            Self::Decoded(decoded) => {
                match decoded.prepare(WILL_OFFSET | now_ms, &record, &PAYLOAD_ALONE, |_| Ok(())) {
                    (0, _) => return None,
                    _ => decoded.message(0),
                }
            }
        };
        Some(Will { topic: message.topic.to_owned(), payload: message.payload.to_owned() })
    }

    /// The same for a replay: every event says that this one sends it again, and none is to be
    /// retained.
    #[must_use]
    pub fn marked(self, replay: &str) -> Self {
        match self {
            Self::Raw(raw) => Self::Raw(raw.marked(replay)),
            Self::Decoded(decoded) => Self::Decoded(Box::new(decoded.marked(replay))),
        }
    }
}
