//! The broker at work: follows the log, passes on, saves, and looks after what is over. One task
//! for all subscribers.
//!
//! ```text
//!   select: shutdown │ a save ended │ a block of the log │ a commit, while one is waited for │ a wake-up │ every second
//! ```
//! It waits for subscribers that read within the bounds of `patience`, and nobody waits for it:
//! where it is behind, the log holds what it has not seen. A crash loses what was passed on and not
//! yet delivered, and nothing else: the log behind the saved position is followed again. That is
//! done before the listeners open, so that nobody is taken for new, and no old message comes to who
//! is new.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{counter, gauge};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    Broker, StoreHandles, message::Message, patience::Patience, route::Routed, save::Save, turn::Turn,
};
use crate::{
    clock,
    store::{Block, Checkpointed, Intake, LOCAL_SUBSCRIBERS, ReadError, StoreError, View, Watermark},
    telemetry,
};

/// How often it looks after what is over.
const TICK: Duration = Duration::from_secs(1);
/// Ticks after which what changed is saved: fewer writes wear the card less, and the log has it
/// until then.
const SAVE_AFTER_TICKS: u32 = 5;
/// Ticks after which the position alone is saved.
const SAVE_POSITION_AFTER_TICKS: u32 = 60;
/// Records behind the saved position after which it is saved: what a start follows again at most.
const SAVE_POSITION_AFTER_RECORDS: u64 = 1_000_000;
/// Bytes put into queues that are kept after which it is saved: a start puts them there again, and
/// which of them were delivered meanwhile nobody knows. Twice that may come while a save is under
/// way. A save writes some 30 KB.
const SAVE_AFTER_BYTES: usize = 512 * 1024;
/// In a small store it is one part in so many of what all sessions may be owed.
const SAVE_AFTER_PART: usize = 4;
/// Pause after the log could not be read.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Longest wait at the end for the commit of what the last save depends on.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Distributes what the log has from `position` on until `shutdown`, and saves then.
pub(crate) async fn run(broker: Broker, ends: StoreHandles, position: u64, shutdown: CancellationToken) {
    let StoreHandles { intake, view, .. } = ends;
    let log = view.consume(LOCAL_SUBSCRIBERS, position);
    let mut task = FollowerTask {
        log,
        broker,
        view,
        watermark: intake.watermark(),
        intake,
        mark: None,
        patience: Patience::default(),
        saving: None,
        ticks: 0,
        passed_over: 0,
    };
    task.catch_up(&shutdown).await;
    task.run(&shutdown).await;
    task.finish().await;
}

struct FollowerTask {
    broker: Broker,
    view: View,
    intake: Intake,
    watermark: watch::Receiver<Watermark>,
    /// Not routed yet.
    mark: Option<LogPosition>,
    patience: Patience,
    log: Checkpointed,
    /// What is in the save that is under way.
    saving: Option<Save>,
    /// Since the last save.
    ticks: u32,
    passed_over: u64,
}

/// How far the log was at a time, by tickets and by offsets.
struct LogPosition {
    committed: u64,
    end: u64,
}

