//! Event types of what surrounds a device: climate and air.
//!
//! Limits: the ranges of the integers, at each field. What it does not do: it judges no value.

use serde::{Deserialize, Serialize};

use super::EventType;
use crate::Schema;

/// Temperature, humidity and air pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema, EventType)]
#[event(
    name = "climate",
    version = 1,
    owner = "tidegate",
    description = "temperature, humidity and air pressure"
)]
pub struct Climate {
    /// Temperature in 0.01 degrees Celsius.
    #[unit("Cel", scale = -2)]
    pub temperature: i16,
    /// Relative humidity in 0.01 %.
    #[unit("%RH", scale = -2)]
    pub humidity: u16,
    /// Air pressure in pascal.
    #[unit("Pa")]
    pub pressure: u32,
}

/// What is in the air. What a sensor does not measure is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema, EventType)]
#[event(
    name = "air_quality",
    version = 1,
    owner = "tidegate",
    description = "gases and particles in the air"
)]
pub struct AirQuality {
    /// Carbon dioxide in ppm.
    #[unit("ppm")]
    pub co2: Option<u16>,
    /// Particles up to 2.5 micrometres in 0.1 ug/m3.
    #[unit("ug/m3", scale = -1)]
    pub pm2_5: Option<u16>,
    /// Particles up to 10 micrometres in 0.1 ug/m3.
    #[unit("ug/m3", scale = -1)]
    pub pm10: Option<u16>,
    /// Index of volatile organic compounds, 1 to 500; 100 is the usual of the last day.
    pub voc_index: Option<u16>,
}
