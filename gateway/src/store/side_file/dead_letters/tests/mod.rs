//! What the dead letters promise: bounded and counted, whole after any failure, never a panic and
//! never silence.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use redb::{Builder, TableDefinition};

use std::time::Duration;

use super::{file::OLD_FILE, *};
use crate::store::{
    disk::folder::OsFolder,
    record::Record,
    side_file::tests::failing_disk::{Failing, Fault},
};

const STORE: u32 = 7;
const ROOM: u64 = 1 << 20;

struct Bench {
    folder: tempfile::TempDir,
    fault: Arc<Fault>,
    files: Files,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fault = Arc::new(Fault::default());
        fault.mend();
        let inner = OsFolder::new(folder.path().into());
        let files = Files::new(Arc::new(Failing { inner, fault: fault.clone() }));
        Self { folder, fault, files }
    }

    fn open(&self) -> DeadLetters {
        self.open_with(ROOM)
    }

    fn open_with(&self, max_bytes: u64) -> DeadLetters {
        DeadLetters::open(&self.files, STORE, true, max_bytes).unwrap()
    }

    /// A file as a new store has it: nothing was lost with it.
    fn begin(&self) -> DeadLetters {
        DeadLetters::open(&self.files, STORE, false, ROOM).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.files.names().unwrap();
        names.sort();
        names
    }
}

fn record<'a>(client: &'a str, payload: &'a [u8]) -> Record<'a> {
    Record {
        events: 2,
        qos: 0,
        urgent: true,
        received_ms: 5_000,
        client,
        topic: "plain/topic",
        properties: &[1, 1],
        payload,
        ..Record::default()
    }
}

fn letter<'a>(offset: u64, record: Record<'a>) -> Letter<'a> {
    let code = ReasonCode::TooLong;
    Letter { uplink: "cloud", offset, code, reason: "too large", set_aside_ms: 9_000, tries: 1, record }
}

fn ids(letters: &DeadLetters) -> Vec<u64> {
    let page = letters.list(&DeadLetterFilter::default(), 0, PAGE_LETTERS_MAX).unwrap();
    page.letters.iter().map(|letter| letter.id).collect()
}

#[test]
fn a_letter_is_whole_also_after_a_restart_and_its_number_is_never_given_again() {
    let bench = Bench::new();
    let letters = bench.begin();
    for offset in 10..13 {
        letters.put(&[letter(offset, record("c", b"one"))]).unwrap();
    }
    assert_eq!(letters.remove(&[3, 99]).unwrap(), 1);
    drop(letters);
    let letters = bench.open();
    letters.put(&[letter(12, record("c", b"two"))]).unwrap();
    assert_eq!((ids(&letters), letters.count(), letters.is_damaged()), (vec![1, 2, 4], 3, false));
    let last = letters.get(4).unwrap().unwrap();
    assert_eq!(
        (
            last.uplink.as_str(),
            last.offset,
            last.reason.as_str(),
            last.set_aside_ms,
            last.received_ms,
            last.tries
        ),
        ("cloud", 12, "too large", 9_000, 5_000, 1)
    );
    assert_eq!(last.record(), record("c", b"two"));
    assert_eq!(letters.get(3).unwrap(), None);
}

#[test]
fn the_same_place_again_replaces_the_letter_and_adds_its_tries() {
    let bench = Bench::new();
    let letters = bench.begin();
    letters.put(&[letter(1, record("c", b"one"))]).unwrap();
    letters.put(&[letter(2, record("c", b"two"))]).unwrap();
    let bytes = letters.bytes();
    letters.put(&[Letter { reason: "too long!", tries: 6, ..letter(1, record("c", b"one")) }]).unwrap();
    let other_uplink = Letter { uplink: "lakes", ..letter(1, record("c", b"one")) };
    letters.put(&[other_uplink]).unwrap();
    assert_eq!((ids(&letters), letters.bytes() - bytes), (vec![1, 2, 3], bytes / 2));
    let first = letters.get(1).unwrap().unwrap();
    assert_eq!((first.reason.as_str(), first.tries), ("too long!", 7));
}

