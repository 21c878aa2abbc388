//! The simulated disk fails when and as it is told to, fills up, and rots.

use std::io;

use tidegate::store::Folder;

use crate::{
    SECTOR_BYTES, SEEDS, fills,
    simulated_disk::{Fault, Kind, SimulatedDisk, Survival},
    synced,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const BLOCK_BYTES: u64 = 4096;

fn code<T>(outcome: io::Result<T>) -> Option<i32> {
    outcome.err().expect("an error").raw_os_error()
}

/// One operation of each kind, up to the first that fails.
fn each_kind(disk: &SimulatedDisk) -> io::Result<()> {
    let file = disk.create("a")?;
    file.set_len(10_000)?;
    file.write(0, &[1; 2 * SECTOR_BYTES])?;
    file.sync_data()?;
    disk.sync()?;
    drop(disk.open("a")?);
    disk.rename("a", "b")?;
    disk.remove("b")
}

const KINDS: [Kind; 8] = [
    Kind::Create,
    Kind::SetLen,
    Kind::Write,
    Kind::Sync,
    Kind::FolderSync,
    Kind::Open,
    Kind::Rename,
    Kind::Remove,
];

#[test]
fn every_operation_counts_and_any_of_them_can_fail() {
    let disk = SimulatedDisk::new(1);
    each_kind(&disk).unwrap();
    assert_eq!(disk.kinds(), KINDS);
    assert_eq!(disk.operations(), KINDS.len() as u64);
    assert_eq!(disk.operation(3).unwrap().to_string(), "Write a 0+1024");
    for n in 1..=disk.operations() {
        for (fault, expected) in [(Fault::Io, EIO), (Fault::NoSpace, ENOSPC), (Fault::ShortWrite, EIO)] {
            let disk = SimulatedDisk::new(1);
            disk.fail_at(n, fault);
            assert_eq!(code(each_kind(&disk)), Some(expected), "operation {n}");
            assert_eq!(disk.operations(), n);
            each_kind(&disk).unwrap();
        }
    }
}

#[test]
fn from_an_operation_on_all_fail_until_it_is_healed() {
    let disk = SimulatedDisk::new(1);
    let file = synced(&disk, "a", 1, 1);
    disk.fail_from(2, Fault::NoSpace);
    file.write(0, &[2]).unwrap();
    for _ in 0..3 {
        assert_eq!(code(file.write(0, &[3])), Some(ENOSPC));
        assert_eq!(code(disk.create("b")), Some(ENOSPC));
    }
    assert_eq!(disk.bytes("a")[0], 2, "reading goes on");
    disk.heal();
    file.write(0, &[4]).unwrap();
    assert_eq!((disk.bytes("a")[0], disk.names()), (4, vec!["a".to_owned()]));
}

#[test]
fn reads_are_counted_and_fail_for_themselves() {
    let disk = SimulatedDisk::new(1);
    let (file, mut byte) = (synced(&disk, "a", 1, 1), [0]);
    let before = disk.operations();
    disk.fail_read_at(2, Fault::Io);
    file.read(0, &mut byte).unwrap();
    assert_eq!(code(file.read(0, &mut byte)), Some(EIO));
    file.read(0, &mut byte).unwrap();
    assert_eq!((disk.reads(), disk.operations()), (3, before));
}

#[test]
fn a_short_write_leaves_its_first_half() {
    let disk = SimulatedDisk::new(1);
    let file = synced(&disk, "a", 4, 1);
    disk.fail_at(1, Fault::ShortWrite);
    assert_eq!(code(file.write(0, &[2; 4 * SECTOR_BYTES])), Some(EIO));
    assert_eq!(fills(&disk.bytes("a")), [2, 2, 1, 1]);
}

#[test]
fn what_a_failed_sync_left_is_seen_and_not_made_durable_by_the_next_sync() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        let file = synced(&disk, "a", 4, 1);
        file.write(0, &[2; 4 * SECTOR_BYTES]).unwrap();
        disk.fail_at(1, Fault::Io);
        assert_eq!(code(file.sync_data()), Some(EIO));
        assert_eq!(fills(&disk.bytes("a")), [2; 4], "memory shows it");
        file.write(3 * SECTOR_BYTES as u64, &[3; SECTOR_BYTES]).unwrap();
        file.sync_data().unwrap();
        assert_eq!(fills(&disk.bytes("a")), [2, 2, 2, 3], "memory shows it still");
        disk.cut_power();
        let found = fills(&disk.bytes("a"));
        assert_eq!(found[3], 3, "seed {seed}: it was written again");
        lost += found[..3].iter().filter(|fill| **fill == 1).count();
        kept += found[..3].iter().filter(|fill| **fill == 2).count();
    }
    assert!(lost > 200 && kept > 200, "{lost} {kept}");
}

