//! A frame: what one commit makes durable, as bytes. Pure.
//!
//! ```text
//!  0       4     8       12      16       24         32      40      44      48
//!  | TGJ 1 | crc | bytes | store | epoch  | sequence | first | state | rows  | state | len, row | …
//!  | u8[4] | u32 | u32   | u32   | u64    | u64      | u64   | u32   | u32   |       | u32
//! ```
//! Little-endian. `crc` is the CRC-32 (IEEE) of everything behind it, `bytes` the length of all of
//! it. `first` is the offset of the first record; the rows follow on each other, as `row.rs` has
//! them. `state` is how many bytes of postcard lie before the rows: the cursors, if they were
//! saved, for each client whose QoS 2 ids changed all that it has pending, and without rows where
//! the log ends: so a frame that is lost before it shows, and one that had no rows is not missed.
//!
//! Limits: [`SLOT_BYTES`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{SLOT_BYTES, number};
use crate::store::record::{
    position::{self, LogPosition},
    row::Block,
};

const MAGIC: [u8; 4] = *b"TGJ\x01";
/// Bytes before the state.
pub const HEAD_BYTES: usize = 48;
/// What the checksum does not cover.
const UNCHECKED_BYTES: usize = 8;

/// What a commit makes durable besides its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Delivered up to, by uplink: all of them, if they are saved.
    pub cursors: Option<Vec<(String, u64)>>,
    /// All QoS 2 ids that are pending, of the clients whose ids changed.
    pub pending: Vec<(String, Vec<u16>)>,
    /// Without rows, where the log ends: offset, and events and bytes before it.
    pub end: Option<(u64, u64, u64)>,
}

/// What is to become a frame.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Rows that follow on each other.
    pub blocks: &'a [Arc<Block>],
    /// The rest.
    pub state: State,
}

/// A frame that was read.
#[derive(Debug)]
pub struct Frame {
    /// Frames of one epoch belong together.
    pub epoch: u64,
    /// Its number in the epoch, from 0.
    pub sequence: u64,
    /// Its rows.
    pub blocks: Vec<Arc<Block>>,
    /// The rest.
    pub state: State,
}

impl Frame {
    /// The log where its rows begin, and where they end.
    pub fn range(&self) -> Option<(LogPosition, LogPosition)> {
        match (self.blocks.first(), self.blocks.last()) {
            (Some(first), Some(last)) => Some((position::begin_of(first), position::end_of(last))),
            _ => {
                let (offset, events, bytes) = self.state.end?;
                let end = LogPosition { offset, events, bytes, received_ms: None };
                Some((end, end))
            }
        }
    }
}

/// Lays a frame out in `frame`. Whether it fits a slot.
pub fn encode(frame: &mut Vec<u8>, store: u32, epoch: u64, sequence: u64, entry: &Entry<'_>) -> bool {
    frame.clear();
    frame.resize(HEAD_BYTES, 0);
    let rows_bytes: usize = entry.blocks.iter().map(|block| block.row().len() + size_of::<u32>()).sum();
    if HEAD_BYTES + rows_bytes > SLOT_BYTES {
        return false;
    }
    // Only writing can fail, and a vector takes what there is.
    let Ok(state) = postcard::to_allocvec(&entry.state) else { return false };
    frame.extend_from_slice(&state);
    for block in entry.blocks {
        frame.extend_from_slice(&(block.row().len() as u32).to_le_bytes());
        frame.extend_from_slice(block.row());
    }
    let first = entry.blocks.first().map_or(0, |block| block.first());
    frame[..4].copy_from_slice(&MAGIC);
    let bytes = frame.len() as u32;
    frame[8..12].copy_from_slice(&bytes.to_le_bytes());
    frame[12..16].copy_from_slice(&store.to_le_bytes());
    frame[16..24].copy_from_slice(&epoch.to_le_bytes());
    frame[24..32].copy_from_slice(&sequence.to_le_bytes());
    frame[32..40].copy_from_slice(&first.to_le_bytes());
    frame[40..44].copy_from_slice(&(state.len() as u32).to_le_bytes());
    frame[44..48].copy_from_slice(&(entry.blocks.len() as u32).to_le_bytes());
    let crc = crc32fast::hash(&frame[UNCHECKED_BYTES..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame.len() <= SLOT_BYTES
}

/// The frame of `store` that a slot begins with; `None` if there is none, or not all of it.
pub fn decode(slot: &[u8], store: u32) -> Option<Frame> {
    let head: &[u8; HEAD_BYTES] = slot.first_chunk()?;
    let frame = slot.get(..number::u32_at(head, 8) as usize).filter(|frame| frame.len() >= HEAD_BYTES)?;
    let is_whole =
        head[..4] == MAGIC && crc32fast::hash(&frame[UNCHECKED_BYTES..]) == number::u32_at(head, 4);
    if !is_whole || number::u32_at(head, 12) != store {
        return None;
    }
    let (state, mut rest) = frame[HEAD_BYTES..].split_at_checked(number::u32_at(head, 40) as usize)?;
    let (mut blocks, mut first) = (Vec::new(), number::u64_at(head, 32));
    for _ in 0..number::u32_at(head, 44) {
        let (len, behind) = rest.split_first_chunk()?;
        let (row, behind) = behind.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        let block = Block::new(first, row.to_vec()).ok()?;
        (first, rest) = (block.end(), behind);
        blocks.push(Arc::new(block));
    }
    let state = postcard::from_bytes(state).ok()?;
    Some(Frame { epoch: number::u64_at(head, 16), sequence: number::u64_at(head, 24), blocks, state })
}
