//! What a store that fills up still takes. Pure.

use super::batch::Size;

/// A store that takes less than this is full: no batch of some events fits.
const FULL_BYTES: u64 = 4096;

/// What the store may still take, in bytes of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Quota {
    /// For everything.
    pub bytes: u64,
    /// For batches with nothing but urgent records in them: a part of the store is kept for these.
    pub urgent_bytes: u64,
    /// Whether it takes more QoS 2 packet ids: those of the clients that are connected may fill the
    /// room for them.
    pub takes_ids: bool,
}

impl Default for Quota {
    fn default() -> Self {
        Self { bytes: u64::MAX, urgent_bytes: u64::MAX, takes_ids: true }
    }
}

impl Quota {
    /// Whether a batch of this size is within it, beside so many bytes that wait for their commit:
    /// one with both kinds of records is judged by the smaller one.
    pub fn takes(self, waiting_bytes: usize, size: Size) -> bool {
        let quota = match size {
            Size { ids: 1.., .. } if !self.takes_ids => return false,
            Size { plain_bytes: 0, urgent_bytes: 0, .. } => return true,
            Size { plain_bytes: 0, .. } => self.urgent_bytes,
            _ => self.bytes,
        };
        (waiting_bytes + size.plain_bytes + size.urgent_bytes) as u64 <= quota
    }

    /// Whether everything that is not urgent is refused.
    pub fn is_full(self) -> bool {
        self.bytes < FULL_BYTES
    }
}