#[test]
fn what_is_read_after_forgetting_is_what_a_cut_leaves() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        let file = synced(&disk, "a", 4, 1);
        file.write(0, &[2; 6 * SECTOR_BYTES]).unwrap();
        disk.fail_at(1, Fault::Io);
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        disk.forget_cached("a").unwrap();
        let found = disk.bytes("a");
        assert_eq!(found, disk.durable_bytes("a"), "seed {seed}");
        disk.cut_power();
        assert_eq!(disk.bytes("a"), found, "seed {seed}");
        seen.insert(fills(&found));
    }
    assert!(seen.contains(&vec![1, 1, 1, 1, 0, 0]) && seen.contains(&vec![2; 6]) && seen.len() > 10);
}

#[test]
fn forgetting_leaves_what_waits_for_its_first_sync() {
    let disk = SimulatedDisk::new(1);
    disk.set_survival(Some(Survival::Nothing));
    let file = synced(&disk, "a", 2, 1);
    file.write(0, &[2; SECTOR_BYTES]).unwrap();
    disk.fail_at(1, Fault::Io);
    file.sync_data().unwrap_err();
    file.write(SECTOR_BYTES as u64, &[3; SECTOR_BYTES]).unwrap();
    disk.forget_cached("a").unwrap();
    assert_eq!(fills(&disk.bytes("a")), [1, 3]);
    file.sync_data().unwrap();
    disk.cut_power();
    assert_eq!(fills(&disk.bytes("a")), [1, 3]);
}

#[test]
fn what_a_failed_sync_left_and_was_cut_off_does_not_come_back() {
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        let file = synced(&disk, "a", 4, 1);
        file.write(0, &[2; 4 * SECTOR_BYTES]).unwrap();
        disk.fail_at(1, Fault::Io);
        file.sync_data().unwrap_err();
        file.set_len(0).unwrap();
        file.set_len(4 * SECTOR_BYTES as u64).unwrap();
        file.sync_data().unwrap();
        disk.cut_power();
        assert_eq!(fills(&disk.bytes("a")), [0; 4], "seed {seed}");
    }
}

#[test]
fn a_failed_folder_sync_leaves_the_names_to_chance_and_the_next_one_settles_them() {
    let mut there = 0;
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        drop(disk.create("a").unwrap());
        disk.fail_at(1, Fault::Io);
        assert_eq!(code(disk.sync()), Some(EIO));
        if seed % 2 == 0 {
            disk.sync().unwrap();
        }
        disk.cut_power();
        assert!(seed % 2 == 1 || disk.names() == ["a"], "seed {seed}");
        there += usize::from(seed % 2 == 1 && !disk.names().is_empty());
    }
    assert!((30..120).contains(&there), "{there}");
}

#[test]
fn a_full_disk_takes_what_fits_and_room_comes_back() {
    let disk = SimulatedDisk::new(1);
    disk.set_capacity_bytes(Some(4 * BLOCK_BYTES + 100));
    let file = disk.create("a").unwrap();
    file.set_len(100 * BLOCK_BYTES).unwrap();
    assert_eq!(disk.used_bytes("a").unwrap(), 0, "holes take no room");
    file.write(10 * BLOCK_BYTES + 1, &[1; 2]).unwrap();
    assert_eq!(disk.used_bytes("a").unwrap(), BLOCK_BYTES);
    assert_eq!(code(file.write(BLOCK_BYTES / 2, &[2; 5 * BLOCK_BYTES as usize])), Some(ENOSPC));
    let written = disk.bytes("a").iter().filter(|byte| **byte == 2).count() as u64;
    assert_eq!(written, 3 * BLOCK_BYTES - BLOCK_BYTES / 2, "up to the end of the last free block");
    assert_eq!(disk.all_used_bytes(), 4 * BLOCK_BYTES);
    file.write(10 * BLOCK_BYTES, &[3; 100]).unwrap();
    file.set_len(BLOCK_BYTES).unwrap();
    assert_eq!(disk.used_bytes("a").unwrap(), BLOCK_BYTES);

    let other = disk.create("b").unwrap();
    other.write(0, &[4; 3 * BLOCK_BYTES as usize]).unwrap();
    assert_eq!(code(file.write(BLOCK_BYTES, &[5])), Some(ENOSPC));
    disk.remove("b").unwrap();
    assert_eq!(code(file.write(BLOCK_BYTES, &[5])), Some(ENOSPC), "it is open still");
    drop(other);
    file.write(BLOCK_BYTES, &[5]).unwrap();
}

