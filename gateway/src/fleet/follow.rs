//! The fleet at work: follows the log, watches the clocks, saves, and asks devices for births that
//! are missing. One task.
//!
//! ```text
//!   select: stop │ a save ended │ a block of the log │ every second: clocks, asking, saving
//! ```
//! It waits for nobody, and only what needs its times waits for it. A crash loses nothing: the log
//! behind the saved position is followed again, and the store keeps it until then.
//!
//! A save that fails is tried again. Where the store needs the room of what is held for it
//! meanwhile, it lets go of what it has followed: a crash then costs figures, and no events.
//!
//! Limits: what changed is saved after [`SAVE_AFTER_TICKS`] seconds, and within a second where
//! kinds were announced, the clock was set, or the store needs the room; one save at a time. A
//! device is asked for the birth of one fingerprint once in [`ASK_AGAIN_MS`], [`ASKS_PER_TICK_MAX`]
//! devices a second, and none while half of all commands that may wait do.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use metrics::{counter, gauge};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    Applied, Fleet, Reused, Sent,
    commands::reply::{self, Reply},
    saved::{self, Save},
};
use crate::{
    catalog::{self, BadBirth, Catalog, Clash, Doubt, Hash, Row},
    clock::{
        self,
        journal::{LOOK_EVERY_MS, Seen},
    },
    store::{
        Block, Checkpointed, FLEET, NewCommand, NewId, Outbox, PENDING_MAX, ReadError, StoreError, View,
    },
    telemetry,
};

/// Seconds after which what changed is saved: fewer writes wear the card less, and the log has it
/// until then.
const SAVE_AFTER_TICKS: u32 = 30;
/// Records behind the saved position after which it is saved: what a start follows again at most.
const SAVE_AFTER_RECORDS: u64 = 1_000_000;
/// Seconds between two counts of all devices.
const COUNT_EVERY_TICKS: u32 = 5;
/// Pause after the log could not be read.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A device is asked again after so long, in milliseconds; the command that asks waits as long for
/// it.
const ASK_AGAIN_MS: i64 = 600_000;
/// Devices asked in a second.
const ASKS_PER_TICK_MAX: usize = 20;
/// Devices that wait to be asked; what comes beyond is asked when its next frame comes.
const ASKS_MAX: usize = 20_000;
/// What a device is asked with.
const ASK: &[u8] = b"birth";
/// Who asks.
const ORIGIN: &str = "fleet";

/// Follows the log until `stop`, and saves then.
pub async fn run(fleet: Fleet, catalog: Catalog, outbox: Outbox, view: View, stop: CancellationToken) {
    let log = view.consume(FLEET, *fleet.position().borrow());
    let mut task = FollowerTask {
        log,
        fleet,
        catalog,
        outbox,
        view,
        rows: Vec::new(),
        saving: None,
        ticks: 0,
        count_ticks: 0,
        asks: Asks::default(),
        asking: None,
        noting: None,
    };
    task.fleet.shared.position.send_replace(task.log.position());
    task.run(&stop).await;
    task.finish().await;
}

struct FollowerTask {
    fleet: Fleet,
    catalog: Catalog,
    outbox: Outbox,
    view: View,
    log: Checkpointed,
    /// The catalog's rows that are not saved.
    rows: Vec<Row>,
    saving: Option<Saving>,
    ticks: u32,
    count_ticks: u32,
    asks: Asks,
    asking: Option<JoinHandle<()>>,
    /// Replies are being noted with their commands.
    noting: Option<JoinHandle<()>>,
}

/// A save that is under way.
struct Saving {
    save: Arc<Save>,
    /// Of the catalog's rows, how many are in it.
    rows: usize,
}

/// Which devices are to be asked for which fingerprint, and when they were.
#[derive(Default)]
struct Asks {
    waiting: VecDeque<(Box<str>, u32)>,
    /// Time since the boot in milliseconds; those that wait as well.
    asked: HashMap<(Box<str>, u32), i64>,
}

impl FollowerTask {
    async fn run(&mut self, stop: &CancellationToken) {
        let mut ticks = interval(Duration::from_millis(LOOK_EVERY_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                result = self.log.saves.ended() => self.saved(result),
                _ = ticks.tick() => self.tick(),
                block = self.log.follower.next() => match block {
                    Ok(block) => self.apply(&block).await,
                    Err(ReadError::Closed) => return stop.cancelled().await,
                    Err(error) => {
                        tracing::error!("the devices cannot be followed: {error}; trying on");
                        tokio::time::sleep(READ_AGAIN_AFTER).await;
                    }
                },
            }
        }
    }

    async fn apply(&mut self, block: &Block) {
        let replies = self.learn(block);
        // What waits for the position need not wait for a disk.
        self.fleet.shared.position.send_replace(self.log.position());
        if !replies.is_empty() {
            self.replies_noted().await;
            self.noting = Some(reply::note(&self.outbox, replies));
        }
    }

    /// Waits until the replies that were found are noted.
    async fn replies_noted(&mut self) {
        if let Some(noting) = &mut self.noting {
            let _ = noting.await;
            self.noting = None;
        }
    }

