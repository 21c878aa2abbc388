//! Event types of the device itself: how it is, what it lost, what went wrong.
//!
//! Limits: the texts of [`Panic`] fit with it into a body; whoever writes one cuts them. What it
//! does not do: the presence of a device is no event but a status ([`crate::Status`]).

use serde::{Deserialize, Serialize};

use super::EventType;
use crate::Schema;

/// Events that were numbered and will never arrive: the numbers `first_seq` up to but not including
/// `first_seq + count` of the same boot. One run of numbers each; two holes are two of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema, EventType)]
#[event(
    name = "loss",
    version = 1,
    owner = "tidegate",
    description = "events that were numbered and will never arrive"
)]
pub struct Loss {
    /// Number of the first lost event.
    pub first_seq: u32,
    /// How many in a row.
    pub count: u32,
    /// Why.
    pub reason: LossReason,
}

/// Why events were lost. The number on the wire is the variant's place, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum LossReason {
    /// The device's queue was full and the oldest made room.
    QueueFull,
    /// The event was larger than a frame can carry.
    TooLarge,
    /// The device's storage failed or was damaged.
    Storage,
}

/// How a device is. What it cannot measure is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema, EventType)]
#[event(
    name = "device_status",
    version = 1,
    owner = "tidegate",
    description = "supply, radio, memory and queue of a device"
)]
pub struct DeviceStatus {
    /// Supply voltage in millivolts.
    #[unit("V", scale = -3)]
    pub supply: Option<u16>,
    /// What the battery has left, in percent.
    #[unit("%EL")]
    pub battery: Option<u8>,
    /// Temperature of the board in 0.01 degrees Celsius.
    #[unit("Cel", scale = -2)]
    pub temperature: Option<i16>,
    /// Strength of the radio signal.
    #[unit("dBm")]
    pub signal: Option<i8>,
    /// Memory that was never used since the boot, in bytes.
    #[unit("B")]
    pub memory_free: Option<u32>,
    /// Events that wait for their acknowledgement.
    pub queued_events: u32,
}

/// Something that a person should see, and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema, EventType)]
#[event(
    name = "alarm",
    version = 1,
    owner = "tidegate",
    description = "something that a person should see, and its end"
)]
pub struct Alarm {
    /// What is wrong: a number of the firmware's own.
    pub code: u16,
    /// How bad it is.
    pub severity: Severity,
    /// It began (true) or ended.
    pub active: bool,
}

/// How bad an alarm is. The number on the wire is the variant's place, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum Severity {
    /// Good to know.
    Notice,
    /// It will not go on like this for ever.
    Warning,
    /// Somebody must act now.
    Critical,
}

/// The firmware panicked, told by the boot after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema, EventType)]
#[event(
    name = "panic",
    version = 1,
    owner = "tidegate",
    description = "the firmware panicked, told by the next boot"
)]
pub struct Panic<'a> {
    /// The boot that it ended.
    pub boot: u32,
    /// The file of the source, or the end of its path.
    pub file: &'a str,
    /// The line in it.
    pub line: u32,
    /// What the panic said, or the beginning of it.
    pub message: &'a str,
}
