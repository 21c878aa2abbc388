//! What a journal's bytes say after a stop. Pure.
//!
//! ```text
//!  slots  | E 0 | E 1 |  ?  | E 3 | torn | E-1 5 | …
//!           ok    ok   lost   ok    end    an epoch that is over
//! ```
//! The newest epoch counts, unless a segment took it over. A frame counts in the slot of its own
//! number alone. Behind the last good one nothing was acknowledged, or it rotted and nothing can
//! say so; a slot before it that is not good held a frame that is lost.

use super::{
    SLOT_BYTES,
    frame::{self, Frame},
};

/// What is believed of a journal.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The newest epoch of which there may be anything; 0 where there is none.
    pub epoch: u64,
    /// Its frames, in their order.
    pub frames: Vec<Frame>,
    /// Frames before the last of these are lost.
    pub is_damaged: bool,
}

/// Judges the bytes of the journal of `store`, whose epochs up to `absorbed` are in segments.
#[must_use]
pub fn judge(bytes: &[u8], store: u32, absorbed: u64) -> Recovered {
    let slots = (0..).zip(bytes.chunks(SLOT_BYTES));
    let found = slots.filter_map(|(slot, bytes)| {
        frame::decode(bytes, store).filter(|frame| frame.sequence == slot && frame.epoch > absorbed)
    });
    let mut frames: Vec<Frame> = found.collect();
    let epoch = frames.iter().map(|frame| frame.epoch).max().unwrap_or(absorbed);
    frames.retain(|frame| frame.epoch == epoch);
    let is_damaged = frames.last().is_some_and(|last| last.sequence + 1 != frames.len() as u64);
    Recovered { epoch, frames, is_damaged }
}
