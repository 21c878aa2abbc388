//! What the store promises about commands to devices: one that was taken in is there after a power
//! cut at any point, none comes back once its delivery was noted, a disk that fails is got over,
//! and the file is looked after like the others.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod simulated_disk;

use std::collections::BTreeMap;

use simulated_disk::{Fault, Random, SimulatedDisk};
use tidegate::{
    clock::{self, Now},
    store::{
        Change, CommandFilter, CommandState, Committer, NewCommand, NewId, Outbox, PutError, Settings, Store,
        StoreError, inspect,
    },
};

const SEEDS: u64 = 300;
/// The power goes within so many operations of the disk.
const OPERATIONS_MAX: u64 = 120;
const ACTIONS_MAX: u64 = 30;
const LIVES: u64 = 4;
/// 2026-11-24, milliseconds since 1970.
const NOW_MS: u64 = 1_795_500_000_000;

fn settings() -> Settings {
    Settings { segment_bytes: 1 << 20, dead_letters_max_bytes: 1 << 20, ..Settings::new("/simulated") }
}

fn open(disk: &SimulatedDisk) -> Result<(Store, Committer), StoreError> {
    let now = Now { at: clock::monotonic(), wall_ms: NOW_MS, steady_ms: NOW_MS };
    Store::open_stepwise(disk.folder(), settings(), &[], now)
}

fn command<'a>(id: &'a str, payload: &'a [u8]) -> NewCommand<'a> {
    NewCommand {
        device: "stall-3",
        id: NewId::Given(id),
        payload,
        content_type: None,
        expires_ms: None,
        origin: "http",
    }
}

/// What was promised of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// It was taken in.
    Pending,
    /// It was taken in, or nobody said.
    PendingOrNot,
    /// Its delivery was noted.
    Delivered,
    /// It was taken in, and its delivery was noted, or nobody said.
    DeliveredOrNot,
}

/// Holds what the outbox shows against the book.
fn check(outbox: &Outbox, book: &BTreeMap<String, (Promise, usize)>) {
    let mut shown = 0;
    for (id, (promise, bytes)) in book {
        let found = outbox.get("stall-3", id);
        let state = found.as_ref().map(|command| command.state);
        let holds = match promise {
            Promise::Pending => state == Some(CommandState::Pending),
            Promise::PendingOrNot => state.is_none_or(|state| state == CommandState::Pending),
            Promise::Delivered => state == Some(CommandState::Delivered),
            Promise::DeliveredOrNot => {
                state.is_some_and(|s| [CommandState::Pending, CommandState::Delivered].contains(&s))
            }
        };
        assert!(holds, "{id}: {promise:?}, and it is {state:?}");
        if let Some(found) = found {
            assert_eq!(found.payload, vec![id.len() as u8; *bytes], "{id} is another");
            shown += 1;
        }
    }
    assert_eq!(outbox.list(&CommandFilter::default(), 10_000).len(), shown, "some were invented");
    let waiting = outbox.pending("stall-3", NOW_MS);
    let created: Vec<_> = waiting.iter().map(|command| command.id.parse::<u64>().unwrap()).collect();
    assert!(created.is_sorted(), "{created:?}: not the oldest first");
}

