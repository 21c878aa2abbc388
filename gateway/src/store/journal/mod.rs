//! The journal: one preallocated file in front of the segments, where a small commit costs one page
//! instead of a transaction of redb.
//!
//! ```text
//!  small commit ─▶ frame ─▶ journal.log   | header | header | slot | slot | slot | …
//!                 one write, one sync     | E - 1  | E      | E, 0 | E, 1 | old  |   epoch, sequence
//!  large commit, journal full or old, stop ─▶ all rows of the journal and the commit's own, in one
//!                                             transaction of the segment, which notes that epoch E is
//!                                             over, and that E + 1 is open
//! ```
//! A frame holds what one commit made durable: its rows, the cursors, the QoS 2 ids that changed.
//! Each has a slot of [`SLOT_BYTES`] of its own, of which it writes as many pages of [`PAGE_BYTES`]
//! as it needs: a card that destroys what lies around a write under way destroys nothing that was
//! acknowledged, and no bytes that a client chose ever lie where a slot begins. The file's length
//! and its blocks never change, so a commit is one write and one sync of data.
//!
//! An **epoch** is what is written from the first slot on until all of it is in a segment. The
//! segment's transaction notes the epoch that it took over; frames of that one and of earlier ones
//! mean nothing any more, and the next epoch overwrites them. It also notes the next epoch, which a
//! header of the file has by then, and no frame of it is written before. So a file that is gone,
//! emptied, foreign or older than the segment is not silent: it does not know the epoch that is
//! open. At the stop no epoch is open.
//!
//! Crash story: a start reads the file and believes the frames of the newest epoch that no segment
//! took over, each proven by its checksum and by its place. A torn frame behind the last one was
//! never acknowledged. A bad frame with good ones behind it is damage: what it held is missing, and
//! a gap record says so. Where the end itself is lost, a gap record says that nobody can tell how
//! much, and offsets go on behind all that the file can have held. What was read stays in memory,
//! and the file as it is, until the first write of the run has put it into a segment; then it is
//! removed. Each run makes a file of its own, and a file on which anything failed is not written
//! again.
//!
//! Limits: [`JOURNAL_BYTES_MAX`](super::settings::JOURNAL_BYTES_MAX) of the file, [`SLOT_BYTES`] of
//! a frame.
//!
//! It does not: know segments, decide what goes where, or repair anything.

mod file;
mod frame;
mod header;
mod number;
mod recover;
mod replay;
#[cfg(test)]
mod tests;

pub use file::Journal;
pub use frame::{Entry, State};
pub use replay::{Replay, replay};

use super::{record, settings::JOURNAL_BYTES_MAX};

/// The file's name.
pub const FILE: &str = "journal.log";
/// A frame begins at a multiple of this, and is not longer, in bytes.
pub const SLOT_BYTES: usize = 16 * 1024;
/// A frame is written in whole pages, in bytes.
pub const PAGE_BYTES: usize = 4 * 1024;
/// What the file is filled with before it is written: zeros show that something was lost.
pub const BLANK: u8 = 0xe5;
/// The first slots of the file, which hold headers.
pub const HEADER_SLOTS: usize = 2;
/// More records than the file holds between two transactions of a segment.
pub const RECORDS_MAX: u64 = JOURNAL_BYTES_MAX / record::HEAD_BYTES as u64;

/// Whether a file of this name is a journal, or is to become one.
#[must_use]
pub fn is_named(name: &str) -> bool {
    name == FILE || name == unfinished()
}

/// The name of a journal that is being made.
#[must_use]
pub fn unfinished() -> String {
    format!("{FILE}.new")
}