    /// Takes in what the block says of devices. Gives the replies in it that may be to a command.
    fn learn(&mut self, block: &Block) -> Vec<Reply> {
        let from = *self.fleet.shared.position.borrow();
        let (replies_from, mut replies, mut is_expected) = (self.fleet.shared.replies_from, vec![], None);
        let boot_ms = clock::reading().boot_ms;
        let mut state = self.fleet.shared.state.lock();
        for (offset, record) in block.records_from(from) {
            match state.apply(offset, &record) {
                Applied::Nothing => {}
                Applied::Birth { device, birth } => {
                    report_learned(device, self.catalog.learn(device, &birth));
                }
                Applied::Frame { device, schema_set, boot, reused } => {
                    if self.catalog.kinds(device, schema_set).is_none() {
                        self.asks.want(device, schema_set, boot_ms);
                    }
                    report_reused(device, boot, reused);
                }
                Applied::Reply { device } => {
                    let mut is_expected =
                        || *is_expected.get_or_insert_with(|| reply::is_expected(&self.outbox));
                    if offset >= replies_from && is_expected() {
                        replies.push(Reply::of(device, &record));
                    }
                }
                Applied::Malformed { device, sent, why, times, is_reported } => {
                    counter!(telemetry::DEVICE_FAULTS, "sent" => sent.as_str()).increment(1);
                    if is_reported {
                        report_malformed(device, sent, &why, times);
                    }
                }
            }
        }
        replies
    }

    fn tick(&mut self) {
        let (reading, end) = (clock::reading(), self.view.end().offset);
        let mut state = self.fleet.shared.state.lock();
        if let Seen::Step(ms) = state.look(&reading, end) {
            tracing::info!("the gateway's clock was set by {ms} ms: times of what is stored follow it");
        }
        let is_journal_changed = state.is_journal_changed();
        drop(state);
        self.rows.extend(self.catalog.take_unsaved());
        self.ask(reading);
        self.ticks += 1;
        self.count_ticks += 1;
        if self.count_ticks >= COUNT_EVERY_TICKS {
            self.count_ticks = 0;
            self.count(&reading);
        }
        let behind = self.log.unsaved_records();
        let is_urgent = is_journal_changed || !self.rows.is_empty() || self.log.saves.is_hold_in_the_way();
        let is_due = behind > 0 && (self.ticks >= SAVE_AFTER_TICKS || behind >= SAVE_AFTER_RECORDS);
        if is_urgent || is_due {
            self.save();
        }
    }

    /// Begins a save, unless one is under way, or replies are not yet noted that lie before it:
    /// then the next tick begins it.
    fn save(&mut self) {
        if self.saving.is_some() || self.noting.as_ref().is_some_and(|noting| !noting.is_finished()) {
            return;
        }
        self.ticks = 0;
        self.rows.extend(self.catalog.take_unsaved());
        let save = Arc::new(saved::gather(
            &mut self.fleet.shared.state.lock(),
            &self.rows,
            self.fleet.shared.replies_from,
        ));
        {
            let save = save.clone();
            self.log.begin_save(move |view, position| view.save_fleet(&save.changes, position));
        }
        self.saving = Some(Saving { save, rows: self.rows.len() });
    }

    fn saved(&mut self, result: Result<(), StoreError>) {
        let Some(Saving { save, rows }) = self.saving.take() else { return };
        // The blocking task has ended, and with it the other holder.
        let Some(save) = Arc::into_inner(save) else { return };
        match result {
            Ok(()) => drop(self.rows.drain(..rows)),
            Err(_) => save.give_back(&mut self.fleet.shared.state.lock()),
        }
    }

    /// The last save.
    async fn finish(&mut self) {
        self.replies_noted().await;
        if self.saving.is_some() {
            let result = self.log.saves.ended().await;
            self.saved(result);
        }
        self.save();
        let result = self.log.saves.ended().await;
        self.saved(result);
    }

    /// Asks some of those that wait for it, off this task: a command is written to the disk.
    fn ask(&mut self, reading: clock::Reading) {
        let is_busy = self.asking.as_ref().is_some_and(|asking| !asking.is_finished());
        if is_busy || self.outbox.pending_count() >= PENDING_MAX / 2 {
            return;
        }
        let catalog = &self.catalog;
        let asked = self.asks.take(reading.boot_ms, |device, set| catalog.kinds(device, set).is_none());
        if asked.is_empty() {
            return;
        }
        let (outbox, now_ms) = (self.outbox.clone(), reading.wall_ms as u64);
        self.asking = Some(tokio::task::spawn_blocking(move || {
            for (device, schema_set) in asked {
                let command = NewCommand {
                    device: &device,
                    id: NewId::Made,
                    payload: ASK,
                    content_type: None,
                    expires_ms: Some(now_ms + ASK_AGAIN_MS as u64),
                    origin: ORIGIN,
                };
                match outbox.put(&command, now_ms) {
                    Ok(_) => {
                        tracing::info!(%device, "its kinds {schema_set:08x} are not known: asked for its birth")
                    }
                    Err(error) => tracing::warn!(%device, "it cannot be asked for its birth: {error}"),
                }
            }
        }));
    }

