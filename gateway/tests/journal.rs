//! The journal in front of the segments: what is in it alone is read, found again after whatever
//! happened, and told where it rotted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod simulated_disk;
mod store_world;

use simulated_disk::{Kind, SimulatedDisk};
use store_world::{UPLINK, World, settings};
use tidegate::{
    clock,
    store::{
        Batch, Record, Settings, Store,
        gap::Reason,
        inspect::{CatFilter, CatItem, CatLimits, Inspector},
    },
};

const FILE: &str = "journal.log";
const SLOT_BYTES: u64 = 16 * 1024;
/// Slots before those of the frames.
const HEADER_SLOTS: u64 = 2;
const PAGE_BYTES: u64 = 4 * 1024;
const SEED: u64 = 17;

/// Segments that do not fill, so that what is small stays in the journal.
fn roomy() -> Settings {
    Settings { segment_bytes: 1 << 20, ..settings() }
}

/// A store of more than one segment, with so many commits that are in the journal alone; killed.
fn killed_with(frames: u64) -> World {
    let mut world = World::new(SEED, Settings { segment_bytes: 4096, ..settings() });
    world.open().unwrap();
    for _ in 0..2 {
        world.append(40);
        world.step();
    }
    world.close();
    world.settings = roomy();
    world.open().unwrap();
    for _ in 0..2 {
        world.append(3);
        world.step();
    }
    for _ in 0..frames {
        world.append(2);
        world.step();
    }
    assert_eq!(world.book.unacknowledged(), [0; 0]);
    world.kill();
    world
}

fn segments(disk: &SimulatedDisk) -> Vec<String> {
    let mut names = disk.names();
    names.retain(|name| name.starts_with("seg-") && name.ends_with(".redb"));
    names.sort();
    names
}

#[test]
fn a_small_commit_is_one_page_and_one_sync() {
    let mut world = World::new(SEED, roomy());
    world.open().unwrap();
    // The first one makes the journal, and goes into the segment, which says so.
    world.append(1);
    world.step();
    for _ in 0..8 {
        let (before, written) = (world.disk.operations(), world.life().store.status().written_bytes);
        world.append(1);
        world.step();
        let kinds = world.disk.kinds()[before as usize..].to_vec();
        assert_eq!(kinds, [Kind::Write, Kind::Sync]);
        assert_eq!(world.life().store.status().written_bytes - written, PAGE_BYTES);
    }
    // The journal is full by now: ten slots, two of them of headers.
    let before = world.disk.operations();
    world.append(1);
    world.step();
    assert!(world.disk.operations() - before > 2, "it goes into a segment");
    let before = world.disk.operations();
    world.append(1);
    world.step();
    assert_eq!(world.disk.operations() - before, 2, "a new epoch begins");
    world.check();
}

#[test]
fn what_is_in_the_journal_alone_is_read_and_found_again_after_any_number_of_starts() {
    for frames in 0..=7 {
        let mut world = killed_with(frames);
        for _ in 0..3 {
            world.disk.cut_power();
            let before = world.disk.operations();
            world.open().unwrap();
            world.check();
            for number in before + 1..=world.disk.operations() {
                let operation = world.disk.operation(number).unwrap();
                let is_side_file = operation.name.starts_with("dead_letters");
                assert!(operation.kind != Kind::Write || is_side_file, "a start writes: {operation}");
            }
            world.kill();
        }
        world.open().unwrap();
        world.append(5);
        world.settle();
        world.check();
        world.close();
        world.open().unwrap();
        world.check();
        assert!(world.gaps.is_empty());
    }
}

#[test]
fn after_a_stop_nothing_is_in_the_journal_alone() {
    let mut world = killed_with(5);
    world.open().unwrap();
    world.append(2);
    world.step();
    world.append(2);
    world.step();
    world.close();
    let bytes = world.disk.bytes(FILE).len() as u64;
    (0..bytes / PAGE_BYTES).for_each(|page| world.disk.zero_page(FILE, page));
    world.open().unwrap();
    world.check();
    assert!(world.gaps.is_empty());
}

#[test]
fn a_frame_that_rots_before_others_is_told_and_the_others_are_there() {
    const FRAMES: u64 = 6;
    let whole = killed_with(FRAMES).disk.bytes(FILE);
    let len = |slot: u64| {
        let at = ((HEADER_SLOTS + slot) * SLOT_BYTES) as usize + 8;
        u64::from(u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()))
    };
    for slot in 0..FRAMES {
        for byte in (0..len(slot)).step_by(23) {
            let mut world = killed_with(FRAMES);
            world.disk.flip(FILE, (HEADER_SLOTS + slot) * SLOT_BYTES + byte, (byte % 8) as u8);
            let verdict = verdict_of_journal(&world);
            world.open().unwrap();
            let acknowledged = world.book.acknowledged();
            if slot == FRAMES - 1 {
                // Nobody can tell it from one that was never finished.
                assert_eq!(verdict, "Good", "byte {byte} of slot {slot}");
                continue;
            }
            assert_eq!(verdict, "Damaged", "byte {byte} of slot {slot}");
            assert!(world.read().is_some());
            world.check();
            world.append(3);
            world.settle();
            world.check();
            let told: Vec<_> = world.gaps.iter().map(|gap| gap.reason).collect();
            assert_eq!(told, [Reason::Missing], "byte {byte} of slot {slot}");
            assert!(world.book.acknowledged() > acknowledged);
            let gaps = world.gaps.clone();
            world.close();
            world.open().unwrap();
            world.check();
            assert_eq!(world.gaps, gaps, "it is told once");
        }
    }
}