#[test]
fn when_they_are_full_the_oldest_are_dropped_and_counted_until_that_is_confirmed() {
    let bench = Bench::new();
    let letters = bench.begin();
    let payload = [7; 10_000];
    for offset in 0..200 {
        let client = format!("c{}", offset % 2);
        letters.put(&[letter(offset, record(&client, &payload))]).unwrap();
    }
    assert!(letters.bytes() <= ROOM && letters.bytes() > ROOM - 17_000, "{}", letters.bytes());
    let kept = letters.count();
    assert_eq!(ids(&letters), (201 - kept..=200).collect::<Vec<_>>());
    drop(letters);

    let letters = bench.open();
    let taken = letters.take_dropped().unwrap().unwrap();
    assert_eq!((taken.letters(), taken.events()), (200 - kept, 2 * (200 - kept)));
    let devices: Vec<_> = taken.by.iter().map(|by| (by.device.as_str(), by.from, by.to)).collect();
    let gone = 200 - kept;
    let last = |odd| if (gone - 1) % 2 == odd { gone } else { gone - 1 };
    assert_eq!(devices, [("c0", 0, last(0)), ("c1", 1, last(1))]);

    // One more is dropped before what was taken is confirmed.
    letters.put(&[letter(200, record("c0", &payload))]).unwrap();
    letters.confirm_dropped(&taken).unwrap();
    assert_eq!(letters.take_dropped().unwrap().unwrap().letters(), 1);
    let rest = letters.take_dropped().unwrap().unwrap();
    letters.confirm_dropped(&rest).unwrap();
    assert_eq!(letters.take_dropped().unwrap(), None);
    drop(letters);
    assert_eq!(bench.open().take_dropped().unwrap(), None);
}

#[test]
fn a_letter_larger_than_the_room_is_dropped_itself_and_a_lowered_limit_holds_from_the_next_start() {
    let bench = Bench::new();
    let letters = bench.begin();
    letters.put(&[letter(0, record("small", b"x"))]).unwrap();
    letters.put(&[letter(1, record("large", &vec![7; ROOM as usize]))]).unwrap();
    assert_eq!(ids(&letters), [1]);
    assert_eq!(letters.take_dropped().unwrap().unwrap().by[0].device, "large");
    letters.put(&[letter(2, record("small", &[7; 5_000]))]).unwrap();
    let lowered = letters.bytes() - 1;
    drop(letters);
    let letters = bench.open_with(lowered);
    assert_eq!(ids(&letters), [2]);
    assert_eq!(letters.take_dropped().unwrap().unwrap().letters(), 2);
}

#[test]
fn the_thread_of_the_log_waits_for_nobody_who_has_the_file_and_the_next_change_notes_the_segment() {
    let bench = Bench::new();
    let letters = bench.begin();
    let busy = letters.file.lock();
    letters.note_newest_segment(7).unwrap();
    assert_eq!(letters.take_dropped().unwrap(), None);
    drop(busy);
    assert_eq!(letters.newest_segment(), 0);
    letters.put(&[letter(0, record("small", b"x"))]).unwrap();
    drop(letters);
    assert_eq!(bench.open().newest_segment(), 7);
}

#[test]
fn devices_are_counted_by_name_up_to_a_limit_and_the_others_together() {
    let bench = Bench::new();
    let letters = bench.open_with(100);
    for offset in 0..DROPPED_DEVICES_MAX as u64 + 10 {
        letters.put(&[letter(offset, record(&format!("c{offset}"), &[7; 100]))]).unwrap();
    }
    letters.put(&[letter(0, record("c0", &[7; 100]))]).unwrap();
    let dropped = letters.take_dropped().unwrap().unwrap();
    assert_eq!(dropped.by.len(), DROPPED_DEVICES_MAX + 1);
    assert_eq!((dropped.by[0].device.as_str(), dropped.by[0].letters), ("", 10));
    let first = dropped.by.iter().find(|by| by.device == "c0").unwrap();
    assert_eq!((first.letters, dropped.letters()), (2, DROPPED_DEVICES_MAX as u64 + 11));
}

#[test]
fn pages_go_through_all_letters_and_a_filter_through_all_of_its_own() {
    let bench = Bench::new();
    let letters = bench.begin();
    for offset in 0..50 {
        let client = if offset % 5 == 0 { "five" } else { "other" };
        letters.put(&[letter(offset, record(client, &[7; 15_000]))]).unwrap();
    }
    let fives = DeadLetterFilter { device: Some("five".into()), ..DeadLetterFilter::default() };
    for (filter, limit, expected) in
        [(&DeadLetterFilter::default(), 7, 50), (&DeadLetterFilter::default(), 1000, 50), (&fives, 3, 10)]
    {
        let (mut after, mut found) = (0, Vec::new());
        loop {
            let page = letters.list(filter, after, limit).unwrap();
            assert!(page.letters.len() <= limit);
            found.extend(page.letters.iter().map(|letter| letter.id));
            let Some(next) = page.next else { break };
            assert!(next > after);
            after = next;
        }
        assert_eq!(found.len(), expected);
        assert!(found.is_sorted());
    }
    assert_eq!(letters.remove_all(&fives).unwrap(), 10);
    assert_eq!((letters.count(), letters.remove_all(&fives).unwrap()), (40, 0));
    assert_eq!(letters.remove_all(&DeadLetterFilter::default()).unwrap(), 40);
    assert_eq!((letters.count(), letters.bytes()), (0, 0));
}

