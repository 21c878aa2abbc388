//! What a lane leaves behind: how far it came, for whoever plans the next one.

use std::time::Duration;

use crate::uplink::delivery::{patience::Experience, poison::Ending};

/// How far a lane came before it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trace {
    /// How long the connection lasted, if there was one.
    pub lasted: Option<Duration>,
    /// At least a part of a message was written.
    pub sent: bool,
    /// Something was released.
    pub released: bool,
    /// The upstream answered a ping.
    pub answered: bool,
    /// The upstream acknowledged an event, the first in line or not.
    pub took: bool,
    /// It ended while an event was under way alone.
    pub was_alone: bool,
    /// What it says about the event that was the head by then.
    pub ending: Ending,
    /// What it knows of the time that acknowledgements take.
    pub experience: Experience,
    /// Nothing was acknowledged within the time for it, though not only one event was waited for.
    pub was_fruitless: bool,
    /// It ended because what is next waits for the uplink's hours, or because that is paused.
    pub is_held: bool,
    /// From its beginning to the last time that something was released or a ping was answered.
    pub of_use: Duration,
    /// Events that the upstream acknowledged.
    pub delivered_events: u64,
}
