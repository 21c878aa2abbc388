//! The source of a replay's lane: hands out what a [`Feed`] finds, at a pace, and knows when all of
//! it is settled.
//!
//! ```text
//!        released        position      look_at
//!  ─────────┼───────────────┼─────────────┼──────▶ offsets
//!   settled │  held: given  │ ready       │ not looked at
//! ```
//! The cursor lives in memory: a connection that breaks goes on from `released`, and a gateway that
//! stops ends the replay. When the feed has ended and nothing is held any more, it says so by
//! `done`, which ends the lane.
//!
//! Limits: one look ahead of what is given, and the offsets of what is in flight. Crash story: what
//! was acknowledged and not yet told to the feed stays with the feed, and would be sent again by
//! another replay.

use std::{
    collections::{BTreeSet, VecDeque},
    future::pending,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    super::{delivery::carried::Control, source::Source},
    feed::{Feed, Look},
    pace::Pace,
    picked::Picked,
    progress::Counts,
};
use crate::{
    clock,
    store::{NewLetter, ReadError, Record, StoreIds},
};

/// A replay's events, as a lane reads them.
pub struct ReplaySource<F> {
    feed: Arc<F>,
    ids: StoreIds,
    counts: Arc<Counts>,
    pace: Option<Pace>,
    released: u64,
    position: u64,
    look_at: u64,
    ended: bool,
    looking: Option<JoinHandle<Result<Look, ReadError>>>,
    ready: VecDeque<Arc<Picked>>,
    /// Offsets that were given and not released, rising.
    held: VecDeque<u64>,
    /// Which of those became dead letters.
    refused: Mutex<BTreeSet<u64>>,
    /// Released and acknowledged, and the feed was not told.
    unreported: Vec<u64>,
    reporting: Option<JoinHandle<Result<usize, ReadError>>>,
    /// What lies before this was counted.
    counted_to: u64,
    complete: bool,
    done: CancellationToken,
}

impl<F: Feed> ReplaySource<F> {
    /// At the beginning of `feed`; cancels `done` when all of it is settled.
    pub fn new(
        feed: F,
        ids: StoreIds,
        counts: Arc<Counts>,
        pace: Option<Pace>,
        done: CancellationToken,
    ) -> Self {
        counts.total_bytes.store(feed.total_bytes(), Relaxed);
        let begin = feed.begin();
        Self {
            feed: Arc::new(feed),
            ids,
            counts,
            pace,
            released: begin,
            position: begin,
            look_at: begin,
            ended: false,
            looking: None,
            ready: VecDeque::new(),
            held: VecDeque::new(),
            refused: Mutex::default(),
            unreported: Vec::new(),
            reporting: None,
            counted_to: begin,
            complete: false,
            done,
        }
    }

