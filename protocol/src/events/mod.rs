//! Event types that every device may use. A type is a struct of scaled integers: `value * 10^scale`
//! is the quantity in its unit (units as in SenML, [`crate::units`]).
//!
//! ```
//! use tidegate_protocol::events::EventType;
//! use tidegate_protocol::{Deserialize, Schema, Serialize};
//!
//! /// What the ground under a plant is like.
//! #[derive(Debug, Clone, Copy, Serialize, Deserialize, Schema, EventType)]
//! #[serde(crate = "tidegate_protocol::serde")]
//! #[event(name = "soil", version = 1, owner = "greenhouse", description = "soil under a plant")]
//! struct Soil {
//!     /// Water in the soil.
//!     #[unit("%", scale = -1)]
//!     moisture: u16,
//!     /// Electrical conductivity.
//!     #[unit("S/m", scale = -4)]
//!     conductivity: u16,
//! }
//!
//! assert_eq!(Soil::KIND.name, "soil");
//! assert_eq!(Soil::FIELDS[1].unit, "S/m");
//! ```
//!
//! A released type never changes: `(name, version)` means the same bytes for ever, and a change is
//! a new version under the same name.
//!
//! Limits: those of a definition ([`crate::definition`]) and 960 bytes of body. What it does not
//! do: no floats, `usize`, `char`, 128-bit integers or maps, whose bytes depend on the machine or
//! have several spellings:
//!
//! ```compile_fail
//! use tidegate_protocol::{Schema, events::EventType, Serialize};
//! #[derive(Serialize, Schema, EventType)]
//! #[serde(crate = "tidegate_protocol::serde")]
//! #[event(name = "soil", version = 1, owner = "greenhouse", description = "soil")]
//! struct Soil { moisture: usize } // usize has no place in an event: its size is the machine's: use u16, u32 or u64
//! ```
//!
//! Nor units that nobody else knows:
//!
//! ```compile_fail
//! use tidegate_protocol::{Schema, events::EventType, Serialize};
//! #[derive(Serialize, Schema, EventType)]
//! #[serde(crate = "tidegate_protocol::serde")]
//! #[event(name = "soil", version = 1, owner = "greenhouse", description = "soil")]
//! struct Soil { #[unit("celsius")] warmth: i16 } // the unit `celsius` is not one of SenML's
//! ```
//!
//! Nor names that are too long:
//!
//! ```compile_fail
//! use tidegate_protocol::{Schema, events::EventType, Serialize};
//! #[derive(Serialize, Schema, EventType)]
//! #[serde(crate = "tidegate_protocol::serde")]
//! #[event(name = "soil-of-the-house-at-the-end-of-the-road", version = 1, owner = "greenhouse", description = "soil")]
//! struct Soil { moisture: u16 } // the name of an event type is 1 to 32 of a-z, 0-9, _ and -, this one has 40 bytes
//! ```
//!
//! Nor definitions over their limits:
//!
//! ```compile_fail
//! use tidegate_protocol::{Schema, events::EventType, Serialize};
//! #[derive(Serialize, Schema, EventType)]
//! #[serde(crate = "tidegate_protocol::serde")]
//! #[event(name = "soil", version = 1, owner = "greenhouse", description = "soil")]
//! struct Soil { moistures: [[u16; 20]; 20] } // the event type has more than 256 fields and elements
//! ```
//!
//! Nor bodies that differ from their definition:
//!
//! ```compile_fail
//! use tidegate_protocol::{Schema, events::EventType, Serialize};
//! #[derive(Serialize, Schema, EventType)]
//! #[serde(crate = "tidegate_protocol::serde")]
//! #[event(name = "soil", version = 1, owner = "greenhouse", description = "soil")]
//! struct Soil { moisture: u16, #[serde(skip)] note: u8 } // serde's `skip` changes the body: remove it
//! ```

mod device;
mod environment;
mod place;

pub use crate::field::Field;
pub use device::{Alarm, DeviceStatus, Loss, LossReason, Panic, Severity};
pub use environment::{AirQuality, Climate};
pub use place::{Contact, Location, Motion, Power};
pub use tidegate_protocol_derive::EventType;

use serde::Serialize;

use crate::definition::Kind;

/// The kind index of [`Loss`] in every device's list.
pub const LOSS_KIND: u8 = 0;

/// A type of event: what its body's fields mean. Derived from a struct ([the module](self) shows
/// how).
pub trait EventType: Serialize {
    /// The type's name.
    const NAME: &'static str;
    /// The version of the type's fields.
    const VERSION: u8;
    /// Who answers for it.
    const OWNER: &'static str;
    /// What it is, in one sentence.
    const DESCRIPTION: &'static str;
    /// The fields in the order of the body.
    const FIELDS: &'static [Field];
    /// Name, version and definition, for a device's list of kinds.
    const KIND: Kind;
}

/// An event type as a value: for lists and documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Name, version and definition.
    pub kind: Kind,
    /// Who answers for it.
    pub owner: &'static str,
    /// What it is, in one sentence.
    pub description: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
}

impl Listed {
    /// The entry of a type.
    #[must_use]
    pub const fn of<E: EventType>() -> Self {
        Listed { kind: E::KIND, owner: E::OWNER, description: E::DESCRIPTION, fields: E::FIELDS }
    }
}

/// Every type here, in every version that was released.
pub const ALL: &[Listed] = &[
    Listed::of::<Loss>(),
    Listed::of::<Climate>(),
    Listed::of::<AirQuality>(),
    Listed::of::<Power>(),
    Listed::of::<Motion>(),
    Listed::of::<Location>(),
    Listed::of::<Contact>(),
    Listed::of::<DeviceStatus>(),
    Listed::of::<Alarm>(),
    Listed::of::<Panic<'static>>(),
];
