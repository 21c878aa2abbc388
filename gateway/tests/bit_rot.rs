//! Damage: every byte of a sealed segment flipped in turn (sampled), cut files, zeroed pages,
//! missing and foreign files. The store opens, says what is missing in a gap record, gives
//! everything else, and goes on. Never a panic, never silence.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod simulated_disk;
mod store_world;

use std::collections::BTreeSet;

use simulated_disk::{Random, SimulatedDisk};
use store_world::{World, settings};
use tidegate::store::{Store, gap::Reason};

const SEED: u64 = 11;
/// Flipped bytes of each file.
const FLIPS: u64 = 60;

/// A store of several sealed segments, closed cleanly or killed.
fn filled(cleanly: bool) -> World {
    let mut world = World::new(SEED, settings());
    world.open().unwrap();
    for _ in 0..40 {
        world.append(20);
        world.step();
    }
    world.settle();
    world.check();
    if cleanly {
        world.close()
    } else {
        world.kill()
    }
    world
}

fn segments(disk: &SimulatedDisk) -> Vec<String> {
    let mut names = disk.names();
    names.retain(|name| name.starts_with("seg-") && name.ends_with(".redb"));
    names.sort();
    names
}

/// Opens what was damaged, reads all of it, and looks for the gap record. Gives whether there was
/// any.
fn demand_that_it_is_told(world: &mut World, what: &str) -> bool {
    world.gaps.clear();
    world.open().unwrap_or_else(|error| panic!("{what}: {error}"));
    // Reading is what finds it.
    world.check();
    world.append(10);
    world.settle();
    world.check();
    assert!(world.gaps.iter().all(|gap| matches!(gap.reason, Reason::Damaged | Reason::Missing)), "{what}");
    assert!(world.gaps.len() <= 1, "{what}: {:?}", world.gaps);
    let known = world.gaps.clone();
    world.close();
    // What was said once stays said, and is not said again.
    world.open().unwrap_or_else(|error| panic!("{what}, once more: {error}"));
    world.check();
    assert_eq!(world.gaps, known, "{what}");
    world.close();
    !known.is_empty()
}

#[test]
fn a_flipped_bit_anywhere_is_told_or_does_no_harm() {
    for cleanly in [true, false] {
        let names = segments(&filled(cleanly).disk);
        assert!(names.len() >= 4, "{names:?}");
        let mut told = 0;
        // The last commit of a file that was not closed cannot be told from one that was never
        // finished.
        let sealed = if cleanly { &names[..] } else { &names[..names.len() - 1] };
        for (at, name) in sealed.iter().enumerate() {
            let mut random = Random::new(at as u64);
            for _ in 0..FLIPS {
                let mut world = filled(cleanly);
                let len = world.disk.bytes(name).len() as u64;
                let (byte, bit) = (random.below(len), random.below(8) as u8);
                world.disk.flip(name, byte, bit);
                told +=
                    u64::from(demand_that_it_is_told(&mut world, &format!("{name}, byte {byte}, bit {bit}")));
            }
        }
        let flips = sealed.len() as u64 * FLIPS;
        println!("closed cleanly: {cleanly}: {told} of {flips} flips cost records, and were told");
        assert!(told > flips / 20, "the flips hit nothing");
    }
}

#[test]
fn a_file_that_is_cut_zeroed_emptied_or_gone_costs_its_own_records_alone() {
    type Harm = fn(&SimulatedDisk, &str);
    let harms: [(&str, Harm); 7] = [
        ("cut in half", |disk, name| disk.truncate(name, disk.bytes(name).len() as u64 / 2)),
        ("cut by a byte", |disk, name| disk.truncate(name, disk.bytes(name).len() as u64 - 1)),
        ("emptied", |disk, name| disk.truncate(name, 0)),
        ("head zeroed", |disk, name| disk.zero_page(name, 0)),
        ("pages zeroed", |disk, name| (2..6).for_each(|page| disk.zero_page(name, page))),
        ("no database", |disk, name| {
            disk.put(name, b"holiday photos, and nothing else, by no means a database")
        }),
        ("gone", |disk, name| std::sync::Arc::new(disk.clone()).folder().remove(name).unwrap()),
    ];
    let names = segments(&filled(true).disk);
    for name in &names {
        for (what, harm) in harms {
            let mut world = filled(true);
            harm(&world.disk, name);
            let told = demand_that_it_is_told(&mut world, &format!("{name} {what}"));
            // Where every row is found there is nothing to tell of but the file that is set aside.
            let is_whole = ["cut by a byte", "head zeroed"].contains(&what);
            let kept = world.disk.names().iter().any(|file| file == &format!("{name}.damaged"));
            // Half of a file may be all of its rows: every one is found, and it is set aside.
            let is_half = what == "cut in half";
            assert!(told || is_whole || is_half && kept || what == "pages zeroed", "{name} {what}: silence");
            assert!(kept || what == "gone" || !(told || is_whole), "{name} {what}: {:?}", world.disk.names());
        }
    }
}