    fn count(&self, reading: &clock::Reading) {
        let totals = self.fleet.shared.state.lock().totals(reading);
        gauge!(telemetry::DEVICES).set(totals.devices as f64);
        gauge!(telemetry::DEVICES_ONLINE).set(totals.online as f64);
        gauge!(telemetry::DEVICE_LOST_EVENTS).set(totals.lost as f64);
        gauge!(telemetry::DEVICE_MISSING_EVENTS).set(totals.missing as f64);
        gauge!(telemetry::DEVICE_LATE_EVENTS).set(totals.late as f64);
        counter!(telemetry::UNTRACKED_RECORDS).absolute(totals.untracked);
    }
}

impl Asks {
    /// Frames of a device came that nothing explains.
    fn want(&mut self, device: &str, schema_set: u32, boot_ms: i64) {
        if self.asked.len() >= ASKS_MAX {
            self.asked.retain(|_, at| boot_ms - *at < ASK_AGAIN_MS);
        }
        let key = (Box::from(device), schema_set);
        let is_new = self.asked.get(&key).is_none_or(|at| boot_ms - at >= ASK_AGAIN_MS);
        if is_new && self.asked.len() < ASKS_MAX && self.waiting.len() < ASKS_MAX {
            self.asked.insert(key.clone(), boot_ms);
            self.waiting.push_back(key);
        }
    }

    /// Those to be asked now: still unknown by what `is_unknown` says.
    fn take(&mut self, boot_ms: i64, is_unknown: impl Fn(&str, u32) -> bool) -> Vec<(Box<str>, u32)> {
        let mut taken = Vec::new();
        while taken.len() < ASKS_PER_TICK_MAX
            && let Some(key) = self.waiting.pop_front()
        {
            if is_unknown(&key.0, key.1) {
                self.asked.insert(key.clone(), boot_ms);
                taken.push(key);
            }
        }
        taken
    }
}

/// Each is new once, and there is a limit to definitions: so there is one to these lines.
fn report_learned(device: &str, learned: Result<Vec<Doubt>, BadBirth>) {
    let shown = |hash: &Hash| catalog::short(hash).map(char::from).collect::<String>();
    let doubts = match learned {
        Ok(doubts) => doubts,
        Err(error) => {
            return tracing::warn!(device, "what a device announces of its events is not taken: {error}");
        }
    };
    for doubt in doubts {
        match doubt {
            Doubt::Clash(Clash { new, known }) => tracing::warn!(
                device,
                "it announces {} with another definition ({}) than was known by this name and version ({}): whoever goes by them reads the events of one of the two wrong; give the new one another version (\"tidegate schemas list\" has both, and each event names its own in \"definition\")",
                new.title(),
                shown(&new.hash),
                shown(&known.hash),
            ),
            Doubt::Unit(finding) => tracing::warn!(
                device,
                "it announces {}: {}; its events are taken, and whoever reads the unit may misread the numbers (\"tidegate schemas lint\" finds this before a device is flashed)",
                finding.place,
                finding.text,
            ),
        }
    }
}

/// Says it the 1st, 2nd, 4th, 8th time.
fn report_reused(device: &str, boot: u32, reused: Reused) {
    if reused.events > 0 {
        counter!(telemetry::REUSED_IDENTITIES).increment(reused.events.into());
    }
    if reused.times.is_power_of_two() {
        tracing::warn!(
            device,
            boot,
            times = reused.times,
            "the numbers of its events begin again under the same boot number, so that two events have one id: both are kept, and the later ones are marked in formats that describe events; the device has to store its boot number and to raise it at every start (docs/wire-format.md, \"Identity\")"
        );
    }
}

fn report_malformed(device: &str, sent: Sent, why: &str, times: u64) {
    tracing::warn!(
        device,
        times,
        "a {} cannot be read: {why}; it goes on as it came, and \"tidegate devices show\" has it",
        sent.as_str()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_asked_once_in_ten_minutes_for_each_fingerprint_and_not_if_it_told_meanwhile() {
        let mut asks = Asks::default();
        for _ in 0..3 {
            asks.want("barn", 1, 0);
            asks.want("barn", 2, 0);
            asks.want("stall", 1, 0);
        }
        let asked = asks.take(5, |device, set| (device, set) != ("barn", 2));
        assert_eq!(asked, [("barn".into(), 1), ("stall".into(), 1)]);
        asks.want("barn", 1, ASK_AGAIN_MS);
        assert!(asks.take(ASK_AGAIN_MS, |_, _| true).is_empty());
        asks.want("barn", 1, ASK_AGAIN_MS + 5);
        assert_eq!(asks.take(ASK_AGAIN_MS + 5, |_, _| true).len(), 1);
        for device in 0..100 {
            asks.want(&format!("d{device}"), 1, 0);
        }
        assert_eq!(asks.take(0, |_, _| true).len(), ASKS_PER_TICK_MAX);
    }
}
