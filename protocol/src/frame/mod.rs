//! A frame: a batch of events, sealed once. The format in full is in `docs/wire-format.md`.
//!
//! ```text
//!  | version<<4 | flags | count | boot  | first_seq | base_ms | schema_set | event | event | ...
//!  |   kind     |       |       | varint| varint    | varint  | 4 bytes    |
//!
//!  event, short:  | 0 zzzzzzz         | body as difference |
//!  event, full:   | 1 T D kkkkk | time | body              |
//! ```
//!
//! An event's time and body are written against what [`history`] expects of its kind, so a steady
//! series costs one byte and one per field. No schema is needed for that: any body that is a row of
//! LEB128 numbers ([`difference`]) is taken as such, and any other is carried as it is.
//!
//! Limits: [`crate::limits`]. Nothing in a frame depends on when it is sent.

mod difference;
mod head;
mod history;
mod reader;
mod writer;

pub use head::{FrameError, FrameHead, VERSION};
pub use reader::{BodyError, Event, FrameReader};
pub use writer::{FrameWriter, PushError};

/// An event in full form; without it, the low seven bits are the short form's time.
const FULL: u8 = 0x80;
/// Full form: the event came when it was expected, so no time follows.
const ON_TIME: u8 = 0x40;
/// Full form: the body is a difference to the last one of its kind.
const DIFFERENCE: u8 = 0x20;
/// Full form: the kind index.
const KIND_MASK: u8 = 0x1f;

/// Small for a number near zero on either side: 0, -1, 1, -2 ... become 0, 1, 2, 3 ...
const fn zigzag_u64(difference: u64) -> u64 {
    (difference << 1) ^ ((difference as i64 >> 63) as u64)
}

const fn unzigzag_u64(zigzag: u64) -> u64 {
    (zigzag >> 1) ^ (zigzag & 1).wrapping_neg()
}

const fn zigzag_u32(difference: u32) -> u32 {
    (difference << 1) ^ ((difference as i32 >> 31) as u32)
}

const fn unzigzag_u32(zigzag: u32) -> u32 {
    (zigzag >> 1) ^ (zigzag & 1).wrapping_neg()
}
