//! Takes events in: MQTT 3.1.1 and 5 on one port. An event is acknowledged when it is on disk, and
//! not before.
//!
//! ```text
//!   listener ─▶ (TLS) ─▶ (WebSocket) ─▶ connection ─▶ session ─▶ admission ─▶ store::Batch ─▶ store::Intake
//!                                      (a task each)  (no I/O)   (pure)                         │
//!   client ◀────────────── PUBACK, PUBREC, PUBCOMP ◀─ acks ◀──── watermark ◀──────────────────────┘
//! ```
//! Reading order: [`settings`], [`listener`] with its `tls` and `websocket`, [`limiter`],
//! [`connection`], [`session`], [`admission`]. What MQTT is made of is in [`mqtt`](crate::mqtt),
//! who may come in is in [`access`](crate::access).
//!
//! What it promises: see [`session`]. What it does with each topic: see [`admission`]. When the
//! intake is full it stops reading; when the store is full it refuses where MQTT can, else stops
//! reading; when the store is closed it acknowledges nothing more and closes. A crash needs no
//! repair here: nothing of a session is kept but its QoS 2 packet ids, and those are the store's.
//!
//! Local subscribers are in [`bus`].

pub mod admission;
mod bucket;
pub mod bus;
pub mod connection;
pub mod limiter;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod registry;
pub mod session;
pub mod settings;

pub use admission::{Payload, Route};
pub use listener::{BindError, Bound, ClientCert, Ends, ListenerSettings, Protocol, TlsSettings, bind, run};
pub use settings::{BadSettings, Settings};
