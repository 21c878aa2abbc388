//! The files beside the log give back the room that they do not need, whenever the power goes
//! meanwhile, and take none that the intake needs.

#[expect(unused_imports, reason = "the other tests use the rest")]
mod simulated_disk;

use std::{path::Path, sync::Arc, time::Duration};

use simulated_disk::SimulatedDisk;
use tidegate::{
    clock::{self, Now},
    store::{
        Batch, Committer, Folder, Letter, MessageRow, OsFolder, ReasonCode, Record, SESSIONS_FILE,
        SessionChange, SessionRow, Settings, Store, StoreError, UnackedRow,
        inspect::{FileKind, Inspector},
    },
};

const MIB: u64 = 1 << 20;
/// What redb makes of hardly anything, and some copies of its pages.
const SMALL_BYTES: u64 = 2 * MIB;
/// Operations of the disk at the end of a copy, each of which is cut.
const LAST: u64 = 12;

fn session(client: &str) -> SessionChange {
    SessionChange::Session(
        client.into(),
        SessionRow { identity: "i".into(), expiry_s: 60, ..SessionRow::default() },
    )
}

fn owed(client: &str, number: u64, bytes: usize) -> SessionChange {
    let message = MessageRow { topic: "t".into(), payload: vec![7; bytes].into(), ..MessageRow::default() };
    SessionChange::Unacked(client.into(), number, UnackedRow { message, qos: 1, ..UnackedRow::default() })
}

/// One session with so many messages of 64 KiB, and a small one.
fn large(messages: u64) -> Vec<SessionChange> {
    let mut changes = vec![session("large"), session("small"), owed("small", 1, 100)];
    changes.extend((0..messages).map(|number| owed("large", number, 64 << 10)));
    changes
}

fn gone() -> Vec<SessionChange> {
    vec![SessionChange::SessionGone("large".into())]
}

fn open(folder: Arc<dyn Folder>, max_bytes: u64, now: Now) -> (Store, Committer) {
    let settings = Settings { max_bytes, segment_bytes: MIB, ..Settings::new("/store") };
    Store::open_stepwise(folder, settings, &[], now).expect("the store opens")
}

fn folder(path: &Path) -> Arc<OsFolder> {
    Arc::new(OsFolder::new(path.to_owned()))
}

/// The clients of the sessions that are kept, each with how much it is owed.
fn kept(store: &Store) -> (u64, Vec<(String, usize)>) {
    let kept = store
        .view()
        .load_sessions(&tidegate::clock::reading())
        .expect("it can be read")
        .expect("it is there");
    (kept.position, kept.sessions.into_iter().map(|(client, _, owed)| (client, owed.len())).collect())
}

#[test]
fn a_file_whose_sessions_are_over_is_small_again_at_once_and_holds_what_it_is_to_hold() {
    let path = tempfile::tempdir().unwrap();
    let files = folder(path.path());
    let (store, _committer) = open(files.clone(), 1 << 40, clock::now());
    store.view().save_sessions(vec![], 0).unwrap();
    assert!(store.view().load_sessions(&tidegate::clock::reading()).unwrap().is_some());
    store.view().save_sessions(large(400), 1).unwrap();
    let used = files.used_bytes(SESSIONS_FILE).unwrap();
    assert!(used > 25 * MIB, "the test did not fill it: {used}");
    store.view().save_sessions(gone(), 2).unwrap();
    let used = files.used_bytes(SESSIONS_FILE).unwrap();
    assert!(used < SMALL_BYTES, "{used}");
    assert_eq!(kept(&store), (2, vec![("small".into(), 1)]));
    // It is saved to as before.
    store.view().save_sessions(large(3), 3).unwrap();
    assert_eq!(kept(&store), (3, vec![("large".into(), 3), ("small".into(), 1)]));
    store.close();
    let (store, _committer) = open(files.clone(), 1 << 40, clock::now());
    assert_eq!(kept(&store), (3, vec![("large".into(), 3), ("small".into(), 1)]));
}

