//! Event types of the thing that a device is attached to: its power, movement, place, and whether
//! it is open.
//!
//! Limits: the ranges of the integers, at each field. What it does not do: it judges no value.

use serde::{Deserialize, Serialize};

use super::EventType;
use crate::Schema;

/// Electrical power of one phase or of a direct current. A current or a power below 0 is fed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema, EventType)]
#[event(
    name = "power",
    version = 1,
    owner = "tidegate",
    description = "voltage, current, power and energy of one phase"
)]
pub struct Power {
    /// Voltage in millivolts.
    #[unit("V", scale = -3)]
    pub voltage: i32,
    /// Current in milliamperes.
    #[unit("A", scale = -3)]
    pub current: i32,
    /// Active power in milliwatts.
    #[unit("W", scale = -3)]
    pub power: i32,
    /// Energy taken since the meter was made or reset, in watt-hours.
    #[unit("Wh")]
    pub energy: u64,
}

/// Acceleration along three axes, gravity included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema, EventType)]
#[event(name = "motion", version = 1, owner = "tidegate", description = "acceleration along three axes")]
pub struct Motion {
    /// Acceleration along x, y, z in 0.01 m/s2, up to 327 m/s2.
    #[unit("m/s2", scale = -2)]
    pub acceleration: [i16; 3],
    /// The device takes this for a movement.
    pub moving: bool,
}

/// A position on the earth (WGS 84).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema, EventType)]
#[event(name = "location", version = 1, owner = "tidegate", description = "position on the earth, WGS 84")]
pub struct Location {
    /// Latitude in 0.0000001 degrees, north above 0.
    #[unit("lat", scale = -7)]
    pub latitude: i32,
    /// Longitude in 0.0000001 degrees, east above 0.
    #[unit("lon", scale = -7)]
    pub longitude: i32,
    /// Height above the ellipsoid in centimetres.
    #[unit("m", scale = -2)]
    pub altitude: Option<i32>,
    /// The position is this exact, as a radius in decimetres that holds 68 % of the readings.
    #[unit("m", scale = -1)]
    pub accuracy: Option<u16>,
    /// Speed over ground in 0.01 m/s.
    #[unit("m/s", scale = -2)]
    pub speed: Option<u16>,
}

/// A door, a window, a switch: open or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema, EventType)]
#[event(name = "contact", version = 1, owner = "tidegate", description = "a contact that is open or closed")]
pub struct Contact {
    /// Which contact of the device, from 0.
    pub contact: u8,
    /// It is open.
    pub open: bool,
    /// How often it was opened since the boot.
    pub openings: u32,
}
