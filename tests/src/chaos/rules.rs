//! What a link does to what passes it: one small type for each kind of fault.

use std::{num::NonZeroU64, time::Duration};

/// What the link as a whole does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Link {
    /// Forwards.
    #[default]
    Open,
    /// Connections are closed, those that come as well. What was under way is lost.
    Cut,
    /// The same, by a reset (RST).
    Reset,
    /// Connections stay, and nothing passes: a router that dropped its table. What was under way
    /// passes later, if the link is opened again before somebody gives up.
    HalfOpen,
    /// Everything from the client is accepted and read, and nothing answered: a server that hangs.
    /// What was swallowed is lost, so its connections are reset when the link is opened.
    Silent,
}

/// What one direction does to bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Way {
    /// Every byte is on its way for so long.
    pub delay: Duration,
    /// As many pass in a second, if there is a limit.
    pub bytes_per_s: Option<u32>,
}

/// PUBACKs on the way back to the client that are lost, on connections that are MQTT without TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Acks {
    /// None.
    #[default]
    Pass,
    /// Of so many the last, counted over all connections.
    DropOneIn(NonZeroU64),
    /// All.
    DropAll,
}

/// All rules at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// The link as a whole.
    pub link: Link,
    /// From the client.
    pub up: Way,
    /// To the client.
    pub down: Way,
    /// Lost acknowledgements.
    pub acks: Acks,
    /// A connection is cut after so many bytes to the client: in the middle of the handshake of
    /// TLS, for example.
    pub cut_after_bytes: Option<u64>,
}
