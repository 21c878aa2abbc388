//! What the simulated disk promises: the other tests believe it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "simulated_disk/checks/faults.rs"]
mod faults;
#[path = "simulated_disk/checks/redb.rs"]
mod redb_on_it;
mod simulated_disk;

use std::{collections::BTreeSet, io};

use redb::StorageBackend;
use simulated_disk::{Random, SimulatedDisk, Survival};
use tidegate::store::Folder;

const SEEDS: u64 = 300;
const SECTOR_BYTES: usize = 512;

/// A file of `sectors` sectors of `fill`, durable with its name.
fn synced(disk: &SimulatedDisk, name: &str, sectors: usize, fill: u8) -> Box<dyn StorageBackend> {
    let file = disk.create(name).unwrap();
    file.write(0, &vec![fill; sectors * SECTOR_BYTES]).unwrap();
    file.sync_data().unwrap();
    Folder::sync(disk).unwrap();
    file
}

/// The first byte of each sector; all others are the same.
fn fills(bytes: &[u8]) -> Vec<u8> {
    let fill = |sector: &[u8]| {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "a torn sector");
        sector[0]
    };
    bytes.chunks(SECTOR_BYTES).map(fill).collect()
}

/// Everything that tells two disks apart.
fn contents(disk: &SimulatedDisk) -> Vec<(String, Vec<u8>)> {
    disk.names().into_iter().map(|name| (name.clone(), disk.bytes(&name))).collect()
}

#[test]
fn what_was_synced_outlives_every_cut() {
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        let file = synced(&disk, "a", 9, 1);
        file.write(0, &[2; 3 * SECTOR_BYTES]).unwrap();
        file.set_len(20_000).unwrap();
        file.write(19_000, b"end").unwrap();
        file.sync_data().unwrap();
        let before = disk.bytes("a");
        disk.cut_power();
        disk.cut_power();
        assert_eq!(disk.bytes("a"), before, "seed {seed}");
        assert_eq!(disk.durable_bytes("a"), before, "seed {seed}");
    }
}

#[test]
fn what_was_not_synced_survives_by_sectors_in_any_order() {
    let (mut lost, mut whole, mut torn, mut older) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        let file = synced(&disk, "a", 8, 1);
        file.write(0, &[2; 8 * SECTOR_BYTES]).unwrap();
        file.write(0, &[3; 4 * SECTOR_BYTES]).unwrap();
        disk.cut_power();
        let found = fills(&disk.bytes("a"));
        assert!(found[..4].iter().all(|fill| (1..=3).contains(fill)), "seed {seed}: {found:?}");
        assert!(found[4..].iter().all(|fill| (1..=2).contains(fill)), "seed {seed}: {found:?}");
        lost += usize::from(found == [1; 8]);
        whole += usize::from(found == [3, 3, 3, 3, 2, 2, 2, 2]);
        torn += usize::from(found[4..].iter().collect::<BTreeSet<_>>().len() == 2);
        // The first write of these sectors is there, the second one is not, though another of its
        // sectors is.
        older += usize::from(found[..4].contains(&2) && found[..4].contains(&3));
    }
    assert!(lost > 20 && whole > 20 && torn > 20 && older > 20, "{lost} {whole} {torn} {older}");
}

#[test]
fn of_two_writes_that_survive_either_may_be_the_last() {
    let mut older = 0;
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        disk.set_survival(Some(Survival::Most));
        let file = synced(&disk, "a", 1, 1);
        file.write(0, &[2; SECTOR_BYTES]).unwrap();
        file.write(0, &[3; SECTOR_BYTES]).unwrap();
        disk.cut_power();
        older += usize::from(fills(&disk.bytes("a")) == [2]);
    }
    assert!((100..200).contains(&older), "{older}");
}

