//! The store against a reference in memory: whatever is done to it, in any order, it holds what it
//! promised.
//!
//! The reference is the book of `store_world`; the actions are chosen and shrunk by proptest, so a
//! failure is shown as the shortest list of actions that fails.

mod simulated_disk;
mod store_world;

use proptest::prelude::*;
use simulated_disk::Fault;
use store_world::{World, settings};
use tidegate::store::{Settings, WhenFull};

#[derive(Debug, Clone)]
enum Action {
    Append(u64),
    SendAgain,
    Step,
    Wait(u64),
    Deliver(u64),
    /// Reads all of the log that is there, from its beginning, beside the uplink.
    Replay,
    Check,
    Close,
    Kill,
    Cut,
    Fail(u64),
    /// The disk is full beyond what is on it.
    Fill(u64),
    Heal,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (1u64..60).prop_map(Action::Append),
        2 => Just(Action::SendAgain),
        6 => Just(Action::Step),
        3 => (0u64..20_000).prop_map(Action::Wait),
        4 => (1u64..200).prop_map(Action::Deliver),
        2 => Just(Action::Replay),
        2 => Just(Action::Check),
        1 => Just(Action::Close),
        1 => Just(Action::Kill),
        1 => Just(Action::Cut),
        1 => (1u64..12).prop_map(Action::Fail),
        1 => (0u64..400_000).prop_map(Action::Fill),
        2 => Just(Action::Heal),
    ]
}

fn settings_of(when_full: Option<WhenFull>, segment_bytes: u64) -> Settings {
    let mut chosen = settings();
    chosen.segment_bytes = segment_bytes;
    if let Some(when_full) = when_full {
        (chosen.max_bytes, chosen.when_full) = (1 << 20, when_full);
    }
    chosen
}

fn heal(world: &mut World) {
    world.disk.heal();
    world.disk.set_capacity_bytes(None);
}

fn reopen(world: &mut World) {
    while world.open().is_err() {
        // A service manager starts it again; here the disk works by then.
        heal(world);
    }
    world.send_again();
}

fn replay(world: &mut World) {
    let view = world.life().store.view();
    let (Ok(begin), end) = (view.begin(), view.end()) else { return };
    let mut at = begin.offset;
    while at < end.offset {
        let Ok(scan) = view.scan(at, None, 64 * 1024) else { return };
        for block in &scan.blocks {
            for (offset, record) in block.records_from(at) {
                assert!(offset < end.offset, "a record that is not committed is read at {offset}");
                world.book.given(offset, &record);
            }
        }
        assert!(scan.next.offset > at, "a look does not come on");
        at = scan.next.offset;
    }
}

fn carry_out(world: &mut World, action: &Action) {
    match action {
        Action::Append(count) => drop(world.append(*count)),
        Action::SendAgain => world.send_again(),
        Action::Step => drop(world.step()),
        Action::Wait(ms) => {
            world.wait(*ms);
            world.step();
        }
        Action::Deliver(count) => world.deliver(*count),
        Action::Replay => replay(world),
        Action::Check => {
            heal(world);
            world.settle();
            world.check();
        }
        Action::Close | Action::Kill | Action::Cut => {
            if matches!(action, Action::Close) {
                world.close()
            } else {
                world.kill()
            }
            if matches!(action, Action::Cut) {
                world.disk.cut_power();
            }
            reopen(world);
        }
        Action::Fail(n) => world.disk.fail_at(*n, Fault::Io),
        Action::Fill(bytes) => world.disk.set_capacity_bytes(Some(world.disk.all_used_bytes() + bytes)),
        Action::Heal => heal(world),
    }
}

/// `TEST_MODEL_CASES` sets how many lists of actions.
fn cases() -> u32 {
    std::env::var("TEST_MODEL_CASES").map_or(200, |text| text.parse().expect("a number"))
}

#[test]
fn what_waits_for_its_place_on_a_full_disk_is_not_dropped_for_want_of_room() {
    let mut world = World::new(5, settings_of(Some(WhenFull::DropOldest), 8_192));
    world.open().unwrap();
    for action in [Action::Append(100), Action::Fill(0), Action::Step, Action::Wait(60_000), Action::Check] {
        carry_out(&mut world, &action);
    }
    assert_eq!((world.book.acknowledged(), world.gaps.len()), (100, 0));
}

#[test]
fn what_a_stop_drops_on_a_full_disk_is_in_a_gap_record() {
    let mut world = World::new(5_855_430_949_398_252_412, settings_of(Some(WhenFull::DropOldest), 8_192));
    world.open().unwrap();
    for action in [
        Action::Append(57),
        Action::Step,
        Action::Append(1),
        Action::Check,
        Action::Deliver(57),
        Action::Fill(139_264),
        Action::Append(51),
        Action::Close,
        Action::Append(1),
        Action::Close,
        Action::Check,
    ] {
        carry_out(&mut world, &action);
    }
    assert!(!world.gaps.is_empty(), "it had no room for all");
}

#[test]
fn what_a_commit_that_failed_left_in_the_file_is_read_by_nobody() {
    for operation in 1..12 {
        let mut world = World::new(operation, settings_of(None, 131_072));
        world.open().unwrap();
        for action in [
            Action::Append(20),
            Action::Step,
            Action::Fail(operation),
            Action::Append(20),
            Action::Step,
            Action::Replay,
            Action::Deliver(40),
            Action::Heal,
            Action::Wait(60_000),
            Action::Replay,
            Action::Check,
        ] {
            carry_out(&mut world, &action);
        }
        assert_eq!(world.book.acknowledged(), 40);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_the_store_holds_what_it_promised(
        seed: u64,
        when_full in prop_oneof![Just(None), Just(Some(WhenFull::Reject)), Just(Some(WhenFull::DropOldest))],
        segment_bytes in prop_oneof![Just(8_192u64), Just(32_768), Just(131_072)],
        actions in prop::collection::vec(action(), 1..60),
    ) {
        let mut world = World::new(seed, settings_of(when_full, segment_bytes));
        world.open().unwrap();
        for action in &actions {
            carry_out(&mut world, action);
        }
        heal(&mut world);
        world.settle();
        world.check();
        world.kill();
        world.disk.cut_power();
        reopen(&mut world);
        world.settle();
        world.check();
        if when_full != Some(WhenFull::DropOldest) {
            prop_assert!(world.gaps.is_empty(), "{:?}", world.gaps);
        }
    }
}
