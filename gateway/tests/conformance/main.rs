//! What the specifications of MQTT 3.1.1 and 5 demand of a server, against the listener over
//! loopback, with the real store behind it.
//!
//! A file for each part of the specifications; `docs/mqtt-conformance.md` says which statement is
//! covered by which test, and `table.rs` that this is so. The comment above a test names the
//! statements: `5:` those of MQTT 5, `3.1.1:` those of MQTT 3.1.1. The topics are such that no
//! route stores, but for `s/#`. Everything that is waited for has a time limit, and what must not
//! come is shown by something later that comes without it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod acks;
mod client;
mod connect;
mod disconnect;
mod flow;
mod format;
mod listener;
mod publish;
mod retained;
mod session;
mod shared;
mod subscribe;
mod table;
mod topics;
mod wills;