#[test]
fn a_write_within_a_sector_survives_with_all_that_the_sector_held() {
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        let file = synced(&disk, "a", 1, 0);
        file.write(0, &[1; 4]).unwrap();
        file.write(100, &[2; 4]).unwrap();
        disk.cut_power();
        let bytes = disk.bytes("a");
        let states = [(0, 0), (1, 0), (1, 2)];
        assert!(states.contains(&(bytes[0], bytes[100])), "seed {seed}: {} {}", bytes[0], bytes[100]);
    }
}

#[test]
fn a_length_survives_or_not_whatever_the_data_does() {
    let (mut short, mut zeros, mut data) = (0, 0, 0);
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        let file = synced(&disk, "a", 2, 1);
        file.write(2 * SECTOR_BYTES as u64, &[2; 2 * SECTOR_BYTES]).unwrap();
        disk.cut_power();
        match fills(&disk.bytes("a"))[..] {
            [1, 1] => short += 1,
            [1, 1, 0, _] | [1, 1, _, 0] => zeros += 1,
            [1, 1, 2, 2] => data += 1,
            ref other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(short > 20 && zeros > 20 && data > 20, "{short} {zeros} {data}");
}

#[test]
fn a_file_that_was_cut_short_and_grew_again_reads_as_zeros_there_once_that_is_synced() {
    let mut old = 0;
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        let file = synced(&disk, "a", 8, 1);
        file.set_len(700).unwrap();
        file.set_len(8 * SECTOR_BYTES as u64).unwrap();
        file.write(7 * SECTOR_BYTES as u64, &[2; SECTOR_BYTES]).unwrap();
        let mut expected = vec![1; 700];
        expected.resize(7 * SECTOR_BYTES, 0);
        expected.resize(8 * SECTOR_BYTES, 2);
        assert_eq!(disk.bytes("a"), expected);
        if seed % 2 == 0 {
            file.sync_data().unwrap();
            disk.cut_power();
            assert_eq!(disk.bytes("a"), expected, "seed {seed}");
        } else {
            disk.cut_power();
            old += usize::from(disk.bytes("a").get(2 * SECTOR_BYTES) == Some(&1));
        }
    }
    assert!(old > 10, "{old}: what was cut off can come back if that was not synced");
}

#[test]
fn a_name_that_was_not_synced_may_vanish_with_its_synced_bytes() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        drop(synced(&disk, "old", 1, 1));
        let file = disk.create("new").unwrap();
        file.write(0, b"new").unwrap();
        file.sync_data().unwrap();
        disk.rename("new", "old").unwrap();
        disk.create("other").unwrap();
        disk.remove("other").unwrap();
        disk.cut_power();
        let names = disk.names();
        let replaced = disk.bytes("old") == b"new";
        assert!(names.contains(&"old".into()), "seed {seed}: a rename replaces at once");
        assert!(!(replaced && names.contains(&"new".into())), "seed {seed}: two names");
        if names.contains(&"new".into()) {
            assert_eq!(disk.bytes("new"), b"new", "seed {seed}");
        }
        seen.insert((names, replaced));
    }
    let all = [(vec!["old"], false), (vec!["new", "old"], false), (vec!["old"], true)];
    for (names, replaced) in all {
        let names = names.into_iter().map(String::from).collect();
        assert!(seen.contains(&(names, replaced)), "{seen:?}");
    }
    assert!(seen.iter().any(|(names, replaced)| names.contains(&"other".into()) && !replaced), "a subset");
}

#[test]
fn a_rename_moves_no_other_file_of_that_name() {
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        drop(synced(&disk, "old", 1, 1));
        drop(synced(&disk, "new", 1, 2));
        disk.remove("new").unwrap();
        disk.create("new").unwrap();
        disk.rename("new", "old").unwrap();
        disk.cut_power();
        assert_ne!(fills(&disk.bytes("old")), [2], "seed {seed}: it was removed before");
    }
}

#[test]
fn names_that_were_synced_outlive_every_cut() {
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        for name in ["a", "b", "c"] {
            disk.create(name).unwrap();
        }
        disk.rename("a", "d").unwrap();
        disk.remove("b").unwrap();
        Folder::sync(&disk).unwrap();
        disk.cut_power();
        assert_eq!(disk.names(), ["c", "d"], "seed {seed}");
    }
}

