//! The commit thread: takes what the intake holds, makes it durable in one transaction, and says
//! so.
//!
//! ```text
//!  intake ──take──▶ judge ──▶ rows ──▶ journal or redb ──▶ tail, watermark ──▶ readers, PUBACKs
//!                  (copies out)   │       (one sync)
//!                                 └─ failed: the very same rows begin another file, later
//!  readers ──fault──▶ repair ──▶ gap record, salvage        quota ──▶ reclaim ──▶ delete, drop, gap record
//! ```
//! Whatever arrives while a sync runs goes into the next commit. Cursors ride along in a commit
//! that is made anyway, at most once in [`CURSORS_SAVED_EVERY`]; without traffic they are saved
//! alone, more seldom.
//!
//! Everything happens in [`Committer::step`], which waits for nothing and reads no clock: the
//! thread is a loop around it, and a test drives it by itself.
//!
//! Crash story: what is not committed was never acknowledged; what is committed is found again;
//! what a cursor moved past since it was last saved is sent again. A failed commit or sync is never
//! tried again on the file that it failed on, for the kernel may have dropped the pages: see
//! `write.rs`.

mod drop;
mod journaling;
mod judge;
mod reclaim;
mod repair;
mod room;
pub mod seen;
mod write;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use journaling::Unfolded;
use judge::Judge;
pub use judge::frame_of;
pub use write::CarriedSegment;
use write::{Stuck, Write};

use self::seen::Seen;
use super::{
    intake::{Intake, pace::Pacer, taken::Taken},
    journal::{self, Replay},
    log::Log,
    record::{
        epochs::Epochs,
        pending,
        position::LogPosition,
        row::{Block, HEAD_BYTES, RowHead},
    },
    segment::Segment,
    settings::Settings,
};
use crate::{
    clock::{self, Now},
    telemetry,
};

/// Cursors are saved with a commit that is made anyway if the last time is longer ago than this.
pub const CURSORS_SAVED_EVERY: Duration = Duration::from_secs(1);
/// Cursors are saved alone if there was no commit for this long.
pub const CURSORS_SAVED_ALONE_AFTER: Duration = Duration::from_secs(5);
/// How often the thread looks around when nothing arrives.
const TICK: Duration = Duration::from_secs(1);
/// How often it is looked for segments to delete.
const DELETE_EVERY: Duration = Duration::from_secs(5);

/// The commit thread's own state.
#[derive(Debug)]
pub struct Committer {
    log: Arc<Log>,
    intake: Intake,
    settings: Settings,
    /// The segment that is written; `None` until the first write, and after a failed one.
    active: Option<Arc<Segment>>,
    /// The last segment of the run before, if it is small: this run's first one takes its rows and
    /// its place.
    carried: Option<CarriedSegment>,
    /// As in [`Start`].
    jumped_to: Option<u64>,
    seen: Seen,
    pacer: Pacer,
    /// Behind all that was judged: what is committed, unless a write is stuck.
    end: LogPosition,
    /// Bytes of rows in the active segment.
    segment_bytes: u64,
    /// What is in the journal and in no segment.
    unfolded: Unfolded,
    saved_cursors: Vec<(String, u64)>,
    saved_at: Instant,
    looked_for_done_at: Instant,
    counted_written_bytes: u64,
    stuck: Option<Stuck>,
    /// Bytes of rows at which a segment is sealed, as the room is.
    segment_bytes_max: u64,
    /// There is a mark of what is delivered, for want of room for the cursors.
    is_marked: bool,
    /// QoS 2 ids that were forgotten for want of room.
    evicted_ids: u64,
    /// Bytes of files that are no segments, as of the last look.
    other_bytes: u64,
    /// What all files take and may take, as of the last look.
    room: room::Room,
    told_of_letters_at: Option<Instant>,
    /// Told in a durable gap record, which their own file does not know yet.
    letters_told: Option<write::LostLetters>,
    /// Nothing is left that the policy for a full store may drop.
    nothing_to_drop: bool,
    told_of_linger: bool,
}

/// How a run begins.
#[derive(Debug)]
pub struct Start {
    /// A new store's first segment.
    pub active: Option<Arc<Segment>>,
    /// The last segment of the run before, if it is small.
    pub carried: Option<CarriedSegment>,
    /// Offsets went on here behind a damaged last segment: nobody can tell how many events lie
    /// before.
    pub jumped_to: Option<u64>,
    /// There is a mark of what is delivered.
    pub is_marked: bool,
    /// Frames stored.
    pub seen: Seen,
    /// The log's end as far as it is in segments.
    pub segments_end: LogPosition,
    /// What the last segment notes of the journal.
    pub epochs: Epochs,
    /// What is in the journal alone.
    pub replay: Replay,
    /// The cursors as they are stored.
    pub saved_cursors: Vec<(String, u64)>,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There was nothing to commit.
    Idle,
    /// Something was committed.
    Committed,
    /// Writing fails; it is tried again at this time, and nothing is taken until then.
    Stuck(Instant),
}

