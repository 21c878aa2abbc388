//! MQTT 3.1.1 and 5 as bytes: what both ends of the gateway, the listeners and the uplinks, have in
//! common. A leaf: it knows no socket, no setting and no other room.
//!
//! ```text
//!   in    packet (fixed header) ─┬─▶ publish ─▶ properties        the hot path: read in place, without allocation
//!                                └─▶ connect, subscribe, pubrel, disconnect      rare: by mqtt-protocol-core
//!   out   packet (PUBACK and its like), publish_head, connack, subscribe, disconnect ─▶ output
//! ```
//! Reading order: [`version`], [`packet`], [`publish`], [`properties`], [`topics`], [`connect`]
//! with [`level`], [`connack`], [`subscribe`], [`pubrel`], [`disconnect`], [`fault`] and [`reason`]
//! (what is told to the other end), [`output`]. Limits: those of MQTT, and [`limits`].

pub mod connack;
pub mod connect;
pub mod disconnect;
pub mod fault;
pub mod level;
pub mod limits;
pub mod output;
pub mod packet;
mod parse;
pub mod password;
pub mod properties;
pub mod publish;
pub mod publish_head;
pub mod pubrel;
pub mod reason;
pub mod subscribe;
pub mod topics;
pub mod varint;
pub mod version;

pub use fault::Fault;
pub use password::Password;
pub use version::{Dialect, Version};
