//! The Tidegate gateway: an event is acknowledged when it is on disk, and forwarded at least once.
//!
//! ```text
//!  device ─▶ ingest ─append─▶ store ─read─▶ uplink ─▶ upstream
//!     ◀─ PUBACK ─┘ ◀─receipt─┘  │ followed by
//!                               ├─▶ broker (local subscribers)
//!                               └─▶ fleet (what is known of devices) ─▶ catalog (what events mean)
//! ```
//! **How to read it.** Follow an event. [`ingest`] takes it from a socket: `listener` accepts,
//! `connection` moves bytes, `session` decides without I/O, by [`access`] whether it may and by
//! [`routing`] what it becomes. [`store`] makes it durable and gives a receipt, from which alone a
//! PUBACK is made. Readers follow the log, each behind a position of its own: [`uplink`] turns
//! records into messages (`format`), keeps the order and repeats (`delivery`), and speaks to an
//! upstream (`engine`); [`broker`] serves local subscribers; [`fleet`] learns what there is to know
//! of devices. [`mqtt`] is the protocol as bytes, for both ends.
//!
//! **Around it.** [`config`] reads the configuration, which composes the rooms' own settings, by
//! [`keys`];
//! [`supervisor`] wires the rooms, starts them and stops them in the order of the flow; [`http`]
//! shows what they know; [`cli`] has one file per command. [`clock`] is the only place where a
//! clock is read, [`telemetry`] has every metric's name, and [`printable`] says what may be shown
//! of a text from outside.
//!
//! **Rules.** Rooms use each other along the arrows in `tests/architecture/main.rs`; `ingest` and
//! `uplink` never meet; no room imports `config`; no two files are in a circle. A room's `mod.rs`
//! is its facade, and says in which order to read it. What survives a crash, and why, is in
//! `docs/store-format.md`; what somebody outside can make grow, in `docs/limits.md`.
#![forbid(unsafe_code)]

pub mod access;
pub mod broker;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod fleet;
pub mod http;
pub mod ingest;
pub mod keys;
pub mod mqtt;
mod pki;
pub mod presence;
pub mod printable;
pub mod regular_file;
pub mod reload;
pub mod routing;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod uplink;
mod websocket;
