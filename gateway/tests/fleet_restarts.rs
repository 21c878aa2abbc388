//! A gateway that is killed again and again knows of its devices what one knows that was never
//! killed: sheets, lists, kinds.
//!
//! Two stores get the same records. One is killed at random places between records and saves,
//! everything in it is delivered, and nothing is retained, so that only the fleet's hold keeps what
//! is not saved. `TEST_SEED` chooses one round.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the other tests use the rest")]
mod fleet_world;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fleet_world::{LIMIT, Random, seeds, until};
use tidegate::{
    catalog::Catalog,
    clock::{self, Now},
    fleet::{self, DeviceSheet, Fleet},
    store::{Batch, Committer, Kind, OsFolder, Reader, Record, Settings, Store},
};
use tidegate_protocol::{
    Birth, FrameWriter, Kinds, ResetReason, State, Status,
    events::{ALL, LOSS_KIND, Loss, LossReason},
    schema_set,
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

const ROUNDS: u64 = 12;
/// At a time: most of a round is waiting for the disk.
const THREADS: u64 = 12;
const DEVICES: i64 = 5;
const UPLINK: &str = "cloud";
/// A store that is soon full.
const MAX_BYTES: u64 = 4 << 20;
/// Longer than the store waits between two looks for what may be deleted.
const STEP: Duration = Duration::from_secs(6);
/// Two looks at the clocks find the same time, but for their rounding.
const TIMES_OFF_MS_MAX: u64 = 50;

/// A store with all that follows it, whose commits are made by hand.
struct Life {
    store: Store,
    committer: Committer,
    fleet: Fleet,
    catalog: Catalog,
    stop: CancellationToken,
    /// `None` once it was stopped.
    following: Option<JoinHandle<()>>,
    reader: Option<Reader>,
    now: Now,
}

fn settings(folder: &Path) -> Settings {
    Settings { segment_bytes: 2048, ..Settings::new(folder) }
}

impl Life {
    fn open(folder: &Path, uplinks: &[String]) -> Self {
        Self::open_with(settings(folder), uplinks)
    }

    fn open_with(settings: Settings, uplinks: &[String]) -> Self {
        let (disk, now) = (Arc::new(OsFolder::new(settings.data_dir.clone())), clock::now());
        let (store, committer) = Store::open_stepwise(disk, settings, uplinks, now).unwrap();
        let (view, catalog) = (store.view(), Catalog::default());
        let fleet = Fleet::open(&view, &catalog, &clock::reading()).unwrap();
        let (position, begin) = (*fleet.position().borrow(), view.begin().unwrap().offset);
        assert!(begin <= position, "the log begins at {begin}, and what is saved ends at {position}");
        let stop = CancellationToken::new();
        let following = fleet::run(fleet.clone(), catalog.clone(), store.outbox(), view, stop.clone());
        let following = Some(tokio::spawn(following));
        let reader = store.reader(UPLINK);
        Self { store, committer, fleet, catalog, stop, following, reader, now }
    }

    /// Makes records durable, delivers all that is stored, and deletes what may be deleted.
    async fn append(&mut self, records: &[(String, Kind, Vec<u8>)], received_ms: u64) {
        assert!(self.try_append(records, received_ms).await, "the store is full");
    }

    /// The same; false where the store takes nothing more.
    async fn try_append(&mut self, records: &[(String, Kind, Vec<u8>)], received_ms: u64) -> bool {
        let mut batch = Batch::default();
        for (topic, kind, payload) in records {
            batch.push(&record(topic, *kind, payload, received_ms));
        }
        if self.store.intake().append(&mut batch).is_err() {
            self.step();
            return false;
        }
        self.step();
        let end = self.store.view().end().offset;
        while let Some(reader) = &mut self.reader
            && reader.position() < end
        {
            let block = timeout(LIMIT, reader.next()).await.unwrap().unwrap();
            reader.release(block.end());
        }
        self.step();
        true
    }

    fn step(&mut self) {
        self.now.at += STEP;
        self.committer.step(self.now);
    }

    async fn caught_up(&self) {
        let (end, mut position) = (self.store.view().end().offset, self.fleet.position());
        timeout(LIMIT, position.wait_for(|position| *position >= end)).await.expect("it follows").unwrap();
    }

    /// Waits until something more is saved.
    async fn saved(&self) {
        let view = self.store.view();
        let saved = || view.load_fleet().unwrap().map_or(0, |kept| kept.position);
        let before = saved();
        until("a save", || saved() > before).await;
    }

    /// Stops following, and saves.
    async fn stop_following(&mut self) {
        self.stop.cancel();
        if let Some(following) = self.following.take() {
            timeout(LIMIT, following).await.unwrap().unwrap();
        }
    }

    async fn kill(self) {
        self.store.cut_power();
        drop((self.committer, self.reader));
        if let Some(following) = self.following {
            following.abort();
            let _ = following.await;
        }
        self.store.crash();
    }
}

fn record<'a>(topic: &'a str, kind: Kind, payload: &'a [u8], received_ms: u64) -> Record<'a> {
    Record { kind, events: 1, qos: 1, received_ms, client: "c", topic, payload, ..Record::default() }
}

/// A device that sends this and that.
struct Sender {
    name: String,
    boot: u32,
    connection: u32,
    uptime_ms: u64,
    seq: u32,
    schema_set: u32,
    /// The numbers that it lost and has not told.
    untold: Option<(u32, u32)>,
}

impl Sender {
    fn new(number: i64) -> Self {
        let name = format!("d{number}");
        Self { name, boot: 1, connection: 0, uptime_ms: 0, seq: 0, schema_set: 0, untold: None }
    }

    fn next(
        &mut self,
        random: &mut Random,
        announced: &mut BTreeSet<(String, u32)>,
    ) -> (String, Kind, Vec<u8>) {
        self.uptime_ms += random.between(1, 2_000) as u64;
        let mut out = vec![0; 4096];
        let (leaf, kind, payload) = match random.between(0, 9) {
            0 => ("b", Kind::Opaque, self.birth(random, announced, &mut out)),
            1 => ("s", Kind::Opaque, self.status(random, &mut out)),
            _ => ("e", Kind::Frame, self.frame(random, &mut out)),
        };
        (format!("tg/{}/{leaf}", self.name), kind, payload)
    }

    fn birth(
        &mut self,
        random: &mut Random,
        announced: &mut BTreeSet<(String, u32)>,
        out: &mut [u8],
    ) -> Vec<u8> {
        self.connection += 1;
        if random.one_in(3) {
            (self.boot, self.connection, self.uptime_ms, self.seq) = (self.boot + 1, 1, 1, 0);
            self.untold = None;
        }
        let mut kinds = vec![ALL[0].kind];
        kinds.extend(ALL[1..].iter().filter(|_| random.one_in(2)).map(|listed| listed.kind));
        self.schema_set = schema_set(&kinds);
        announced.insert((self.name.clone(), self.schema_set));
        let birth = Birth {
            boot: self.boot,
            connection: self.connection,
            uptime_ms: self.uptime_ms,
            wall_ms: None,
            reset: ResetReason::Watchdog,
            firmware: "barn",
            version: "1",
            build: "a",
            kinds: Kinds::new(&kinds),
        };
        birth.write(out).unwrap().to_vec()
    }

    fn status(&mut self, random: &mut Random, out: &mut [u8]) -> Vec<u8> {
        let states = [State::Online, State::Sleeping, State::Stopping, State::Offline];
        let status = Status {
            boot: self.boot,
            connection: self.connection,
            state: states[random.between(0, 3) as usize],
            uptime_ms: self.uptime_ms,
            wall_ms: None,
            next_contact_s: random.one_in(2).then_some(3_600),
            battery_percent: random.one_in(2).then_some(random.between(0, 100) as u8),
            signal_dbm: None,
        };
        status.write(out).unwrap().to_vec()
    }

    fn frame(&mut self, random: &mut Random, out: &mut [u8]) -> Vec<u8> {
        if random.one_in(4) {
            let lost = random.between(1, 30) as u32;
            self.untold = random.one_in(2).then_some((self.seq, lost));
            self.seq += lost;
        }
        let mut writer = FrameWriter::new(out, self.boot, self.seq, self.schema_set, false);
        for _ in 0..random.between(1, 9) {
            match self.untold.take() {
                Some((first_seq, count)) => {
                    let loss = Loss { first_seq, count, reason: LossReason::QueueFull };
                    writer.push_event(self.uptime_ms, LOSS_KIND, &loss).unwrap();
                }
                None => {
                    writer.push(self.uptime_ms, 1, &[1]).unwrap();
                }
            }
            self.seq += 1;
        }
        writer.finish().to_vec()
    }
}

/// The sheet without its times, and these: two gateways look at the clocks at different times.
fn sheet(life: &Life, device: &str) -> (DeviceSheet, Vec<Option<u64>>) {
    let mut sheet =
        life.fleet.show(device, &clock::reading()).unwrap_or_else(|| panic!("{device} is not known"));
    let mut times = vec![sheet.item.last_seen_ms.take(), sheet.item.next_contact_ms.take()];
    for boot in &mut sheet.latest_boots {
        times.extend([boot.first_ms.take(), boot.last_ms.take()]);
    }
    (sheet, times)
}

/// Holds what the one knows against what the other does.
async fn compare(killed: &Life, unharmed: &Life, announced: &BTreeSet<(String, u32)>) {
    killed.caught_up().await;
    unharmed.caught_up().await;
    let names = |life: &Life| {
        let items = life.fleet.list(&clock::reading()).items;
        items.into_iter().map(|item| item.device).collect::<Vec<_>>()
    };
    assert_eq!(names(killed), names(unharmed));
    for device in names(unharmed) {
        let ((found, times), (expected, expected_times)) = (sheet(killed, &device), sheet(unharmed, &device));
        assert_eq!(found, expected, "{device}");
        for (found, expected) in times.iter().zip(&expected_times) {
            let is_same = match (found, expected) {
                (Some(found), Some(expected)) => found.abs_diff(*expected) <= TIMES_OFF_MS_MAX,
                (found, expected) => found == expected,
            };
            assert!(is_same, "{device}: {times:?}, and {expected_times:?}");
        }
    }
    for (device, schema_set) in announced {
        let kinds = |life: &Life| {
            let kinds = life.catalog.kinds(device, *schema_set)?;
            Some(kinds.all().iter().map(|kind| kind.hash).collect::<Vec<_>>())
        };
        assert_eq!(kinds(killed), kinds(unharmed), "{device}: its kinds {schema_set:08x}");
    }
}

/// What rounds came to.
#[derive(Debug, Default)]
struct Figures {
    kills: AtomicU64,
    records: AtomicU64,
    deleted: AtomicU64,
    /// Records that were followed again after kills.
    again: AtomicU64,
}

async fn round(seed: u64, figures: &Figures) {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut random, mut announced) = (Random(seed), BTreeSet::new());
    let mut senders: Vec<_> = (0..DEVICES).map(Sender::new).collect();
    let mut unharmed = Life::open(other.path(), &[]);
    for _ in 0..random.between(3, 6) {
        let mut life = Life::open(folder.path(), &[UPLINK.into()]);
        let again = life.store.view().end().offset - *life.fleet.position().borrow();
        figures.again.fetch_add(again, Ordering::Relaxed);
        compare(&life, &unharmed, &announced).await;
        // Nothing, a save by the clock, or a stop that saves: before records that are not saved.
        let saves_at = random.between(0, 6);
        let way = random.between(0, 5);
        for at in 0..random.between(1, 8) {
            let records: Vec<_> = (0..random.between(1, 12))
                .map(|_| senders[random.between(0, DEVICES - 1) as usize].next(&mut random, &mut announced))
                .collect();
            figures.records.fetch_add(records.len() as u64, Ordering::Relaxed);
            let received_ms = clock::wall_ms();
            life.append(&records, received_ms).await;
            unharmed.append(&records, received_ms).await;
            for _ in 0..random.between(0, 4) {
                tokio::task::yield_now().await;
            }
            match way {
                0 if at == saves_at => life.saved().await,
                1 | 2 if at == saves_at => life.stop_following().await,
                3 if at == saves_at => life.following.iter().for_each(JoinHandle::abort),
                _ => {}
            }
        }
        figures
            .deleted
            .fetch_add(u64::from(life.store.view().begin().unwrap().offset > 0), Ordering::Relaxed);
        figures.kills.fetch_add(1, Ordering::Relaxed);
        life.kill().await;
    }
    let life = Life::open(folder.path(), &[UPLINK.into()]);
    compare(&life, &unharmed, &announced).await;
    life.kill().await;
    unharmed.kill().await;
}

