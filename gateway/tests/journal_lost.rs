//! A journal that is gone, emptied, cut off, overwritten, or not the one that was written, and
//! frames of it that rotted: what was acknowledged and may have been in it is told in a gap record,
//! no offset is given twice, and nothing is told where nothing is lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod simulated_disk;
mod store_world;

use std::ops::Range;

use simulated_disk::{Fault, SimulatedDisk};
use store_world::{World, settings};
use tidegate::store::{
    Settings,
    gap::{Gap, Reason},
    inspect::Inspector,
};

const FILE: &str = "journal.log";
const SLOT_BYTES: u64 = 16 * 1024;
const PAGE_BYTES: u64 = 4 * 1024;
/// Slots before those of the frames.
const HEADER_SLOTS: u64 = 2;
const SEED: u64 = 23;
/// More records than a journal holds: offsets go on behind so many.
const RECORDS_MAX: u64 = 4 * 1024 * 1024 / 16;
/// Until the cursors are saved without an event.
const CURSORS_SAVED_MS: u64 = 6_000;

/// A world whose last frames are in the journal alone.
struct Scene {
    world: World,
    /// Where the segments end, and the log: an offset each.
    alone: Range<u64>,
    /// The journal as it was in the epoch before.
    older: Vec<u8>,
}

/// A store of more than one epoch, running, of which nothing is in the journal alone.
fn running() -> Scene {
    let mut world = World::new(SEED, Settings { segment_bytes: 1 << 20, ..settings() });
    world.open().unwrap();
    for _ in 0..4 {
        world.append(3);
        world.step();
    }
    let older = world.disk.bytes(FILE);
    // Too much for a frame: all of it goes into the segment.
    world.append(150);
    world.step();
    let end = world.life().store.status().next_offset;
    Scene { world, alone: end..end, older }
}

/// The same with so many frames of rows in the journal, each of which a reader was given; killed.
fn killed_with(frames: u64) -> Scene {
    let mut scene = running();
    for _ in 0..frames {
        scene.world.append(2);
        scene.world.step();
    }
    scene.world.check();
    scene.alone.end = scene.world.life().store.status().next_offset;
    assert_eq!(scene.world.book.unacknowledged(), [0; 0]);
    scene.world.kill();
    scene
}

fn slot(frame: u64) -> u64 {
    (HEADER_SLOTS + frame) * SLOT_BYTES
}

fn fill(disk: &SimulatedDisk, range: Range<u64>, with: u8) {
    let mut bytes = disk.bytes(FILE);
    bytes[range.start as usize..range.end as usize].fill(with);
    disk.put(FILE, &bytes);
}

/// Rot in the middle of a frame's head.
fn rot(disk: &SimulatedDisk, frame: u64) {
    disk.flip(FILE, slot(frame) + 18, 3);
}

fn delete(disk: &SimulatedDisk) {
    disk.folder().remove(FILE).unwrap();
    disk.folder().sync().unwrap();
}

type Harm = fn(&SimulatedDisk, &[u8]);

/// Everything that loses all frames of the epoch that is open, given the file as it was before.
const HARMS: [(&str, Harm); 10] = [
    ("deleted", |disk, _| delete(disk)),
    ("emptied", |disk, _| disk.truncate(FILE, 0)),
    ("cut off before its frames", |disk, _| disk.truncate(FILE, slot(0))),
    ("cut off in its header", |disk, _| disk.truncate(FILE, 100)),
    ("zeroed", |disk, _| {
        let pages = disk.bytes(FILE).len() as u64 / PAGE_BYTES;
        (0..pages).for_each(|page| disk.zero_page(FILE, page));
    }),
    ("overwritten", |disk, _| fill(disk, 0..disk.bytes(FILE).len() as u64, 0xa5)),
    ("overwritten behind its headers", |disk, _| fill(disk, slot(0)..slot(8), 0xa5)),
    ("zeroed behind its headers", |disk, _| fill(disk, slot(0)..slot(8), 0)),
    ("replaced by an older copy", |disk, older| disk.put(FILE, older)),
    ("replaced by something else", |disk, _| disk.put(FILE, b"holiday photos")),
];

