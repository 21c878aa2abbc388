//! Records are found by when they were received in truth, whatever the wall clock said then: by a
//! replay's walk and by `store cat`, of a running store and of its files. A store whose commits and
//! clocks are made by hand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ops::Range,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate::{
    clock::{self, Journal, Now, Reading},
    store::{
        Batch, Committer, FleetChange, OsFolder, Record, Settings, Store, Times, View,
        inspect::{CatFilter, CatItem, CatLimits, Inspector},
    },
};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 3_600_000;
/// 2026-11-29.
const TRUE_MS: i64 = 1_795_910_400_000;
const STEP: Duration = Duration::from_secs(6);

/// Records in a row, a minute between any two.
struct Phase {
    records: u64,
    /// Which boot of the machine it is.
    boot: u8,
    /// What the wall clock is ahead of the time since the boot.
    ahead_ms: i64,
}

/// A gateway's store and its clocks.
struct House {
    store: Store,
    committer: Committer,
    at: Instant,
    reading: Reading,
    /// Machine boot and time since it, of each record.
    received: Vec<(u8, i64)>,
}

impl House {
    /// Goes through the phases, from the first record on.
    fn through(folder: &Path, phases: &[Phase]) -> Self {
        let settings = Settings { segment_bytes: 2048, ..Settings::new(folder) };
        let (disk, now) = (Arc::new(OsFolder::new(folder.to_owned())), clock::now());
        let (store, committer) = Store::open_stepwise(disk, settings, &["cloud".to_owned()], now).unwrap();
        let reading = Reading { boot_id: [0; 16], boot_ms: 0, wall_ms: 0 };
        let mut house = Self { store, committer, at: now.at, reading, received: Vec::new() };
        for phase in phases {
            house.enter(phase);
            (0..phase.records).for_each(|_| house.receive());
        }
        house
    }

    fn enter(&mut self, phase: &Phase) {
        let is_same_boot = self.reading.boot_id == [phase.boot; 16];
        let boot_ms = if is_same_boot { self.reading.boot_ms + 500 } else { 5_000 };
        self.reading = Reading { boot_id: [phase.boot; 16], boot_ms, wall_ms: boot_ms + phase.ahead_ms };
        self.look();
    }

    fn receive(&mut self) {
        let mut batch = Batch::default();
        batch.push(&Record {
            events: 1,
            qos: 1,
            received_ms: self.reading.wall_ms as u64,
            client: "c",
            topic: "t",
            payload: &[b'x'; 100],
            ..Record::default()
        });
        self.store.intake().append(&mut batch).unwrap();
        self.at += STEP;
        let wall_ms = self.reading.wall_ms as u64;
        self.committer.step(Now { at: self.at, wall_ms, steady_ms: self.reading.boot_ms as u64 });
        self.received.push((self.reading.boot_id[0], self.reading.boot_ms));
        self.reading.boot_ms += MINUTE_MS;
        self.reading.wall_ms += MINUTE_MS;
        self.look();
    }

    fn look(&self) {
        let (view, end) = (self.store.view(), self.received.len() as u64);
        match view.timeline().journal().current() {
            None => view.timeline().begin(Journal::default(), &self.reading, end),
            Some(_) => view.timeline().look(&self.reading, end),
        };
    }

    /// When each record was received, by what is known of each machine boot in the end.
    fn truth(&self, phases: &[Phase]) -> Vec<u64> {
        let ahead_ms = |boot| phases.iter().rev().find(|phase| phase.boot == boot).unwrap().ahead_ms;
        self.received.iter().map(|(boot, boot_ms)| (boot_ms + ahead_ms(*boot)) as u64).collect()
    }

    /// Stops, its clock's journal kept.
    fn close(self) {
        let view = self.store.view();
        let boots = view.timeline().journal();
        let rows =
            boots.boots().map(|boot| FleetChange::MachineBoot(boot.0, postcard::to_allocvec(boot).unwrap()));
        view.save_fleet(&rows.collect::<Vec<_>>(), view.end().offset).unwrap();
        self.committer.finish(Now { at: self.at, wall_ms: 0, steady_ms: 0 });
        self.store.close();
    }
}

