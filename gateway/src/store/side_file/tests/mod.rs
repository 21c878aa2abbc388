//! How the life of a side file goes, for each of them: one table of what is there, what the disk
//! does, and what comes of it.

pub mod failing_disk;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use redb::{Database, ReadTransaction, ReadableDatabase, TableDefinition, WriteTransaction};

use super::{
    ALL,
    file::{Budget, META, SPARSE_BYTES_MIN, SideFile, copy_table},
    lazy_db::{LazyDb, Opened},
};
use crate::store::{
    disk::{Files, folder::OsFolder},
    error::StoreError,
};
use failing_disk::{Failing, Fault};

const STORE: u32 = 7;
/// A number that a test keeps in `meta`, and changes.
const NUMBER: &str = "number";
/// Rows of about a kilobyte that make a file large.
const LARGE_ROWS: u64 = 4_000;

struct Bench {
    folder: tempfile::TempDir,
    fault: Arc<Fault>,
    files: Files,
    file: &'static SideFile,
}

impl Bench {
    fn new(file: &'static SideFile) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fault = Arc::new(Fault::default());
        fault.mend();
        let inner = OsFolder::new(folder.path().into());
        let files = Files::new(Arc::new(Failing { inner, fault: fault.clone() }));
        Self { folder, fault, files, file }
    }

    /// One with a file that holds this number.
    fn holding(file: &'static SideFile, number: u64) -> Self {
        let bench = Self::new(file);
        bench.db().lock().make(|new| set(new, number)).unwrap();
        bench
    }

    fn db(&self) -> LazyDb {
        LazyDb::new(*self.file, self.files.clone(), STORE)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(self.file.name)
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.files.names().unwrap();
        names.sort();
        names
    }
}

fn set(transaction: &WriteTransaction, number: u64) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(NUMBER, number)?;
    Ok(())
}

fn number(db: &Database) -> Result<u64, redb::Error> {
    super::file::number(db, NUMBER).map(Option::unwrap_or_default)
}

/// Reads every row, as an opening does, and gives the number.
fn checked(file: &SideFile) -> impl Fn(&Database) -> Result<u64, redb::Error> {
    let check_rows = file.check_rows;
    move |db| check_rows(db).and_then(|()| number(db))
}