#[test]
fn the_gateways_own_files_are_not_taken_for_somebody_elses() {
    let path = tempfile::tempdir().unwrap();
    let (store, _committer) = open(folder(path.path()), 1 << 40, clock::now());
    store.view().save_sessions(large(1), 1).unwrap();
    store.view().save_fleet(&[], 0).unwrap();
    store.close();
    let inspector = Inspector::of_files(path.path()).unwrap();
    let kinds: Vec<_> = inspector.verify().unwrap().map(|report| report.unwrap().kind).collect();
    assert!(kinds.contains(&FileKind::Sessions) && kinds.contains(&FileKind::Fleet), "{kinds:?}");
    assert!(!kinds.contains(&FileKind::Foreign), "{kinds:?}");
}

#[test]
fn a_file_that_an_earlier_run_left_large_is_small_when_it_was_read() {
    let path = tempfile::tempdir().unwrap();
    let files = folder(path.path());
    let (store, _committer) = open(files.clone(), 1 << 40, clock::now());
    // Nothing was read, so nobody knows what it holds, as in versions that did not look.
    store.view().save_sessions(large(400), 1).unwrap();
    store.view().save_sessions(gone(), 2).unwrap();
    assert!(files.used_bytes(SESSIONS_FILE).unwrap() > 25 * MIB);
    store.close();
    let (store, _committer) = open(files.clone(), 1 << 40, clock::now());
    assert_eq!(kept(&store), (2, vec![("small".into(), 1)]));
    assert!(files.used_bytes(SESSIONS_FILE).unwrap() < SMALL_BYTES);
}

#[test]
fn dead_letters_that_are_gone_leave_a_small_file_at_once() {
    const FILE: &str = "dead_letters.redb";
    let path = tempfile::tempdir().unwrap();
    let files = folder(path.path());
    let (store, _committer) = open(files.clone(), 1 << 40, clock::now());
    let payload = vec![7; 64 << 10];
    for offset in 0..100 {
        let record = Record { client: "c", topic: "t", payload: &payload, ..record() };
        let code = ReasonCode::Other;
        let letter = Letter { uplink: "u", offset, code, reason: "r", set_aside_ms: 1, tries: 1, record };
        store.view().add_dead_letters(&[letter]).unwrap();
    }
    assert!(files.used_bytes(FILE).unwrap() > 6 * MIB);
    assert_eq!(store.view().remove_dead_letters_numbered(&(1..100).collect::<Vec<_>>()).unwrap(), 99);
    assert!(files.used_bytes(FILE).unwrap() < SMALL_BYTES);
    store.close();
    let (store, _committer) = open(files.clone(), 1 << 40, clock::now());
    assert!(files.used_bytes(FILE).unwrap() < SMALL_BYTES);
    assert_eq!(store.status().dead_letters, 1);
}

#[test]
fn a_power_cut_at_any_step_of_a_copy_loses_nothing_that_was_saved() {
    let begin = |seed| {
        let disk = SimulatedDisk::new(seed);
        let (store, committer) = open(disk.folder(), 1 << 40, clock::now());
        store.view().save_sessions(vec![], 0).unwrap();
        store.view().load_sessions(&tidegate::clock::reading()).unwrap();
        store.view().save_sessions(large(10), 1).unwrap();
        (disk, store, committer)
    };
    let (disk, store, _committer) = begin(0);
    let before = disk.operations();
    store.view().save_sessions(gone(), 2).unwrap();
    let operations = disk.operations() - before;
    assert!(disk.bytes(SESSIONS_FILE).len() < 2 << 20, "the test copies nothing");
    let (earlier, later) =
        ((1, vec![("large".to_owned(), 10), ("small".to_owned(), 1)]), (2, vec![("small".to_owned(), 1)]));
    // Of those in a row most are alike; the last are the ones that give the copy its name.
    let steps = (1..operations - LAST).step_by(3).chain(operations - LAST..=operations);
    for n in steps {
        let (disk, store, _committer) = begin(n);
        disk.cut_at(n);
        let saved = store.view().save_sessions(gone(), 2);
        store.crash();
        disk.power_on();
        let (store, _committer) = open(disk.folder(), 1 << 40, clock::now());
        let found = kept(&store);
        assert!(found == later || (found == earlier && saved.is_err()), "cut {n}: {saved:?}, then {found:?}");
        store.view().save_sessions(gone(), 2).unwrap();
        assert_eq!(kept(&store), later, "cut {n}");
        store.close();
    }
    println!("{operations} places to cut");
}

