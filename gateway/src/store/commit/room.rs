//! How much room the files have, and what follows from it: sizes and quotas. Pure.
//!
//! Limits: one part in [`URGENT_PART`] of the room takes nothing but urgent records, and a segment
//! is at most one part in [`SEGMENT_PART`] of it, but for [`SEGMENT_BYTES_LEAST`].

use super::seen;
use crate::store::{intake::quota::Quota, settings::WhenFull};

/// One part in this of the room is kept for urgent records.
const URGENT_PART: u64 = 16;
/// Below one part in this of the room it is low: what is delivered goes before `retain` is over.
pub(super) const LOW_PART: u64 = 8;
/// A file takes up to so many bytes for each byte of a row.
pub(super) const OVERHEAD: u64 = 2;
/// What a commit writes besides its rows, and a new segment begins with, in bytes.
const SPARE_BYTES: u64 = 256 * 1024;
/// A segment takes at most one part in this of the room, so that what is delivered of a full store
/// can go piece by piece.
const SEGMENT_PART: u64 = 16;
/// A segment need not be smaller than this, in bytes of rows: it would hold little beside what it
/// begins with.
const SEGMENT_BYTES_LEAST: u64 = 1024 * 1024;
/// Pending QoS 2 ids count at most one part in this of a segment, for each new one begins with all
/// of them, and takes up to twice that.
const PENDING_PART: u64 = 8;
/// They may always count so many bytes: some hundred clients with a few ids each.
const PENDING_BYTES_LEAST: u64 = 64 * 1024;
/// They never count more, in bytes: forty thousand clients with a few ids each.
const PENDING_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The frames that are known take at most one part in this of a segment, which begins with all of
/// them.
const SEEN_PART: u64 = 4;
/// They may always take so many bytes.
const SEEN_BYTES_LEAST: u64 = 192 * 1024;

/// What all files take, and may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub used_bytes: u64,
    pub max_bytes: u64,
}

impl Room {
    pub fn free_bytes(self) -> u64 {
        self.max_bytes.saturating_sub(self.used_bytes)
    }

    /// Before it is full it is low.
    pub fn is_low(self) -> bool {
        self.free_bytes() < self.max_bytes / LOW_PART + SPARE_BYTES
    }
}

/// What `bytes` of rows take at the most, a new segment included.
pub(super) fn bytes_on_disk(bytes: u64) -> u64 {
    bytes * OVERHEAD + SPARE_BYTES
}

/// Bytes of rows at which a segment is sealed: as configured, or less where there is little room.
pub(super) fn segment_bytes_max(configured: u64, room_bytes: u64) -> u64 {
    configured.min((room_bytes / SEGMENT_PART).max(SEGMENT_BYTES_LEAST))
}

/// What all pending QoS 2 ids may count where segments are so large.
pub(super) fn pending_bytes_max(segment_bytes: u64) -> usize {
    (segment_bytes / PENDING_PART).clamp(PENDING_BYTES_LEAST, PENDING_BYTES_MAX) as usize
}

/// How many frames may be known where segments are so large.
pub(super) fn seen_frames_max(segment_bytes: u64) -> usize {
    (segment_bytes / SEEN_PART).max(SEEN_BYTES_LEAST) as usize / seen::FRAME_BYTES
}

/// What may still be taken in.
pub(super) fn quota(when_full: WhenFull, room: Room, nothing_to_drop: bool) -> Quota {
    if when_full == WhenFull::DropOldest && !nothing_to_drop {
        return Quota::default();
    }
    let free = room.free_bytes().saturating_sub(SPARE_BYTES);
    Quota {
        bytes: free.saturating_sub(room.max_bytes / URGENT_PART) / OVERHEAD,
        urgent_bytes: free / OVERHEAD,
        takes_ids: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_as_large_as_configured_or_a_part_of_the_room() {
        const MIB: u64 = 1 << 20;
        let table = [
            (64 * MIB, 8 << 30, 64 * MIB),
            (64 * MIB, 24 * MIB, 24 * MIB / SEGMENT_PART),
            (64 * MIB, 8 * MIB, SEGMENT_BYTES_LEAST),
            (64 * MIB, 0, SEGMENT_BYTES_LEAST),
            (MIB, MIB, MIB),
            (4_096, MIB, 4_096),
        ];
        for (configured, room, wanted) in table {
            assert_eq!(segment_bytes_max(configured, room), wanted, "{configured} in {room}");
        }
    }

    #[test]
    fn room_is_low_before_it_is_full_however_small_it_is() {
        for max_bytes in [0, SPARE_BYTES, 1 << 20, 24 << 20, 8 << 30] {
            for free in [0, SPARE_BYTES / 2, SPARE_BYTES, max_bytes / URGENT_PART + SPARE_BYTES, max_bytes] {
                let room = Room { used_bytes: max_bytes.saturating_sub(free), max_bytes };
                let quota = quota(WhenFull::Reject, room, false);
                assert!(room.is_low() || quota.bytes > 0, "{room:?}: {quota:?}");
            }
        }
    }
}
