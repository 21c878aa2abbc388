//! A header: what the journal's file says of itself, as bytes. Pure.
//!
//! ```text
//!  0       4     8       12      16      24
//!  | TGH 1 | crc | slots | store | epoch | zeros to the end of the page
//!  | u8[4] | u32 | u32   | u32   | u64   |
//! ```
//! Little-endian. `crc` is the CRC-32 (IEEE) of everything behind it as far as the epoch, `slots`
//! how many the file has, those of the headers among them. `epoch` has begun, or begins as soon as
//! a segment says so: a file whose newest header is older than that is not the one that was
//! written.
//!
//! Two slots take turns, so that a card that destroys what lies around a header that is written
//! leaves the one before.

use super::{PAGE_BYTES, number};

const MAGIC: [u8; 4] = *b"TGH\x01";
const BYTES: usize = 24;
/// What the checksum does not cover.
const UNCHECKED_BYTES: usize = 8;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Slots of the file.
    pub slots: u32,
    /// The epoch that has begun or begins.
    pub epoch: u64,
}

impl Header {
    /// The page of the header.
    pub fn encode(&self, store: u32) -> Vec<u8> {
        let mut page = vec![0; PAGE_BYTES];
        page[..4].copy_from_slice(&MAGIC);
        page[8..12].copy_from_slice(&self.slots.to_le_bytes());
        page[12..16].copy_from_slice(&store.to_le_bytes());
        page[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        let crc = crc32fast::hash(&page[UNCHECKED_BYTES..BYTES]);
        page[4..8].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// The header of `store` that a slot begins with, if there is one.
    pub fn decode(slot: &[u8], store: u32) -> Option<Self> {
        let head: &[u8; BYTES] = slot.first_chunk()?;
        let is_whole = head[..4] == MAGIC
            && crc32fast::hash(&head[UNCHECKED_BYTES..]) == number::u32_at(head, 4)
            && number::u32_at(head, 12) == store;
        is_whole.then(|| Self { slots: number::u32_at(head, 8), epoch: number::u64_at(head, 16) })
    }
}
