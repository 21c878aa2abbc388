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
    record::{epochs::Epochs, position::LogPosition, row::Block},
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
    /// Nobody can tell how many records were behind `end`: the frames that held them are lost, or
    /// the file.
    pub is_end_lost: bool,
    /// Offsets of records that were in lost frames, before `end`.
    pub missing: Vec<Range<u64>>,
    /// Where the log ends, if a frame says so.
    pub end: Option<LogPosition>,
}

/// Reads the journal of a store whose segments end at `end`, and of whose epochs the last one says
/// this. Whether that is the newest there was is `is_known`: a later segment may be damaged or
/// gone.
///
/// # Errors
/// [`StoreError`]: the disk does not answer.
pub fn replay(
    files: &Files,
    store: u32,
    epochs: Epochs,
    end: u64,
    is_known: bool,
) -> Result<Replay, StoreError> {
    let bytes = file::read(files)?;
    let recovered = judge(&bytes.unwrap_or_default(), store, epochs);
    let replay = Replay::of(recovered, end, is_known);
    if replay.is_damaged {
        tracing::error!(file = FILE, missing = ?replay.missing, "damaged: frames of it cannot be read");
    }
    if replay.is_end_lost {
        tracing::error!(
            file = FILE,
            "it is gone, cut off, damaged or an older one: what the last commits stored is lost"
        );
    }
    Ok(replay)
}

impl Replay {
    fn of(recovered: Recovered, segments_end: u64, is_known: bool) -> Self {
        let Recovered { epoch, frames, is_damaged, is_end_lost } = recovered;
        // Behind a segment that nobody can read, the log goes on far behind all of it.
        let is_end_lost = is_end_lost && is_known;
        let mut replay =
            Self { epoch, is_damaged: is_damaged || is_end_lost, is_end_lost, ..Self::default() };
        let mut at = segments_end;
        for frame in frames {
            if let Some((begin, end)) = frame.range().filter(|(begin, _)| begin.offset >= at) {
                if begin.offset > at {
                    replay.missing.push(at..begin.offset);
                }
                (at, replay.end) = (end.offset, Some(end));
            }
            replay.states.push(frame.state);
            let (held, behind): (Vec<_>, Vec<_>) =
                frame.blocks.into_iter().partition(|block| block.first() < segments_end);
            replay.held.extend(held);
            replay.blocks.extend(behind);
        }
        if !is_known || !replay.held.is_empty() {
            replay.states.clear();
        }
        replay
    }
}
