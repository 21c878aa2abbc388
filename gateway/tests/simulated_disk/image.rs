//! The bytes of a file, and which of its blocks take room on the disk.

use std::ops::Range;

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: u64 = 512;
/// What a file system hands out.
pub const BLOCK_BYTES: u64 = 4096;

/// Bytes and blocks. A block that was never written is a hole: it reads as zeros and takes no room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    bytes: Vec<u8>,
    /// By number of the block; shorter than the file where the end is a hole.
    blocks: Vec<bool>,
}

impl Image {
    pub fn new(bytes: Vec<u8>) -> Self {
        let blocks = vec![true; (bytes.len() as u64).div_ceil(BLOCK_BYTES) as usize];
        Self { bytes, blocks }
    }

    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn used_bytes(&self) -> u64 {
        self.blocks.iter().filter(|used| **used).count() as u64 * BLOCK_BYTES
    }

    /// The bytes of `range`, `None` if the file ends before.
    pub fn get(&self, range: Range<u64>) -> Option<&[u8]> {
        self.bytes.get(range.start as usize..range.end as usize)
    }

    /// A sector as the disk gets it: with zeros behind the end of the file.
    pub fn sector(&self, sector: u64) -> [u8; SECTOR_BYTES as usize] {
        let mut whole = [0; SECTOR_BYTES as usize];
        let start = (sector * SECTOR_BYTES).min(self.len());
        let end = (start + SECTOR_BYTES).min(self.len());
        whole[..(end - start) as usize].copy_from_slice(&self.bytes[start as usize..end as usize]);
        whole
    }

    /// Puts a sector in its place; what is behind the end of the file is lost.
    pub fn set_sector(&mut self, sector: u64, whole: &[u8]) {
        let start = sector * SECTOR_BYTES;
        if start < self.len() {
            let bytes = (self.len() - start).min(SECTOR_BYTES) as usize;
            self.write(start, &whole[..bytes]);
        }
    }

    /// Writes, and grows if it must.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = offset + data.len() as u64;
        if end > self.len() {
            self.bytes.resize(end as usize, 0);
        }
        self.bytes[offset as usize..end as usize].copy_from_slice(data);
        let blocks = blocks_of(offset..end);
        if self.blocks.len() < blocks.end as usize {
            self.blocks.resize(blocks.end as usize, false);
        }
        self.blocks[blocks.start as usize..blocks.end as usize].fill(true);
    }

    /// Grows by a hole, or cuts.
    pub fn set_len(&mut self, len: u64) {
        self.bytes.resize(len as usize, 0);
        self.blocks.truncate(len.div_ceil(BLOCK_BYTES) as usize);
    }

    /// Makes a hole of sectors; only whole blocks give their room back.
    pub fn punch(&mut self, sectors: Range<u64>) {
        let (start, end) = (sectors.start * SECTOR_BYTES, sectors.end * SECTOR_BYTES);
        self.damage(start..end, |byte| *byte = 0);
        for block in start.div_ceil(BLOCK_BYTES)..end / BLOCK_BYTES {
            if let Some(used) = self.blocks.get_mut(block as usize) {
                *used = false;
            }
        }
    }

    /// Changes bytes where they are.
    pub fn damage(&mut self, range: Range<u64>, change: impl Fn(&mut u8)) {
        let end = range.end.min(self.len()) as usize;
        let start = range.start.min(end as u64) as usize;
        self.bytes[start..end].iter_mut().for_each(change);
    }

    /// How many bytes of a write at `offset` fit when only `free_blocks` more can be had.
    pub fn fitting_bytes(&self, offset: u64, bytes: u64, mut free_blocks: u64) -> u64 {
        for block in blocks_of(offset..offset + bytes) {
            if self.blocks.get(block as usize).is_some_and(|used| *used) {
                continue;
            }
            if free_blocks == 0 {
                return (block * BLOCK_BYTES).saturating_sub(offset);
            }
            free_blocks -= 1;
        }
        bytes
    }
}

/// The sectors that bytes lie in.
pub fn sectors_of(bytes: Range<u64>) -> Range<u64> {
    bytes.start / SECTOR_BYTES..bytes.end.div_ceil(SECTOR_BYTES)
}

fn blocks_of(bytes: Range<u64>) -> Range<u64> {
    bytes.start / BLOCK_BYTES..bytes.end.div_ceil(BLOCK_BYTES)
}
