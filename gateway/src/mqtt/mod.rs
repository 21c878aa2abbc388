//! MQTT 3.1.1 and 5 as bytes: what the two ends of the gateway, the door and the uplinks, have in common. A leaf: it knows
//! no socket, no setting and no other room.
//!
//! ```text
//!   bytes ─▶ packet (fixed header) ─┬─▶ publish ─▶ properties          the hot path: read in place, no allocation
//!                                   └─▶ codec, subscribe (by parse)    the rare packets, by mqtt-protocol-core
//!   bytes ◀─ output ◀─ packet (PUBACK and its like), publish, codec, subscribe
//! ```
//! Reading order: [`packet`], [`publish`], [`properties`], [`topics`], [`codec`] with [`level`], [`subscribe`], [`fault`], [`output`]. Limits: those of
//! MQTT itself, and the lengths that a record of the store can hold.

pub mod codec;
pub mod fault;
pub mod level;
pub mod output;
pub mod packet;
mod parse;
pub mod password;
pub mod properties;
pub mod publish;
pub mod subscribe;
pub mod topics;