fn verdict_of_journal(world: &World) -> String {
    let inspector = Inspector::of_folder(world.disk.folder()).unwrap();
    let mut reports = inspector.verify().unwrap().map(Result::unwrap);
    let report = reports.find(|report| report.file == FILE).expect("it is named");
    format!("{:?}", report.verdict)
}

#[test]
fn a_last_segment_that_is_damaged_or_gone_costs_nothing_that_is_in_the_journal() {
    type Harm = fn(&SimulatedDisk, &str);
    let harms: [(&str, Harm); 4] = [
        ("head zeroed", |disk, name| disk.zero_page(name, 0)),
        ("cut by a byte", |disk, name| disk.truncate(name, disk.bytes(name).len() as u64 - 1)),
        ("emptied", |disk, name| disk.truncate(name, 0)),
        ("gone", |disk, name| disk.folder().remove(name).unwrap()),
    ];
    for (what, harm) in harms {
        for frames in [1, 5] {
            let mut world = killed_with(frames);
            let in_journal: Vec<u64> = last_ids(&world, frames * 2);
            let last = segments(&world.disk).pop().unwrap();
            harm(&world.disk, &last);
            // It may be killed anywhere in between.
            let operations = {
                let before = world.disk.operations();
                repaired(&mut world, &in_journal, what);
                world.disk.operations() - before
            };
            for n in 1..operations {
                let mut world = killed_with(frames);
                harm(&world.disk, &last);
                world.disk.cut_at(n);
                if world.open().is_ok() {
                    for _ in 0..4 {
                        if !world.disk.has_power() {
                            break;
                        }
                        world.append(1);
                        world.step();
                    }
                }
                world.kill();
                world.disk.power_on();
                repaired(&mut world, &in_journal, &format!("{what}, killed at operation {n}"));
            }
        }
    }
}

/// The newest records of those that were sent.
fn last_ids(world: &World, count: u64) -> Vec<u64> {
    world.book.sent.keys().rev().take(count as usize).copied().collect()
}

fn repaired(world: &mut World, in_journal: &[u64], what: &str) {
    world.open().unwrap();
    for _ in 0..3 {
        world.append(2);
        world.settle();
    }
    let found = world.read_all();
    for id in in_journal {
        assert!(found.contains(id), "{what}: {id} was in the journal, and is not found");
    }
    world.kill();
    world.disk.cut_power();
    world.open().unwrap();
    let found = world.read_all();
    for id in in_journal {
        assert!(found.contains(id), "{what}: {id} is not found at the next start");
    }
    world.kill();
}

