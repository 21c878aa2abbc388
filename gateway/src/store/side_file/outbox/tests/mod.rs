//! What the outbox promises: nothing that was taken in is lost, nothing is taken in twice, all of
//! it is bounded.

mod model;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use proptest::prelude::*;
use redb::TableDefinition;

use super::*;
use super::{command::ID_BYTES_MAX, file::FILE};
use crate::{
    clock::{Journal, Reading},
    store::disk::folder::OsFolder,
};

const STORE: u32 = 7;
const NOW_MS: u64 = 1_795_500_000_000;
const HOUR_MS: u64 = 3600 * 1000;

struct Bench {
    folder: tempfile::TempDir,
    files: Files,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(Arc::new(OsFolder::new(folder.path().into())));
        Self { folder, files }
    }

    fn open(&self) -> Outbox {
        Outbox::open(&self.files, STORE, 1 << 40, Timeline::default()).unwrap()
    }

    fn open_by(&self, timeline: &Timeline) -> Outbox {
        Outbox::open(&self.files, STORE, 1 << 40, timeline.clone()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.files.names().unwrap();
        names.sort();
        names
    }
}

/// By the wall clock alone.
fn at(now_ms: u64) -> Present {
    Present::of(&Timeline::default(), now_ms)
}

fn given<'a>(device: &'a str, id: &'a str, payload: &'a [u8]) -> NewCommand<'a> {
    let id = if id.is_empty() { NewId::Made } else { NewId::Given(id) };
    NewCommand { device, id, payload, content_type: None, expires_ms: None, origin: "http" }
}

fn derived<'a>(looks: &'a str, payload: &'a [u8], is_resent: bool) -> NewCommand<'a> {
    let id = NewId::Derived { looks, is_resent };
    NewCommand { device: "a", id, payload, content_type: None, expires_ms: None, origin: "cloud" }
}

fn waiting(outbox: &Outbox, device: &str) -> Vec<String> {
    outbox.pending(device, NOW_MS).iter().map(|command| command.id.clone()).collect()
}

fn taken(put: Put) -> Arc<Command> {
    match put {
        Put::Taken(command) => command,
        Put::Known(command) => panic!("{command:?} was known"),
    }
}

fn is_known(put: &Put) -> bool {
    matches!(put, Put::Known(_))
}

#[test]
fn a_command_waits_through_restarts_until_its_device_has_it_and_its_reply_is_kept_with_it() {
    let bench = Bench::new();
    let outbox = bench.open();
    assert!(bench.names().is_empty(), "no command, no file");
    for id in ["one", "two", "three"] {
        taken(outbox.put(&given("stall-3", id, id.as_bytes()), NOW_MS).unwrap());
    }
    taken(outbox.put(&given("barn", "one", b"other"), NOW_MS).unwrap());
    drop(outbox);
    let outbox = bench.open();
    assert_eq!(waiting(&outbox, "stall-3"), ["one", "two", "three"]);
    assert_eq!(outbox.waiting_devices(), ["barn", "stall-3"]);
    let done = outbox
        .apply(
            &[
                Change::Delivered { device: "stall-3", id: "one" },
                Change::Refused { device: "stall-3", id: "two", reason: 0x83 },
                Change::Delivered { device: "stall-3", id: "none" },
                Change::Replied { device: "stall-3", correlation: None, payload: b"done" },
            ],
            NOW_MS + 5,
        )
        .unwrap();
    let ids: Vec<_> =
        done.iter().map(|command| command.as_ref().map(|command| command.id.as_str())).collect();
    assert_eq!(ids, [Some("one"), Some("two"), None, Some("one")]);
    drop(outbox);
    let outbox = bench.open();
    assert_eq!(waiting(&outbox, "stall-3"), ["three"]);
    let one = outbox.get("stall-3", "one").unwrap();
    let reply = Reply { payload: b"done".to_vec(), bytes: 4, at_ms: NOW_MS + 5 };
    assert_eq!(
        (one.state, one.reply.as_ref(), one.changed_ms),
        (CommandState::Replied, Some(&reply), NOW_MS + 5)
    );
    let two = outbox.get("stall-3", "two").unwrap();
    assert_eq!((two.state, two.reason), (CommandState::Failed, Some(0x83)));
    assert_eq!((outbox.pending_count(), bench.names()), (2, vec![FILE.to_owned()]));
}

