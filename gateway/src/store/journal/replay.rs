//! What a start takes from the journal: what is in no segment.
//!
//! ```text
//!  segments end here
//!         │            frames of the newest epoch, none of which a segment took over
//!  ───────┤ rows: they are the log's end          lost frames: offsets between them are missing
//!  ───────────┤ rows before the end: a segment that nobody can read may hold them, or not (held)
//! ```
//! Rows lie behind the segments' end, unless a last segment is damaged or gone: then the log goes
//! on behind all that it can have held, and the rows wait until that segment is repaired with them.
//! What the frames say of cursors and QoS 2 ids counts only where they are the newest: ids of
//! before a later change would make a new message a copy.

use std::{ops::Range, sync::Arc};

use super::{
    FILE, file,
    frame::State,
    recover::{Recovered, judge},
};
use crate::store::{
    disk::Files,
    error::StoreError,
    record::{
        position::{self, LogPosition},
        row::Block,
    },
};

/// What is durable in the journal alone.
#[derive(Debug, Default)]
pub struct Replay {
    /// The newest epoch that may be in the file.
    pub epoch: u64,
    /// Rows behind the segments' end, oldest first.
    pub blocks: Vec<Arc<Block>>,
    /// Rows before it, of which nothing says that a segment holds them.
    pub held: Vec<Arc<Block>>,
    /// What the commits changed besides, oldest first.
    pub states: Vec<State>,
    /// Frames are lost: what they changed is not known.
    pub is_damaged: bool,
    /// Offsets of records that were in lost frames.
    pub missing: Vec<Range<u64>>,
}

impl Replay {
    /// The end of the log whose segments end at `end`.
    #[must_use]
    pub fn end(&self, end: LogPosition) -> LogPosition {
        self.blocks.last().map_or(end, |block| position::end_of(block))
    }
}

/// Reads the journal of a store whose segments end at `end`, and took over its epochs up to
/// `absorbed`. Whether that is the newest there was is `is_known`: a later segment may be damaged
/// or gone.
///
/// # Errors
/// [`StoreError`]: the disk does not answer.
pub fn replay(
    files: &Files,
    store: u32,
    absorbed: u64,
    end: u64,
    is_known: bool,
) -> Result<Replay, StoreError> {
    let Recovered { epoch, frames, is_damaged } = judge(&file::read(files)?, store, absorbed);
    let mut replay = Replay { epoch, is_damaged, ..Replay::default() };
    for frame in frames {
        replay.states.push(frame.state);
        let (held, behind): (Vec<_>, Vec<_>) =
            frame.blocks.into_iter().partition(|block| block.first() < end);
        replay.held.extend(held);
        replay.blocks.extend(behind);
    }
    if !is_known || !replay.held.is_empty() {
        replay.states.clear();
    }
    let mut at = end;
    for block in &replay.blocks {
        if block.first() > at {
            replay.missing.push(at..block.first());
        }
        at = block.end();
    }
    if replay.is_damaged {
        tracing::error!(file = FILE, missing = ?replay.missing, "damaged: frames of it cannot be read");
    }
    Ok(replay)
}