#[test]
fn a_removal_that_was_not_synced_may_bring_the_file_back_with_its_bytes() {
    let mut back = 0;
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        let file = synced(&disk, "a", 3, 7);
        disk.remove("a").unwrap();
        assert_eq!(disk.open("a").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(file.len().unwrap(), 3 * SECTOR_BYTES as u64, "an open file stays");
        drop(file);
        disk.cut_power();
        if !disk.names().is_empty() {
            assert_eq!(fills(&disk.bytes("a")), [7; 3], "seed {seed}");
            back += 1;
        }
    }
    assert!((50..250).contains(&back), "{back}");
}

#[test]
fn the_extremes_and_all_between_can_be_forced() {
    for seed in 0..SEEDS {
        for survival in Survival::ALL {
            let disk = SimulatedDisk::new(seed);
            disk.set_survival(Some(survival));
            let file = synced(&disk, "a", 64, 1);
            file.write(0, &[2; 64 * SECTOR_BYTES]).unwrap();
            file.write(0, &[3; 32 * SECTOR_BYTES]).unwrap();
            disk.remove("a").unwrap();
            disk.rename("a", "b").unwrap_err();
            drop(disk.create("c").unwrap());
            let visible = contents(&disk);
            disk.cut_power();
            match survival {
                Survival::Nothing => assert_eq!(fills(&disk.bytes("a")), [1; 64]),
                Survival::Everything => assert_eq!(contents(&disk), visible),
                _ => {}
            }
        }
    }
}

#[test]
fn handles_of_before_a_cut_answer_errors() {
    let disk = SimulatedDisk::new(1);
    let file = synced(&disk, "a", 1, 1);
    disk.cut_power();
    assert!(file.len().is_err() && file.read(0, &mut [0]).is_err() && file.write(0, &[1]).is_err());
    assert!(file.set_len(0).is_err() && file.sync_data().is_err());
    let again = disk.open("a").unwrap();
    drop(file);
    again.write(0, &[2]).unwrap();
    assert_eq!(disk.bytes("a")[0], 2);
}

#[test]
fn a_file_opened_to_read_is_not_written() {
    let disk = SimulatedDisk::new(1);
    drop(synced(&disk, "a", 1, 1));
    let (file, before) = (disk.open_to_read("a").unwrap(), disk.operations());
    assert!(file.write(0, &[2]).is_err() && file.set_len(0).is_err() && file.sync_data().is_err());
    let mut byte = [0];
    file.read(0, &mut byte).unwrap();
    assert_eq!((byte[0], disk.operations()), (1, before));
    assert_eq!(file.read(SECTOR_BYTES as u64, &mut byte).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn creating_a_file_that_is_there_cuts_it_to_nothing() {
    let disk = SimulatedDisk::new(1);
    drop(synced(&disk, "a", 4, 1));
    let file = disk.create("a").unwrap();
    assert_eq!((file.len().unwrap(), disk.used_bytes("a").unwrap()), (0, 0));
    file.sync_data().unwrap();
    disk.cut_power();
    assert_eq!(disk.bytes("a"), b"");
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let (disk, mut random) = (SimulatedDisk::new(seed), Random::new(seed));
        for round in 0..20 {
            let file = disk.create(&format!("f{}", random.below(4))).unwrap();
            for _ in 0..8 {
                file.write(random.below(5000), &vec![round; random.below(3000) as usize]).unwrap();
            }
            if random.coin() {
                file.sync_data().unwrap();
                Folder::sync(&disk).unwrap();
            }
            if random.below(4) == 0 {
                disk.cut_power();
            }
        }
        disk.cut_power();
        (contents(&disk), disk.kinds())
    };
    let all: BTreeSet<_> = (0..20).map(run).collect();
    assert_eq!(all, (0..20).map(run).collect());
    assert_eq!(all.len(), 20, "another seed, another disk");
}
