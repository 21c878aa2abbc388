//! Every single operation of the disk fails once, in turn, and from there on for a while: the
//! promises hold each time, the process stays up, and the store gets over it by itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod simulated_disk;
mod store_world;

use simulated_disk::{Fault, Kind};
use store_world::{UPLINK, World, settings};
use tidegate::store::{
    DeadLetterFilter, Kind as RecordKind, Letter, ReasonCode, Record, Settings, Step, WhenFull, gap::Reason,
};

const SEED: u64 = 7;
const ROUNDS: u64 = 14;

/// A disk that is full after some hundred records.
const SMALL_DISK_BYTES: u64 = 1 << 20;

/// A quota that is full after some segments, and the rounds that fill it more than once.
const DROPPING_BYTES: u64 = 1 << 20;
const DROPPING_ROUNDS: u64 = 80;

/// More tries in all than a store that drops the oldest needs on a full disk.
const STUCK_ROUNDS_MAX: u32 = 2_000;

/// What the store goes through: commits, cursors, new segments, deliveries, deletions, a clean stop
/// and a start.
fn scenario(world: &mut World) {
    if world.life.is_none() && world.open().is_err() {
        // As a service manager does: it starts it again.
        world.disk.heal();
        world.open().expect("it opens once the disk works");
    }
    for round in 0..ROUNDS {
        world.append(40);
        world.step();
        world.wait(700);
        world.deliver(30);
        if round == ROUNDS / 2 {
            world.close();
            if world.open().is_err() {
                world.disk.heal();
                world.open().expect("it opens once the disk works");
            }
            world.send_again();
        }
    }
}

/// Operations that the scenario takes on a disk that works.
fn operations() -> u64 {
    let mut world = World::new(SEED, settings());
    scenario(&mut world);
    world.check();
    assert!(world.gaps.is_empty());
    world.disk.operations()
}

fn demand_that_it_holds(world: &mut World, what: &str) {
    world.disk.heal();
    world.settle();
    world.send_again();
    world.append(10);
    world.settle();
    world.check();
    assert_eq!(world.book.unacknowledged(), [0; 0], "{what}: it does not go on");
    // What it promised is on the disk, and not in the memory of the system alone.
    world.kill();
    world.disk.cut_power();
    world.open().unwrap();
    world.check();
    assert!(world.gaps.is_empty(), "{what}: a gap record without a loss: {:?}", world.gaps);
    world.kill();
}

fn each_operation_in_turn(what: &str, arm: impl Fn(&World, u64)) {
    for n in 1..=operations() {
        let mut world = World::new(SEED, settings());
        arm(&world, n);
        scenario(&mut world);
        let operation = world.disk.operation(n);
        demand_that_it_holds(&mut world, &format!("{what}, operation {n} ({operation:?})"));
    }
}

#[test]
fn any_one_operation_that_fails_with_an_io_error_costs_nothing() {
    each_operation_in_turn("EIO", |world, n| world.disk.fail_at(n, Fault::Io));
}

#[test]
fn any_one_operation_that_finds_no_space_costs_nothing() {
    each_operation_in_turn("ENOSPC", |world, n| world.disk.fail_at(n, Fault::NoSpace));
}

#[test]
fn any_one_write_that_is_cut_short_costs_nothing() {
    each_operation_in_turn("short write", |world, n| world.disk.fail_at(n, Fault::ShortWrite));
}

#[test]
fn a_disk_that_fails_from_any_operation_on_is_waited_for() {
    for n in (1..=operations()).step_by(5) {
        for fault in [Fault::Io, Fault::NoSpace] {
            let mut world = World::new(SEED, settings());
            world.disk.fail_from(n, fault);
            scenario(&mut world);
            demand_that_it_holds(&mut world, &format!("{fault:?} from operation {n} on"));
        }
    }
}