    /// Looks for the first event. False if there is none: then the replay is complete.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn has_any(&mut self) -> Result<bool, ReadError> {
        while self.ready.is_empty() && !self.ended {
            self.look().await?;
        }
        self.complete = self.ready.is_empty();
        Ok(!self.complete)
    }

    /// Tells the feed the last of what was acknowledged. Says whether everything is settled.
    ///
    /// # Errors
    /// [`ReadError`]: the feed keeps what it was not told.
    pub async fn finish(&mut self) -> Result<bool, ReadError> {
        self.report().await?;
        Ok(self.complete)
    }

    async fn look(&mut self) -> Result<(), ReadError> {
        let (feed, at) = (&self.feed, self.look_at);
        let block_events_max = self.pace.as_ref().map_or(u64::MAX, Pace::block_events_max);
        let looking = self.looking.get_or_insert_with(|| {
            let feed = feed.clone();
            tokio::task::spawn_blocking(move || feed.look(at, block_events_max))
        });
        let look = looking.await;
        self.looking = None;
        let look = look.map_err(|_| ReadError::Closed)??;
        self.count(at, &look);
        self.look_at = look.next;
        self.ended = look.ended;
        self.ready.extend(look.picked.into_iter().map(Arc::new));
        Ok(())
    }

    /// Counts what was not counted before: after a reconnect the same is looked at again.
    fn count(&mut self, at: u64, look: &Look) {
        let from = self.counted_to;
        let events = look.picked.iter().map(|picked| picked.events_from(from)).sum();
        self.counts.matched_events.fetch_add(events, Relaxed);
        if at >= from {
            self.counts.unreadable_segments.fetch_add(u64::from(look.unreadable), Relaxed);
            self.counts.gone_records.fetch_add(look.gone_records, Relaxed);
        }
        if let Some(bytes) = look.scanned_bytes {
            self.counts.scanned_bytes.fetch_max(bytes, Relaxed);
        }
        self.counted_to = from.max(look.next);
    }

    /// Tells the feed what was acknowledged. Cancel-safe.
    async fn report(&mut self) -> Result<(), ReadError> {
        while !self.unreported.is_empty() {
            let (feed, unreported) = (&self.feed, &self.unreported);
            let reporting = self.reporting.get_or_insert_with(|| {
                let (feed, offsets) = (feed.clone(), unreported.clone());
                tokio::task::spawn_blocking(move || feed.acknowledged(&offsets).map(|()| offsets.len()))
            });
            let reported = reporting.await;
            self.reporting = None;
            let reported = reported.map_err(|_| ReadError::Closed)??;
            self.unreported.drain(..reported);
        }
        Ok(())
    }

    fn give(&mut self, picked: Arc<Picked>) -> Arc<Picked> {
        if let Some(pace) = &mut self.pace {
            pace.took(picked.events(), clock::monotonic());
        }
        self.counts.sent_events.fetch_add(picked.events(), Relaxed);
        self.held.extend(picked.offsets());
        self.position = picked.end();
        picked
    }
}

impl<F: Feed> Source for ReplaySource<F> {
    type Block = Picked;

    fn released(&self) -> u64 {
        self.released
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn seek(&mut self, offset: u64) {
        if offset == self.position {
            return;
        }
        (self.position, self.look_at, self.ended, self.looking) = (offset, offset, false, None);
        self.ready.clear();
        self.held.clear();
        // What is given again may be taken this time.
        self.refused.lock().clear();
    }

    async fn next(&mut self) -> Result<Arc<Picked>, ReadError> {
        loop {
            self.report().await?;
            if self.ready.is_empty() && self.ended {
                if self.held.is_empty() {
                    self.complete = true;
                    self.done.cancel();
                }
                // The lane asks again after each release.
                return pending().await;
            }
            if self.ready.is_empty() {
                self.look().await?;
                continue;
            }
            if let Some(at) = self.pace.as_ref().and_then(Pace::next_at) {
                tokio::time::sleep_until(at.into()).await;
            }
            if let Some(picked) = self.ready.pop_front() {
                return Ok(self.give(picked));
            }
        }
    }

    fn records_from(block: &Picked, offset: u64) -> impl Iterator<Item = (u64, Record<'_>)> + Send {
        block.records_from(offset)
    }

    fn end(block: &Picked) -> u64 {
        block.end()
    }

    async fn controls(&self, offset: u64) -> Vec<Control> {
        let feed = self.feed.clone();
        tokio::task::spawn_blocking(move || feed.controls(offset)).await.unwrap_or_default()
    }

    fn release(&mut self, offset: u64) {
        while let Some(settled) = self.held.pop_front_if(|held| *held < offset) {
            let refused = self.refused.get_mut().remove(&settled);
            if F::WANTS_ACKS && !refused {
                self.unreported.push(settled);
            }
        }
        self.released = offset;
    }

    async fn put_dead_letters(&self, letters: Arc<Vec<NewLetter>>) -> Result<(), ReadError> {
        let (feed, to_keep) = (self.feed.clone(), letters.clone());
        let keep = move || feed.put_dead_letters(&to_keep, clock::wall_ms());
        tokio::task::spawn_blocking(keep).await.map_err(|_| ReadError::Closed)??;
        self.refused.lock().extend(letters.iter().map(|letter| letter.offset));
        Ok(())
    }

    fn ids(&self) -> &StoreIds {
        &self.ids
    }
}
