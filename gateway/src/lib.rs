//! The Tidegate gateway: an event is acknowledged when it is on disk, and forwarded at least once.
//!
//! ```text
//! ingest ──▶ store ──▶ uplink        supervisor wires them, http looks in, cli and config start it
//!    ◀─receipt─┘
//! ```
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
pub mod mqtt;
pub mod printable;
pub mod regular_file;
pub mod reload;
pub mod routing;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod uplink;