impl Committer {
    /// Goes on where `start` says.
    pub(super) fn new(log: Arc<Log>, intake: Intake, settings: Settings, start: Start, now: Now) -> Self {
        log.meter.begin(&settings, now.at);
        let mut committer = Self {
            pacer: Pacer::new(settings.wear_budget_bytes_per_day, settings.linger_max, now.at),
            end: log.totals(),
            log,
            intake,
            active: start.active,
            carried: start.carried,
            jumped_to: start.jumped_to,
            seen: start.seen,
            segment_bytes: 0,
            unfolded: Unfolded::new(start.segments_end, start.epochs, &start.replay, now.at),
            saved_cursors: start.saved_cursors,
            saved_at: now.at,
            looked_for_done_at: now.at,
            counted_written_bytes: 0,
            stuck: None,
            segment_bytes_max: settings.segment_bytes,
            is_marked: start.is_marked,
            evicted_ids: 0,
            other_bytes: 0,
            room: room::Room::default(),
            told_of_letters_at: None,
            letters_told: None,
            nothing_to_drop: false,
            told_of_linger: false,
            settings,
        };
        committer.remove_spent_journal();
        committer.look_at_other_files();
        committer.take_stock(committer.room());
        committer
    }

    /// Runs until the intake is closed and empty.
    pub fn run(mut self) {
        loop {
            let is_open = match &self.stuck {
                // What is delivered or deleted meanwhile makes room at once.
                Some(stuck) => self.intake.pause(stuck.again_at.min(clock::monotonic() + TICK)),
                None => {
                    let intake = self.intake.clone();
                    intake.wait(clock::monotonic() + TICK, |now| self.pacer.linger(now))
                }
            };
            let step = self.step(clock::now());
            if !is_open && step != Step::Committed {
                break;
            }
        }
        self.finish(clock::now());
    }

    /// Does what there is to do: repairs, commits what the intake holds, saves cursors, makes room.
    /// Waits for nothing.
    pub fn step(&mut self, now: Now) -> Step {
        if !self.unstick(now) {
            return self.is_stuck();
        }
        self.repair(now);
        self.fold_old(now);
        self.tell_of_dead_letters(now);
        self.make_room(self.intake.waiting_bytes() as u64, now);
        // Each of these writes, and one write waits at the most.
        if self.stuck.is_some() {
            return self.is_stuck();
        }
        let taken = self.intake.take();
        let is_idle = taken.is_empty();
        if is_idle {
            if self.is_folder_there() {
                self.save_cursors(CURSORS_SAVED_ALONE_AFTER, now);
            } else {
                // It fails as the next commit would, and says so before there is one.
                self.write(Write { cursors: true, ..Write::default() }, now);
            }
        } else {
            self.commit(taken, now);
        }
        self.count_written(now);
        self.tidy(now);
        match &self.stuck {
            Some(_) => self.is_stuck(),
            None if is_idle => Step::Idle,
            None => Step::Committed,
        }
    }

    /// Puts all of it into a segment, saves the cursors and ends the intake: the last thing to do.
    pub fn finish(mut self, now: Now) {
        self.close_journal(now);
        if self.stuck.is_none() {
            self.save_cursors(Duration::ZERO, now);
        }
        self.intake.end();
    }

    fn is_stuck(&self) -> Step {
        self.stuck.as_ref().map_or(Step::Idle, |stuck| Step::Stuck(stuck.again_at))
    }

    fn commit(&mut self, taken: Taken, now: Now) {
        let end_ticket = taken.end_ticket;
        let (blocks, changed) = self.blocks(taken);
        if blocks.is_empty() && changed.is_empty() {
            // All of it is stored already, or refused.
            self.intake.committed(end_ticket);
            self.save_cursors(CURSORS_SAVED_ALONE_AFTER, now);
            return;
        }
        let cursors = self.cursors_are_due(CURSORS_SAVED_EVERY, now);
        let end_ticket = Some(end_ticket);
        self.write(Write { blocks, changed, end_ticket, cursors, ..Write::default() }, now);
    }

