//! What a journal's bytes say after a stop. Pure.
//!
//! ```text
//!  headers | E 0 | E 1 |  ?  | E 3 | torn | E-1 5 | …
//!            ok    ok   lost   ok    end    an epoch that is over
//! ```
//! The newest epoch counts, unless a segment took it over. A frame counts in the slot of its own
//! number alone. A slot before the last good one that is not good held a frame that is lost.
//!
//! Behind the last good one lies at most one frame that was being written: nobody was told of it.
//! So what is lost there shows where there is more than that: two slots that are neither good nor
//! of before, or a file that is cut off in them. And a file that does not know the epoch that the
//! segment says is open is not the one that was written: whatever that held is lost. What cannot be
//! told from a stop is a last good frame that rotted, and a copy of the file that is older by
//! frames of the same epoch.

use super::{
    BLANK, HEADER_SLOTS, SLOT_BYTES,
    frame::{self, Frame},
    header::Header,
};
use crate::store::record::epochs::Epochs;

/// What is believed of a journal.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The newest epoch of which there may be anything; 0 where there is none.
    pub epoch: u64,
    /// Its frames, in their order.
    pub frames: Vec<Frame>,
    /// Frames before the last of these are lost.
    pub is_damaged: bool,
    /// Frames behind the last of these may be lost, and nobody can tell how many.
    pub is_end_lost: bool,
}

enum Slot {
    /// Of an epoch that no segment took over.
    Good(Frame),
    /// Never written, or of an epoch that is over.
    Before,
    /// Anything else.
    Bad,
}

/// Judges the bytes of the journal of `store`, of whose epochs the last segment says this.
#[must_use]
pub fn judge(bytes: &[u8], store: u32, epochs: Epochs) -> Recovered {
    let headers = bytes.chunks(SLOT_BYTES).take(HEADER_SLOTS);
    let header = headers.filter_map(|slot| Header::decode(slot, store)).max_by_key(|header| header.epoch);
    let (mut frames, mut rest) = (Vec::new(), Vec::new());
    for (number, slot) in (0..).zip(bytes.chunks(SLOT_BYTES).skip(HEADER_SLOTS)) {
        match judge_slot(slot, number, store, epochs.over) {
            Slot::Good(frame) => frames.push(frame),
            Slot::Before => rest.push((number, true)),
            Slot::Bad => rest.push((number, false)),
        }
    }
    let newest = frames.iter().map(|frame| frame.epoch).max();
    let (frames, older): (Vec<_>, Vec<_>) = frames.into_iter().partition(|frame| Some(frame.epoch) == newest);
    rest.extend(older.iter().map(|frame| (frame.sequence, true)));
    let next = frames.last().map_or(0, |last| last.sequence + 1);
    let known = newest.max(header.map(|header| header.epoch)).unwrap_or_default();
    let is_end_lost = epochs.open > 0 && {
        let is_cut = header.is_none_or(|header| bytes.len() < header.slots as usize * SLOT_BYTES);
        known < epochs.open || is_torn_twice(&mut rest, next, is_cut)
    };
    let is_damaged = next != frames.len() as u64;
    Recovered { epoch: known.max(epochs.over).max(epochs.open), frames, is_damaged, is_end_lost }
}

fn judge_slot(slot: &[u8], number: u64, store: u32, over: u64) -> Slot {
    match frame::decode(slot, store) {
        Some(frame) if frame.sequence != number => Slot::Bad,
        Some(frame) if frame.epoch > over => Slot::Good(frame),
        Some(_) => Slot::Before,
        None if slot.len() == SLOT_BYTES && slot.iter().all(|byte| *byte == BLANK) => Slot::Before,
        None => Slot::Bad,
    }
}

/// Whether more than one frame was written from slot `next` on, where none is good, or may have
/// been, behind the end of a file that `is_cut`. Each of `rest` says whether its slot is as before.
fn is_torn_twice(rest: &mut Vec<(u64, bool)>, next: u64, is_cut: bool) -> bool {
    rest.retain(|(number, _)| *number >= next);
    rest.sort_unstable();
    let bad = rest.iter().take_while(|(_, is_before)| !is_before).count();
    bad > 1 || is_cut && bad == rest.len()
}
