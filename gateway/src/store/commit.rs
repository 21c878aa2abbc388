//! The commit thread: takes what the intake holds, makes it durable in one transaction, and says so.
//!
//! ```text
//!  intake ──take──▶ judge ──▶ rows ──▶ one redb commit ──▶ tail, watermark ──▶ readers, PUBACKs
//!                  (duplicates out)        (one sync)
//! ```
//! Whatever arrives while a sync runs goes into the next commit. Cursors ride along in a commit that is made
//! anyway, at most once in [`CURSORS_SAVED_EVERY`]; without traffic they are saved alone, more seldom.
//!
//! Crash story: what is not committed was never acknowledged; what is committed is found again; what a
//! cursor moved past since it was last saved is sent again. A failed commit ends the thread: nothing is
//! acknowledged from then on, and a sync is never tried again, for the kernel may have dropped the pages.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate_protocol::{FrameHead, Topic};

use super::{
    Settings,
    error::StoreError,
    intake::{Chunk, Intake, Op, Taken},
    log::{Log, Mark},
    pace::Pacer,
    pending::Pending,
    record::{Kind, Record},
    row::{Block, HEAD_BYTES, Records, RowHead},
    seen::{FrameName, Seen},
    segment::{Beginning, Segment},
};
use crate::{clock, telemetry};

/// Cursors are saved with a commit that is made anyway if the last time is longer ago than this.
pub const CURSORS_SAVED_EVERY: Duration = Duration::from_secs(1);
/// Cursors are saved alone if there was no commit for this long.
pub const CURSORS_SAVED_ALONE_AFTER: Duration = Duration::from_secs(5);
/// How often the thread looks around when nothing arrives.
const TICK: Duration = Duration::from_secs(1);
/// How often segments are looked through for ones to delete.
const DELETE_EVERY: Duration = Duration::from_secs(5);

/// The commit thread's own state.
pub struct Committer {
    log: Arc<Log>,
    intake: Intake,
    settings: Settings,
    active: Arc<Segment>,
    seen: Seen,
    pacer: Pacer,
    end: Mark,
    /// Bytes of rows in the active segment.
    segment_bytes: u64,
    saved_cursors: Vec<(String, u64)>,
    saved_at: Instant,
    deleted_at: Instant,
    newest_ms: u64,
    counted_written_bytes: u64,
}

/// Where the active segment stands when the thread starts.
#[derive(Debug)]
pub struct Start {
    /// The active segment.
    pub active: Arc<Segment>,
    /// Bytes of rows in it.
    pub segment_bytes: u64,
    /// Received time of its last row, milliseconds since 1970.
    pub newest_ms: u64,
    /// Frames stored.
    pub seen: Seen,
    /// The cursors that it holds.
    pub saved_cursors: Vec<(String, u64)>,
}

impl Committer {
    /// Goes on where `start` says.
    pub fn new(log: Arc<Log>, intake: Intake, settings: Settings, start: Start) -> Self {
        let now = clock::monotonic();
        Self {
            pacer: Pacer::new(settings.wear_budget_bytes_per_day, settings.linger_max, now),
            end: log.totals(),
            log,
            intake,
            settings,
            active: start.active,
            seen: start.seen,
            segment_bytes: start.segment_bytes,
            saved_cursors: start.saved_cursors,
            saved_at: now,
            deleted_at: now,
            newest_ms: start.newest_ms,
            counted_written_bytes: 0,
        }
    }

    /// Runs until the intake is closed and empty, or a commit fails.
    pub fn run(mut self) {
        let outcome = self.work();
        if let Err(error) = outcome {
            tracing::error!(%error, "the store failed: nothing is acknowledged from now on");
            self.log.fail(error.to_string());
        }
        self.intake.end();
    }

    fn work(&mut self) -> Result<(), StoreError> {
        let intake = self.intake.clone();
        while let Some(taken) = intake.take(clock::monotonic() + TICK, |now| self.pacer.linger(now)) {
            if taken.is_empty() {
                self.save_cursors(CURSORS_SAVED_ALONE_AFTER)?;
            } else {
                self.commit(taken)?;
            }
            self.count_written();
            if self.segment_bytes >= self.settings.segment_bytes {
                self.rotate()?;
            }
            self.delete_done();
        }
        self.save_cursors(Duration::ZERO)
    }

