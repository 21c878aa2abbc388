//! The versions of MQTT that are spoken at both ends, and what a client's protocol level says
//! beside them.

/// The versions of MQTT that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5, protocol level 5.
    V5,
}

/// What a client's protocol level says beside the [`Version`] in whose packets it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dialect {
    /// MQTT 3.1, protocol level 3: 3.1.1 without "session present", and with DUP on more packets.
    pub is_v31: bool,
    /// The level has its highest bit set, as mosquitto's bridges have it: no subscription gives the
    /// client what it published itself, and the retain flag stays as published.
    pub is_bridge: bool,
}
