//! `retain` counts from the delivery, whatever the wall clock does: a store whose commits and
//! clocks are made by hand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate::{
    clock::{self, Journal, Now, Reading, journal::MachineBoot},
    store::{Batch, Committer, FLEET, OsFolder, Reader, Record, Settings, Store},
};

const UPLINK: &str = "cloud";
const RECORDS: u64 = 100;
const HOUR_MS: i64 = 3_600_000;
const RETAIN: Duration = Duration::from_secs(24 * 3600);
/// 2026-11-29, what the wall clock says once it is set.
const TRUE_MS: i64 = 1_795_910_400_000;
const LIMIT: Duration = Duration::from_secs(20);
/// Longer than the store waits between two looks for what may be deleted.
const STEP: Duration = Duration::from_secs(6);

/// A gateway's store and its clocks.
struct House {
    store: Store,
    committer: Committer,
    reader: Option<Reader>,
    at: Instant,
    boot_ms: i64,
    /// What the wall clock is ahead of the time since the boot.
    ahead_ms: i64,
}

impl House {
    fn open(folder: &Path, journal: Vec<(u32, MachineBoot)>, boot_ms: i64, ahead_ms: i64) -> Self {
        let settings = Settings { segment_bytes: 2048, retain: RETAIN, ..Settings::new(folder) };
        let (disk, now) = (Arc::new(OsFolder::new(folder.to_owned())), clock::now());
        let (store, committer) = Store::open_stepwise(disk, settings, &[UPLINK.to_owned()], now).unwrap();
        let reader = store.reader(UPLINK);
        let mut house = Self { store, committer, reader, at: now.at, boot_ms, ahead_ms };
        let end = house.store.view().end().offset;
        house.store.view().timeline().begin(Journal::of(journal), &house.reading(), end);
        house.store.view().hold(FLEET, end);
        house.step();
        house
    }

    fn reading(&self) -> Reading {
        Reading { boot_id: [1; 16], boot_ms: self.boot_ms, wall_ms: self.boot_ms + self.ahead_ms }
    }

    fn step(&mut self) {
        self.at += STEP;
        let view = self.store.view();
        view.timeline().look(&self.reading(), view.end().offset);
        let wall_ms = self.reading().wall_ms as u64;
        self.committer.step(Now { at: self.at, wall_ms, steady_ms: self.boot_ms as u64 });
        view.hold(FLEET, view.end().offset);
    }

    fn pass(&mut self, ms: i64) {
        self.boot_ms += ms;
        (0..3).for_each(|_| self.step());
    }

    fn append(&mut self, number: u64) {
        let mut batch = Batch::default();
        batch.push(&Record {
            events: 1,
            qos: 1,
            received_ms: self.reading().wall_ms as u64,
            client: "c",
            topic: "t",
            payload: &[number as u8; 100],
            ..Record::default()
        });
        self.store.intake().append(&mut batch).unwrap();
        self.step();
    }

    /// The uplink delivers all there is.
    async fn deliver(&mut self) {
        let (end, mut reader) = (self.store.view().end().offset, self.reader.take().unwrap());
        while reader.position() < end {
            let block = tokio::time::timeout(LIMIT, reader.next()).await.unwrap().unwrap();
            reader.release(block.end());
        }
        self.reader = Some(reader);
        (0..3).for_each(|_| self.step());
    }

    /// How many records a replay finds.
    fn replayed(&self) -> u64 {
        let (view, mut found, mut at) = (self.store.view(), 0, 0);
        while at < view.end().offset {
            let scan = view.scan(at, None, 1 << 20).unwrap();
            found += scan.blocks.iter().map(|block| block.records_from(at).count() as u64).sum::<u64>();
            at = scan.next.offset;
        }
        found
    }

    /// Stops; `is_kept` says whether the fleet's last save was made.
    fn close(self, is_kept: bool) -> Vec<(u32, MachineBoot)> {
        let view = self.store.view();
        if is_kept {
            view.save_fleet(&[], view.end().offset).unwrap();
        }
        let journal = view.timeline().journal().boots().cloned().collect();
        drop(self.reader);
        self.committer.finish(Now { at: self.at, wall_ms: 0, steady_ms: 0 });
        self.store.close();
        journal
    }
}

/// All of it waits out an outage of three days, in which the clock is set.
async fn delivered_after_an_outage(folder: &Path) -> House {
    let mut house = House::open(folder, Vec::new(), 5_000, 0);
    for number in 0..RECORDS {
        house.append(number);
        house.boot_ms += 72 * HOUR_MS / RECORDS as i64;
        if number == RECORDS / 2 {
            house.ahead_ms = TRUE_MS;
            house.step();
        }
    }
    house.deliver().await;
    house
}

#[tokio::test]
async fn what_waited_out_an_outage_is_kept_from_its_delivery_on_for_as_long_as_retain_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = delivered_after_an_outage(folder.path()).await;
    assert_eq!(house.replayed(), RECORDS, "just delivered");
    house.pass(24 * HOUR_MS - 60_000);
    assert_eq!(house.replayed(), RECORDS, "a minute before its time is over");
    house.ahead_ms += 365 * 24 * HOUR_MS;
    house.pass(0);
    house.ahead_ms = 0;
    house.pass(0);
    assert_eq!(house.replayed(), RECORDS, "the clock was set, forth and back");
    house.pass(60_000);
    assert!(house.replayed() < RECORDS / 10, "only the segment that is written is left");
}

#[tokio::test]
async fn a_restart_neither_begins_the_time_anew_nor_cuts_it_short() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = delivered_after_an_outage(folder.path()).await;
    house.pass(12 * HOUR_MS);
    let (boot_ms, ahead_ms) = (house.boot_ms, house.ahead_ms);
    let journal = house.close(true);
    let mut house = House::open(folder.path(), journal, boot_ms + 6 * HOUR_MS, ahead_ms);
    house.pass(6 * HOUR_MS - 60_000);
    assert_eq!(house.replayed(), RECORDS);
    house.pass(60_000);
    assert!(house.replayed() < RECORDS / 5, "it was begun anew");
}

#[tokio::test]
async fn what_a_crash_forgets_of_a_delivery_keeps_events_for_longer() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = delivered_after_an_outage(folder.path()).await;
    house.pass(12 * HOUR_MS);
    let (boot_ms, ahead_ms) = (house.boot_ms, house.ahead_ms);
    house.close(false);
    // With the journal the machine's boots are forgotten as well.
    let mut house = House::open(folder.path(), Vec::new(), boot_ms, ahead_ms);
    house.pass(24 * HOUR_MS - 60_000);
    assert_eq!(house.replayed(), RECORDS);
    house.pass(120_000);
    assert!(house.replayed() < RECORDS / 5);
}

#[tokio::test]
async fn a_delivery_noted_by_a_journal_that_is_lost_is_taken_for_one_of_now_at_the_latest() {
    let folder = tempfile::tempdir().unwrap();
    let house = delivered_after_an_outage(folder.path()).await;
    let ahead_ms = house.ahead_ms + house.boot_ms;
    house.close(true);
    // The machine was booted anew: by its axis the deliveries lie three days ahead.
    let mut house = House::open(folder.path(), Vec::new(), 5_000, ahead_ms);
    house.pass(24 * HOUR_MS - 60_000);
    assert_eq!(house.replayed(), RECORDS);
    house.pass(120_000);
    assert!(house.replayed() < RECORDS / 5, "it is kept until the new axis reaches the old one");
}