#[test]
fn a_read_that_fails_is_tried_again() {
    let mut world = World::new(SEED, settings());
    scenario(&mut world);
    for n in (1..=world.disk.reads()).step_by(17) {
        let mut world = World::new(SEED, settings());
        world.disk.fail_read_at(n, Fault::Io);
        scenario(&mut world);
        demand_that_it_holds(&mut world, &format!("EIO at read {n}"));
    }
}

#[test]
fn a_failing_store_says_so_acknowledges_nothing_and_recovers_by_itself() {
    let mut world = World::new(SEED, settings());
    world.open().unwrap();
    world.append(10);
    assert_eq!(world.step(), Step::Committed);
    let before = world.book.acknowledged();
    world.disk.fail_from(1, Fault::Io);
    world.append(10);
    assert!(matches!(world.step(), Step::Stuck(_)));
    for _ in 0..5 {
        world.wait(60_000);
        assert!(matches!(world.step(), Step::Stuck(_)));
        assert_eq!(world.book.acknowledged(), before);
        let failure = world.life().store.status().failure.expect("it says why");
        assert!(failure.contains("os error 5"), "{failure}");
    }
    world.disk.heal();
    world.wait(60_000);
    world.settle();
    assert_eq!(world.life().store.status().failure, None);
    assert_eq!(world.book.acknowledged(), before + 10, "the very events that were waiting");
    world.check();
}

#[test]
fn a_small_disk_is_full_before_a_write_fails_and_what_is_delivered_makes_room() {
    // Larger segments than the disk: all that is stored lies in one.
    let mut world = World::new(SEED, Settings { segment_bytes: 64 << 20, ..settings() });
    world.disk.set_capacity_bytes(Some(SMALL_DISK_BYTES));
    world.open().unwrap();
    for round in 0..3 {
        while world.append(40) {
            assert_eq!(
                world.step(),
                Step::Committed,
                "round {round}: a write fails before the store is full"
            );
        }
        let before = world.book.acknowledged();
        world.deliver(u64::MAX);
        world.wait(1_000);
        world.step();
        assert!(world.append(40), "round {round}: nothing is taken in a second after the delivery");
        world.settle();
        assert_eq!(world.book.acknowledged(), before + 40);
    }
    world.check();
    assert!(world.gaps.is_empty());
    assert_eq!(world.life().store.status().failure, None);
}

/// A world whose disk was filled by somebody else: a write is stuck, all before it lies in one
/// segment and is delivered.
fn delivered_and_stuck() -> World {
    let mut world = World::new(SEED, Settings { segment_bytes: 64 << 20, ..settings() });
    world.open().unwrap();
    for _ in 0..100 {
        world.append(40);
        world.step();
    }
    world.disk.set_capacity_bytes(Some(world.disk.all_used_bytes()));
    assert!(world.append(600), "it knows nothing of it yet");
    assert!(matches!(world.step(), Step::Stuck(_)), "the disk was never full");
    // So that the next try is far away.
    for _ in 0..6 {
        world.wait(31_000);
        assert!(matches!(world.step(), Step::Stuck(_)), "nothing is delivered");
    }
    world.deliver(u64::MAX);
    world
}

fn marks(world: &World) -> usize {
    world.disk.names().iter().filter(|name| name.starts_with("delivered-")).count()
}

#[test]
fn the_only_segment_is_deleted_when_it_is_delivered_and_the_disk_full_and_what_waited_is_stored_at_once() {
    let mut world = delivered_and_stuck();
    let before = world.book.acknowledged();
    world.wait(1_000);
    assert!(!matches!(world.step(), Step::Stuck(_)), "the room of what was delivered is not used at once");
    assert!(world.book.acknowledged() > before, "what waited is stored");
    assert_eq!(marks(&world), 0, "cursors are durable by now");
    world.settle();
    world.check();
    assert!(world.gaps.is_empty());
}

