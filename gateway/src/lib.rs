//! The Tidegate gateway: an event is acknowledged when it is on disk, and forwarded at least once.
//!
//! ```text
//! ingest ──▶ store ──▶ uplink        supervisor wires them, http looks in, cli and config start it
//!    ◀─receipt─┘
//! ```
#![forbid(unsafe_code)]

pub mod clock;
pub mod ingest;
pub mod store;
pub mod telemetry;
pub mod uplink;