#[test]
fn the_same_id_again_is_the_same_command_and_with_another_payload_a_conflict() {
    let bench = Bench::new();
    let outbox = bench.open();
    taken(outbox.put(&given("a", "x", b"on"), NOW_MS).unwrap());
    assert!(is_known(&outbox.put(&given("a", "x", b"on"), NOW_MS).unwrap()));
    taken(outbox.put(&given("b", "x", b"on"), NOW_MS).unwrap());
    outbox.apply(&[Change::Delivered { device: "a", id: "x" }], NOW_MS).unwrap();
    let Put::Known(known) = outbox.put(&given("a", "x", b"on"), NOW_MS).unwrap() else { panic!() };
    assert_eq!(known.state, CommandState::Delivered);
    let json = NewCommand { content_type: Some("application/json"), ..given("a", "x", b"on") };
    for other in [given("a", "x", b"off"), json] {
        let error = outbox.put(&other, NOW_MS).unwrap_err();
        assert!(matches!(error, PutError::Conflict { .. }), "{error}");
    }
    let (first, second) =
        (outbox.put(&given("a", "", b"on"), NOW_MS), outbox.put(&given("a", "", b"on"), NOW_MS));
    assert_ne!(taken(first.unwrap()).id, taken(second.unwrap()).id);
}

#[test]
fn a_message_without_an_id_is_known_again_only_where_it_says_that_it_was_sent_before() {
    let bench = Bench::new();
    let outbox = bench.open();
    assert_eq!(taken(outbox.put(&derived("m1", b"on", false), NOW_MS).unwrap()).id, "m1");
    assert_eq!(taken(outbox.put(&derived("m1", b"on", false), NOW_MS).unwrap()).id, "m1.2");
    assert!(is_known(&outbox.put(&derived("m1", b"on", true), NOW_MS).unwrap()));
    let other = NewCommand { origin: "lake", ..derived("m1", b"on", true) };
    assert_eq!(taken(outbox.put(&other, NOW_MS).unwrap()).id, "m1.3");
    taken(outbox.put(&derived("m2", b"on", true), NOW_MS).unwrap());
    // So many came from there since that it cannot be one of those that were not acknowledged.
    for n in 0..RESENT_AMONG_MAX {
        taken(outbox.put(&derived(&format!("n{n}"), b"on", false), NOW_MS).unwrap());
    }
    assert_eq!(taken(outbox.put(&derived("m1", b"on", true), NOW_MS).unwrap()).id, "m1.4");
    let long = "x".repeat(ID_BYTES_MAX);
    taken(outbox.put(&derived(&long, b"on", false), NOW_MS).unwrap());
    assert!(taken(outbox.put(&derived(&long, b"on", false), NOW_MS).unwrap()).id.len() <= ID_BYTES_MAX);
}

#[test]
fn a_reply_without_correlation_is_that_of_the_oldest_unanswered_command() {
    let bench = Bench::new();
    let outbox = bench.open();
    for id in ["one", "two", "three"] {
        outbox.put(&given("a", id, b"x"), NOW_MS).unwrap();
    }
    let reply = |payload| Change::Replied { device: "a", correlation: None, payload };
    let whose = |changes: &[Change<'_>]| -> Vec<Option<String>> {
        let done = outbox.apply(changes, NOW_MS).unwrap();
        done.into_iter().map(|command| command.map(|command| command.id.clone())).collect()
    };
    let delivered = |id| Change::Delivered { device: "a", id };
    assert_eq!(whose(&[delivered("two"), reply(b"2")])[1].as_deref(), Some("two"));
    // It answers before it acknowledges.
    assert_eq!(whose(&[reply(b"1"), delivered("one")])[0].as_deref(), Some("one"));
    assert_eq!(outbox.get("a", "one").unwrap().state, CommandState::Replied, "a late PUBACK changes nothing");
    let with_id = Change::Replied { device: "a", correlation: Some(b"three"), payload: b"3" };
    assert_eq!(whose(&[with_id, reply(b"stray")]), [Some("three".to_owned()), None]);
    let nobody = Change::Replied { device: "b", correlation: None, payload: b"" };
    let foreign = Change::Replied { device: "a", correlation: Some(b"\xff"), payload: b"" };
    assert_eq!(whose(&[nobody, foreign]), [None, None]);
}