#[test]
fn a_power_cut_while_the_only_segment_is_deleted_loses_nothing_and_gives_no_offset_twice() {
    let mut marked = 0;
    for n in 1.. {
        let mut world = delivered_and_stuck();
        world.disk.cut_at(n);
        world.wait(1_000);
        world.step();
        if world.disk.has_power() {
            assert!(n > 8 && marked > 3, "{n} operations and {marked} cuts between mark and segment");
            break;
        }
        world.kill();
        world.disk.power_on();
        let has_segment =
            world.disk.names().iter().any(|name| name.ends_with(".redb") && name.starts_with("seg-"));
        marked += usize::from(!has_segment);
        world.open().unwrap();
        world.check();
        world.deliver(u64::MAX);
        world.send_again();
        world.settle();
        assert!(world.append(40), "operation {n}: it takes nothing in");
        world.settle();
        world.check();
        assert!(world.gaps.is_empty(), "operation {n}: {:?}", world.gaps);
        assert_eq!(world.book.unacknowledged(), [0; 0], "operation {n}: it does not go on");
        assert_eq!(marks(&world), 0, "operation {n}: {:?}", world.disk.names());
    }
}

#[test]
fn a_full_disk_drops_the_oldest_where_that_is_the_policy_and_counts_them() {
    let mut world = World::new(SEED, settings());
    world.settings.when_full = WhenFull::DropOldest;
    world.book.never_urgent = true;
    world.open().unwrap();
    world.disk.set_capacity_bytes(Some(1 << 20));
    let mut stuck = 0;
    for _ in 0..400 {
        world.append(40);
        while let Step::Stuck(_) = world.step() {
            stuck += 1;
            assert!(stuck < STUCK_ROUNDS_MAX, "it does not get over a full disk");
            world.wait(31_000);
        }
    }
    world.settle();
    world.check();
    let dropped: u64 = world.gaps.iter().filter_map(|gap| gap.events).sum();
    assert!(dropped > 1_000, "{dropped}");
    demand_that_nothing_is_lost_twice(&mut world);
}

fn world_that_drops(seed: u64) -> World {
    let settings = Settings { when_full: WhenFull::DropOldest, max_bytes: DROPPING_BYTES, ..settings() };
    let mut world = World::new(seed, settings);
    world.book.never_urgent = true;
    world.open().unwrap();
    world
}

/// Appends until the quota drops the oldest segments, with a kill behind the commit of that
/// operation.
fn until_something_is_dropped(world: &mut World, killed_behind: u64) {
    for _ in 0..DROPPING_ROUNDS {
        let before = world.disk.operations();
        world.append(40);
        world.step();
        if (before..world.disk.operations()).contains(&(killed_behind - 1)) {
            world.kill();
            world.open().unwrap();
        }
        world.wait(700);
    }
}

#[test]
fn a_drop_that_is_cut_short_is_finished_and_not_told_twice() {
    let mut world = world_that_drops(SEED);
    let opened = world.disk.operations();
    until_something_is_dropped(&mut world, u64::MAX);
    let is_exchange = |n: &u64| {
        let operation = world.disk.operation(*n);
        operation.is_some_and(|operation| matches!(operation.kind, Kind::Remove | Kind::Rename))
    };
    let exchanges: Vec<_> = (opened + 1..=world.disk.operations()).filter(is_exchange).collect();
    assert!(exchanges.len() > 3, "{exchanges:?}");
    for n in exchanges {
        let mut world = world_that_drops(SEED);
        world.disk.fail_at(n - opened, Fault::Io);
        until_something_is_dropped(&mut world, n);
        world.wait(60_000);
        world.settle();
        world.check();
        assert!(!world.gaps.is_empty(), "nothing was dropped");
        let nothing = world.gaps.iter().find(|gap| gap.events == Some(0));
        assert_eq!(nothing, None, "operation {n} ({:?})", world.disk.operation(n));
    }
}

