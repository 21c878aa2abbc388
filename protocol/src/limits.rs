//! Every limit of the format, with its unit. A device and a gateway that disagree on one of these cannot
//! talk, so they are part of the format's version and not configurable.

/// Longest frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 1024;
/// Most events in a frame: the count is one byte, and a frame without events does not exist.
pub const EVENTS_MAX: usize = 255;
/// Most kinds of event a device can announce: the kind index has five bits.
pub const KINDS_MAX: usize = 32;
/// Longest device name, in bytes.
pub const DEVICE_BYTES_MAX: usize = 32;
/// Longest topic that a device uses, in bytes.
pub const TOPIC_BYTES_MAX: usize = 64;
/// Longest head of a frame, in bytes: three plain bytes, `boot`, `first_seq`, `base_ms`, `schema_set`.
pub const HEAD_BYTES_MAX: usize = 3 + 5 + 5 + 10 + 4;
/// Most bytes an event needs beside its body: control, time, length.
pub const EVENT_OVERHEAD_BYTES_MAX: usize = 1 + 5 + 2;
/// Longest body of an event, in bytes. One such event always fits in an empty frame.
pub const BODY_BYTES_MAX: usize = 960;
/// Kind indexes from 0 up to this one (not included) are remembered: their bodies may travel as
/// differences, and their times are expected at their own pace.
pub const DELTA_KINDS: usize = 8;
/// Longest body that is remembered for differences, in bytes.
pub const DELTA_BODY_BYTES_MAX: usize = 32;
/// Longest time from a frame's first event to any other of its events, in milliseconds (49.7 days).
pub const SPAN_MS_MAX: u64 = u32::MAX as u64;

const _: () = assert!(HEAD_BYTES_MAX + EVENT_OVERHEAD_BYTES_MAX + BODY_BYTES_MAX <= FRAME_BYTES_MAX);
const _: () = assert!("tg/".len() + DEVICE_BYTES_MAX + "/e".len() <= TOPIC_BYTES_MAX);
const _: () = assert!(DELTA_KINDS <= KINDS_MAX && DELTA_BODY_BYTES_MAX < 0xFE);