impl FollowerTask {
    /// Routes what the log holds since the last save, and lets the listeners open then: whoever
    /// connects finds its session, and gets nothing that was published before it subscribed.
    async fn catch_up(&mut self, shutdown: &CancellationToken) {
        let end = self.view.end().offset;
        self.broker.0.catches_up.store(true, Ordering::Relaxed);
        while self.log.position() < end {
            let from = self.log.position();
            let block = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                block = self.log.follower.next() => block,
            };
            match block {
                Ok(block) => self.route(&block, from).await,
                Err(error) => {
                    tracing::warn!("local subscribers get later what cannot be read now: {error}");
                    break;
                }
            }
        }
        self.broker.0.catches_up.store(false, Ordering::Relaxed);
        if self.broker.0.unsaved_bytes.load(Ordering::Relaxed) > 0 {
            // Or a gateway that dies again and again would follow ever more of it again.
            self.save();
        }
        self.forget_packet_ids();
        self.broker.0.is_open.send_replace(true);
    }

    async fn run(&mut self, shutdown: &CancellationToken) {
        let mut tick = interval(tick());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let from = self.log.position();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                ended = self.log.saves.ended() => self.saved(ended),
                _ = tick.tick() => {
                    self.tick();
                    self.note_routed();
                }
                () = self.broker.0.notify.notified() => self.woken(),
                // The sender is in the intake, which is here: this ends with a commit.
                _ = self.watermark.changed(), if self.broker.0.in_log.is_waiting() => self.note_routed(),
                block = self.log.follower.next() => match block {
                    Ok(block) => {
                        self.route(&block, from).await;
                        self.note_routed();
                        self.keep_up().await;
                        tokio::task::yield_now().await;
                    }
                    Err(ReadError::Closed) => return,
                    Err(error) => {
                        tracing::warn!("local subscribers wait: {error}");
                        tokio::time::sleep(READ_AGAIN_AFTER).await;
                    }
                },
            }
        }
    }

    async fn route(&mut self, block: &Block, from: u64) {
        let is_idle = self.broker.is_idle();
        if is_idle && !block.has_retained() {
            return;
        }
        let mut turn = Turn::default();
        // Looked at for the first message whose time is limited.
        let mut reading = None;
        for (offset, record) in block.records_from(from) {
            if record.retain || (!is_idle && self.broker.is_taken(record.topic)) {
                let received_ms = record.split_expiry().0.map_or(0, |_| {
                    let reading = reading.get_or_insert_with(clock::reading);
                    self.view.timeline().received_ms(offset, record.received_ms, reading)
                });
                let Routed { copies, reader } =
                    self.broker.route(&Arc::new(Message::of(&record, received_ms)));
                turn.took(copies).await;
                if let Some(reader) = reader {
                    self.patience.wait_for(&self.broker, &reader).await;
                }
            }
        }
    }

    /// Lets go of those who wait for what is routed by now.
    fn note_routed(&mut self) {
        let (position, in_log) = (self.log.position(), &self.broker.0.in_log);
        if let Some(mark) = self.mark.take_if(|mark| mark.end <= position) {
            in_log.note_routed(mark.committed);
        }
        if self.mark.is_none() && in_log.is_waiting() {
            // In this order: what is durable below it lies before the end.
            let committed = self.watermark.borrow_and_update().committed;
            let mark = LogPosition { committed, end: self.view.end().offset };
            if mark.end <= position {
                in_log.note_routed(committed);
            } else {
                self.mark = Some(mark);
            }
        }
    }

    /// What finds no room is tried again at the next tick.
    fn forget_packet_ids(&self) {
        let _ = self.broker.forget_packet_ids(&self.intake);
    }

    fn woken(&mut self) {
        self.forget_packet_ids();
        self.note_routed();
        if self.broker.is_save_urgent() {
            self.save();
        }
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.broker.note_off(self.view.timeline().journal().off_ms());
        self.broker.expire_sessions(now.steady_ms);
        self.forget_packet_ids();
        self.broker.publish_wills(now.steady_ms, |will| self.broker.publish_will(&self.intake, will, now));
        self.broker.expire_retained(now.steady_ms);
        self.count();
        self.broker.say_figures(now.steady_ms);
        self.ticks += 1;
        let behind = self.log.unsaved_records();
        let is_place_due = self.ticks >= SAVE_POSITION_AFTER_TICKS
            || behind >= SAVE_POSITION_AFTER_RECORDS
            || self.log.saves.is_hold_in_the_way();
        let is_due =
            (self.ticks >= SAVE_AFTER_TICKS && self.broker.has_unsaved()) || (behind > 0 && is_place_due);
        if is_due || self.broker.is_save_urgent() {
            self.save();
        }
    }

    /// Saves often enough for what a start routes again to stay small, and waits for the save
    /// before if need be.
    async fn keep_up(&mut self) {
        let after = SAVE_AFTER_BYTES.min(self.broker.queued_bytes_max() / SAVE_AFTER_PART);
        if self.broker.0.unsaved_bytes.load(Ordering::Relaxed) < after || self.log.saves.has_failed() {
            return;
        }
        if self.saving.is_some() {
            let result = self.log.saves.ended().await;
            self.saved(result);
        }
        self.save();
    }

    /// Begins a save, unless one is under way: what is urgent is saved after that.
    fn save(&mut self) {
        if self.saving.is_some() {
            return;
        }
        self.ticks = 0;
        let committed = self.intake.watermark().borrow().committed;
        let mut save = self.broker.gather(committed);
        let changes = std::mem::take(&mut save.changes);
        self.log.begin_save(move |view, position| view.save_sessions(changes, position));
        self.saving = Some(save);
    }

    fn saved(&mut self, result: Result<(), StoreError>) {
        let Some(save) = self.saving.take() else { return };
        match result {
            Ok(()) => {
                self.broker.note_saved(save);
                if self.broker.is_save_urgent() {
                    self.save();
                }
            }
            // The next one comes with a tick.
            Err(_) => self.broker.note_not_saved(),
        }
    }

    /// The last save.
    async fn finish(&mut self) {
        // A will that is published is not to be published again by the next start.
        let committed_at = self.broker.wills_durable_at();
        let mut watermark = self.intake.watermark();
        let durable = watermark.wait_for(|now| now.closed || now.committed >= committed_at);
        let _ = tokio::time::timeout(LAST_COMMIT_TIMEOUT, durable).await;
        for _ in 0..2 {
            if self.saving.is_some() {
                let result = self.log.saves.ended().await;
                self.saved(result);
            }
            let moved = self.log.unsaved_records() > 0;
            if self.saving.is_none() && (self.broker.has_unsaved() || moved) {
                self.save();
            }
        }
        if self.saving.is_some() {
            let result = self.log.saves.ended().await;
            self.saved(result);
        }
    }

    fn count(&mut self) {
        let counts = &self.broker.0.counts;
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let delivered = take(&counts.delivered);
        counter!(telemetry::LOCAL_DELIVERED).increment(delivered);
        let mut dropped = 0;
        counter!(telemetry::LOST_WILLS).increment(take(&counts.wills_lost));
        for (reason, count) in [
            ("queue-full", take(&counts.queue_full)),
            ("retained-full", take(&counts.retained_full)),
            ("too-large", take(&counts.too_large)),
            ("expired", take(&counts.expired)),
            ("denied", take(&counts.denied)),
            ("deleted", self.log.follower.passed_over() - self.passed_over),
        ] {
            if count > 0 {
                counter!(telemetry::LOCAL_DROPPED, "reason" => reason).increment(count);
                dropped += count;
            }
        }
        self.broker.0.traffic.delivered(delivered, dropped);
        self.passed_over = self.log.follower.passed_over();
        let sessions = self.broker.0.sessions.lock();
        let queued: usize = sessions.values().map(|mailbox| mailbox.state().outbound.queued()).sum();
        gauge!(telemetry::LOCAL_SESSIONS).set(sessions.len() as f64);
        gauge!(telemetry::LOCAL_QUEUED).set(queued as f64);
        drop(sessions);
        gauge!(telemetry::RETAINED_MESSAGES).set(self.broker.0.tree.read().retained.len() as f64);
    }
}

fn tick() -> Duration {
    fail::fail_point!("bus-tick", |ms| ms.and_then(|ms| ms.parse().ok()).map_or(TICK, Duration::from_millis));
    TICK
}
