//! The engine for MQTT brokers, 3.1.1 and 5.

pub mod packets;
pub mod reason;
pub mod transport;