/// What `tidegate store verify` says of the journal; `None` where it does not name it.
fn verdict(world: &World) -> Option<String> {
    let inspector = Inspector::of_folder(world.disk.folder()).unwrap();
    let mut reports = inspector.verify().unwrap().map(Result::unwrap);
    reports.find(|report| report.file == FILE).map(|report| format!("{:?}", report.verdict))
}

/// Opens it, reads all, stores more, and starts again after a power cut: gives what was told, which
/// is told once.
fn told(world: &mut World, what: &str) -> Vec<Gap> {
    world.open().unwrap_or_else(|error| panic!("{what}: {error}"));
    world.check();
    for _ in 0..4 {
        world.append(2);
        world.settle();
    }
    world.check();
    let gaps = world.gaps.clone();
    world.kill();
    world.disk.cut_power();
    world.open().unwrap();
    world.append(2);
    world.settle();
    world.check();
    assert_eq!(world.gaps, gaps, "{what}: it is told once");
    gaps
}

/// One gap record, which says that nobody can tell how much is lost behind the segments.
fn assert_end_lost(gaps: &[Gap], alone: &Range<u64>, what: &str) {
    let [gap] = gaps else { panic!("{what}: {gaps:?}") };
    assert_eq!((gap.reason, gap.events), (Reason::Missing, None), "{what}");
    assert_eq!(gap.range(), alone.start..alone.start + RECORDS_MAX, "{what}");
    assert!(gap.uplinks.iter().all(|lost| lost.events.is_none()) && gap.uplinks.len() == 1, "{what}");
    assert!(gap.to > alone.end, "{what}: an offset is given twice");
}

#[test]
fn a_journal_that_is_lost_with_acknowledged_events_is_told_and_gives_no_offset_twice() {
    for (what, harm) in HARMS {
        // Without a frame nobody can tell that there was none.
        for frames in [0, 1, 5] {
            let what = format!("{what}, with {frames} frames");
            let Scene { mut world, alone, older } = killed_with(frames);
            assert_eq!(alone.end > alone.start, frames > 0);
            harm(&world.disk, &older);
            assert_eq!(verdict(&world).as_deref(), Some("Damaged"), "{what}");
            let gaps = told(&mut world, &what);
            assert_end_lost(&gaps, &alone, &what);
            assert!(world.life().store.status().next_offset > alone.start + RECORDS_MAX, "{what}");
        }
    }
}

#[test]
fn wherever_it_is_killed_before_the_loss_is_told_it_is_told_once_and_no_offset_is_given_twice() {
    let operations = {
        let Scene { mut world, .. } = killed_with(3);
        delete(&world.disk);
        let before = world.disk.operations();
        told(&mut world, "deleted");
        world.disk.operations() - before
    };
    for n in 1..operations {
        let Scene { mut world, alone, .. } = killed_with(3);
        delete(&world.disk);
        world.disk.cut_at(n);
        if world.open().is_ok() {
            for _ in 0..6 {
                if !world.disk.has_power() {
                    break;
                }
                world.append(1);
                world.step();
            }
        }
        world.kill();
        world.disk.power_on();
        let what = format!("killed at operation {n}");
        let gaps = told(&mut world, &what);
        assert_end_lost(&gaps, &alone, &what);
    }
}

#[test]
fn after_a_stop_a_journal_that_is_lost_is_nothing_to_tell_of() {
    for (what, harm) in HARMS {
        let Scene { mut world, older, .. } = killed_with(3);
        world.open().unwrap();
        for _ in 0..4 {
            world.append(2);
            world.step();
        }
        world.close();
        harm(&world.disk, &older);
        assert!(verdict(&world).is_none_or(|verdict| verdict == "Good"), "{what}");
        assert_eq!(told(&mut world, what), [], "{what}");
    }
}

#[test]
fn a_run_that_stored_nothing_and_ended_well_leaves_nothing_to_tell_of() {
    let Scene { mut world, .. } = killed_with(0);
    world.open().unwrap();
    world.close();
    assert!(!world.disk.names().iter().any(|name| name == FILE), "it is over");
    assert_eq!(told(&mut world, "deleted"), []);
}

#[test]
fn headers_that_are_overwritten_lose_nothing_where_a_frame_is_whole() {
    for frames in [1, 5] {
        let Scene { mut world, .. } = killed_with(frames);
        fill(&world.disk, 0..slot(0), 0xa5);
        assert_eq!(verdict(&world).as_deref(), Some("Good"));
        assert_eq!(told(&mut world, "headers overwritten"), []);
    }
}