#[test]
fn no_power_cut_loses_a_command_that_was_taken_in_or_brings_back_one_that_was_delivered() {
    let (mut kept, mut cuts) = (0, 0);
    let seeds = match std::env::var("TEST_SEED").ok().map(|text| text.parse::<u64>().unwrap()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    for seed in seeds.clone() {
        let outcome = std::panic::catch_unwind(|| live(seed));
        let Ok(told) = outcome else { panic!("seed {seed} failed: TEST_SEED={seed} does it again") };
        kept += told.0;
        cuts += told.1;
    }
    println!("{cuts} power cuts, {kept} commands taken in, none lost");
    assert!(
        cuts > seeds.end - seeds.start && kept > 5 * (seeds.end - seeds.start),
        "it did not test much: {cuts} {kept}"
    );
}

fn live(seed: u64) -> (u64, u64) {
    let (disk, mut random) = (SimulatedDisk::new(seed), Random::new(!seed));
    let mut book = BTreeMap::<String, (Promise, usize)>::new();
    let (mut next, mut cuts, mut kept) = (100, 0, 0);
    for _ in 0..LIVES {
        disk.cut_at(1 + random.below(OPERATIONS_MAX));
        let Ok((store, committer)) = open(&disk) else {
            cuts += 1;
            disk.power_on();
            continue;
        };
        let outbox = store.outbox();
        for _ in 0..random.below(ACTIONS_MAX) {
            if !disk.has_power() {
                break;
            }
            let waiting: Vec<_> =
                book.iter().filter(|(_, (p, _))| *p == Promise::Pending).map(|(id, _)| id.clone()).collect();
            if random.coin() || waiting.is_empty() {
                let (id, bytes) = (next.to_string(), 1 + random.below(3_000) as usize);
                next += 1;
                let payload = vec![id.len() as u8; bytes];
                let promise = match outbox.put(&command(&id, &payload), NOW_MS) {
                    Ok(_) => {
                        kept += 1;
                        Promise::Pending
                    }
                    Err(PutError::Store(_)) => Promise::PendingOrNot,
                    Err(error) => panic!("{error}"),
                };
                book.insert(id, (promise, bytes));
            } else {
                let id = &waiting[random.below(waiting.len() as u64) as usize];
                let done = outbox.apply(&[Change::Delivered { device: "stall-3", id }], NOW_MS);
                let promise = if done.is_ok() { Promise::Delivered } else { Promise::DeliveredOrNot };
                book.get_mut(id).unwrap().0 = promise;
            }
        }
        store.cut_power();
        drop((committer, outbox));
        store.crash();
        if disk.has_power() && random.coin() {
            // As SIGKILL: what was written is seen.
            disk.cut_at(1 << 40);
        } else {
            disk.power_on();
            cuts += 1;
        }
        let (store, committer) = open(&disk).expect("it opens");
        check(&store.outbox(), &book);
        // What nobody said is now known.
        for (id, (promise, _)) in &mut book {
            match store.outbox().get("stall-3", id).map(|command| command.state) {
                Some(CommandState::Pending) => *promise = Promise::Pending,
                Some(_) => *promise = Promise::Delivered,
                None => {}
            }
        }
        book.retain(|id, _| store.outbox().get("stall-3", id).is_some());
        store.cut_power();
        drop(committer);
        store.crash();
    }
    (kept, cuts)
}

#[test]
fn every_operation_of_the_disk_may_fail_and_the_next_change_goes_on() {
    let count = {
        let disk = SimulatedDisk::new(7);
        let (store, _committer) = open(&disk).unwrap();
        let before = disk.operations();
        (1..=3).for_each(|n| drop(store.outbox().put(&command(&n.to_string(), b"x"), NOW_MS).unwrap()));
        disk.operations() - before
    };
    assert!(count > 10, "{count} operations are not much of a test");
    for fault in [Fault::Io, Fault::NoSpace] {
        for n in 1..=count {
            let disk = SimulatedDisk::new(7);
            let (store, committer) = open(&disk).unwrap();
            let outbox = store.outbox();
            disk.fail_at(n, fault);
            let first: Vec<bool> =
                (1..=3).map(|id| outbox.put(&command(&id.to_string(), b"x"), NOW_MS).is_ok()).collect();
            disk.heal();
            for (at, was_taken) in first.iter().enumerate() {
                let id = (at + 1).to_string();
                assert!(!was_taken || outbox.get("stall-3", &id).is_some(), "{n}: {id} is not shown");
                outbox.put(&command(&id, b"x"), NOW_MS).unwrap();
            }
            assert_eq!(outbox.pending("stall-3", NOW_MS).len(), 3, "{n}: {first:?}");
            store.cut_power();
            drop((committer, outbox));
            store.crash();
            disk.cut_power();
            disk.power_on();
            let (store, _committer) = open(&disk).unwrap();
            assert_eq!(store.outbox().pending("stall-3", NOW_MS).len(), 3, "{n}: after a power cut");
        }
    }
}

#[test]
fn its_bytes_count_and_a_look_at_the_files_knows_it_whole_and_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { data_dir: folder.path().into(), ..settings() };
    let store = Store::open(settings.clone(), &[]).unwrap();
    let before = store.status().used_bytes;
    store.outbox().put(&command("1", &[7; 50_000]), NOW_MS).unwrap();
    assert!(store.status().used_bytes > before + 50_000);
    store.close();
    let file = folder.path().join("commands.redb");
    let verdict = || {
        let inspector = inspect::Inspector::of_files(folder.path()).unwrap();
        let mut reports = inspector.verify().unwrap().map(|report| report.unwrap());
        let report = reports.find(|report| report.file == "commands.redb").unwrap();
        (report.kind, report.verdict)
    };
    assert_eq!(verdict(), (inspect::FileKind::Commands, inspect::Verdict::Good));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.truncate(9_000);
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(verdict(), (inspect::FileKind::Commands, inspect::Verdict::Damaged));
    let store = Store::open(settings, &[]).unwrap();
    assert_eq!(store.outbox().pending_count(), 0);
    assert!(folder.path().join("commands.redb.damaged").exists());
    store.close();
}