#[test]
fn what_expires_or_is_cancelled_is_not_sent_and_what_was_on_its_way_is_told_as_it_was() {
    let bench = Bench::new();
    let outbox = bench.open();
    let short = NewCommand { expires_ms: Some(NOW_MS + 10), ..given("a", "short", b"x") };
    outbox.put(&short, NOW_MS).unwrap();
    outbox.put(&given("a", "long", b"x"), NOW_MS).unwrap();
    assert_eq!(outbox.pending("a", NOW_MS + 10).len(), 1, "before anybody expires it");
    outbox.expire(NOW_MS + 10).unwrap();
    assert_eq!(outbox.get("a", "short").unwrap().state, CommandState::Expired);
    outbox.apply(&[Change::Cancelled { device: "a", id: "long" }], NOW_MS).unwrap();
    assert!(!outbox.has_pending("a"));
    let changes = ["short", "long"].map(|id| Change::Delivered { device: "a", id });
    outbox.apply(&changes, NOW_MS + 20).unwrap();
    assert_eq!(
        outbox.list(&CommandFilter { state: Some(CommandState::Delivered), device: None }, 9).len(),
        2
    );
    outbox.apply(&[Change::Cancelled { device: "a", id: "long" }], NOW_MS + 30).unwrap();
    assert_eq!(outbox.get("a", "long").unwrap().state, CommandState::Delivered, "too late");
}

#[test]
fn what_has_ended_is_kept_for_a_day_and_the_newest_of_it() {
    let mut book = Book::new(BYTES_MAX);
    for n in 0..(ENDED_MAX as u64 + 50) {
        let id = format!("c{n}");
        book.put(&given("a", &id, b"x"), &at(NOW_MS + n)).unwrap();
        book.apply(&Change::Delivered { device: "a", id: &id }, NOW_MS + n);
    }
    book.tidy(&at(NOW_MS + 2000));
    assert_eq!(book.newest_first().count(), ENDED_MAX);
    assert!(book.get("a", "c49").is_none() && book.get("a", "c50").is_some());
    assert!(
        !book.is_untidy(&at(NOW_MS + ENDED_KEPT_MS))
            && book.is_untidy(&at(NOW_MS + ENDED_KEPT_MS + 2 * HOUR_MS))
    );
    assert!(book.tidy(&at(NOW_MS + ENDED_KEPT_MS + 2 * HOUR_MS)));
    assert_eq!(book.newest_first().count(), 0);
}

#[test]
fn every_limit_refuses_with_its_reason_and_what_has_ended_makes_room() {
    let mut book = Book::new(BYTES_MAX);
    let mut number = 0;
    let mut fill = |book: &mut Book, device: &str, payload: &[u8]| {
        number += 1;
        book.put(&given(device, &format!("c{number}"), payload), &at(NOW_MS)).map(drop)
    };
    (0..DEVICE_PENDING_MAX).for_each(|_| fill(&mut book, "full", b"x").unwrap());
    let error = fill(&mut book, "full", b"x").unwrap_err();
    assert!(matches!(error, PutError::Full(Full::Device { max: DEVICE_PENDING_MAX })), "{error}");
    for device in 0..PENDING_MAX / DEVICE_PENDING_MAX - 1 {
        (0..DEVICE_PENDING_MAX).for_each(|_| fill(&mut book, &format!("d{device}"), b"x").unwrap());
    }
    let error = fill(&mut book, "another", b"x").unwrap_err();
    assert!(matches!(error, PutError::Full(Full::Commands { max: PENDING_MAX })), "{error}");

    let mut book = Book::new(BYTES_MIN);
    let large = vec![7; PAYLOAD_BYTES_MAX];
    let fits = (0..10).take_while(|_| fill(&mut book, "a", &large).is_ok()).count();
    let error = fill(&mut book, "a", &large).unwrap_err();
    assert!(
        fits == 3 && matches!(error, PutError::Full(Full::Bytes { max_bytes: BYTES_MIN })),
        "{fits} {error}"
    );
    let first = book.pending("a").next().unwrap().id.clone();
    // No room for the whole reply while the others wait.
    book.apply(&Change::Replied { device: "a", correlation: None, payload: &large }, NOW_MS);
    let reply = book.get("a", &first).unwrap().reply.clone().unwrap();
    assert_eq!(reply.bytes, PAYLOAD_BYTES_MAX as u64);
    assert!(reply.payload.len() < PAYLOAD_BYTES_MAX && !reply.payload.is_empty());
    fill(&mut book, "a", &large).unwrap();
    assert!(book.get("a", &first).is_none(), "it made room");
}

