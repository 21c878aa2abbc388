//! Reading the log behind a durable cursor: one [`Reader`] for each uplink.
//!
//! ```text
//!        released            position          end
//!  ──────────┼───────────────────┼───────────────┼──▶ offsets
//!  delivered │  read, in flight  │   backlog     │
//! ```
//! The newest blocks come from memory, older ones from the segments, some at a time, in short
//! transactions.
//!
//! Records that are missing are passed over only once a gap record says so, durably: a reader that
//! comes upon missing records or a damaged segment reports them and waits for the commit thread to
//! repair it. Where the store dropped what the uplink had not delivered, its cursor was moved, and
//! the reader follows.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use crate::{
    clock,
    store::{
        error::StoreError,
        log::{
            End, Fault, Log,
            cursor::{Cursor, PauseWatch},
            segments::{READ_BYTES_MAX, SegmentError},
        },
        record::{
            ids::StoreIds,
            position::{self, LogPosition},
            row::Block,
        },
        side_file::dead_letters::NewLetter,
    },
};

/// Records before an offset that [`Reader::before`] reads at about the most.
const BEFORE_RECORDS: u64 = 64;
/// A segment that fails to be read so many times in a row is taken for damaged.
const READ_FAILURES_MAX: u32 = 8;
/// How often a reader looks whether what it reported is repaired.
const REPAIR_LOOKED_AT_EVERY: Duration = Duration::from_millis(250);

/// Reading the log failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store was closed. The cursor is as released.
    #[error("the store is closed")]
    Closed,
    /// A segment cannot be read; the position stays where it is.
    #[error("reading the store: {0}")]
    Store(#[from] Arc<StoreError>),
}

/// A reader of the log with a durable cursor.
#[derive(Debug)]
pub struct Reader {
    log: Arc<Log>,
    /// Which of the log's cursors is its own.
    cursor: usize,
    end: watch::Receiver<End>,
    position: u64,
    /// Read from the disk, and not yet given.
    ahead: VecDeque<Arc<Block>>,
    reading: Option<JoinHandle<Result<Vec<Block>, SegmentError>>>,
    /// Reads that failed in a row.
    failures: u32,
    /// Given, and not wholly released, oldest first: as much as is in flight.
    held: VecDeque<Arc<Block>>,
    /// Where the first unreleased record lies.
    place: Option<position::RecordLocation>,
}

impl Reader {
    /// The reader of the log's cursor with this index.
    pub(in crate::store) fn new(log: Arc<Log>, cursor: usize) -> Self {
        let position = log.cursors[cursor].mark().offset;
        let end = log.end();
        Self {
            log,
            cursor,
            end,
            position,
            ahead: VecDeque::new(),
            reading: None,
            failures: 0,
            held: VecDeque::new(),
            place: None,
        }
    }

    /// The first offset that is not yet released.
    #[must_use]
    pub fn released(&self) -> u64 {
        self.own_cursor().mark().offset
    }

    /// Tells whether the uplink is paused.
    #[must_use]
    pub fn watch_pause(&self) -> PauseWatch {
        self.own_cursor().watch_pause()
    }

    /// The offset that [`Reader::next`] reads from.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Makes `offset` the next to read: after a reconnect, what [`Reader::released`] says.
    pub fn seek(&mut self, offset: u64) {
        self.position = offset;
        self.ahead.clear();
        self.reading = None;
    }