    fn commit(&mut self, taken: Taken) -> Result<(), StoreError> {
        let end_ticket = taken.end_ticket;
        let events_before = self.end.events;
        let mut changes = Vec::new();
        let blocks = self.blocks(taken, &mut changes);
        let cursors = self.cursors_to_save(CURSORS_SAVED_EVERY);
        if !blocks.is_empty() || !changes.is_empty() {
            let commit = self.active.begin_commit()?;
            commit.rows(blocks.iter().map(|block| (block.first(), block.row())))?;
            if !changes.is_empty() {
                commit.pending(&changes)?;
            }
            if let Some(cursors) = &cursors {
                commit.cursors(cursors)?;
            }
            fail::fail_point!("store-before-commit", |_| std::process::abort());
            commit.finish()?;
            fail::fail_point!("store-after-commit", |_| std::process::abort());
            if let Some(cursors) = cursors {
                self.saved(cursors);
            }
            metrics::counter!(telemetry::COMMITS).increment(1);
        }
        let bytes: usize = blocks.iter().map(|block| block.row().len()).sum();
        self.segment_bytes += bytes as u64;
        metrics::counter!(telemetry::STORED_EVENTS).increment(self.end.events - events_before);
        metrics::counter!(telemetry::STORED_BYTES).increment(bytes as u64);
        if let Some(last) = blocks.last() {
            self.newest_ms = last.head().base_ms;
        }
        self.log.extend(blocks, self.end);
        self.intake.committed(end_ticket);
        Ok(())
    }

    /// Judges what was taken, and makes rows of what is new. `changes` gets the pending ids to store.
    fn blocks(&mut self, taken: Taken, changes: &mut Vec<(Box<str>, u16, bool)>) -> Vec<Arc<Block>> {
        let intake = self.intake.clone();
        let mut judge =
            Judge { pending: &mut intake.pending(), seen: &mut self.seen, ops: taken.ops, changes };
        let mut blocks = Vec::with_capacity(taken.chunks.len());
        for mut chunk in taken.chunks {
            judge.judge(&mut chunk);
            if chunk.records == 0 {
                continue;
            }
            let head = RowHead {
                records: chunk.records,
                events: chunk.events,
                base_ms: chunk.base_ms,
                events_before: self.end.events,
                bytes_before: self.end.bytes,
            };
            head.seal(&mut chunk.row);
            if chunk.row.len() < chunk.row.capacity() / 2 {
                chunk.row.shrink_to_fit();
            }
            let first = self.end.offset;
            self.end.offset += u64::from(chunk.records);
            self.end.events += u64::from(chunk.events);
            self.end.bytes += (chunk.row.len() - HEAD_BYTES) as u64;
            blocks.push(Arc::new(Block::sealed(first, head, chunk.row)));
        }
        judge.finish();
        blocks
    }

    /// The cursors, if they moved and were last saved longer ago than `age`.
    fn cursors_to_save(&self, age: Duration) -> Option<Vec<(String, u64)>> {
        if clock::monotonic().saturating_duration_since(self.saved_at) < age {
            return None;
        }
        let cursors = self.log.cursor_offsets();
        (cursors != self.saved_cursors).then_some(cursors)
    }

    fn saved(&mut self, cursors: Vec<(String, u64)>) {
        self.saved_cursors = cursors;
        self.saved_at = clock::monotonic();
    }

    fn save_cursors(&mut self, age: Duration) -> Result<(), StoreError> {
        let Some(cursors) = self.cursors_to_save(age) else { return Ok(()) };
        let commit = self.active.begin_commit()?;
        commit.cursors(&cursors)?;
        commit.finish()?;
        metrics::counter!(telemetry::COMMITS).increment(1);
        self.saved(cursors);
        Ok(())
    }

    /// Goes on in a new segment.
    fn rotate(&mut self) -> Result<(), StoreError> {
        let cursors = self.log.cursor_offsets();
        let active = Segment::create(
            &self.log.files,
            &Beginning {
                store: self.log.store,
                first: self.end.offset,
                events_before: self.end.events,
                bytes_before: self.end.bytes,
                cursors: cursors.clone(),
                pending: &self.intake.pending(),
                seen: self.seen.snapshot(),
            },
        )?;
        self.active = Arc::new(active);
        self.log.segments.seal(self.newest_ms, self.end.offset, self.active.clone());
        self.segment_bytes = 0;
        self.saved(cursors);
        Ok(())
    }

