//! The engine for NATS JetStream.
//!
//! ```text
//!  settings ─▶ connect ─ INFO, CONNECT, SUB of an inbox, is there a stream? ─▶ connection
//!                                                                                │
//!  message ─▶ subject, headers ─▶ HPUB <subject> <inbox>.<token> ────────────────┤
//!  verdict ◀─ answer ◀─ MSG <inbox>.<token> {"stream":…,"seq":…} ────────────────┘
//! ```
//! An event goes out as one message with the header `Nats-Msg-Id`, its id for ever, and is
//! delivered when JetStream answers with a stream and a sequence number. The token of a message
//! stands in the subject of its answer, so that nothing is looked up. Within its duplicate window
//! the stream drops the copies that a lost connection makes necessary.
//!
//! The codec is our own, for a library's client writes what it had queued after it reconnects, and
//! so swaps events. `docs/uplinks/nats.md` is for operators.
//!
//! Limits: those of [`wire`] and [`subject`]. It speaks no TLS, knows one server, and no
//! credentials but a user and a password.

mod answer;
mod connect;
mod connection;
mod keys;
mod settings;
mod stream;
mod subject;
#[cfg(test)]
mod tests;
mod wire;

pub use self::keys::Keys;
pub use self::settings::{STREAM_BYTES_MAX, Settings, SettingsError};