#[test]
fn a_power_cut_at_any_step_of_the_renaming_leaves_the_dead_letters_under_one_of_their_names() {
    const OLD: &str = "state.redb";
    const NEW: &str = "dead_letters.redb";
    let begin = |seed| {
        let disk = SimulatedDisk::new(seed);
        let (store, committer) = open(disk.folder(), 1 << 40, clock::now());
        for offset in [3, 4] {
            let (code, record) = (ReasonCode::Other, record());
            let letter = Letter { uplink: "u", offset, code, reason: "r", set_aside_ms: 1, tries: 1, record };
            store.view().add_dead_letters(&[letter]).unwrap();
        }
        committer.finish(clock::now());
        store.close();
        disk.folder().rename(NEW, OLD).unwrap();
        disk.folder().sync().unwrap();
        disk
    };
    let disk = begin(0);
    let before = disk.operations();
    open(disk.folder(), 1 << 40, clock::now()).0.crash();
    let operations = disk.operations() - before;
    for n in 1..=operations {
        let disk = begin(n);
        disk.cut_at(n);
        let settings = Settings { segment_bytes: MIB, ..Settings::new("/store") };
        if let Ok((store, _committer)) = Store::open_stepwise(disk.folder(), settings, &[], clock::now()) {
            store.crash();
        }
        disk.power_on();
        let (store, _committer) = open(disk.folder(), 1 << 40, clock::now());
        assert_eq!(store.status().dead_letters, 2, "cut {n}");
        let names = disk.folder().names().unwrap();
        assert!(
            names.iter().any(|name| name == NEW) && names.iter().all(|name| name != OLD),
            "cut {n}: {names:?}"
        );
        store.close();
    }
    println!("{operations} places to cut");
}

#[test]
fn more_than_there_may_be_is_not_taken_into_memory() {
    let path = tempfile::tempdir().unwrap();
    let (store, _committer) = open(folder(path.path()), 32 * MIB, clock::now());
    store.view().save_sessions(large(200), 1).unwrap();
    let room = store.view().session_bytes_max();
    let kept = store.view().load_sessions(&tidegate::clock::reading()).unwrap().unwrap();
    let bytes: usize =
        kept.sessions.iter().flat_map(|(.., owed)| owed).map(|(_, row)| row.message.payload.len()).sum();
    assert!(bytes as u64 <= room && room <= MIB, "{bytes} of {room}");
    let read: u64 = kept.sessions.iter().map(|(.., owed)| owed.len() as u64).sum();
    assert_eq!((kept.left_out + read, kept.sessions.len()), (201, 2));
    assert_eq!(kept.sessions[1].2.len(), 1, "another one's are all there");
}

#[test]
fn a_file_beside_the_log_takes_no_room_that_the_intake_needs() {
    const MAX_BYTES: u64 = 16 * MIB;
    let path = tempfile::tempdir().unwrap();
    let files = folder(path.path());
    let mut now = clock::now();
    let (store, mut committer) = open(files.clone(), MAX_BYTES, now);
    // More than the store may take in all, however it came to that.
    store.view().save_sessions(large(400), 1).unwrap();
    assert!(files.used_bytes(SESSIONS_FILE).unwrap() > MAX_BYTES);
    now.at += Duration::from_secs(6);
    committer.step(now);
    let payload = vec![1; 64 << 10];
    for n in 0..40 {
        let mut batch = Batch::default();
        batch.push(&Record { client: "c", topic: "t", payload: &payload, ..record() });
        assert!(store.intake().append(&mut batch).is_ok(), "{n}");
        committer.step(now);
    }
    assert!(!store.status().is_full);
}

fn record<'a>() -> Record<'a> {
    Record { events: 1, qos: 1, received_ms: 1, client: "", topic: "", payload: &[], ..Record::default() }
}

#[test]
fn what_is_saved_after_the_plug_was_pulled_finds_a_closed_store_and_not_a_failing_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Settings::new(folder.path()), &[]).unwrap();
    let view = store.view();
    view.save_sessions(large(1), 1).unwrap();
    store.cut_power();
    for _ in 0..2 {
        assert!(matches!(view.save_sessions(gone(), 2), Err(StoreError::Closed)));
    }
    store.crash();
}
