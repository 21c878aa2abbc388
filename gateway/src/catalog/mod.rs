//! What the devices' events mean: every kind that was ever announced, and how its bodies become JSON.
//!
//! ```text
//! birth ──▶ Catalog: definition ──▶ Decoder ─┐         registry.rs, definition.rs, decoder.rs
//! body of an event ──────────────────────────┴──▶ JSON
//! ```
//!
//! Everything here is pure: no file, no clock, no task. Who stores its rows is `fleet`.

mod compile;
mod decoder;
mod definition;
mod json;
mod read;

pub use decoder::{DecodeError, Decoder, ELEMENTS_WITHOUT_BYTES_MAX, JSON_BYTES_MAX, Values};
pub use definition::{BadDefinition, Definition, Field, Node, Scalar, Variant};