/// What is done to a file, in words and in deed.
type Damage = (&'static str, fn(&Bench));

/// What makes a whole file one that cannot be trusted.
const DAMAGES: [Damage; 5] = [
    ("empty", |bench| std::fs::write(bench.path(), b"").unwrap()),
    ("a photograph", |bench| std::fs::write(bench.path(), [7; 100_000]).unwrap()),
    ("cut short", |bench| {
        std::fs::OpenOptions::new().write(true).open(bench.path()).unwrap().set_len(9_000).unwrap();
    }),
    ("another store's", |bench| {
        drop(bench.file.make(&bench.files, STORE + 1, |new| set(new, 1)).unwrap());
    }),
    ("another database", |bench| {
        std::fs::remove_file(bench.path()).unwrap();
        let transaction = Database::create(bench.path()).unwrap().begin_write().unwrap();
        transaction.open_table(META).unwrap();
        transaction.commit().unwrap();
    }),
];

#[test]
fn a_file_that_is_not_there_is_made_and_is_there_from_then_on() {
    for file in ALL {
        let bench = Bench::new(file);
        let db = bench.db();
        assert_eq!(db.read(number).unwrap(), None, "{}", file.name);
        let mut access = db.lock();
        assert_eq!(access.open(number).unwrap(), Opened::Already, "{}: it was looked for", file.name);
        assert!(!access.is_open() && bench.names().is_empty(), "{}", file.name);
        assert_eq!(access.make(|new| set(new, 5).map(|()| 6)).unwrap(), 6, "{}", file.name);
        drop(access);
        assert_eq!(db.read(number).unwrap(), Some(5), "{}", file.name);
        drop(db);
        assert_eq!(bench.names(), [file.name]);
        let db = bench.db();
        assert_eq!(db.lock().open(checked(file)).unwrap(), Opened::Whole(5), "{}", file.name);
        assert_eq!(db.lock().open(number).unwrap(), Opened::Already, "{}", file.name);
    }
}

#[test]
fn a_damaged_file_is_set_aside_and_begun_anew_and_a_change_to_it_alone_leaves_it() {
    for file in ALL {
        for (what, damage) in DAMAGES {
            let bench = Bench::holding(file, 5);
            damage(&bench);
            let db = bench.db();
            let refused = db.change(|new| set(new, 6)).unwrap_err();
            assert!(refused.is_damage(), "{}, {what}: {refused}", file.name);
            assert_eq!(bench.names(), [file.name], "{what}");
            let mut access = db.lock();
            assert_eq!(access.open(checked(file)).unwrap(), Opened::SetAside, "{}, {what}", file.name);
            assert_eq!(bench.names(), [file.damaged_name], "{what}");
            access.make(|new| set(new, 7)).unwrap();
            drop(access);
            assert_eq!(db.read(number).unwrap(), Some(7), "{}, {what}", file.name);
            assert_eq!(bench.names(), [file.name, file.damaged_name], "{what}");
        }
    }
}

#[test]
fn a_newer_file_is_refused_and_left_as_it_is() {
    for file in ALL {
        let bench = Bench::new(file);
        let newer = SideFile { format: file.format + 1, ..*file };
        drop(newer.make(&bench.files, STORE, |new| set(new, 5)).unwrap());
        let db = bench.db();
        for _ in 0..2 {
            let refused = db.lock().open(number).unwrap_err();
            assert!(matches!(refused, StoreError::Format { .. }), "{}: {refused}", file.name);
            assert!(matches!(db.read(number), Err(StoreError::Format { .. })), "{}", file.name);
            assert!(matches!(db.change(|new| set(new, 6)), Err(StoreError::Format { .. })), "{}", file.name);
        }
        drop(db);
        assert_eq!(bench.names(), [file.name]);
        let found = LazyDb::new(newer, bench.files.clone(), STORE).read(number);
        assert_eq!(found.unwrap(), Some(5), "{}", file.name);
    }
}

#[test]
fn a_disk_that_fails_at_the_opening_leaves_the_file_and_is_asked_again() {
    for file in ALL {
        let bench = Bench::holding(file, 5);
        let db = bench.db();
        bench.fault.stuck.store(true, Ordering::SeqCst);
        for _ in 0..2 {
            let refused = db.lock().open(number).unwrap_err();
            assert!(!refused.is_damage() && db.lock().is_shut(), "{}: {refused}", file.name);
        }
        bench.fault.mend();
        assert_eq!(db.lock().open(checked(file)).unwrap(), Opened::Whole(5), "{}", file.name);
        assert_eq!(bench.names(), [file.name]);
    }
}

#[test]
fn after_a_write_that_failed_the_file_is_opened_anew_and_holds_what_was_before_or_after() {
    for file in ALL {
        let mut n = -1;
        loop {
            n += 1;
            let bench = Bench::holding(file, 5);
            let db = bench.db();
            assert_eq!(db.lock().open(number).unwrap(), Opened::Whole(5), "{}", file.name);
            bench.fault.left.store(n, Ordering::SeqCst);
            let written = db.lock().write(|new| set(new, 6));
            let is_done = written.is_ok();
            assert_eq!(db.lock().is_shut(), !is_done, "{}, operation {n}: {written:?}", file.name);
            bench.fault.mend();
            let found = db.read(checked(file)).unwrap();
            assert!(found == Some(6) || (found == Some(5) && !is_done), "{}: {found:?}", file.name);
            db.change(|new| set(new, 8)).unwrap();
            assert_eq!(db.read(number).unwrap(), Some(8), "{}, operation {n}", file.name);
            assert_eq!(bench.names(), [file.name], "operation {n}");
            if is_done {
                break;
            }
        }
        assert!(n > 1, "{}: nothing ever failed", file.name);
    }
}

#[test]
fn a_file_whose_making_failed_is_made_at_the_next_try() {
    for file in ALL {
        let mut n = -1;
        loop {
            n += 1;
            let bench = Bench::new(file);
            let db = bench.db();
            bench.fault.left.store(n, Ordering::SeqCst);
            let made = db.change(|new| set(new, 5));
            bench.fault.mend();
            assert_eq!(db.lock().is_open(), made.is_ok(), "{}, operation {n}", file.name);
            db.change(|new| set(new, 6)).unwrap();
            assert_eq!(db.read(checked(file)).unwrap(), Some(6), "{}, operation {n}", file.name);
            assert_eq!(bench.names(), [file.name], "operation {n}");
            if made.is_ok() {
                break;
            }
        }
        assert!(n > 3, "{}: nothing ever failed", file.name);
    }
}

/// A file that was large and holds hardly anything any more.
fn sparse(file: &'static SideFile) -> (Bench, LazyDb) {
    let bench = Bench::holding(file, 5);
    let db = bench.db();
    let names: Vec<String> = (0..LARGE_ROWS).map(|n| format!("{n:01000}")).collect();
    db.change(|new| {
        let mut meta = new.open_table(META)?;
        names.iter().try_for_each(|name| meta.insert(name.as_str(), 1).map(drop))?;
        Ok(())
    })
    .unwrap();
    db.change(|new| {
        new.open_table(META)?.retain(|name, _| name.len() < 1_000)?;
        Ok(())
    })
    .unwrap();
    assert!(bench.files.used_bytes(file.name) > 3 * SPARSE_BYTES_MIN, "{}", file.name);
    (bench, db)
}

#[test]
fn a_file_that_takes_much_more_than_it_holds_is_copied_and_none_of_it_is_lost_whatever_fails() {
    for file in ALL {
        let (bench, db) = sparse(file);
        db.tidy(0);
        assert!(
            db.lock().is_open() && bench.files.used_bytes(file.name) < 2 * SPARSE_BYTES_MIN,
            "{}",
            file.name
        );
        assert_eq!(db.read(checked(file)).unwrap(), Some(5), "{}", file.name);
        // The first operations and some of the others.
        for n in [0, 1, 2, 3, 5, 8] {
            let (bench, db) = sparse(file);
            bench.fault.left.store(n, Ordering::SeqCst);
            db.tidy(0);
            bench.fault.mend();
            assert_eq!(db.read(checked(file)).unwrap(), Some(5), "{}, operation {n}", file.name);
            assert!(bench.names().iter().all(|name| *name != file.damaged_name), "operation {n}");
            db.change(|new| set(new, 6)).unwrap();
            drop(db);
            assert_eq!(bench.db().read(checked(file)).unwrap(), Some(6), "{}, operation {n}", file.name);
        }
    }
}

#[test]
fn after_it_was_closed_or_the_power_was_cut_everything_says_closed() {
    for file in ALL {
        let ends: [fn(&Bench, &LazyDb); 2] = [|_, db| db.close(), |bench, _| bench.files.power().cut()];
        for (end, is_open) in ends.into_iter().flat_map(|end| [(end, true), (end, false)]) {
            let bench = Bench::holding(file, 5);
            let db = bench.db();
            if is_open {
                assert_eq!(db.read(number).unwrap(), Some(5), "{}", file.name);
            }
            end(&bench, &db);
            for _ in 0..2 {
                assert!(matches!(db.change(|new| set(new, 6)), Err(StoreError::Closed)), "{}", file.name);
                assert!(
                    matches!(db.lock().make(|new| set(new, 6)), Err(StoreError::Closed)),
                    "{}",
                    file.name
                );
                db.tidy(0);
            }
            drop(db);
            let files = Files::new(Arc::new(OsFolder::new(bench.folder.path().into())));
            assert_eq!(
                LazyDb::new(*file, files, STORE).read(checked(file)).unwrap(),
                Some(5),
                "{}",
                file.name
            );
        }
    }
}

#[test]
fn a_table_that_a_copy_would_leave_out_keeps_the_old_file() {
    const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("table");
    const FORGOTTEN: TableDefinition<'_, u64, u64> = TableDefinition::new("forgotten");
    let forgetful = SideFile {
        what: "letters",
        name: "a",
        old_name: None,
        new_name: "a.new",
        damaged_name: "a.damaged",
        format: 1,
        format_oldest: 1,
        make_tables: |new| new.open_table(TABLE).map(drop).map_err(redb::Error::from),
        copy_tables: |old, new| copy_table(old, new, TABLE),
        check_rows: |_| Ok(()),
    };
    let path = tempfile::tempdir().unwrap();
    let files = Files::new(Arc::new(OsFolder::new(path.path().to_owned())));
    let leaves_out = LazyDb::new(forgetful, files.clone(), 1);
    leaves_out
        .change(|new| {
            new.open_table(TABLE)?.insert(1, vec![7; 8 << 20].as_slice())?;
            new.open_table(FORGOTTEN)?.insert(1, 2)?;
            Ok(())
        })
        .unwrap();
    let remove = |new: &WriteTransaction| {
        new.open_table(TABLE)?.remove(1)?;
        Ok(())
    };
    leaves_out.change(remove).unwrap();
    let used = files.used_bytes("a");
    let found =
        |db: &LazyDb| db.read(|db| Ok(db.begin_read()?.open_table(FORGOTTEN)?.get(1)?.map(|n| n.value())));
    leaves_out.tidy(0);
    assert_eq!(found(&leaves_out).unwrap(), Some(Some(2)));
    assert!(files.used_bytes("a") >= used);
    drop(leaves_out);
    let copy_tables = |old: &ReadTransaction, new: &WriteTransaction| {
        copy_table(old, new, TABLE).and_then(|()| copy_table(old, new, FORGOTTEN))
    };
    let all = LazyDb::new(SideFile { copy_tables, ..forgetful }, files.clone(), 1);
    assert_eq!(found(&all).unwrap(), Some(Some(2)));
    all.tidy(0);
    assert!(files.used_bytes("a") < used / 8);
    assert_eq!(found(&all).unwrap(), Some(Some(2)));
}

#[test]
fn the_contents_get_a_part_of_the_room_or_what_is_the_most_in_any_or_the_least() {
    let budget = Budget { store_part: 8, bytes_least: 100 };
    for (bytes_max, room, wanted) in [
        (1_000, 80_000, 1_000),
        (1_000, 1_600, 200),
        (1_000, 0, 100),
        (50, 0, 50),
        (u64::MAX, u64::MAX, u64::MAX / 8),
    ] {
        assert_eq!(budget.bytes(bytes_max, room), wanted, "{bytes_max} in {room}");
    }
}