/// What a replay takes, and how many records it read for that.
fn replayed(view: &View, range: &Range<u64>) -> (Vec<u64>, usize) {
    let times = Times::new(range.clone(), view.timeline().journal());
    let (mut found, mut read, mut at) = (Vec::new(), 0, 0);
    while at < view.end().offset {
        let scan = view.scan(at, Some(&times), 1 << 20).unwrap();
        for (offset, record) in scan.blocks.iter().flat_map(|block| block.records_from(at)) {
            read += 1;
            found.extend(times.contain(offset, record.received_ms).then_some(offset));
        }
        at = scan.next.offset;
    }
    (found, read)
}

fn shown(inspector: &Inspector, range: &Range<u64>) -> Vec<u64> {
    let filter = CatFilter { from_ms: Some(range.start), to_ms: Some(range.end), ..CatFilter::default() };
    let (limits, mut found) = (CatLimits { records: u64::MAX, bytes: u64::MAX }, Vec::new());
    let mut visit = |item: CatItem<'_>| match item {
        CatItem::Record(entry) => found.push(entry.offset),
        CatItem::Unreadable { why, .. } => panic!("{why}"),
    };
    assert_eq!(inspector.cat(&filter, limits, &mut visit).unwrap(), None);
    found
}

/// Ranges from one record's time up to another's, near and far, and some with nothing in them.
fn ranges(truth: &[u64]) -> Vec<Range<u64>> {
    let picked: Vec<u64> = truth.iter().step_by(31).copied().collect();
    let spans =
        picked.iter().flat_map(|from| [1, 20, 600].map(|minutes| *from..*from + minutes * MINUTE_MS as u64));
    spans.chain([0..1_000_000_000, TRUE_MS as u64..u64::MAX, 0..TRUE_MS as u64]).collect()
}

fn check(phases: &[Phase]) {
    let folder = tempfile::tempdir().unwrap();
    let house = House::through(folder.path(), phases);
    let truth = house.truth(phases);
    assert!(house.store.status().segments >= 5, "{}", house.store.status().segments);
    let expected = |range: &Range<u64>| -> Vec<u64> {
        (0..).zip(&truth).filter(|(_, ms)| range.contains(*ms)).map(|(offset, _)| offset).collect()
    };
    let view = house.store.view();
    for range in ranges(&truth) {
        assert_eq!(replayed(&view, &range).0, expected(&range), "a replay of {range:?}");
        assert_eq!(shown(&view.inspector(), &range), expected(&range), "a look at {range:?}");
    }
    house.close();
    let files = Inspector::of_files(folder.path()).unwrap();
    for range in ranges(&truth) {
        assert_eq!(shown(&files, &range), expected(&range), "a look at {range:?} of the files");
    }
}

#[test]
fn what_was_received_in_1970_is_found_by_its_true_time_once_the_clock_is_set() {
    let phase = |ahead_ms| Phase { records: 100, boot: 1, ahead_ms };
    check(&[phase(0), phase(TRUE_MS)]);
}

#[test]
fn a_clock_that_was_set_back_by_a_day_hides_nothing() {
    let phase = |ahead_ms| Phase { records: 100, boot: 1, ahead_ms };
    check(&[phase(TRUE_MS + DAY_MS), phase(TRUE_MS)]);
}

#[test]
fn a_few_records_of_another_boot_or_clock_between_others_are_found() {
    let phase = |records, boot, ahead_ms| Phase { records, boot, ahead_ms };
    check(&[
        phase(43, 1, TRUE_MS),
        phase(3, 2, 0),
        phase(40, 3, TRUE_MS + DAY_MS),
        phase(3, 3, TRUE_MS + 9 * DAY_MS),
        phase(40, 3, TRUE_MS + DAY_MS),
    ]);
}

#[test]
fn segments_away_from_a_step_are_still_passed_over_unread() {
    let folder = tempfile::tempdir().unwrap();
    let phase = |ahead_ms| Phase { records: 200, boot: 1, ahead_ms };
    let phases = [phase(0), phase(TRUE_MS)];
    let house = House::through(folder.path(), &phases);
    let truth = house.truth(&phases);
    let (found, read) = replayed(&house.store.view(), &(truth[20]..truth[30]));
    assert_eq!(found, (20..30).collect::<Vec<_>>());
    // An hour on either side, a segment at either end, the segments around the step, and the one
    // that is written.
    assert!(read < 250, "{read} of 400 records were read for ten");
}