#[test]
fn every_failing_write_is_an_error_and_the_next_operation_opens_the_file_again() {
    let bench = Bench::new();
    let mut went_well = 0;
    for left in 0..60 {
        let letters = bench.open();
        letters.confirm_damaged().unwrap();
        let offset = 1_000 + left as u64;
        bench.fault.left.store(left, Ordering::SeqCst);
        let put = letters.put(&[letter(offset, record("c", b"x"))]);
        bench.fault.mend();
        match put {
            Ok(_) => went_well += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                letters.put(&[letter(offset, record("c", b"x"))]).unwrap();
            }
        }
        let places = letters.list(&DeadLetterFilter::default(), 0, 1000).unwrap().letters;
        assert_eq!(places.iter().filter(|letter| letter.offset == offset).count(), 1);
        assert_eq!(places.len() as i64, left + 1, "none of the others is lost");
        assert!(!letters.is_damaged());
    }
    assert!(went_well > 0, "the last of them fail nothing");
    assert_eq!(bench.names(), [FILE]);
}

#[test]
fn a_disk_that_fails_at_the_start_keeps_nothing_from_starting_and_is_tried_again_at_every_put() {
    let bench = Bench::new();
    bench.fault.stuck.store(true, Ordering::SeqCst);
    let letters = bench.begin();
    for _ in 0..3 {
        let error = letters.put(&[letter(0, record("c", b"x"))]).unwrap_err();
        assert!(error.to_string().contains("the card is gone"), "{error}");
    }
    bench.fault.mend();
    letters.put(&[letter(0, record("c", b"x"))]).unwrap();
    assert_eq!((ids(&letters), letters.is_damaged()), (vec![1], false));
}

#[test]
fn a_damaged_foreign_empty_or_missing_file_is_put_out_of_the_way_and_said() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm, bool); 5] = [
        ("empty", |path| std::fs::write(path, b"").unwrap(), true),
        ("no database", |path| std::fs::write(path, vec![7; 100_000]).unwrap(), true),
        (
            "cut short",
            |path| {
                let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(9_000).unwrap();
            },
            true,
        ),
        (
            "another database",
            |path| {
                std::fs::remove_file(path).unwrap();
                let db = redb::Database::create(path).unwrap();
                let transaction = db.begin_write().unwrap();
                transaction.open_table(TableDefinition::<u64, u64>::new("meta")).unwrap();
                transaction.commit().unwrap();
            },
            true,
        ),
        ("missing", |path| std::fs::remove_file(path).unwrap(), false),
    ];
    for (name, harm, leaves_it) in harms {
        let bench = Bench::new();
        let letters = bench.begin();
        letters.put(&[letter(0, record("c", b"x"))]).unwrap();
        drop(letters);
        harm(&bench.folder.path().join(FILE));
        let letters = bench.open();
        assert!(letters.is_damaged(), "{name}");
        assert_eq!(letters.count(), 0, "{name}");
        assert_eq!(bench.names().contains(&DAMAGED_FILE.to_owned()), leaves_it, "{name}");
        letters.put(&[letter(1, record("c", b"x"))]).unwrap();
        drop(letters);
        let letters = bench.open();
        assert!(letters.is_damaged(), "{name}: until it is confirmed");
        letters.confirm_damaged().unwrap();
        drop(letters);
        let letters = bench.open();
        assert_eq!((letters.is_damaged(), ids(&letters)), (false, vec![1]), "{name}");
    }
}

#[test]
fn another_stores_file_is_put_out_of_the_way() {
    let bench = Bench::new();
    drop(bench.begin());
    let letters = DeadLetters::open(&bench.files, STORE + 1, true, ROOM).unwrap();
    assert!(letters.is_damaged());
    assert_eq!(bench.names(), [FILE, DAMAGED_FILE]);
}