    /// Judges what was taken, and makes rows of what is new; gives these, and the clients whose
    /// pending ids are to be stored.
    fn blocks(&mut self, taken: Taken) -> (Vec<Arc<Block>>, BTreeSet<Box<str>>) {
        let (intake, mut changed) = (self.intake.clone(), BTreeSet::new());
        let mut pending = intake.pending();
        let mut judge =
            Judge { pending: &mut pending, seen: &mut self.seen, ops: taken.ops, changed: &mut changed };
        let mut blocks = Vec::with_capacity(taken.chunks.len());
        for mut chunk in taken.chunks {
            judge.judge(&mut chunk);
            if chunk.records == 0 {
                continue;
            }
            if chunk.row.len() < chunk.row.capacity() / 2 {
                chunk.row.shrink_to_fit();
            }
            blocks.push(seal(&mut self.end, chunk.records, chunk.events, chunk.base_ms, chunk.row));
        }
        judge.finish();
        let segment_bytes = self.head_segment_bytes();
        let evicted = pending.evict(room::pending_bytes_max(segment_bytes));
        drop(pending);
        self.seen.keep_within(room::seen_frames_max(segment_bytes));
        self.report_evicted(&evicted);
        changed.extend(evicted.into_iter().map(|(client, _)| client));
        (blocks, changed)
    }

    /// Counts the QoS 2 ids that are forgotten, and says so the first time and whenever there are
    /// twice as many.
    fn report_evicted(&mut self, evicted: &pending::Evicted) {
        let ids: u64 = evicted.iter().map(|(_, ids)| *ids as u64).sum();
        let Some((client, _)) = evicted.last() else { return };
        let before = self.evicted_ids;
        self.evicted_ids += ids;
        metrics::counter!(telemetry::FORGOTTEN_IDS).increment(ids);
        if before.checked_ilog2() != self.evicted_ids.checked_ilog2() {
            tracing::warn!(
                ids = self.evicted_ids, %client,
                "QoS 2 packet ids of clients away longest are forgotten, for all of them take the room that is for them: what these clients send again is stored again"
            );
        }
    }

    /// Whether the cursors moved and were last saved longer ago than `age`, or one waits to be
    /// forgotten.
    fn cursors_are_due(&self, age: Duration, now: Now) -> bool {
        self.log.is_forgetting()
            || now.at.saturating_duration_since(self.saved_at) >= age
                && self.log.cursor_offsets() != self.saved_cursors
    }

    /// Whether what is written next would be found again. The commits look by themselves.
    fn is_folder_there(&self) -> bool {
        let files = &self.log.files;
        let is_file_there = |active: &Arc<Segment>| files.check_written(active.name()).is_ok();
        let is_journal_there = !self.unfolded.has_journal() || files.check_written(journal::FILE).is_ok();
        files.check().is_ok() && is_journal_there && self.active.as_ref().is_none_or(is_file_there)
    }

    fn save_cursors(&mut self, age: Duration, now: Now) {
        if self.cursors_are_due(age, now) {
            self.write(Write { cursors: true, ..Write::default() }, now);
        }
    }

    fn count_written(&mut self, now: Now) {
        let written = self.log.files.power().written_bytes();
        let new = written - self.counted_written_bytes;
        self.counted_written_bytes = written;
        self.pacer.spend(new);
        metrics::counter!(telemetry::WRITTEN_BYTES).increment(new);
        let budget = self.pacer.look(now);
        self.log.meter.set_wear_budget(budget);
        let Some(budget) = budget else { return };
        metrics::gauge!(telemetry::LINGER_SECONDS).set(budget.linger.as_secs_f64());
        metrics::gauge!(telemetry::WEAR_BUDGET_LEFT_BYTES).set(budget.left_bytes as f64);
        if budget.linger > Duration::ZERO && !std::mem::replace(&mut self.told_of_linger, true) {
            tracing::warn!(
                bytes_per_day = budget.bytes_per_day,
                "more was written than [store] wear_budget gives: commits wait for company, [store] linger_max = {:?} at most, and acknowledgements with them (said once; \"tidegate status\" shows it)",
                self.settings.linger_max
            );
        }
    }
}

/// Makes a block of a row whose records are in place, at `end`, and moves that behind it.
fn seal(end: &mut LogPosition, records: u32, events: u32, base_ms: u64, mut row: Vec<u8>) -> Arc<Block> {
    let head = RowHead { records, events, base_ms, events_before: end.events, bytes_before: end.bytes };
    head.seal(&mut row);
    let first = end.offset;
    end.offset += u64::from(records);
    end.events += u64::from(events);
    end.bytes += (row.len() - HEAD_BYTES) as u64;
    end.received_ms = None;
    Arc::new(Block::sealed(first, head, row))
}
