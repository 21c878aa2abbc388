//! Event types that every device may use. A type is a struct of scaled integers: `value * 10^scale` is
//! the quantity in its unit (units as in SenML, RFC 8428 section 12.1).
//!
//! A released type never changes: `(name, version)` means the same bytes for ever, and a change is a new
//! version under the same name.
//!
//! What it does not do: no floats, `usize`, `char`, 128-bit integers or maps, whose bytes depend on the
//! machine or have several spellings.

use serde::{Deserialize, Serialize};

/// The kind index of [`Loss`] in every device's list.
pub const LOSS_KIND: u8 = 0;

/// A type of event: what its body's fields mean.
pub trait EventType: Serialize {
    /// The type's name.
    const NAME: &'static str;
    /// The version of the type's fields.
    const VERSION: u8;
    /// The fields in the order of the body.
    const FIELDS: &'static [Field];
}

/// A field of an event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its unit as in SenML (RFC 8428 section 12.1); empty for a plain number.
    pub unit: &'static str,
    /// The power of ten that the integer is multiplied with: -2 means hundredths.
    pub scale_exp10: i8,
}

/// Temperature, humidity and air pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Climate {
    /// Temperature in 0.01 degrees Celsius.
    pub temperature: i16,
    /// Relative humidity in 0.01 %.
    pub humidity: u16,
    /// Air pressure in pascal.
    pub pressure: u32,
}

impl EventType for Climate {
    const NAME: &'static str = "climate";
    const VERSION: u8 = 1;
    const FIELDS: &'static [Field] = &[
        Field { name: "temperature", unit: "Cel", scale_exp10: -2 },
        Field { name: "humidity", unit: "%RH", scale_exp10: -2 },
        Field { name: "pressure", unit: "Pa", scale_exp10: 0 },
    ];
}

/// Events that were numbered and will never arrive: the numbers `first_seq` up to but not including
/// `first_seq + count` of the same boot. One run of numbers each; two holes are two of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Number of the first lost event.
    pub first_seq: u32,
    /// How many in a row.
    pub count: u32,
    /// Why.
    pub reason: LossReason,
}

impl EventType for Loss {
    const NAME: &'static str = "loss";
    const VERSION: u8 = 1;
    const FIELDS: &'static [Field] = &[
        Field { name: "first_seq", unit: "", scale_exp10: 0 },
        Field { name: "count", unit: "", scale_exp10: 0 },
        Field { name: "reason", unit: "", scale_exp10: 0 },
    ];
}

/// Why events were lost. The number on the wire is the variant's place, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LossReason {
    /// The device's queue was full and the oldest made room.
    QueueFull,
    /// The event was larger than a frame can carry.
    TooLarge,
    /// The device's storage failed or was damaged.
    Storage,
}