    /// Deletes what every uplink has delivered and nobody wants to see again. By the saved cursors: a crash
    /// must find what comes after them.
    fn delete_done(&mut self) {
        let now = clock::monotonic();
        if now.saturating_duration_since(self.deleted_at) < DELETE_EVERY {
            return;
        }
        self.deleted_at = now;
        let Some(delivered) = self.saved_cursors.iter().map(|(_, offset)| *offset).min() else { return };
        if let Err(error) = self.log.segments.delete_done(delivered, self.settings.retain, clock::wall_ms()) {
            tracing::warn!(%error, "could not delete a segment that is done with: tried again later");
        }
    }

    fn count_written(&mut self) {
        let written = self.log.files.plug().written_bytes();
        let new = written - self.counted_written_bytes;
        self.counted_written_bytes = written;
        self.pacer.spend(new);
        metrics::counter!(telemetry::WRITTEN_BYTES).increment(new);
    }
}

/// Says of each record whether it is new, and carries out the QoS 2 steps in the order of their tickets.
struct Judge<'a> {
    pending: &'a mut Pending,
    seen: &'a mut Seen,
    ops: VecDeque<(u64, Op)>,
    changes: &'a mut Vec<(Box<str>, u16, bool)>,
}

impl Judge<'_> {
    /// Takes the records out of `chunk` that are stored already.
    fn judge(&mut self, chunk: &mut Chunk) {
        self.release_before(chunk.first_ticket);
        let end = chunk.first_ticket + u64::from(chunk.records);
        if chunk.frames == 0 && self.ops.front().is_none_or(|(ticket, _)| *ticket >= end) {
            return;
        }
        let (mut copies, mut copied_events) = (0, 0);
        let mut kept: Vec<Range<usize>> = Vec::new();
        let mut records = Records::of(&chunk.row, chunk.first_ticket, chunk.base_ms);
        while let Some(Ok((ticket, record, place))) = records.read_next() {
            if !self.is_new(ticket, &record) {
                copies += 1;
                copied_events += u32::from(record.events);
            } else if let Some(last) = kept.last_mut().filter(|last| last.end == place.start) {
                last.end = place.end;
            } else {
                kept.push(place);
            }
        }
        if copies == 0 {
            return;
        }
        chunk.records -= copies;
        chunk.events -= copied_events;
        metrics::counter!(telemetry::DUPLICATE_EVENTS).increment(copied_events.into());
        let mut end = HEAD_BYTES;
        for place in kept {
            let bytes = place.len();
            chunk.row.copy_within(place, end);
            end += bytes;
        }
        chunk.row.truncate(end);
    }

    /// Carries out what came after the last record.
    fn finish(mut self) {
        self.release_before(u64::MAX);
    }

    fn is_new(&mut self, ticket: u64, record: &Record<'_>) -> bool {
        if let Some((at, Op::Receive { packet_id, .. })) = self.ops.front()
            && *at == ticket
        {
            let packet_id = *packet_id;
            self.ops.pop_front();
            if !self.pending.add(record.client, packet_id) {
                return false;
            }
            self.changes.push((record.client.into(), packet_id, true));
        }
        record.kind != Kind::Frame || frame_of(record).is_none_or(|frame| !self.seen.is_copy(frame))
    }

    /// Carries out the steps without a record whose ticket is below `ticket`.
    fn release_before(&mut self, ticket: u64) {
        while let Some((_, op)) = self.ops.pop_front_if(|(at, _)| *at < ticket) {
            match op {
                Op::Release { client, packet_id } => {
                    if self.pending.release(&client, packet_id) {
                        self.changes.push((client, packet_id, false));
                    }
                }
                Op::Forget { client } => {
                    let forgotten = self.pending.forget(&client);
                    self.changes.extend(forgotten.map(|packet_id| (client.clone(), packet_id, false)));
                }
                Op::Receive { .. } => debug_assert!(false, "a QoS 2 record lies in a chunk"),
            }
        }
    }
}

/// What a frame's record names.
pub fn frame_of<'a>(record: &Record<'a>) -> Option<FrameName<'a>> {
    let device = Topic::parse(record.topic).ok()?.device;
    let (head, _) = FrameHead::parse(record.payload).ok()?;
    Some(FrameName {
        device: device.as_str(),
        boot: head.boot,
        first_seq: head.first_seq,
        count: head.count,
        crc: crc32fast::hash(record.payload),
    })
}