#[test]
fn a_flipped_byte_anywhere_is_damage_or_harmless_and_never_a_panic() {
    let bench = Bench::new();
    let letters = bench.begin();
    for offset in 0..20 {
        letters.put(&[letter(offset, record("c", &[7; 500]))]).unwrap();
    }
    let whole = letters.list(&DeadLetterFilter::default(), 0, 1000).unwrap();
    drop(letters);
    let path = bench.folder.path().join(FILE);
    let bytes = std::fs::read(&path).unwrap();
    let mut damaged = 0;
    for at in (0..600).step_by(7).chain((600..bytes.len()).step_by(1_997)) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&path, &flipped).unwrap();
        let letters = bench.open();
        let list = || letters.list(&DeadLetterFilter::default(), 0, 1000);
        // A process that another test has just begun holds the lock of all files that are open,
        // until it runs its own program.
        let is_locked = |page: &Result<_, StoreError>| matches!(page, Err(StoreError::Disk { cause, .. }) if matches!(**cause, redb::Error::DatabaseAlreadyOpen));
        let tries = std::iter::repeat_with(list).inspect(|_| std::thread::sleep(Duration::from_millis(1)));
        let page = tries.take(10_000).find(|page| !is_locked(page)).unwrap().unwrap();
        if letters.is_damaged() {
            damaged += 1;
        } else {
            assert_eq!(page, whole, "a byte at {at} changed in silence");
        }
    }
    assert!(damaged > 10, "{damaged} of the flipped bytes were in the way");
}

