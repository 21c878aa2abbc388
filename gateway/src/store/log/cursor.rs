//! How far each uplink is, and what it has not delivered.
//!
//! ```text
//!  live ── forget ─▶ forgetting ── saved without it ─▶ forgotten
//! ```
//! A live cursor holds what lies behind it. The others hold nothing: see `forget.rs`.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Log, segments::READ_BYTES_MAX};
use crate::store::{
    record::position::{self, LogPosition},
    status::Backlog,
};

/// Tells since when an uplink is paused, wall clock, milliseconds since 1970; `None` while it is
/// not.
pub type PauseWatch = watch::Receiver<Option<u64>>;

/// How far an uplink is.
#[derive(Debug)]
pub struct Cursor {
    /// The uplink's name.
    pub uplink: String,
    /// It is named by the configuration; else its place is kept until it is forgotten.
    pub is_configured: bool,
    /// Its reader was handed out.
    pub taken: AtomicBool,
    mark: Mutex<LogPosition>,
    /// What lies before is given up: whoever reads before it goes on behind.
    given_up: AtomicU64,
    /// [`LIVE`], [`FORGETTING`] or [`FORGOTTEN`].
    state: AtomicU8,
    /// Since when it is paused, wall clock, milliseconds since 1970.
    paused: watch::Sender<Option<u64>>,
    /// Held while its mark is made or removed.
    pausing: Mutex<()>,
}

const LIVE: u8 = 0;
/// It counts no more, and is still among the saved ones.
const FORGETTING: u8 = 1;
const FORGOTTEN: u8 = 2;

impl Cursor {
    /// An uplink that has delivered everything before `mark`.
    pub fn new(uplink: String, mark: LogPosition) -> Self {
        Self {
            uplink,
            is_configured: true,
            taken: AtomicBool::new(false),
            mark: Mutex::new(mark),
            given_up: AtomicU64::new(0),
            state: AtomicU8::new(LIVE),
            paused: watch::Sender::new(None),
            pausing: Mutex::new(()),
        }
    }

    /// The same, paused since `since_ms`, if it is.
    #[must_use]
    pub fn paused(self, since_ms: Option<u64>) -> Self {
        self.paused.send_replace(since_ms);
        self
    }

    /// The place of one that is not configured any more.
    pub fn kept(uplink: String, mark: LogPosition) -> Self {
        Self { is_configured: false, ..Self::new(uplink, mark) }
    }

    /// From now on it holds nothing; the next time that cursors are saved, it is not among them.
    pub fn forget(&self) {
        // One that is forgotten stays so.
        let _ = self.state.compare_exchange(LIVE, FORGETTING, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether it is forgotten durably.
    pub fn is_forgotten(&self) -> bool {
        self.state.load(Ordering::Acquire) == FORGOTTEN
    }

    /// Whether it is paused.
    pub fn watch_pause(&self) -> PauseWatch {
        self.paused.subscribe()
    }

    /// Changes whether it is paused, by one at a time; who watches hears of it if that succeeds.
    pub fn change_pause<T, E>(&self, change: impl FnOnce(&mut Option<u64>) -> Result<T, E>) -> Result<T, E> {
        let _pausing = self.pausing.lock();
        let mut paused = *self.paused.borrow();
        let changed = change(&mut paused)?;
        self.paused.send_replace(paused);
        Ok(changed)
    }

    /// How far it is.
    pub fn mark(&self) -> LogPosition {
        *self.mark.lock()
    }

    /// Moves it on, and never back.
    pub fn advance(&self, mark: LogPosition) {
        let mut own = self.mark.lock();
        if mark.offset > own.offset {
            *own = mark;
        }
    }

    /// Moves it on behind what the store gave up.
    pub fn give_up(&self, mark: LogPosition) {
        self.advance(mark);
        self.given_up.fetch_max(mark.offset, Ordering::AcqRel);
    }

    /// Before this offset nothing is worth reading.
    pub fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Acquire)
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
    /// The cursors that hold what they have not delivered, with their indexes: all but those that
    /// are forgotten.
    pub fn live_cursors(&self) -> impl Iterator<Item = (usize, &Cursor)> {
        let is_live = |(_, cursor): &(usize, &Cursor)| cursor.state.load(Ordering::Acquire) == LIVE;
        self.cursors.iter().enumerate().filter(is_live)
    }

    /// The cursors as they are stored.
    pub fn cursor_offsets(&self) -> Vec<(String, u64)> {
        self.live_cursors().map(|(_, cursor)| (cursor.uplink.clone(), cursor.mark().offset)).collect()
    }

    /// Whether one is to be forgotten, and still saved.
    pub fn is_forgetting(&self) -> bool {
        self.cursors.iter().any(|cursor| cursor.state.load(Ordering::Acquire) == FORGETTING)
    }

    /// The cursors were saved, these alone.
    pub fn note_saved(&self, saved: &[(String, u64)]) {
        for cursor in &self.cursors {
            if saved.iter().all(|(name, _)| *name != cursor.uplink) {
                let _ =
                    cursor.state.compare_exchange(FORGETTING, FORGOTTEN, Ordering::AcqRel, Ordering::Acquire);
            }
        }
    }

    /// What an uplink has not delivered. May read a block from the disk.
    pub fn backlog(&self, cursor: &Cursor) -> Backlog {
        let (mark, totals) = (cursor.mark(), self.totals());
        let behind = mark.events < totals.events;
        let oldest = || -> Option<u64> {
            if mark.received_ms.is_some() {
                return mark.received_ms;
            }
            let received_ms = match self.recent(mark.offset) {
                Some(block) => position::at(&block, mark.offset).received_ms,
                None => {
                    let blocks = self.segments.read(mark.offset..totals.offset, READ_BYTES_MAX).ok()?;
                    blocks.first().and_then(|block| {
                        block.records_from(mark.offset).next().map(|(_, record)| record.received_ms)
                    })
                }
            }?;
            cursor.note_received(mark.offset, received_ms);
            Some(received_ms)
        };
        Backlog {
            uplink: cursor.uplink.clone(),
            is_configured: cursor.is_configured,
            paused_since_ms: *cursor.paused.borrow(),
            events: totals.events.saturating_sub(mark.events),
            bytes: totals.bytes.saturating_sub(mark.bytes),
            oldest_received_ms: if behind { oldest() } else { None },
        }
    }
}
