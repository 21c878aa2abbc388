//! The engine for MQTT brokers, 3.1.1 and 5.
//!
//! ```text
//!  settings.rs ─▶ connect.rs CONNECT, CONNACK ─▶ connection.rs ─ hint.rs what silence may mean
//!                                                 ├ packet_ids.rs packet ids and tokens
//!                                                 ├ aliases.rs    topics that repeat
//!                                                 ├ send.rs       PUBLISH, PINGREQ
//!                                                 └ answer.rs     PUBACK, PINGRESP, DISCONNECT ─ reason.rs, notice.rs
//! ```

mod aliases;
pub mod answer;
pub mod connect;
mod connection;
mod hint;
mod keys;
pub mod notice;
mod packet_ids;
mod reason;
pub mod send;
mod settings;

pub use self::settings::{ID_BYTES_MAX, KEEP_ALIVE_MAX, Retain, Settings, SettingsError, Version};