/// What is counted once is counted for ever, also by the next run.
fn demand_that_nothing_is_lost_twice(world: &mut World) {
    let known = world.gaps.clone();
    world.kill();
    world.disk.set_capacity_bytes(None);
    world.open().unwrap();
    world.settle();
    world.check();
    assert_eq!(world.gaps, known);
}

#[test]
fn what_is_dropped_while_others_fill_the_disk_again_and_again_is_told_once() {
    let mut told = 0;
    for seed in 0..6 {
        let mut world = world_that_drops(seed);
        for round in 0..4 * DROPPING_ROUNDS {
            // Others have all that is free, for less than the wait before the next try and for
            // more.
            if round % 4 == seed % 4 {
                world.disk.set_capacity_bytes(Some(world.disk.all_used_bytes()));
            }
            world.append(40);
            world.step();
            world.wait(300 * (1 + round % 5));
            world.step();
            world.disk.set_capacity_bytes(None);
        }
        world.settle();
        world.check();
        told += world.gaps.len();
    }
    assert!(told > 60, "{told}");
}

/// A store that has just dropped dead letters, and how many events they held.
fn world_that_dropped_letters() -> (World, u64) {
    let mut world = World::new(SEED, Settings { dead_letters_max_bytes: 4 * 1024, ..settings() });
    world.open().unwrap();
    world.append(60);
    world.settle();
    let block = world.read().unwrap();
    let letter = |(offset, record)| Letter {
        uplink: UPLINK,
        offset,
        code: ReasonCode::Other,
        reason: "an upstream that cannot take it",
        set_aside_ms: 1,
        tries: 1,
        record,
    };
    let letters: Vec<_> = block.records_from(0).map(letter).collect();
    world.life().store.view().add_dead_letters(&letters).unwrap();
    let kept = world.life().store.view().dead_letters(&DeadLetterFilter::default(), 0, 100).unwrap();
    let kept: u64 = kept.letters.iter().map(|letter| u64::from(letter.record().events)).sum();
    let events: u64 = letters.iter().map(|letter| u64::from(letter.record.events)).sum();
    assert!(kept < events);
    (world, events - kept)
}

/// Steps for longer than it takes until dropped letters are told again.
fn half_a_minute(world: &mut World) {
    for _ in 0..10 {
        world.step();
        world.wait(3_000);
    }
}

#[test]
fn dead_letters_that_are_dropped_are_told_once_though_the_disk_is_full_meanwhile() {
    let (mut world, _) = world_that_dropped_letters();
    let before = world.disk.operations();
    world.step();
    let operations = world.disk.operations() - before;
    assert!(operations > 3);
    for n in 1..=operations {
        let (mut world, dropped) = world_that_dropped_letters();
        world.disk.fail_from(n, Fault::NoSpace);
        half_a_minute(&mut world);
        world.disk.heal();
        half_a_minute(&mut world);
        half_a_minute(&mut world);
        world.settle();
        world.check();
        let told: Vec<_> = world.gaps.iter().map(|gap| (gap.reason, gap.events)).collect();
        assert_eq!(told, [(Reason::DeadLettersFull, Some(dropped))], "no space from operation {n} on");
    }
}

/// The file of the dead letters.
const LETTERS_FILE: &str = "dead_letters.redb";
/// Letters that are set aside together.
const LETTERS_AT_ONCE: u64 = 64;

/// A store whose dead letters may take what the configuration allows by default.
fn world_with_letters() -> World {
    let mut world = World::new(SEED, Settings { dead_letters_max_bytes: 64 << 20, ..settings() });
    world.open().unwrap();
    world.append(40);
    world.settle();
    world
}