#[test]
fn a_fleet_that_is_killed_again_and_again_knows_what_one_knows_that_never_was() {
    let (seeds, figures) = (seeds(ROUNDS), Figures::default());
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                        runtime.unwrap().block_on(round(seed, &figures));
                    }));
                    assert!(outcome.is_ok(), "TEST_SEED={seed} does it again");
                }
            });
        }
    });
    println!("{figures:?}");
    if seeds.end - seeds.start > 1 {
        let least =
            [&figures.kills, &figures.deleted, &figures.again].map(|figure| figure.load(Ordering::Relaxed));
        assert!(least.iter().all(|figure| *figure > 20), "it did not test much: {figures:?}");
    }
}

#[tokio::test]
async fn the_log_keeps_what_lies_behind_the_saved_position_although_all_of_it_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let (mut random, mut announced) = (Random(1), BTreeSet::new());
    let mut sender = Sender::new(0);
    let mut records =
        |count| -> Vec<_> { (0..count).map(|_| sender.next(&mut random, &mut announced)).collect() };
    let mut life = Life::open(folder.path(), &[UPLINK.into()]);
    life.append(&records(100), clock::wall_ms()).await;
    life.caught_up().await;
    life.stop_following().await;
    let saved = *life.fleet.position().borrow();
    for _ in 0..10 {
        life.append(&records(100), clock::wall_ms()).await;
    }
    let begin = life.store.view().begin().unwrap().offset;
    assert!(0 < begin && begin <= saved, "what is saved goes, what is not stays: {begin}, {saved}");
    assert_eq!(life.store.status().backlogs[0].events, 0);
    life.kill().await;

    let mut life = Life::open(folder.path(), &[UPLINK.into()]);
    assert_eq!(*life.fleet.position().borrow(), saved);
    life.caught_up().await;
    life.stop_following().await;
    life.append(&records(1), clock::wall_ms()).await;
    let begin = life.store.view().begin().unwrap().offset;
    assert!(begin > saved, "once it is saved, it goes: {begin}, {saved}");
    life.kill().await;
}

#[tokio::test]
async fn a_file_that_can_be_neither_read_nor_written_stops_nothing_and_keeps_nothing_that_is_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.redb");
    // A link that leads to itself.
    std::os::unix::fs::symlink(&file, &file).unwrap();
    let (mut random, mut announced) = (Random(1), BTreeSet::new());
    let mut sender = Sender::new(0);
    let mut life =
        Life::open_with(Settings { max_bytes: MAX_BYTES, ..settings(folder.path()) }, &[UPLINK.into()]);
    let first = life.store.view().begin().unwrap().offset;
    let until_deleted = async {
        while life.store.view().begin().unwrap().offset == first {
            let records: Vec<_> = (0..10).map(|_| sender.next(&mut random, &mut announced)).collect();
            // What is refused is tried again: until room is made.
            while !life.try_append(&records, clock::wall_ms()).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    timeout(LIMIT, until_deleted).await.expect("what is delivered is deleted when the room is needed");
    assert!(file.is_symlink(), "it is what it was");
    life.kill().await;
}