#[test]
fn a_segment_a_byte_short_or_long_or_flipped_in_its_head_loses_nothing() {
    type Harm = fn(&mut Vec<u8>);
    let harms: [(&str, Harm); 4] = [
        ("a byte short", |bytes| bytes.truncate(bytes.len() - 1)),
        ("a byte long", |bytes| bytes.push(0)),
        ("flipped in its head", |bytes| bytes[3] ^= 1),
        ("its head zeroed", |bytes| bytes[..4096].fill(0)),
    ];
    let names = segments(&filled(true).disk);
    for name in &names {
        for (what, harm) in harms {
            let mut world = filled(true);
            let mut bytes = world.disk.bytes(name);
            harm(&mut bytes);
            world.disk.put(name, &bytes);
            // What the world reads is what it was promised, and it counts what a gap record says is
            // missing.
            let told = demand_that_it_is_told(&mut world, &format!("{name} {what}"));
            let lost: u64 = world.gaps.iter().filter_map(|gap| gap.events).sum();
            // Of the last segment nobody can tell where it ended, so there is a gap behind its
            // rows.
            let is_last = Some(name) == names.last();
            assert!(lost == 0 && (!told || is_last), "{name} {what}: {lost} events, {:?}", world.gaps);
            assert!(world.disk.names().contains(&format!("{name}.damaged")), "{name} {what}");
        }
    }
}

#[test]
fn what_is_stored_while_a_reader_comes_upon_a_hole_is_no_part_of_it() {
    let mut world = filled(true);
    let newest = segments(&world.disk).pop().unwrap();
    world.disk.folder().remove(&newest).unwrap();
    world.open().unwrap();
    let end = world.life().store.status().next_offset;
    world.life().reader.seek(end - 1);
    world.begin_to_read();
    world.append(10);
    world.settle();
    while world.read().is_some() {}
    world.check();
    assert!(!world.gaps.is_empty());
    assert!(world.gaps.iter().all(|gap| gap.to <= end), "{:?}, and the hole ends at {end}", world.gaps);
}

#[test]
fn a_file_of_another_store_or_place_is_not_taken_for_a_segment() {
    let other = {
        let mut world = World::new(SEED + 1, settings());
        world.open().unwrap();
        world.append(20);
        world.settle();
        world.close();
        let name = segments(&world.disk).remove(0);
        world.disk.bytes(&name)
    };
    let names = segments(&filled(true).disk);
    let mut world = filled(true);
    world.disk.put(&names[1], &other);
    assert!(demand_that_it_is_told(&mut world, "another store's file"));
    let mut world = filled(true);
    let misplaced = world.disk.bytes(&names[0]);
    world.disk.put(&names[1], &misplaced);
    assert!(demand_that_it_is_told(&mut world, "a file in another's place"));
}

#[test]
fn what_can_be_read_of_a_damaged_segment_is_delivered_with_its_old_offsets() {
    let mut world = filled(true);
    let name = segments(&world.disk).remove(1);
    let before: BTreeSet<u64> = world.book.sent.keys().copied().collect();
    // A payload's byte: the row is lost, the rows around it are not.
    let bytes = world.disk.bytes(&name);
    let payload = bytes.windows(40).position(|window| window.iter().all(|byte| *byte == 7)).unwrap();
    world.disk.flip(&name, payload as u64, 0);
    assert!(demand_that_it_is_told(&mut world, "a payload"));
    let lost: u64 = world.gaps.iter().filter_map(|gap| gap.events).sum();
    assert!(lost > 0 && lost < 60, "{lost} events of one row, {:?}", world.gaps);
    assert!(before.len() > 400);
}

#[test]
fn a_last_segment_that_is_damaged_gives_no_offset_twice() {
    let mut world = filled(true);
    let name = segments(&world.disk).pop().unwrap();
    world.disk.zero_page(&name, 0);
    assert!(demand_that_it_is_told(&mut world, "the last one"));
    // `given` demands that an offset is the same record for ever; offsets go on behind all that may
    // have been there.
    let (store, committer) =
        Store::open_stepwise(world.disk.folder(), settings(), &[store_world::UPLINK.into()], world.now())
            .unwrap();
    assert!(store.status().next_offset > 800);
    drop(committer);
    store.close();
}
