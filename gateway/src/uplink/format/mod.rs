//! How events go out: as they came, or described: as JSON or as CloudEvents, one message for each event.
//!
//! ```text
//!  record ─┬─ raw.rs        one PUBLISH, the payload as it came
//!          └─ decoded.rs  facts and data of each event ─┬─ json.rs         an envelope around the data
//!                 │                                       └─ cloudevents.rs  attributes beside it, or around it
//!              catalog: what the bodies mean · fleet: when it was
//! ```
//! Every copy of an event has the same id, whatever the format. Limits are those of the upstream and of the catalog.

mod cloudevents;
mod decoded;
mod facts;
mod json;
mod messages;
mod payload;
mod property;
mod raw;

use super::{engine::mqtt::packets::Publish, settings::Settings, template::BadTopic};
use crate::{catalog::Catalog, fleet::Fleet, store::StoreIds};

pub use self::{
    decoded::{Described, UNKNOWN_SCHEMA},
    raw::Raw,
};

/// A format, as the configuration names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FormatName {
    /// `raw`: payloads as they came.
    #[default]
    Raw,
    /// `json`: one JSON object for each event.
    Json,
    /// `cloudevents`: binary mode on MQTT 5, structured mode on MQTT 3.1.1.
    CloudEvents,
}

/// What is known of devices and of their events.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(Default))]
pub struct Knowledge {
    /// What the bodies of events mean.
    pub catalog: Catalog,
    /// When events were.
    pub fleet: Fleet,
}

/// Writes events in the format of one uplink.
#[derive(Debug)]
pub enum Format {
    /// As they came.
    Raw(Raw),
    /// As JSON or CloudEvents.
    Described(Box<Described>),
}

/// An event cannot be sent to this upstream, ever. Nothing of it was written: set it aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// Its packet is longer than the upstream takes.
    #[error("its packet of {bytes} bytes is longer than the {bytes_max} bytes that the upstream takes")]
    TooLong {
        /// How long the packet would be.
        bytes: u64,
        /// How long it may be.
        bytes_max: u32,
    },
    /// There is no topic for it.
    #[error(transparent)]
    Topic(#[from] BadTopic),
}

impl Format {
    /// For the uplink of `settings`, over a store with these ids.
    #[must_use]
    pub fn new(settings: &Settings, ids: &StoreIds, knowledge: &Knowledge) -> Self {
        match settings.format {
            FormatName::Raw => Self::Raw(Raw::new(settings, ids)),
            FormatName::Json | FormatName::CloudEvents => {
                Self::Described(Box::new(Described::new(settings, ids, knowledge.clone())))
            }
        }
    }

    /// The same for a replay: every event says that this one sends it again, and none is to be retained.
    #[must_use]
    pub fn marked(self, replay: &str) -> Self {
        match self {
            Self::Raw(raw) => Self::Raw(raw.marked(replay)),
            Self::Described(described) => Self::Described(Box::new(described.marked(replay))),
        }
    }
}

/// Checks that the upstream takes a packet of this size.
fn check_size(publish: &Publish<'_>, bytes_max: u32) -> Result<(), Unsendable> {
    let bytes = publish.size();
    if bytes > u64::from(bytes_max) { Err(Unsendable::TooLong { bytes, bytes_max }) } else { Ok(()) }
}
