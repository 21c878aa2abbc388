//! What the commit thread, the readers and the status share: the committed end, the newest blocks,
//! the cursors, the totals, and what is missing or found damaged.
//!
//! Limits: the newest blocks are kept in memory up to [`TAIL_BYTES_MAX`], so a reader that keeps up
//! never reads the disk, and one that does not costs no memory.

pub mod cursor;
pub mod delivered;
pub mod hold;
pub mod journaled;
pub mod meter;
pub mod paused;
pub mod segments;

use std::{collections::VecDeque, ops::Range, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use self::{cursor::Cursor, hold::Holds, meter::Meter, segments::Segments};
use super::{
    disk::Files,
    record::{gaps::Gaps, ids::StoreIds, position::LogPosition, retention::Retention, row::Block},
    segment,
    side_file::{dead_letters::DeadLetters, fleet::FleetFile, sessions::SessionFile},
};
use crate::clock::Timeline;

/// Bytes of newest blocks kept in memory.
pub const TAIL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The shared side of an open store.
#[derive(Debug)]
pub struct Log {
    /// Its identity.
    pub store: u32,
    /// What records are named after.
    pub ids: StoreIds,
    /// Its files.
    pub segments: Segments,
    /// What upstreams could not take.
    pub dead_letters: DeadLetters,
    /// What local subscribers are owed.
    pub sessions: SessionFile,
    /// What is known of the devices.
    pub fleet: FleetFile,
    /// All of its files.
    pub files: Files,
    /// One per uplink, in the order given at opening; behind them those whose uplinks are not
    /// configured any more.
    pub cursors: Vec<Cursor>,
    /// The gateway's clock, once its journal is loaded.
    pub timeline: Timeline,
    /// Since when what is sealed is delivered.
    pub retention: Mutex<Retention>,
    /// What this process did.
    pub meter: Meter,
    end: watch::Sender<End>,
    tail: Mutex<Tail>,
    totals: Mutex<LogPosition>,
    gaps: Mutex<Gaps>,
    faults: Mutex<Vec<Fault>>,
    failure: Mutex<Option<String>>,
    /// What consumers hold of it.
    pub holds: Holds,
}

/// Something that a reader came upon and the commit thread has to repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The segment that begins at `first` cannot be read.
    Damaged {
        /// Where it begins.
        first: u64,
        /// What was the matter.
        why: String,
    },
    /// Records are not there, and nothing says why.
    Missing {
        /// Their offsets.
        range: Range<u64>,
    },
}

/// Where the committed log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Offset that the next record gets.
    pub offset: u64,
    /// No more will come, and nothing can be read.
    pub closed: bool,
}

#[derive(Debug, Default)]
struct Tail {
    blocks: VecDeque<Arc<Block>>,
    bytes: usize,
}

impl Log {
    /// A log whose committed end is `end`.
    pub fn new(
        store: u32,
        segments: Segments,
        dead_letters: DeadLetters,
        files: Files,
        cursors: Vec<Cursor>,
        gaps: Gaps,
        end: LogPosition,
    ) -> Self {
        let timeline = Timeline::default();
        Self {
            store,
            ids: StoreIds::one(store),
            segments,
            dead_letters,
            sessions: SessionFile::new(files.clone(), store, timeline.clone()),
            fleet: FleetFile::new(files.clone(), store),
            files,
            cursors,
            timeline,
            retention: Mutex::default(),
            meter: Meter::default(),
            end: watch::Sender::new(End { offset: end.offset, closed: false }),
            tail: Mutex::default(),
            totals: Mutex::new(end),
            gaps: Mutex::new(gaps),
            faults: Mutex::default(),
            failure: Mutex::default(),
            holds: Holds::default(),
        }
    }

    /// Says that `blocks` are durable.
    pub fn extend(&self, blocks: Vec<Arc<Block>>, end: LogPosition) {
        {
            let mut tail = self.tail.lock();
            for block in blocks {
                tail.bytes += block.row().len();
                tail.blocks.push_back(block);
            }
            while tail.bytes > TAIL_BYTES_MAX
                && let Some(oldest) = tail.blocks.pop_front()
            {
                tail.bytes -= oldest.row().len();
            }
        }
        *self.totals.lock() = end;
        self.end.send_modify(|sent| sent.offset = end.offset);
    }

    /// The block that holds `offset`, if it is among the newest.
    pub fn recent(&self, offset: u64) -> Option<Arc<Block>> {
        let tail = self.tail.lock();
        let at = tail.blocks.partition_point(|block| block.end() <= offset);
        tail.blocks.get(at).filter(|block| block.first() <= offset).cloned()
    }

    /// Follows the committed end.
    pub fn end(&self) -> watch::Receiver<End> {
        self.end.subscribe()
    }

    /// Everything ever stored.
    pub fn totals(&self) -> LogPosition {
        *self.totals.lock()
    }

    /// What is known to be missing.
    pub fn gaps(&self) -> Gaps {
        self.gaps.lock().clone()
    }

    /// Whether all of `range` is known to be missing.
    pub fn is_gap(&self, range: &Range<u64>) -> bool {
        self.gaps.lock().covers(range)
    }

    /// Says what is missing: durable by now.
    pub fn set_gaps(&self, gaps: Gaps) {
        *self.gaps.lock() = gaps;
    }

    /// Asks the commit thread to repair something. Asked twice, it is repaired once.
    pub fn report(&self, fault: Fault) {
        let mut faults = self.faults.lock();
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }

    /// What is to be repaired.
    pub fn take_faults(&self) -> Vec<Fault> {
        std::mem::take(&mut *self.faults.lock())
    }

    /// Notes why nothing can be stored now.
    pub fn fail(&self, why: String) {
        *self.failure.lock() = Some(why);
    }

    /// Notes that it works again.
    pub fn recover(&self) {
        *self.failure.lock() = None;
    }

    /// Why nothing can be stored now, if so.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Bytes that all files take on the disk.
    pub fn used_bytes(&self) -> u64 {
        let names = self.files.names().unwrap_or_default();
        let others = names.iter().filter(|name| segment::first_of(name).is_none());
        self.segments.usage().1 + others.map(|name| self.files.used_bytes(name)).sum::<u64>()
    }

    /// Whether the store was closed.
    pub fn is_closed(&self) -> bool {
        self.end.borrow().closed
    }

    /// Ends all readers and closes the files.
    pub fn close(&self) {
        self.end.send_modify(|end| end.closed = true);
        self.segments.close();
        self.dead_letters.close();
        self.sessions.close();
        self.fleet.close();
    }
}