#[test]
fn format_1_is_migrated_and_a_newer_one_is_refused_and_left_as_it_is() {
    let bench = Bench::new();
    let path = bench.folder.path().join(FILE);
    let meta = TableDefinition::<&str, u64>::new("meta");
    let aside = TableDefinition::<(&str, u64), &[u8]>::new("aside");
    let mut bytes = Vec::new();
    record("c", b"old").write(&mut bytes);
    let value = postcard::to_allocvec(&("too large", 9_000_u64, 5_000_u64, bytes.as_slice())).unwrap();
    let db = Builder::new().create(&path).unwrap();
    let transaction = db.begin_write().unwrap();
    transaction.open_table(meta).unwrap().insert("format", 1).unwrap();
    transaction.open_table(meta).unwrap().insert("store", u64::from(STORE)).unwrap();
    for offset in [4, 9] {
        transaction.open_table(aside).unwrap().insert(("cloud", offset), value.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(db);
    for _ in 0..2 {
        let letters = bench.open();
        assert_eq!((ids(&letters), letters.is_damaged()), (vec![1, 2], false));
        let second = letters.get(2).unwrap().unwrap();
        assert_eq!((second.offset, second.tries, second.set_aside_ms), (9, 1, 9_000));
        assert_eq!(second.record(), record("c", b"old"));
    }
    let db = Builder::new().create(&path).unwrap();
    let transaction = db.begin_write().unwrap();
    transaction.open_table(meta).unwrap().insert("format", 3).unwrap();
    transaction.commit().unwrap();
    drop(db);
    let refused = DeadLetters::open(&bench.files, STORE, true, ROOM).unwrap_err();
    assert!(refused.to_string().contains("use the version that wrote it"), "{refused}");
    assert_eq!(bench.names(), [FILE]);
}

#[test]
fn after_closing_everything_says_closed() {
    let bench = Bench::new();
    let letters = bench.begin();
    letters.close();
    assert!(matches!(letters.put(&[letter(0, record("c", b"x"))]), Err(StoreError::Closed)));
    assert!(matches!(letters.get(1), Err(StoreError::Closed)));
}

#[test]
fn letters_take_what_is_configured_or_a_part_of_the_room() {
    const MIB: u64 = 1 << 20;
    for (configured, room, wanted) in [
        (64 * MIB, 8 << 30, 64 * MIB),
        (64 * MIB, 24 * MIB, 3 * MIB),
        (64 * MIB, MIB, BYTES_LEAST),
        (64 * MIB, 0, BYTES_LEAST),
        (4_096, 0, 4_096),
    ] {
        assert_eq!(max_bytes(configured, room), wanted, "{configured} in {room}");
    }
}

#[test]
fn where_others_take_the_disk_each_letter_costs_one_more_until_they_fit() {
    let bench = Bench::new();
    let letters = bench.begin();
    let put = |offset| letters.put(&[letter(offset, record("c", &[7; 1_000]))]).unwrap();
    (0..900).for_each(put);
    assert_eq!(letters.count(), 900);
    letters.set_room_bytes(0);
    letters.file.lock().shut();
    assert!(letters.get(900).unwrap().is_some());
    assert_eq!(letters.count(), 900, "opened again after a failure, it holds what it held");
    (900..905).for_each(put);
    assert!((894..=900).contains(&letters.count()), "{}", letters.count());
    (905..2_000).for_each(put);
    assert!(letters.bytes() <= BYTES_LEAST, "{}", letters.bytes());
    let kept = letters.count();
    letters.set_room_bytes(u64::MAX);
    (2_000..2_100).for_each(put);
    assert_eq!(letters.count(), kept + 100);
}

/// Letters of these places in the log, in a file that has the old name.
fn put_under_the_old_name(bench: &Bench, offsets: &[u64]) {
    let letters = bench.begin();
    offsets.iter().for_each(|offset| letters.put(&[letter(*offset, record("c", b"x"))]).unwrap());
    drop(letters);
    let at = |name: &str| bench.folder.path().join(name);
    std::fs::rename(at(FILE), at(OLD_FILE)).unwrap();
}

fn offsets(letters: &DeadLetters) -> Vec<u64> {
    let page = letters.list(&DeadLetterFilter::default(), 0, 100).unwrap();
    page.letters.iter().map(|letter| letter.offset).collect()
}

#[test]
fn a_file_with_the_name_of_earlier_versions_gets_its_own_and_a_newer_one_is_left_as_it_is() {
    let bench = Bench::new();
    put_under_the_old_name(&bench, &[3, 4]);
    std::fs::write(bench.folder.path().join("state.redb.new"), "by a crash").unwrap();
    let letters = bench.open();
    assert_eq!((offsets(&letters), letters.count(), letters.is_damaged()), (vec![3, 4], 2, false));
    assert_eq!(bench.names(), [FILE]);
    drop(letters);

    let bench = Bench::new();
    put_under_the_old_name(&bench, &[3]);
    let path = bench.folder.path().join(OLD_FILE);
    let transaction = redb::Database::open(&path).unwrap().begin_write().unwrap();
    transaction.open_table(tables::META).unwrap().insert("format", 1_000).unwrap();
    transaction.commit().unwrap();
    let refused = DeadLetters::open(&bench.files, STORE, true, ROOM).unwrap_err();
    assert!(matches!(&refused, StoreError::Format { path: of, format: 1_000 } if *of == path), "{refused}");
    assert_eq!(bench.names(), [OLD_FILE]);
}

#[test]
fn what_an_older_version_put_under_the_old_name_meanwhile_is_taken_over_whatever_fails() {
    let mut n = -1;
    loop {
        n += 1;
        let bench = Bench::new();
        put_under_the_old_name(&bench, &[1, 2]);
        let (old, kept) = (bench.folder.path().join(OLD_FILE), tempfile::tempdir().unwrap());
        std::fs::rename(&old, kept.path().join("old")).unwrap();
        let letters = bench.begin();
        [0, 1].iter().for_each(|offset| letters.put(&[letter(*offset, record("c", b"x"))]).unwrap());
        drop(letters);
        std::fs::rename(kept.path().join("old"), &old).unwrap();
        bench.fault.left.store(n, Ordering::SeqCst);
        drop(DeadLetters::open(&bench.files, STORE, true, ROOM).unwrap());
        let is_done = !bench.fault.stuck.load(Ordering::SeqCst);
        bench.fault.mend();
        let letters = bench.open();
        let mut found = offsets(&letters);
        found.sort_unstable();
        assert_eq!((found, letters.is_damaged()), (vec![0, 1, 2], false), "operation {n}");
        assert_eq!(bench.names(), [FILE], "operation {n}");
        if is_done {
            break;
        }
    }
    assert!(n > 3, "nothing ever failed");
}

#[test]
fn one_that_cannot_be_read_under_the_old_name_is_left_there_and_holds_nothing_up() {
    let bench = Bench::new();
    let letters = bench.begin();
    letters.put(&[letter(5, record("c", b"x"))]).unwrap();
    drop(letters);
    std::fs::write(bench.folder.path().join(OLD_FILE), "no database").unwrap();
    for _ in 0..2 {
        let letters = bench.open();
        assert_eq!((offsets(&letters), letters.is_damaged()), (vec![5], false));
        assert_eq!(bench.names(), [FILE, OLD_FILE]);
    }
}