/// Sets events of 1 KiB aside, as far as the disk takes them; gives how many it took.
fn set_aside(world: &mut World, rounds: u64) -> u64 {
    let record = Record {
        kind: RecordKind::Opaque,
        events: 1,
        qos: 1,
        received_ms: 1,
        client: "barn",
        topic: "barn/door",
        payload: &[7; 1024],
        ..Record::default()
    };
    let reason = "the upstream refused it";
    let mut taken = 0;
    for round in 0..rounds {
        let code = ReasonCode::Other;
        let letter =
            |offset| Letter { uplink: UPLINK, offset, code, reason, set_aside_ms: 1, tries: 1, record };
        let offsets = round * LETTERS_AT_ONCE..(round + 1) * LETTERS_AT_ONCE;
        let letters: Vec<_> = offsets.map(letter).collect();
        taken += world.life().store.view().add_dead_letters(&letters).map_or(0, |()| LETTERS_AT_ONCE);
        world.wait(1_000);
        world.step();
    }
    taken
}

fn used_bytes(world: &World, name: &str) -> u64 {
    world.disk.folder().used_bytes(name).unwrap()
}

#[test]
fn dead_letters_leave_a_small_disk_to_the_log_and_the_oldest_are_dropped_and_told() {
    const DISK_BYTES: u64 = 12 << 20;
    for (capacity, max_bytes) in [(Some(DISK_BYTES), 1 << 40), (None, DISK_BYTES)] {
        let mut world = world_with_letters();
        world.close();
        world.disk.set_capacity_bytes(capacity);
        world.settings.max_bytes = max_bytes;
        world.open().unwrap();
        let taken = set_aside(&mut world, 200);
        half_a_minute(&mut world);
        assert!(world.append(40), "dead letters have stopped the intake");
        world.settle();
        world.check();
        assert_eq!((taken, world.book.unacknowledged()), (200 * LETTERS_AT_ONCE, vec![]));
        let used = used_bytes(&world, LETTERS_FILE);
        assert!(used < DISK_BYTES / 2, "{used} bytes of letters");
        let told: u64 = world.gaps.iter().filter_map(|gap| gap.events).sum();
        let kept = world.life().store.status().dead_letters;
        assert_eq!(told + kept, taken);
        assert!(kept > 1_000, "{kept}");
    }
}

#[test]
fn what_is_removed_of_the_dead_letters_goes_back_to_the_disk_at_once() {
    let mut world = world_with_letters();
    let taken = set_aside(&mut world, 100);
    let full = used_bytes(&world, LETTERS_FILE);
    assert!(full > 6 << 20, "{full}");
    let view = world.life().store.view();
    let numbers: Vec<u64> = (1..=taken - 10).collect();
    assert_eq!(view.remove_dead_letters_numbered(&numbers).unwrap(), taken - 10);
    let few = used_bytes(&world, LETTERS_FILE);
    assert!(few < 2 << 20, "{few} of {full} bytes are left");
    let page = view.dead_letters(&DeadLetterFilter::default(), 0, 100).unwrap();
    let left: Vec<u64> = page.letters.iter().map(|letter| letter.id).collect();
    assert_eq!(left, (taken - 9..=taken).collect::<Vec<_>>());
    set_aside(&mut world, 100);
    world.kill();
    world.open().unwrap();
    let view = world.life().store.view();
    assert_eq!(view.remove_dead_letters(&DeadLetterFilter::default()).unwrap(), taken);
    let none = used_bytes(&world, LETTERS_FILE);
    assert!(none < 2 << 20, "{none} bytes are left");
    world.check();
}

#[test]
fn a_disk_that_dead_letters_have_filled_has_room_for_the_log_after_a_start() {
    let mut world = world_with_letters();
    let taken = set_aside(&mut world, 150);
    world.close();
    world.disk.set_capacity_bytes(Some(world.disk.all_used_bytes() + 512 * 1024));
    world.open().unwrap();
    half_a_minute(&mut world);
    assert!(world.append(40), "dead letters have stopped the intake");
    world.settle();
    world.check();
    assert_eq!(world.book.unacknowledged(), [0; 0]);
    let told: u64 = world.gaps.iter().filter_map(|gap| gap.events).sum();
    assert_eq!(told + world.life().store.status().dead_letters, taken);
}