#[test]
fn a_damaged_foreign_or_empty_file_is_put_out_of_the_way_and_a_newer_one_is_refused() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("empty", |path| std::fs::write(path, b"").unwrap()),
        ("no database", |path| std::fs::write(path, vec![7; 100_000]).unwrap()),
        ("cut short", |path| {
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(9_000).unwrap();
        }),
        ("a value that is no command", |path| {
            let db = redb::Database::open(path).unwrap();
            let transaction = db.begin_write().unwrap();
            let table = TableDefinition::<u64, &[u8]>::new("commands");
            transaction.open_table(table).unwrap().insert(2, &b"?"[..]).unwrap();
            transaction.commit().unwrap();
        }),
    ];
    for (name, harm) in harms {
        let bench = Bench::new();
        bench.open().put(&given("a", "x", b"on"), NOW_MS).unwrap();
        harm(&bench.folder.path().join(FILE));
        let outbox = bench.open();
        assert_eq!((outbox.pending_count(), bench.names()), (0, vec![DAMAGED_FILE.to_owned()]), "{name}");
        outbox.put(&given("a", "x", b"off"), NOW_MS).unwrap();
        drop(outbox);
        assert_eq!(waiting(&bench.open(), "a"), ["x"], "{name}");
    }
    let bench = Bench::new();
    bench.open().put(&given("a", "x", b"on"), NOW_MS).unwrap();
    let another = Outbox::open(&bench.files, STORE + 1, 1 << 40, Timeline::default()).unwrap();
    assert_eq!(
        (another.pending_count(), bench.names()),
        (0, vec![DAMAGED_FILE.to_owned()]),
        "of another store"
    );

    let db = redb::Database::create(bench.folder.path().join(FILE)).unwrap();
    let transaction = db.begin_write().unwrap();
    transaction.open_table(TableDefinition::<&str, u64>::new("meta")).unwrap().insert("format", 3).unwrap();
    transaction.commit().unwrap();
    drop(db);
    let refused = Outbox::open(&bench.files, STORE, 1 << 40, Timeline::default()).unwrap_err();
    assert!(refused.to_string().contains("use the version that wrote it"), "{refused}");
    assert!(bench.names().contains(&FILE.to_owned()));
}

#[test]
fn a_number_is_never_given_twice_and_after_closing_everything_says_closed() {
    let bench = Bench::new();
    let outbox = bench.open();
    let first = taken(outbox.put(&given("a", "", b"x"), NOW_MS).unwrap()).id.clone();
    outbox.apply(&[Change::Delivered { device: "a", id: &first }], NOW_MS).unwrap();
    outbox.expire(NOW_MS + ENDED_KEPT_MS + 1).unwrap();
    assert!(outbox.get("a", &first).is_none());
    drop(outbox);
    let outbox = bench.open();
    assert_ne!(taken(outbox.put(&given("a", "", b"x"), NOW_MS).unwrap()).id, first);
    outbox.close();
    let error = outbox.put(&given("a", "y", b"x"), NOW_MS).unwrap_err();
    assert!(matches!(error, PutError::Store(StoreError::Closed)), "{error}");
    assert!(matches!(outbox.apply(&[], NOW_MS), Err(StoreError::Closed)));
}

#[test]
fn whoever_waits_for_a_change_is_told() {
    let bench = Bench::new();
    let outbox = bench.open();
    let mut changed = outbox.changed();
    changed.mark_unchanged();
    outbox.put(&given("a", "x", b"on"), NOW_MS).unwrap();
    assert!(changed.has_changed().unwrap());
}

#[test]
fn a_command_from_before_the_clock_was_set_waits_for_its_time_and_no_longer_also_over_a_restart() {
    for (restarts, boots) in [(false, 1), (true, 1), (true, 2)] {
        let (bench, timeline) = (Bench::new(), Timeline::default());
        let reading = |boot, boot_ms, wall_ms| Reading { boot_id: [boot; 16], boot_ms, wall_ms };
        timeline.begin(Journal::default(), &reading(1, 5_000, 5_000), 0);
        let mut outbox = bench.open_by(&timeline);
        taken(
            outbox
                .put(&NewCommand { expires_ms: Some(5_000 + HOUR_MS), ..given("a", "x", b"on") }, 5_000)
                .unwrap(),
        );
        if restarts {
            outbox = bench.open_by(&timeline);
        }
        let mut boot_ms = 5_000;
        let mut pass = |ms: u64| {
            // Another machine boot, or the clock is set in this one.
            boot_ms += ms as i64;
            let wall_ms = NOW_MS as i64 + boot_ms;
            timeline.look(&reading(boots, boot_ms, wall_ms), 0);
            outbox.expire(wall_ms as u64).unwrap();
            let state = outbox.get("a", "x").map(|command| command.state);
            (outbox.pending("a", wall_ms as u64).len(), state)
        };
        let waits = (1, Some(CommandState::Pending));
        assert_eq!(pass(1_000), waits, "the clock was set");
        assert_eq!(pass(HOUR_MS - 10_000), waits, "its time is not over");
        assert_eq!(pass(10_000), (0, Some(CommandState::Expired)));
    }
}

