//! A plain redb database on the simulated disk keeps what it committed.

use std::collections::BTreeMap;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tidegate::store::Folder;

use crate::simulated_disk::{Fault, Random, SimulatedDisk};

const SEEDS: u64 = 200;
const CUTS: usize = 2;
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
const NAME: &str = "a.redb";

type Rows = BTreeMap<u64, Vec<u8>>;

/// What the database must hold: what was committed, or that and the commit that was under way.
#[derive(Default)]
struct Expected {
    committed: Rows,
    under_way: Option<Rows>,
}

impl Expected {
    fn check(&mut self, database: &Database, seed: u64) {
        let found = rows(database);
        let under_way = self.under_way.take();
        if found != self.committed {
            assert_eq!(
                Some(&found),
                under_way.as_ref(),
                "seed {seed}: neither what was committed nor the next"
            );
            self.committed = found;
        }
    }
}

fn rows(database: &Database) -> Rows {
    let transaction = database.begin_read().unwrap();
    let table = match transaction.open_table(TABLE) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Rows::new(),
        table => table.unwrap(),
    };
    let row = |row: Result<(redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, &[u8]>), _>| {
        let (key, value) = row.unwrap();
        (key.value(), value.value().to_vec())
    };
    table.iter().unwrap().map(row).collect()
}

fn open(disk: &SimulatedDisk) -> Result<Database, redb::Error> {
    let file = disk.open_file(NAME)?;
    Ok(Database::builder().create_with_backend(file)?)
}

/// A database that is on the disk with its name and one commit, without any row.
fn made(disk: &SimulatedDisk) -> Database {
    let database = Database::builder().create_with_backend(disk.create_file(NAME).unwrap()).unwrap();
    disk.sync().unwrap();
    database
}

/// Commits at random until the disk fails.
fn commit_some(database: &Database, random: &mut Random, expected: &mut Expected) -> Result<(), redb::Error> {
    for _ in 0..200 {
        let mut next = expected.committed.clone();
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for _ in 0..=random.below(4) {
                let key = random.below(24);
                if random.below(3) == 0 {
                    table.remove(key)?;
                    next.remove(&key);
                } else {
                    let most = [64, 1_000, 9_000][random.below(3) as usize];
                    let value = vec![random.draw() as u8; random.below(most) as usize];
                    table.insert(key, &*value)?;
                    next.insert(key, value);
                }
            }
        }
        expected.under_way = Some(next);
        transaction.commit()?;
        expected.committed = expected.under_way.take().unwrap();
    }
    Ok(())
}

#[test]
fn what_redb_committed_outlives_a_cut_at_any_operation() {
    let (mut rows_kept, mut recoveries_cut) = (0, 0);
    for seed in 0..SEEDS {
        let (disk, mut random) = (SimulatedDisk::new(seed), Random::new(!seed));
        let mut expected = Expected::default();
        let mut database = made(&disk);
        for _ in 0..CUTS {
            disk.cut_at(1 + random.below(150));
            let _ = commit_some(&database, &mut random, &mut expected);
            drop(database);
            disk.power_on();
            // The power may go again while redb repairs.
            loop {
                disk.cut_at(1 + random.below(12));
                match open(&disk) {
                    Ok(opened) => database = opened,
                    Err(error) if disk.has_power() => panic!("seed {seed}: {error}"),
                    Err(_) => {
                        recoveries_cut += 1;
                        disk.power_on();
                        continue;
                    }
                }
                break;
            }
            expected.check(&database, seed);
            rows_kept += expected.committed.len();
        }
    }
    assert!(rows_kept > 1_000 && recoveries_cut > 50, "{rows_kept} {recoveries_cut}");
}

#[test]
fn what_redb_committed_outlives_a_fault_at_any_operation_and_a_cut_after_it() {
    for seed in 0..SEEDS {
        let (disk, mut random) = (SimulatedDisk::new(seed), Random::new(!seed));
        let mut expected = Expected::default();
        let mut database = made(&disk);
        for _ in 0..CUTS {
            let fault = [Fault::Io, Fault::NoSpace, Fault::ShortWrite][random.below(3) as usize];
            disk.fail_at(1 + random.below(100), fault);
            assert!(commit_some(&database, &mut random, &mut expected).is_err(), "seed {seed}");
            drop(database);
            // Without this redb would build on what memory shows and the disk does not have.
            disk.open(NAME).unwrap().sync_data().unwrap();
            disk.forget_cached(NAME).unwrap();
            database = open(&disk).unwrap();
            expected.check(&database, seed);
            if random.coin() {
                disk.cut_power();
                drop(database);
                database = open(&disk).unwrap();
                expected.check(&database, seed);
            }
        }
    }
}

/// The reason for [`Folder::forget_cached`], and that this disk finds where it is missing.
#[test]
fn redb_on_what_memory_shows_after_a_failed_sync_loses_what_it_commits() {
    let lost = (0..SEEDS / 4).filter(|seed| {
        let (disk, mut random) = (SimulatedDisk::new(*seed), Random::new(!seed));
        let mut expected = Expected::default();
        let database = made(&disk);
        disk.fail_at(20 + random.below(60), Fault::Io);
        let _ = commit_some(&database, &mut random, &mut expected);
        drop(database);
        let Ok(database) = open(&disk) else { return false };
        disk.fail_at(12, Fault::Io);
        let _ = commit_some(&database, &mut random, &mut expected);
        drop(database);
        disk.cut_power();
        open(&disk).map_or(true, |database| {
            let found = rows(&database);
            found != expected.committed && Some(found) != expected.under_way
        })
    });
    assert!(lost.count() > 0);
}

#[test]
fn a_seed_replays_to_the_byte_with_redb_on_it() {
    let run = |seed| {
        let (disk, mut random) = (SimulatedDisk::new(seed), Random::new(seed));
        let database = made(&disk);
        disk.cut_at(120);
        let _ = commit_some(&database, &mut random, &mut Expected::default());
        drop(database);
        disk.power_on();
        drop(open(&disk).unwrap());
        (disk.kinds(), disk.bytes(NAME))
    };
    for seed in 0..10 {
        assert!(run(seed) == run(seed), "seed {seed}");
    }
}
