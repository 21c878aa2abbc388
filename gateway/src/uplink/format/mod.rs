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

use super::settings::Settings;
use crate::store::StoreIds;

pub use self::{context::EventContext, decoded::Decoded, name::FormatName, raw::Raw};

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
