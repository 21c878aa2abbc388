//! Following the log from elsewhere, as it grows. No cursor, and no hold on what is stored: see
//! `checkpointed`.
//!
//! ```text
//!   next() ─▶ newest blocks, from memory ─▶ segments, some at a time, where it is behind
//!               ├ what is damaged is waited for until it is mended
//!               └ what was deleted, or cannot be read, is passed over and counted
//! ```
//! Limits: about [`READ_BYTES_MAX`] of rows read ahead. Whoever follows keeps the position, durably
//! or not.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinHandle};

use super::{reader::ReadError, scan::Scan, view::View};
use crate::{
    clock,
    store::{
        error::StoreError,
        log::{End, Log, segments::READ_BYTES_MAX},
        record::row::Block,
    },
};

/// How often it looks whether a damaged segment is mended.
const MENDING_LOOKED_AT_EVERY: Duration = Duration::from_millis(50);
/// Longest wait for that: where nothing can be written, nothing is mended.
const MENDING_MAX: Duration = Duration::from_secs(10);

/// Follows the log.
#[derive(Debug)]
pub struct Follower {
    /// Who follows, as the log says it.
    name: &'static str,
    log: Arc<Log>,
    view: View,
    end: watch::Receiver<End>,
    position: u64,
    ahead: VecDeque<Arc<Block>>,
    reading: Option<JoinHandle<Result<Scan, StoreError>>>,
    passed_over: u64,
    /// Since when it waits for a damaged segment to be mended.
    mending_since: Option<Instant>,
}

impl View {
    /// Follows the log as `name` from `position` on, or from its end if that lies behind.
    #[must_use]
    pub fn follow(&self, name: &'static str, position: u64) -> Follower {
        let position = position.min(self.end().offset);
        Follower {
            name,
            log: self.log.clone(),
            view: self.clone(),
            end: self.log.end(),
            position,
            ahead: VecDeque::new(),
            reading: None,
            passed_over: 0,
            mending_since: None,
        }
    }
}

impl Follower {
    /// Offset of the next record.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Records that could not be read any more, so far.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    /// The block that holds the record at [`Follower::position`], waiting for one if there is none;
    /// the next call gives the block after it. The block may begin before the position as it was
    /// before the call. Cancel-safe.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn next(&mut self) -> Result<Arc<Block>, ReadError> {
        loop {
            let end = *self.end.borrow_and_update();
            if end.closed {
                return Err(ReadError::Closed);
            }
            if self.position >= end.offset {
                if self.end.changed().await.is_err() {
                    return Err(ReadError::Closed);
                }
                continue;
            }
            let at_hand = self.ahead.pop_front().or_else(|| self.log.recent(self.position));
            if let Some(block) = at_hand {
                self.passed_over += block.first().saturating_sub(self.position);
                self.position = block.end();
                return Ok(block);
            }
            self.read_ahead().await?;
        }
    }

    async fn read_ahead(&mut self) -> Result<(), ReadError> {
        let (view, position) = (self.view.clone(), self.position);
        let reading = self.reading.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || view.scan(position, None, READ_BYTES_MAX))
        });
        let read = reading.await;
        self.reading = None;
        let scan = read.map_err(|_| ReadError::Closed)?.map_err(Arc::new)?;
        if let Some(error) = &scan.unreadable {
            let now = clock::monotonic();
            let since = *self.mending_since.get_or_insert(now);
            if error.is_damage() && now.saturating_duration_since(since) < MENDING_MAX {
                // It was reported; once it is mended, what can be read of it is there again.
                tokio::time::sleep(MENDING_LOOKED_AT_EVERY).await;
                return Ok(());
            }
            tracing::warn!("{}: a segment that cannot be read is missed: {error}", self.name);
        }
        self.mending_since = None;
        if scan.blocks.is_empty() {
            self.passed_over += scan.next.offset.saturating_sub(self.position);
            self.position = scan.next.offset.max(self.position);
        }
        self.ahead.extend(scan.blocks.into_iter().map(Arc::new));
        Ok(())
    }
}
