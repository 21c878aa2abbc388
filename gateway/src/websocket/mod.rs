//! WebSocket as bytes, for both ends: RFC 6455, without the server's half of the handshake.
//!
//! ```text
//!   client.rs  the client's handshake ─▶ stream.rs  MQTT's bytes in both directions
//!                                          └ frames.rs  taken apart where they lie
//! ```
//! Reading order: `stream`, `frames`, `client`, `head`. It knows no settings and no MQTT, has no
//! time limits, and compresses nothing. Limits: those of the files.

mod client;
mod frames;
mod head;
mod stream;
#[cfg(test)]
mod tests;

pub use self::{
    client::{Refused, shake_hands},
    frames::{End, Violation},
    head::{HeadError, read_head, status},
    stream::Stream,
};
