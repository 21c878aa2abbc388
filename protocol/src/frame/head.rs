//! The head of a frame: identity, time base and count, readable without the events. The gateway
//! reads it for every frame and stores the rest unread.
//!
//! ```text
//!  byte 0        version << 4 | kind of frame (1: batch)
//!  byte 1        flags: bit 0 urgent, the others 0
//!  byte 2        count, 1 to 255
//!  varint        boot           (u32)
//!  varint        first_seq      (u32)
//!  varint        base_ms        (u64) uptime of the first event
//!  4 bytes       schema_set     little-endian
//! ```
//! From byte 3 on this is postcard's encoding of `(u32, u32, u64, [u8; 4])`.

use crate::limits::{EVENTS_MAX, FRAME_BYTES_MAX, HEAD_BYTES_MAX};
use crate::varint::{self, Bad};

/// The version of the format that this crate writes and reads.
pub const VERSION: u8 = 1;

const BATCH: u8 = 1;
const URGENT: u8 = 1;
pub(super) const COUNT_AT: usize = 2;

/// What a frame says about all its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// The device's boot number.
    pub boot: u32,
    /// Number of the first event; the others count on from it.
    pub first_seq: u32,
    /// The device's uptime at the first event, in milliseconds.
    pub base_ms: u64,
    /// Fingerprint of the list of kinds that explains the events: [`crate::schema_set`].
    pub schema_set: u32,
    /// How many events, 1 to 255.
    pub count: u8,
    /// To be passed on without waiting for company.
    pub urgent: bool,
}

impl FrameHead {
    /// Reads the head of a whole frame. Returns it and its length in bytes. The events are not
    /// looked at, except that there must be at least a byte for each.
    ///
    /// # Errors
    /// [`FrameError`]: the bytes are no frame of this version.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<(Self, usize), FrameError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { bytes: frame.len() });
        }
        let &[first, flags, count, ..] = frame else { return Err(FrameError::Truncated) };
        if first >> 4 != VERSION {
            return Err(FrameError::Version { found: first >> 4 });
        }
        if first & 0x0f != BATCH {
            return Err(FrameError::FrameKind { found: first & 0x0f });
        }
        if flags & !URGENT != 0 {
            return Err(FrameError::Flags { found: flags });
        }
        if count == 0 {
            return Err(FrameError::NoEvents);
        }
        let (boot, at) = read_u32(frame, COUNT_AT + 1)?;
        let (first_seq, at) = read_u32(frame, at)?;
        let (base_ms, at) = varint::read(frame, at)?;
        let schema_set = *frame.get(at..).and_then(<[u8]>::first_chunk).ok_or(FrameError::Truncated)?;
        let at = at + schema_set.len();
        if first_seq.checked_add(u32::from(count)).is_none() {
            return Err(FrameError::SequenceOver);
        }
        if frame.len() - at < usize::from(count) {
            return Err(FrameError::Truncated);
        }
        let schema_set = u32::from_le_bytes(schema_set);
        Ok((Self { boot, first_seq, base_ms, schema_set, count, urgent: flags & URGENT != 0 }, at))
    }

    /// Writes the head to the start of `out`. Returns its length, or nothing if there is no room.
    pub(super) fn write(&self, out: &mut [u8]) -> Option<usize> {
        let start = [VERSION << 4 | BATCH, if self.urgent { URGENT } else { 0 }, self.count];
        out.get_mut(..start.len())?.copy_from_slice(&start);
        let at = varint::write(u64::from(self.boot), out, start.len())?;
        let at = varint::write(u64::from(self.first_seq), out, at)?;
        let at = varint::write(self.base_ms, out, at)?;
        let schema_set = self.schema_set.to_le_bytes();
        out.get_mut(at..at + schema_set.len())?.copy_from_slice(&schema_set);
        Some(at + schema_set.len())
    }
}

/// Sets or clears the urgent flag of a head already written.
pub(super) fn set_urgent(frame: &mut [u8], urgent: bool) {
    if let Some(flags) = frame.get_mut(1) {
        *flags = if urgent { URGENT } else { 0 };
    }
}

pub(super) fn read_u32(frame: &[u8], at: usize) -> Result<(u32, usize), FrameError> {
    let (value, end) = varint::read(frame, at)?;
    Ok((u32::try_from(value).map_err(|_| FrameError::Varint)?, end))
}

/// Bytes are not a frame of this version. Reading it stops there: the events read before the error
/// are as the device wrote them or the frame was altered on the way, so a careful reader drops them
/// too. Keep the bytes and look at the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than any frame.
    #[error("the frame has {bytes} bytes, more than {FRAME_BYTES_MAX}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The bytes end within the head or an event.
    #[error("the frame is cut short")]
    Truncated,
    /// A version that this program does not know: it is older than the device.
    #[error("the frame has version {found}, this program reads version {VERSION}")]
    Version {
        /// The version found.
        found: u8,
    },
    /// Not a batch of events.
    #[error("the frame is of kind {found}, not a batch of events (1)")]
    FrameKind {
        /// The kind found.
        found: u8,
    },
    /// Flags that have no meaning in this version.
    #[error("the frame has the flags {found:#04x}, of which only bit 0 has a meaning")]
    Flags {
        /// The flags found.
        found: u8,
    },
    /// A count of 0.
    #[error("the frame has no events")]
    NoEvents,
    /// The events' numbers do not fit in 32 bits.
    #[error("the frame's event numbers go beyond 32 bits")]
    SequenceOver,
    /// A number that is spelled longer than needed or does not fit its field.
    #[error("a number in the frame is malformed or too large for its field")]
    Varint,
    /// An event's uptime does not fit in 64 bits.
    #[error("an event's uptime goes beyond 64 bits")]
    TimeOver,
    /// A difference or a short event without an event before it that it could refer to.
    #[error("an event refers to an earlier one that is not there")]
    NoReference,
    /// A body longer than the limit.
    #[error("an event's body is too long")]
    BodyTooLong,
    /// Bytes after the last event.
    #[error("{bytes} bytes are left after the last event")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl From<Bad> for FrameError {
    #[inline]
    fn from(bad: Bad) -> Self {
        match bad {
            Bad::Truncated => FrameError::Truncated,
            Bad::Malformed => FrameError::Varint,
        }
    }
}

const _: () = assert!(EVENTS_MAX == u8::MAX as usize);
const _: () = assert!(HEAD_BYTES_MAX < FRAME_BYTES_MAX);
