//! What the devices' events mean: every kind that was ever announced, and how its bodies become
//! JSON.
//!
//! ```text
//! birth ──▶ Catalog: definition ──▶ Decoder ─┐         registry.rs, definition.rs, decoder.rs
//! body of an event ──────────────────────────┴──▶ JSON
//! ```
//!
//! Everything here is pure: no file, no clock, no task. Who stores its rows is `fleet`.

mod compile;
mod contract;
mod decoder;
mod definition;
mod diff;
mod entry;
mod json;
mod kinds;
mod learned;
mod lint;
mod lock;
mod read;
mod registry;

pub use contract::{Contract, Used};
pub use decoder::{DecodeError, Decoder, ELEMENTS_WITHOUT_BYTES_MAX, JSON_BYTES_MAX, Values};
pub use definition::{BadDefinition, Definition, Field, Node, Scalar, Variant};
pub use diff::{Change, ChangeKind, Effect, diff, worst};
pub use entry::{Entry, Shape};
pub use kinds::{HASH_DIGITS, Hash, KindSet, KnownKind, from_hex, hash, hex, short};
pub use learned::{BadBirth, Clash, Doubt};
pub use lint::{Finding, Severity, birth as lint_birth, entries as lint_entries};
pub use lock::{BadLock, ENTRIES_MAX, Lock, entry_diff, sentences};
pub use registry::{
    Catalog, DEVICES_MAX, KINDS_BYTES_MAX, NEW_PER_DEVICE_MAX, Row, SETS_MAX, SETS_PER_DEVICE_MAX,
};
