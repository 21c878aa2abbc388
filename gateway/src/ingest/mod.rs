//! Takes events in: MQTT 3.1.1 and 5 on one port. An event is acknowledged when it is on disk, and
//! not before.
//!
//! ```text
//!   listener ─▶ (TLS) ─▶ (WebSocket) ─▶ connection ─▶ session ─▶ routing ─▶ store::Batch ─▶ store::Intake
//!                                      (a task each)  (no I/O)   (pure)                         │
//!   client ◀────────────── PUBACK, PUBREC, PUBCOMP ◀─ acks ◀──── watermark ◀──────────────────────┘
//! ```
//! Reading order: [`settings`], [`listener`] with its `tls` and `websocket`, [`limiter`],
//! [`connection`], [`session`], [`routing`](crate::routing). What MQTT is made of is in
//! [`mqtt`](crate::mqtt), who may come in is in [`access`](crate::access).
//!
//! What it promises: see [`session`]. What it does with each topic: see
//! [`routing`](crate::routing). When the intake is full it stops reading; when the store is full it
//! refuses where MQTT can, else stops reading; when the store is closed it acknowledges nothing
//! more and closes. A crash needs no repair here: nothing of a session is kept but its QoS 2 packet
//! ids, and those are the store's.
//!
//! Local subscribers are in [`broker`](crate::broker).

mod bucket;
pub mod connection;
pub mod limiter;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod registry;
pub mod session;
pub mod settings;

pub use listener::{
    BindError, Bound, ClientCert, ListenerSettings, Protocol, TlsSettings, bind, run, run_with,
};
pub use settings::{BadSettings, Settings};

pub use crate::{
    broker::StoreHandles,
    routing::{Payload, Route},
};