#[test]
fn after_a_cut_a_file_takes_the_room_of_what_survived() {
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        let file = synced(&disk, "a", 8, 1);
        file.set_len(100 * BLOCK_BYTES).unwrap();
        file.write(50 * BLOCK_BYTES, &[2; 4 * BLOCK_BYTES as usize]).unwrap();
        disk.cut_power();
        let bytes = disk.bytes("a");
        let blocks = bytes.chunks(BLOCK_BYTES as usize).filter(|block| block.iter().any(|byte| *byte != 0));
        assert_eq!(disk.used_bytes("a").unwrap(), blocks.count() as u64 * BLOCK_BYTES, "seed {seed}");
    }
}

#[test]
fn what_was_cut_off_takes_no_room_after_a_cut() {
    let disk = SimulatedDisk::new(1);
    let file = synced(&disk, "a", 32, 1);
    file.set_len(0).unwrap();
    file.set_len(4 * BLOCK_BYTES).unwrap();
    file.sync_data().unwrap();
    disk.cut_power();
    assert_eq!((disk.used_bytes("a").unwrap(), fills(&disk.bytes("a"))), (0, vec![0; 32]));
}

#[test]
fn the_power_can_go_during_any_operation() {
    let mut done = std::collections::BTreeSet::new();
    for n in 1..=KINDS.len() as u64 {
        for seed in 0..SEEDS {
            let disk = SimulatedDisk::new(seed);
            disk.cut_at(n);
            assert_eq!(code(each_kind(&disk)), None, "not an error of the system");
            assert!(!disk.has_power() && Folder::names(&disk).is_err() && disk.sync().is_err());
            assert_eq!(disk.operations(), n, "what comes later is not asked for");
            disk.power_on();
            assert!(disk.has_power());
            // Durable since the folder's sync, the fifth; renamed by the seventh, removed by the
            // eighth.
            if n == 6 {
                assert_eq!(disk.names(), ["a"]);
            }
            done.insert((n, disk.names()));
            each_kind(&disk).unwrap();
        }
    }
    let seen = |n, names: &[&str]| done.contains(&(n, names.iter().map(|name| (*name).into()).collect()));
    assert!(seen(1, &[]) && seen(1, &["a"]), "a creation is under way: {done:?}");
    assert!(seen(7, &["a"]) && seen(7, &["b"]), "a rename is under way: {done:?}");
    assert!(seen(8, &["a"]) && seen(8, &["b"]) && seen(8, &[]), "a removal is under way: {done:?}");
}

#[test]
fn rot_is_on_the_disk_and_in_memory() {
    let disk = SimulatedDisk::new(1);
    disk.set_survival(Some(Survival::Everything));
    let file = synced(&disk, "a", 24, 1);
    file.write(0, &[2; SECTOR_BYTES]).unwrap();
    disk.flip("a", 5, 7);
    disk.zero_page("a", 1);
    disk.truncate("a", 9000);
    let check = |disk: &SimulatedDisk| {
        let bytes = disk.bytes("a");
        assert_eq!((bytes[4], bytes[5], bytes[512], bytes.len()), (2, 2 ^ 0x80, 1, 9000));
        assert!(bytes[4096..8192].iter().all(|byte| *byte == 0));
        assert!(bytes[8192..].iter().all(|byte| *byte == 1));
    };
    let mut byte = [0];
    file.read(5, &mut byte).unwrap();
    assert_eq!(byte, [2 ^ 0x80]);
    check(&disk);
    disk.cut_power();
    check(&disk);
    disk.put("b", b"put");
    disk.put("a", &disk.bytes("a"));
    disk.set_survival(Some(Survival::Nothing));
    disk.cut_power();
    check(&disk);
    assert_eq!((disk.bytes("b"), disk.names()), (b"put".to_vec(), vec!["a".to_owned(), "b".to_owned()]));
}
