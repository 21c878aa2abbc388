//! Who gets how much of the intake between two commits. Pure.
//!
//! ```text
//!   0                              7/8        1
//!   | a connection: 1/8 at most | ... | small |      an empty intake takes a batch of any size
//! ```
//! Whoever sends more than the disk takes fills its own share and waits for the next commit; the
//! others do not notice, and a commit is no larger for it. Where there are many of them, they fill
//! all but the part that only small batches get: those that send a little are still let in at once.
//!
//! Limits: [`SHARE_BYTES_MAX`], [`FOR_SMALL_BYTES`]. Those that wait are woken together and in
//! their order, and each has one batch.

use super::INTAKE_BYTES_MAX;

/// Bytes that one connection gets; a single larger batch passes.
pub const SHARE_BYTES_MAX: usize = INTAKE_BYTES_MAX / 8;
/// A batch up to this size, in bytes, is small: an event or some.
pub const SMALL_BATCH_BYTES: usize = 4 * 1024;
/// Bytes of the intake that only small batches get.
pub const FOR_SMALL_BYTES: usize = INTAKE_BYTES_MAX / 8;

/// A batch that is larger than all that others leave, as a large packet makes it, is taken in
/// beside so many bytes at most.
pub const BESIDE_LARGE_BYTES: usize = INTAKE_BYTES_MAX / 8;

/// What a connection has in the intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::store) struct Share {
    /// Which filling of the intake this is about: after a commit took all, it holds nothing of
    /// anybody.
    filling: u64,
    bytes: usize,
}

impl Share {
    /// Whether `bytes` more of this connection fit into the `filling`th filling, which holds
    /// `waiting_bytes` so far.
    #[inline]
    pub fn has_room(self, filling: u64, waiting_bytes: usize, bytes: usize) -> bool {
        if bytes <= SMALL_BATCH_BYTES {
            return waiting_bytes + bytes <= INTAKE_BYTES_MAX;
        }
        let own = if self.filling == filling { self.bytes } else { 0 };
        let fits = waiting_bytes + bytes <= INTAKE_BYTES_MAX - FOR_SMALL_BYTES;
        // Beside many who send a little the intake is seldom empty.
        let is_alone = bytes > INTAKE_BYTES_MAX - FOR_SMALL_BYTES && waiting_bytes <= BESIDE_LARGE_BYTES;
        (fits || is_alone) && (own == 0 || own + bytes <= SHARE_BYTES_MAX)
    }

    /// `bytes` more were taken in.
    #[inline]
    pub fn add(&mut self, filling: u64, bytes: usize) {
        if self.filling != filling {
            *self = Share { filling, bytes: 0 };
        }
        self.bytes += bytes;
    }
}