    /// The block that holds the record at [`Reader::position`], waiting for one if there is none;
    /// the next call gives the block after it. The block may begin before the position: start with
    /// [`Block::records_from`] at the position as it was before the call. Cancel-safe.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn next(&mut self) -> Result<Arc<Block>, ReadError> {
        loop {
            let end = *self.end.borrow_and_update();
            if end.closed {
                return Err(ReadError::Closed);
            }
            self.follow_cursor();
            if self.position >= end.offset {
                if self.end.changed().await.is_err() {
                    return Err(ReadError::Closed);
                }
                continue;
            }
            let at_hand =
                self.take_held().or_else(|| self.take_ahead()).or_else(|| self.log.recent(self.position));
            if let Some(block) = at_hand {
                self.position = block.end();
                if self.held.back().is_none_or(|newest| newest.end() <= block.first()) {
                    self.held.push_back(block.clone());
                }
                return Ok(block);
            }
            self.read_ahead(end.offset).await?;
        }
    }

    /// Says that every record before `offset` was acknowledged by the upstream, or set aside.
    /// Durable within some seconds: a crash repeats what came after.
    pub fn release(&mut self, offset: u64) {
        let mut mark = self.own_cursor().mark();
        if offset <= mark.offset {
            return;
        }
        while let Some(block) = self.held.pop_front_if(|block| block.end() <= offset) {
            mark = position::end_of(&block);
        }
        mark = match self.held.front().filter(|block| block.first() <= offset) {
            Some(block) => {
                let known = |place: &position::RecordLocation| {
                    place.block == block.first() && place.offset == mark.offset
                };
                let place = self.place.filter(known);
                let (found, place) = position::walk(block, place.map(|place| (mark, place.at)), offset);
                self.place = Some(place);
                found
            }
            None => LogPosition { offset, received_ms: None, ..mark },
        };
        self.own_cursor().advance(mark);
    }

    /// Some of the records right before `offset`, delivered or set aside, the newest last; none if
    /// they cannot be read or are deleted. It changes nothing.
    pub async fn before(&self, offset: u64) -> Vec<Arc<Block>> {
        let (log, offsets) = (self.log.clone(), offset.saturating_sub(BEFORE_RECORDS)..offset);
        let read = tokio::task::spawn_blocking(move || log.segments.read(offsets, READ_BYTES_MAX)).await;
        read.ok().and_then(Result::ok).unwrap_or_default().into_iter().map(Arc::new).collect()
    }

    /// Makes dead letters, in one transaction: durable when this returns, so that their records may
    /// be released.
    ///
    /// # Errors
    /// They could not be made durable: do not release their records.
    pub async fn add_dead_letters(&self, letters: Arc<Vec<NewLetter>>) -> Result<(), ReadError> {
        let (log, cursor) = (self.log.clone(), self.cursor);
        let put = move || {
            let (uplink, now_ms) = (log.cursors[cursor].uplink.as_str(), clock::wall_ms());
            let letters: Vec<_> = letters.iter().map(|letter| letter.letter(uplink, now_ms)).collect();
            log.dead_letters.put(&letters)
        };
        match tokio::task::spawn_blocking(put).await {
            Ok(outcome) => Ok(outcome.map_err(Arc::new)?),
            Err(_) => Err(ReadError::Closed),
        }
    }

    /// What records are named after that have no name of their own.
    #[must_use]
    pub fn ids(&self) -> &StoreIds {
        &self.log.ids
    }

    fn own_cursor(&self) -> &Cursor {
        &self.log.cursors[self.cursor]
    }

    fn take_held(&self) -> Option<Arc<Block>> {
        let at = self.held.partition_point(|block| block.end() <= self.position);
        self.held.get(at).filter(|block| block.first() <= self.position).cloned()
    }

    fn take_ahead(&mut self) -> Option<Arc<Block>> {
        let block = self.ahead.pop_front()?;
        if block.first() <= self.position && self.position < block.end() {
            return Some(block);
        }
        self.ahead.clear();
        None
    }

    /// Where the store gave up what was not delivered, the cursor stands behind it.
    fn follow_cursor(&mut self) {
        let given_up = self.own_cursor().given_up();
        if self.position < given_up {
            while self.held.pop_front_if(|block| block.end() <= given_up).is_some() {}
            self.seek(given_up);
        }
    }

    /// Reads from the disk what is committed before `end`.
    async fn read_ahead(&mut self, end: u64) -> Result<(), ReadError> {
        let (log, position) = (self.log.clone(), self.position);
        let reading = self.reading.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || log.segments.read(position..end, READ_BYTES_MAX))
        });
        let read = reading.await;
        self.reading = None;
        let blocks = match read.map_err(|_| ReadError::Closed)? {
            Ok(blocks) => blocks,
            Err(error) => return self.failed(error).await,
        };
        self.failures = 0;
        let missing = position..blocks.first().map_or(end, Block::first);
        if !missing.is_empty() {
            if !self.log.is_gap(&missing) {
                self.log.report(Fault::Missing { range: missing });
                self.wait_for_repair().await;
                return Ok(());
            }
            tracing::warn!(
                from = missing.start,
                to = missing.end,
                "going on behind what a gap record says is missing"
            );
            self.position = missing.end;
        }
        self.ahead.extend(blocks.into_iter().map(Arc::new));
        Ok(())
    }

    async fn failed(&mut self, SegmentError { first, cause }: SegmentError) -> Result<(), ReadError> {
        self.failures += 1;
        if !cause.is_damage() && self.failures < READ_FAILURES_MAX {
            return Err(Arc::new(cause).into());
        }
        self.failures = 0;
        self.log.report(Fault::Damaged { first, why: cause.to_string() });
        self.wait_for_repair().await;
        Ok(())
    }

    /// A gap record moves the end. Where nothing does, the next read shows what is the matter.
    async fn wait_for_repair(&mut self) {
        let _ = tokio::time::timeout(REPAIR_LOOKED_AT_EVERY, self.end.changed()).await;
    }
}