#[test]
fn frames_behind_the_cut_of_a_file_are_told_and_those_before_it_are_there() {
    let Scene { mut world, alone, .. } = killed_with(5);
    world.disk.truncate(FILE, slot(3));
    assert_eq!(verdict(&world).as_deref(), Some("Damaged"));
    let gaps = told(&mut world, "cut off");
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    assert_eq!((gap.reason, gap.events), (Reason::Missing, None));
    assert_eq!(gap.range(), alone.end - 4..alone.start + RECORDS_MAX);
}

#[test]
fn two_frames_that_rot_at_the_end_are_told_and_a_single_one_is_the_end() {
    let Scene { mut world, alone, .. } = killed_with(5);
    rot(&world.disk, 3);
    rot(&world.disk, 4);
    assert_eq!(verdict(&world).as_deref(), Some("Damaged"));
    let gaps = told(&mut world, "two");
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    assert_eq!(gap.range(), alone.end - 4..alone.start + RECORDS_MAX);

    let Scene { world, .. } = killed_with(5);
    rot(&world.disk, 4);
    assert_eq!(verdict(&world).as_deref(), Some("Good"), "as one that was never finished");
}

/// A frame of cursors alone.
fn save_cursors(world: &mut World) {
    let before = world.disk.operations();
    world.deliver(3);
    world.wait(CURSORS_SAVED_MS);
    world.step();
    assert_eq!(world.disk.operations() - before, 2, "one write, one sync");
}

#[test]
fn a_frame_of_cursors_alone_that_rots_is_no_event_that_is_missing() {
    for (rows_before, rows_behind) in [(0, 1), (1, 1), (2, 0), (0, 2)] {
        let mut world = running().world;
        let frames = |world: &mut World, count: u64| {
            for _ in 0..count {
                world.append(2);
                world.step();
            }
        };
        frames(&mut world, rows_before);
        save_cursors(&mut world);
        frames(&mut world, rows_behind);
        save_cursors(&mut world);
        let end = world.life().store.status().next_offset;
        world.kill();
        rot(&world.disk, rows_before);
        assert_eq!(verdict(&world).as_deref(), Some("Damaged"), "a commit cannot be read");
        world.open().unwrap();
        assert_eq!(world.life().store.status().next_offset, end);
        world.check();
        world.kill();
        assert_eq!(told(&mut world, "rotten cursors"), []);
    }
}

#[test]
fn rows_that_rot_before_a_frame_of_cursors_alone_are_told_to_the_last_event() {
    for behind in [1, 2] {
        let mut world = running().world;
        world.append(2);
        world.step();
        let before = world.life().store.status();
        world.append(3);
        world.step();
        let after = world.life().store.status();
        (0..behind).for_each(|_| save_cursors(&mut world));
        world.check();
        world.kill();
        rot(&world.disk, 1);
        let gaps = told(&mut world, "rotten rows");
        let [gap] = &gaps[..] else { panic!("{gaps:?}") };
        assert_eq!(gap.range(), before.next_offset..after.next_offset);
        assert_eq!(gap.events, Some(after.events - before.events));
        assert!(world.life().store.status().next_offset > after.next_offset);
    }
}

#[test]
fn a_journal_that_the_disk_does_not_give_is_not_silent() {
    const SLOTS: u64 = 10;
    // A start reads it somewhere: once as a whole, then slot by slot.
    let reads = {
        let Scene { mut world, .. } = killed_with(5);
        let before = world.disk.reads();
        world.open().unwrap();
        world.disk.reads() - before
    };
    let mut refused = 0;
    for first in 1..=reads {
        for count in [1, 2, 4, 1 + SLOTS] {
            let Scene { mut world, alone, .. } = killed_with(5);
            (first..first + count).for_each(|n| world.disk.fail_read_at(n, Fault::Io));
            let is_refused = world.open().is_err();
            world.disk.heal();
            if is_refused {
                refused += 1;
                assert!(told(&mut world, "read again").is_empty(), "it is all there");
                continue;
            }
            world.check();
            let end = world.life().store.status().next_offset;
            assert!(end >= alone.end, "read {first}, {count} times: offsets are given twice");
            world.kill();
        }
    }
    assert!(refused > 0);
}