#[test]
fn a_journal_that_is_removed_cut_or_replaced_under_a_running_store_loses_nothing() {
    type Harm = fn(&SimulatedDisk);
    let harms: [(&str, Harm); 2] = [
        ("removed", |disk| disk.folder().remove(FILE).unwrap()),
        ("the active segment removed", |disk| {
            let last = segments(disk).pop().unwrap();
            disk.folder().remove(&last).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let mut world = World::new(SEED, roomy());
        world.open().unwrap();
        for _ in 0..4 {
            world.append(2);
            world.step();
        }
        harm(&world.disk);
        for _ in 0..4 {
            world.append(2);
            world.settle();
        }
        assert_eq!(world.book.unacknowledged(), [0; 0], "{what}");
        world.check();
        world.kill();
        world.disk.cut_power();
        world.open().unwrap();
        world.check();
        assert!(world.gaps.iter().all(|gap| gap.reason == Reason::Missing && what != "removed"), "{what}");
    }
}

#[test]
fn a_journal_of_another_store_or_of_nonsense_is_not_believed() {
    let other = {
        let mut world = World::new(SEED + 1, roomy());
        world.open().unwrap();
        for _ in 0..6 {
            world.append(2);
            world.step();
        }
        world.kill();
        world.disk.bytes(FILE)
    };
    for bytes in [other, vec![0xa5; 70_000], Vec::new(), b"holiday photos".to_vec()] {
        // After a stop: else it would be missed, see `journal_lost.rs`.
        let mut world = killed_with(0);
        world.open().unwrap();
        world.close();
        world.disk.put(FILE, &bytes);
        world.open().unwrap();
        world.append(2);
        world.settle();
        world.append(2);
        world.settle();
        world.check();
        world.kill();
        world.open().unwrap();
        world.check();
        assert!(world.gaps.is_empty());
    }
}

#[test]
fn what_is_in_the_journal_alone_is_shown_counted_and_checked_while_it_runs_and_after_a_kill() {
    let mut world = World::new(SEED, roomy());
    world.open().unwrap();
    world.append(30);
    world.step();
    world.append(2);
    world.step();
    world.append(2);
    world.step();
    let end = world.life().store.status().next_offset;
    let running = world.life().store.view().inspector();
    let seen = look(&running);
    assert_eq!(seen.0.len() as u64, end);
    world.kill();
    assert_eq!(look(&Inspector::of_folder(world.disk.folder()).unwrap()), seen);
}

/// What is shown, the log's end, its events, and the uplink's lag.
fn look(inspector: &Inspector) -> (Vec<u64>, u64, u64, Option<u64>) {
    let mut offsets = Vec::new();
    let (filter, limits) = (CatFilter::default(), CatLimits { records: 1_000, bytes: 1 << 30 });
    let mut show = |item: CatItem<'_>| match item {
        CatItem::Record(entry) => offsets.push(entry.offset),
        unreadable => panic!("{unreadable:?}"),
    };
    inspector.cat(&filter, limits, &mut show).unwrap();
    let reports: Vec<_> = inspector.verify().unwrap().map(Result::unwrap).collect();
    assert!(
        reports.iter().all(|report| report.findings.iter().all(|finding| finding.what.contains("is open")))
    );
    let records: u64 = reports.iter().map(|report| report.records).sum();
    assert_eq!(records, offsets.len() as u64);
    let stat = inspector.stat(clock::now()).unwrap();
    let lag = stat.uplinks.iter().find(|uplink| uplink.name == UPLINK).unwrap().lag_events;
    (offsets, stat.next_offset, stat.events, lag)
}

/// A message of QoS 2 with so many bytes.
fn exactly_once(batch: &mut Batch, packet_id: u16, bytes: usize) {
    let payload = vec![7; bytes];
    let record = Record {
        events: 1,
        qos: 2,
        received_ms: 1,
        client: "pump",
        topic: "t",
        payload: &payload,
        ..Record::default()
    };
    batch.push_exactly_once(&record, packet_id);
}

/// The packet ids that a store finds pending that is killed and opened again after these commits.
fn pending_after(commits: &[fn(&mut Batch)]) -> Vec<u16> {
    let disk = SimulatedDisk::new(SEED);
    let open = || Store::open_stepwise(disk.folder(), roomy(), &[UPLINK.to_owned()], clock::now()).unwrap();
    let (store, mut committer) = open();
    for commit in commits {
        let mut batch = Batch::default();
        commit(&mut batch);
        store.intake().append(&mut batch).unwrap();
        committer.step(clock::now());
    }
    store.cut_power();
    drop(committer);
    store.crash();
    disk.cut_power();
    let (store, mut committer) = open();
    // One that is pending is a copy, and makes no record.
    let is_pending = |id: &u16| {
        let before = store.status().next_offset;
        let mut batch = Batch::default();
        exactly_once(&mut batch, *id, 1);
        store.intake().append(&mut batch).unwrap();
        committer.step(clock::now());
        store.status().next_offset == before
    };
    (1..=4).filter(is_pending).collect()
}

#[test]
fn packet_ids_are_those_of_the_newest_commit_wherever_each_commit_went() {
    const LARGE: usize = 20 * 1024;
    let small: fn(&mut Batch) = |batch| (1..=2).for_each(|id| exactly_once(batch, id, 1));
    let release_1: fn(&mut Batch) = |batch| batch.push_release("pump", 1);
    let release_2: fn(&mut Batch) = |batch| batch.push_release("pump", 2);
    let large: fn(&mut Batch) = |batch| exactly_once(batch, 3, LARGE);
    let large_releases_2: fn(&mut Batch) = |batch| {
        batch.push_release("pump", 2);
        exactly_once(batch, 4, LARGE);
    };
    assert_eq!(pending_after(&[small]), [1, 2]);
    assert_eq!(pending_after(&[small, release_1]), [2]);
    assert_eq!(pending_after(&[small, release_1, release_2]), [0; 0]);
    assert_eq!(pending_after(&[small, large]), [1, 2, 3]);
    assert_eq!(pending_after(&[large, small, release_1]), [2, 3]);
    // A frame with no row, which says that 2 is pending, and whose epoch is over.
    assert_eq!(pending_after(&[small, large, release_1, large_releases_2]), [3, 4]);
    assert_eq!(pending_after(&[small, large, release_1, large_releases_2, release_1]), [3, 4]);
}
