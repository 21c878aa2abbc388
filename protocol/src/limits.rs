//! Every limit of the format, with its unit. A device and a gateway that disagree on one of these
//! cannot talk, so they are part of the format's version and not configurable.

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
/// Longest head of a frame, in bytes: three plain bytes, `boot`, `first_seq`, `base_ms`,
/// `schema_set`.
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
/// Longest definition of a kind, in bytes.
pub const DEFINITION_BYTES_MAX: usize = 2048;
/// Deepest nesting in a definition: the body's own node is at depth 1.
pub const DEFINITION_DEPTH_MAX: usize = 8;
/// Most nodes of a definition: as many as it has tags.
pub const DEFINITION_NODES_MAX: usize = 256;
/// Longest name of a kind, in bytes.
pub const KIND_NAME_BYTES_MAX: usize = 32;
/// Longest name of a field or a variant, in bytes.
pub const FIELD_NAME_BYTES_MAX: usize = 64;
/// Longest unit, in bytes.
pub const UNIT_BYTES_MAX: usize = 16;
/// Longest birth, in bytes.
pub const BIRTH_BYTES_MAX: usize = 65_536;
/// Longest name of a firmware, in bytes.
pub const FIRMWARE_BYTES_MAX: usize = 64;
/// Longest version of a firmware, in bytes.
pub const FIRMWARE_VERSION_BYTES_MAX: usize = 32;
/// Longest name of a build, in bytes.
pub const BUILD_BYTES_MAX: usize = 64;
/// Most bytes of a birth beside its definitions and their lengths: two plain bytes, `boot`,
/// `connection`, `uptime_ms`, `wall_ms`, reset reason, three texts with a length of one byte each,
/// count.
pub const BIRTH_HEAD_BYTES_MAX: usize =
    2 + 5 + 5 + 10 + 11 + 1 + 3 + FIRMWARE_BYTES_MAX + FIRMWARE_VERSION_BYTES_MAX + BUILD_BYTES_MAX + 1;
/// Longest status, in bytes: two plain bytes, `boot`, `connection`, state, `uptime_ms`, `wall_ms`,
/// `next_contact_s`, battery, signal.
pub const STATUS_BYTES_MAX: usize = 2 + 5 + 5 + 1 + 10 + 11 + 6 + 2 + 2;

const _: () = assert!(HEAD_BYTES_MAX + EVENT_OVERHEAD_BYTES_MAX + BODY_BYTES_MAX <= FRAME_BYTES_MAX);
const _: () = assert!("tg/".len() + DEVICE_BYTES_MAX + "/e".len() <= TOPIC_BYTES_MAX);
const _: () = assert!(DELTA_KINDS <= KINDS_MAX && DELTA_BODY_BYTES_MAX < 0xFE);
// Any list of kinds fits in a birth: `loss`, whose definition is under 1 KB, and 31 of the longest,
// each with a length of two bytes.
const _: () =
    assert!(BIRTH_HEAD_BYTES_MAX + 1024 + (KINDS_MAX - 1) * (2 + DEFINITION_BYTES_MAX) <= BIRTH_BYTES_MAX);
const _: () = assert!(KIND_NAME_BYTES_MAX < 0x80 && FIELD_NAME_BYTES_MAX < 0x80 && UNIT_BYTES_MAX < 0x80);
