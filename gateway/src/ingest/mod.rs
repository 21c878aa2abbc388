//! The door: MQTT 3.1.1 and 5 on one port. An event is acknowledged when it is on disk, and not before.
//!
//! ```text
//!   listener ─▶ (TLS) ─▶ (WebSocket) ─▶ connection ─▶ session ─▶ admission ─▶ store::Batch ─▶ store::Intake
//!                                      (a task each)  (no I/O)   (pure)                         │
//!   client ◀────────────── PUBACK, PUBREC, PUBCOMP ◀─ acks ◀──── watermark ◀──────────────────────┘
//! ```
//! Reading order: [`settings`], [`listener`], [`places`], [`tls`], `websocket`, `connection`, [`access`], [`session`], then its parts: [`packet`], [`publish`],
//! [`properties`], [`topics`], [`admission`], [`acks`], and [`codec`] with `parse` for the rare packets.
//!
//! What it promises: see [`session`]. What it does with each topic: see [`admission`]. When the intake is
//! full it stops reading; when the store is full it refuses where MQTT can, else stops reading; when the store is closed it
//! acknowledges nothing more and closes. A crash needs no repair here: nothing of
//! a session is kept but its QoS 2 packet ids, and those are the store's.
//!
//! Local subscribers are in [`bus`].

pub mod access;
pub mod acks;
pub mod buffer;
pub mod codec;
mod connection;
pub mod error;
mod inlet;
pub mod large;
mod level;
pub mod listener;
pub mod meters;
mod origin;
pub(crate) mod output;
pub mod packet;
mod parse;
pub mod places;
pub mod properties;
pub mod publish;
pub mod quota;
pub mod registry;
pub mod reload;
pub mod session;
pub mod settings;
mod socket;
pub mod subscribe;
mod tell;
pub mod tls;
pub mod topics;
mod websocket;

pub use error::Fault;
pub use listener::{BindError, Bound, bind, run, run_with};
pub use reload::{Reload, Reloadable};
pub use settings::{BadSettings, ListenerSettings, Protocol, Settings};
pub use tls::{ClientCert, TlsSettings};

use crate::{broker as bus, routing as admission};
pub use crate::{
    broker::Ends,
    routing::{Payload, Route},
};
