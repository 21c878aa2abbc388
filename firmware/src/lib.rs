//! The portable core of a Tidegate device: it samples, gathers, keeps and sends events until the
//! gateway has them.
//!
//! ```text
//!  board ─ sensors ─▶ batcher ──▶ queue ──▶ link ──▶ gateway
//!          clock        │ seals     │ ▲        MQTT 5, QoS 1
//!          dialer       │ numbers   │ └── PUBACK: leaves the queue
//!          entropy      ▼           ▼
//!                  (boot, seq)   full: the oldest telemetry goes, and a loss event says so
//! ```
//!
//! An event is numbered when it is sampled, and from then on it is either acknowledged by the
//! gateway or named in a loss event. Sampling goes on while the link connects, writes, or waits.
//!
//! Limits: no heap, no threads, no `unsafe`; the queue's `SLOTS * BYTES`, a buffer of `BYTES`, one
//! of `OUT`, and about 7 KB of state in the future of [`device::run`]. Every wait on the gateway
//! has an end.
//!
//! Reading order: [`board`] (what a board gives), [`device`] (the loop), then [`sensor`],
//! [`batcher`], [`queue`], [`loss`], [`link`], [`backoff`].
//!
//! What it does not do: no storage across a reset, no replies to commands, no TLS, no radio. Those
//! are the board's, or not here.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod backoff;
pub mod batcher;
pub mod board;
pub mod device;
mod keepalive;
pub mod link;
pub mod loss;
pub mod queue;
pub mod random;
mod select;
pub mod sensor;
