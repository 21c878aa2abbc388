//! The harness of the scenarios and the benchmarks.
//!
//! It starts the gateway as a process, stands in for the devices before it and for the cloud behind
//! it, and judges what came through. It shares no code with the gateway: its MQTT codec, its clock
//! and its oracle are its own, so that a mistake there cannot hide itself here.
//!
//! ```text
//! fleet (devices) ──▶ gateway (process) ──▶ proxy (chaos) ──▶ upstream (stub, cloud, mosquitto, rumqttd)
//!      │ ledger: sent, acknowledged                                   │ deliveries, in order
//!      └───────────────────────────▶ oracle ◀─────────────────────────┘
//! ```

pub mod black_hole;
pub mod brokers;
pub mod ca;
pub mod chain;
pub mod chaos;
pub mod client;
pub mod clock;
pub mod cloud;
pub mod codec;
pub mod crowd;
pub mod dial;
pub mod enclosed;
pub mod fleet;
pub mod foreign;
pub mod gaps;
pub mod gateway;
pub mod load;
pub mod meter;
pub mod nats;
pub mod node_red;
pub mod oracle;
pub mod paho;
pub mod ports;
pub mod program;
pub mod reader;
pub mod rng;
pub mod steady;
pub mod strace;
pub mod subscriber;
pub mod tmpfs;
pub mod tools;
pub mod upstream;
