//! What travels between a device and the gateway: frames of events, births, statuses, event types,
//! topics, identity.
//!
//! ```text
//!  device                                                         gateway
//!  reading ─ serde ─▶ body ─┐                                ┌─▶ body ─ schema ─▶ JSON
//!                           FrameWriter ──▶ frame ──▶ FrameReader
//!  uptime_ms, kind index ───┘      topic tg/<device>/e       └─▶ (device, boot, seq), uptime_ms, kind
//! ```
//!
//! A leaf: it uses nothing of Tidegate and is used by the device (`no_std`, no allocation) and by
//! the gateway alike. The format itself is written down in `docs/wire-format.md`.
//!
//! Limits: all of them are in [`limits`]. A writer and a reader each hold at most 400 bytes of
//! state beside the caller's buffer; no input makes a reader allocate, panic, or run longer than
//! its bytes.
//!
//! A type of event is a struct with two derives ([`events`]); its [`definition`] travels in the
//! [`Birth`], and explains the bodies.
//!
//! What it does not do: no input or output, no clock, no MQTT, no decoding by a definition (a body
//! is a byte string here).
#![no_std]
#![forbid(unsafe_code)]

// What the derives write goes by this name, here as elsewhere.
extern crate self as tidegate_protocol;

mod birth;
pub mod definition;
pub mod events;
mod field;
mod frame;
mod identity;
pub mod limits;
mod message;
mod pen;
mod schema_set;
mod status;
mod topic;
pub mod units;
mod varint;

pub use birth::{Birth, Kinds, ResetReason, are_kinds, birth_bytes_max, kind_index};
pub use definition::{DefinitionHead, Kind};
pub use events::EventType;
pub use frame::{BodyError, Event, FrameError, FrameHead, FrameReader, FrameWriter, PushError, VERSION};
pub use identity::{DeviceName, EventId, NameError};
pub use message::{MessageCause, MessageError};
pub use schema_set::{SchemaSet, schema_set};
pub use status::{State, Status};
pub use tidegate_protocol_derive::Schema;
pub use topic::{Leaf, Topic, TopicError};

// All that whoever defines an event type needs beside this crate.
pub use postcard;
pub use postcard_schema;
pub use structure::*;

/// The trait alone is meant. Where another crate of the build asks `postcard_schema` for its derive
/// macro, that comes along: as it is named by a glob only, the one above goes before it.
mod structure {
    pub use postcard_schema::Schema;
}
pub use serde::{self, Deserialize, Serialize};
