//! One subscription of a session: its options and its identifier. Pure.

use crate::mqtt::topics;

const NO_LOCAL: u8 = 4;
const RETAIN_AS_PUBLISHED: u8 = 8;

/// The options of a subscription: MQTT 5 section 3.8.3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options(pub u8);

impl Options {
    /// Those of a bridge, which has no way to ask for them: it gets nothing back that it brought,
    /// and the retain flag as published.
    #[must_use]
    pub fn of_bridge(self, filter: &str) -> Self {
        // A shared subscription may not have No Local.
        let no_local = if topics::share(filter).is_some() { 0 } else { NO_LOCAL };
        Self(self.0 | no_local | RETAIN_AS_PUBLISHED)
    }

    /// The greatest QoS to deliver with.
    #[must_use]
    pub fn qos(self) -> u8 {
        self.0 & 3
    }

    /// Not what the client published itself.
    #[must_use]
    pub fn is_no_local(self) -> bool {
        self.0 & NO_LOCAL != 0
    }

    /// The retain flag stays as published.
    #[must_use]
    pub fn keeps_retain(self) -> bool {
        self.0 & RETAIN_AS_PUBLISHED != 0
    }

    /// Whether retained messages are sent to a subscription that is new, or was there.
    #[must_use]
    pub fn wants_retained(self, is_new: bool) -> bool {
        match self.0 >> 4 & 3 {
            0 => true,
            1 => is_new,
            _ => false,
        }
    }
}

/// What a session subscribes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// Its options.
    pub options: Options,
    /// Its identifier.
    pub id: Option<u32>,
}
