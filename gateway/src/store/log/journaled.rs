//! The rows that are durable in the journal and not yet in a segment, for readers: they are read
//! from memory.
//!
//! ```text
//!  segments ─────────────┤ journaled ├─ the committed end
//! ```
//! Rows leave the list once they are in a segment. Whoever reads takes the list first and looks
//! into files then: so what left it meanwhile is found there.
//!
//! Limits: as many bytes as the journal's file has. They are the newest of all, so the blocks are
//! those that the log keeps in memory anyway.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::store::record::row::Block;

/// The rows, oldest first.
#[derive(Debug, Default)]
pub struct Journaled(Mutex<Vec<Arc<Block>>>);

/// The rows as they were at a moment.
#[derive(Debug, Default, Clone)]
pub struct JournaledRows(pub Vec<Arc<Block>>);

impl Journaled {
    /// Rows that the journal has from now on.
    pub fn extend(&self, blocks: &[Arc<Block>]) {
        self.0.lock().extend_from_slice(blocks);
    }

    /// All of them are in a segment.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    /// The rows as they are now.
    pub fn rows(&self) -> JournaledRows {
        JournaledRows(self.0.lock().clone())
    }
}

impl JournaledRows {
    /// Where the first one begins; behind everything if there is none.
    #[must_use]
    pub fn begin(&self) -> u64 {
        self.0.first().map_or(u64::MAX, |block| block.first())
    }

    /// Rows from the one that holds `at` on, or the next there are, none that begins at `end` or
    /// behind it, at most about `bytes_max`.
    #[must_use]
    pub fn read(&self, at: u64, end: u64, bytes_max: usize) -> Vec<Block> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for block in self.0.iter().filter(|block| block.end() > at && block.first() < end) {
            found.push(Block::clone(block));
            bytes += block.row().len();
            if bytes >= bytes_max {
                break;
            }
        }
        found
    }
}
