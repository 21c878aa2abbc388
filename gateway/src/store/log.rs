//! What the commit thread, the readers and the status share: the committed end, the newest blocks, the
//! cursors and the totals.
//!
//! Limits: the newest blocks are kept in memory up to [`TAIL_BYTES_MAX`], so a reader that keeps up never
//! reads the disk, and one that does not costs no memory.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{dead_letters::DeadLetters, disk::Files, row::Block, segments::Segments};

/// Bytes of newest blocks kept in memory.
pub const TAIL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The shared side of an open store.
#[derive(Debug)]
pub struct Log {
    /// Its identity.
    pub store: u32,
    /// Its files.
    pub segments: Segments,
    /// What upstreams could not take.
    pub dead_letters: DeadLetters,
    /// All of its files.
    pub files: Files,
    /// One per uplink, in the order given at opening.
    pub cursors: Vec<Cursor>,
    end: watch::Sender<End>,
    tail: Mutex<Tail>,
    totals: Mutex<Mark>,
    failure: Mutex<Option<String>>,
}

/// Where the committed log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Offset that the next record gets.
    pub offset: u64,
    /// No more will come, and nothing can be read.
    pub closed: bool,
}

/// A point of the log, with what was stored before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Offset of the next record.
    pub offset: u64,
    /// Events before it, ever.
    pub events: u64,
    /// Bytes of records before it, ever.
    pub bytes: u64,
    /// Received time of the record at `offset`, milliseconds since 1970; `None` where it is not known.
    pub received_ms: Option<u64>,
}

/// How far an uplink is.
#[derive(Debug)]
pub struct Cursor {
    /// The uplink's name.
    pub uplink: String,
    /// Its reader was handed out.
    pub taken: AtomicBool,
    mark: Mutex<Mark>,
}

#[derive(Debug, Default)]
struct Tail {
    blocks: VecDeque<Arc<Block>>,
    bytes: usize,
}

impl Cursor {
    /// An uplink that has delivered everything before `mark`.
    pub fn new(uplink: String, mark: Mark) -> Self {
        Self { uplink, taken: AtomicBool::new(false), mark: Mutex::new(mark) }
    }

    /// How far it is.
    pub fn mark(&self) -> Mark {
        *self.mark.lock()
    }

    /// Moves it on.
    pub fn set(&self, mark: Mark) {
        *self.mark.lock() = mark;
    }

    /// Notes when the record at `offset` was received, unless the cursor moved on meanwhile.
    pub fn note_received(&self, offset: u64, received_ms: u64) {
        let mut mark = self.mark.lock();
        if mark.offset == offset {
            mark.received_ms = Some(received_ms);
        }
    }

    /// Hands its reader out once.
    pub fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }
}

impl Log {
    /// A log whose committed end is `end`.
    pub fn new(
        store: u32,
        segments: Segments,
        dead_letters: DeadLetters,
        files: Files,
        cursors: Vec<Cursor>,
        end: Mark,
    ) -> Self {
        Self {
            store,
            segments,
            dead_letters,
            files,
            cursors,
            end: watch::Sender::new(End { offset: end.offset, closed: false }),
            tail: Mutex::default(),
            totals: Mutex::new(end),
            failure: Mutex::default(),
        }
    }

    /// Says that `blocks` are durable.
    pub fn extend(&self, blocks: Vec<Arc<Block>>, end: Mark) {
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
    pub fn totals(&self) -> Mark {
        *self.totals.lock()
    }

    /// The cursors as they are stored.
    pub fn cursor_offsets(&self) -> Vec<(String, u64)> {
        self.cursors.iter().map(|cursor| (cursor.uplink.clone(), cursor.mark().offset)).collect()
    }

    /// Notes why nothing more can be stored.
    pub fn fail(&self, why: String) {
        self.failure.lock().get_or_insert(why);
    }

    /// Why nothing more can be stored, if so.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Ends all readers and closes the files.
    pub fn close(&self) {
        self.end.send_modify(|end| end.closed = true);
        self.segments.close();
        self.dead_letters.close();
    }
}