#[test]
fn a_command_of_a_journal_that_is_lost_goes_by_the_wall_clock_and_waits_no_longer_than_it_may() {
    let reading =
        |boot: u8, boot_ms, wall_ms: u64| Reading { boot_id: [boot; 16], boot_ms, wall_ms: wall_ms as i64 };
    // The machine was booted before the command came, or runs for less time than it did then.
    for (boots, boot_ms) in [(2, 6_000), (1, 4_000)] {
        let (bench, timeline) = (Bench::new(), Timeline::default());
        timeline.begin(Journal::default(), &reading(1, 5_000, NOW_MS), 0);
        timeline.look(&reading(boots, 5_000, NOW_MS), 0);
        let new = NewCommand { expires_ms: Some(NOW_MS + HOUR_MS), ..given("a", "x", b"on") };
        taken(bench.open_by(&timeline).put(&new, NOW_MS).unwrap());
        let timeline = Timeline::default();
        timeline.begin(Journal::default(), &reading(9, boot_ms, NOW_MS + 1_000), 0);
        let outbox = bench.open_by(&timeline);
        let command = outbox.get("a", "x").unwrap();
        let left_ms = |wall_ms| outbox.left_ms(&command, wall_ms);
        for (wall_ms, expected_ms) in [
            (NOW_MS + 1_000, HOUR_MS - 1_000),
            (NOW_MS + HOUR_MS - 1, 1),
            (NOW_MS + HOUR_MS, 0),
            (NOW_MS - 24 * HOUR_MS, HOUR_MS),
            (0, HOUR_MS),
        ] {
            assert_eq!(left_ms(wall_ms), expected_ms, "boot {boots}, wall clock {wall_ms}");
        }
        outbox.expire(NOW_MS + HOUR_MS - 1).unwrap();
        assert_eq!(outbox.get("a", "x").unwrap().state, CommandState::Pending);
        outbox.expire(NOW_MS + HOUR_MS).unwrap();
        assert_eq!(outbox.get("a", "x").unwrap().state, CommandState::Expired);
    }
}

#[test]
fn a_file_of_format_1_is_read_its_commands_go_by_the_wall_clock_and_the_next_change_makes_it_format_2() {
    const COMMANDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("commands");
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let (bench, timeline) = (Bench::new(), Timeline::default());
    let wall_ms = NOW_MS as i64;
    timeline.begin(Journal::default(), &Reading { boot_id: [1; 16], boot_ms: 5_000, wall_ms }, 0);
    let old = taken(bench.open_by(&timeline).put(&given("a", "x", b"on"), NOW_MS).unwrap());
    let open = || redb::Database::open(bench.folder.path().join(FILE)).unwrap();
    let transaction = open().begin_write().unwrap();
    let row = postcard::to_allocvec(&*old).unwrap();
    transaction.open_table(COMMANDS).unwrap().insert(1, row.as_slice()).unwrap();
    transaction.open_table(META).unwrap().insert("format", 1).unwrap();
    transaction.commit().unwrap();
    let outbox = bench.open_by(&timeline);
    assert_eq!(*outbox.get("a", "x").unwrap(), Command { taken_in: None, ..Command::clone(&old) });
    assert_eq!(outbox.pending("a", old.expires_ms - 1).len(), 1);
    outbox.expire(old.expires_ms).unwrap();
    assert_eq!(outbox.get("a", "x").unwrap().state, CommandState::Expired);
    drop(outbox);
    let format = redb::ReadableDatabase::begin_read(&open()).unwrap().open_table(META).unwrap();
    assert_eq!(redb::ReadableTable::get(&format, "format").unwrap().unwrap().value(), 2);
}
