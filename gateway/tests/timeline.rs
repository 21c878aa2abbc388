//! The gateway's timeline, as pure functions of looks at the clocks: how long ago something was,
//! whatever the wall clock did since.
//!
//! A machine has a true time that nobody sees. Its wall clock is set, or was never, or steps; it is
//! booted anew, with and without a clock that runs while it is off. Never more time has passed than
//! truly has, and where the clocks tell, exactly as much.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use tidegate::clock::{Journal, Moment, Reading, Timeline, journal::LOOK_EVERY_MS};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// 2026-11-29.
const TRUE_MS: i64 = 1_795_910_400_000;

/// A machine with clocks, and the gateway's looks at them.
struct Machine {
    true_ms: i64,
    boot: u8,
    booted_ms: i64,
    /// What the wall clock is ahead of the true time.
    ahead_ms: i64,
    end: u64,
    journal: Journal,
}

impl Machine {
    fn new(ahead_ms: i64) -> Self {
        let mut machine = Self {
            true_ms: TRUE_MS,
            boot: 1,
            booted_ms: TRUE_MS - 5_000,
            ahead_ms,
            end: 0,
            journal: Journal::default(),
        };
        machine.look();
        machine
    }

    fn reading(&self) -> Reading {
        Reading {
            boot_id: [self.boot; 16],
            boot_ms: self.true_ms - self.booted_ms,
            wall_ms: self.true_ms + self.ahead_ms,
        }
    }

    fn look(&mut self) {
        self.journal.look(&self.reading(), self.end);
    }

    fn now(&self) -> Moment {
        self.journal.now(&self.reading()).unwrap()
    }

    fn pass(&mut self, ms: i64) {
        self.true_ms += ms;
        self.look();
    }

    /// The wall clock is set so far ahead of the true time.
    fn set(&mut self, ahead_ms: i64) {
        self.ahead_ms = ahead_ms;
        self.look();
    }

    /// Off for so long, and the wall clock is so far ahead afterwards.
    fn reboot(&mut self, off_ms: i64, ahead_ms: i64) {
        self.true_ms += off_ms;
        (self.boot, self.booted_ms, self.ahead_ms) = (self.boot + 1, self.true_ms, ahead_ms);
        self.true_ms += 3_000;
        self.look();
    }

    fn since(&self, then: Moment) -> i64 {
        self.journal.elapsed_ms(then, self.now()) as i64
    }
}

#[test]
fn within_one_machine_boot_the_time_that_passed_is_exact_whatever_the_wall_clock_does() {
    for first in [-TRUE_MS, 0, DAY_MS] {
        let mut machine = Machine::new(first);
        let then = machine.now();
        for (n, ahead_ms) in [0, -TRUE_MS, DAY_MS, -DAY_MS, 300, 0].into_iter().enumerate() {
            machine.set(ahead_ms);
            machine.pass(HOUR_MS);
            assert_eq!(machine.since(then), (n as i64 + 1) * HOUR_MS);
        }
    }
}

#[test]
fn across_machine_boots_the_wall_clocks_say_it_where_both_were_set_and_else_what_the_machine_ran() {
    // Ahead before, off for, ahead after, set then: what has passed for certain, of two hours up,
    // off, and three more.
    let (up_ms, off_ms, after_ms) = (2 * HOUR_MS, 5 * HOUR_MS, 3 * HOUR_MS + 3_000);
    let whole = up_ms + off_ms + after_ms;
    let ran = up_ms + after_ms;
    for (case, before, after, set, expected) in [
        ("a clock with a battery", 0, 0, None, whole),
        ("one that goes on where the machine was switched off, and is set later", 0, -off_ms, Some(0), whole),
        ("the same, and it is never set", 0, -off_ms, None, ran),
        ("no battery: 1970 after the boot, and set later", 0, -TRUE_MS, Some(0), whole),
        ("no battery, and never set again", 0, -TRUE_MS, None, ran),
        ("never set before", -TRUE_MS, 0, None, ran),
        ("never set at all", -TRUE_MS, -TRUE_MS, None, ran),
        ("a year behind afterwards", 0, -365 * DAY_MS, None, ran),
    ] {
        let mut machine = Machine::new(before);
        let then = machine.now();
        machine.pass(up_ms);
        machine.reboot(off_ms, after);
        machine.pass(after_ms - 3_000);
        if let Some(ahead_ms) = set {
            machine.set(ahead_ms);
        }
        assert_eq!(machine.since(then), expected, "{case}");
    }
}

#[test]
fn what_was_kept_by_a_journal_that_is_lost_is_taken_for_younger_and_never_for_older() {
    let mut machine = Machine::new(0);
    machine.reboot(HOUR_MS, 0);
    let kept = [Moment { axis: 1, boot_ms: 2_000 }, machine.now()];
    machine.pass(HOUR_MS);
    let lost_ms = machine.true_ms;
    machine.journal = Journal::default();
    machine.look();
    let restored = kept.map(|then| then.min(machine.now()));
    machine.pass(2 * HOUR_MS);
    for then in restored {
        assert!(machine.since(then) >= 2 * HOUR_MS && machine.since(then) <= 3 * HOUR_MS + 5_000);
    }
    // Before the journal altogether: since it began.
    assert_eq!(machine.since(Moment::default()), machine.true_ms - lost_ms);
}

#[test]
fn what_was_kept_by_the_wall_clock_alone_gets_the_latest_moment_at_which_it_can_have_said_so() {
    let mut machine = Machine::new(-TRUE_MS);
    machine.pass(HOUR_MS);
    let unset_ms = machine.reading().wall_ms as u64;
    machine.pass(HOUR_MS);
    machine.set(0);
    machine.pass(HOUR_MS);
    let at = |machine: &Machine, wall_ms: u64| {
        machine.journal.elapsed_ms(machine.journal.at_wall(wall_ms, machine.now()), machine.now()) as i64
    };
    assert_eq!(at(&machine, unset_ms), 2 * HOUR_MS, "stamped in 1970, before the clock was set");
    let wall_ms = machine.reading().wall_ms as u64;
    machine.pass(HOUR_MS);
    assert_eq!(at(&machine, wall_ms), HOUR_MS);
    assert_eq!(at(&machine, wall_ms - DAY_MS as u64), DAY_MS + HOUR_MS, "before the machine booted");
    assert_eq!(at(&machine, wall_ms + DAY_MS as u64), 0, "a clock that was ahead");
    assert_eq!(at(&machine, 7 * DAY_MS as u64), 0, "nothing that is known explains it");
    machine.reboot(HOUR_MS, 0);
    assert_eq!(at(&machine, wall_ms), 2 * HOUR_MS + 3_000);
}

#[test]
fn a_record_stamped_by_a_clock_that_no_look_has_seen_is_as_young_as_can_be() {
    for step_ms in [TRUE_MS, -DAY_MS, DAY_MS, -300] {
        let before = if step_ms == TRUE_MS { -TRUE_MS } else { 0 };
        let mut machine = Machine::new(before);
        machine.end = 10;
        machine.pass(3 * DAY_MS);
        let received = |machine: &Machine, wall_ms: i64| {
            machine.journal.received(10, wall_ms as u64, &machine.reading()).boot_ms - machine.now().boot_ms
        };
        let old_ms = machine.reading().wall_ms;
        machine.true_ms += LOOK_EVERY_MS as i64 / 2;
        assert_eq!(received(&machine, old_ms), -500, "no step: exact");
        machine.ahead_ms = before + step_ms;
        for wall_ms in [old_ms, machine.reading().wall_ms, machine.reading().wall_ms - 100] {
            assert_eq!(received(&machine, wall_ms), 0, "{step_ms}: stamped {wall_ms}");
        }
        // The next look finds the step: each is judged by the clock that stamped it.
        let new_ms = machine.reading().wall_ms;
        machine.true_ms += 500;
        machine.end = 20;
        machine.look();
        machine.pass(HOUR_MS);
        let passed_ms = HOUR_MS + 1_000;
        assert!(received(&machine, old_ms) >= -passed_ms && received(&machine, new_ms) >= -passed_ms);
        assert!(received(&machine, new_ms) <= -HOUR_MS, "and no younger than need be");
    }
}

#[test]
fn every_handle_sees_a_step_once_one_of_them_has_looked() {
    let (fleet, at_ms) = (Timeline::default(), 10_000);
    let store = fleet.clone();
    let reading =
        |boot_ms: i64, ahead_ms: i64| Reading { boot_id: [1; 16], boot_ms, wall_ms: boot_ms + ahead_ms };
    let early = store.present(&reading(at_ms, 0));
    assert_eq!(early.since_ms(Moment { axis: 0, boot_ms: 4_000 }), 6_000, "no journal yet");
    fleet.begin(Journal::default(), &reading(at_ms, 0), 0);
    let kept = store.present(&reading(at_ms, 0)).now();
    assert_eq!((kept, store.looked().now()), (Moment { axis: 1, boot_ms: at_ms }, kept));
    fleet.look(&reading(20_000, TRUE_MS), 5);
    let present = store.present(&reading(21_000, TRUE_MS));
    assert_eq!((store.looked().since_ms(kept), present.since_ms(kept)), (10_000, 11_000));
    // In memory it is a number of the steady clock, before the machine's boot as well.
    let steady_ms = present.steady_ms(kept);
    assert_eq!((present.moment(steady_ms), present.steady_ms(present.now()) - steady_ms), (kept, 11_000));
    fleet.look(&Reading { boot_id: [2; 16], ..reading(3_000, TRUE_MS + HOUR_MS) }, 5);
    let later = store.looked();
    assert_eq!(later.steady_ms(later.now()) - later.steady_ms(kept), HOUR_MS as u64 - 7_000);
    // Of what is due, the delay goes on.
    let due = Moment { boot_ms: kept.boot_ms + 2 * HOUR_MS, ..kept };
    assert_eq!(later.due_steady_ms(due) - later.steady_ms(kept), 2 * HOUR_MS as u64);
}

#[derive(Debug, Clone)]
enum Event {
    Pass(i64),
    Set(i64),
    Reboot {
        off_ms: i64,
        ahead_ms: i64,
    },
    /// The gateway is down for so long: nobody looks.
    Down(i64),
    /// The journal is kept and loaded again.
    Keep,
}

/// What a wall clock may be ahead: it is right, or was never set. One that is wrong and was set is
/// believed.
fn ahead() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(-TRUE_MS)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..HOUR_MS).prop_map(Event::Pass),
        2 => ahead().prop_map(Event::Set),
        1 => (0..DAY_MS, ahead()).prop_map(|(off_ms, ahead_ms)| Event::Reboot { off_ms, ahead_ms }),
        1 => (0..HOUR_MS).prop_map(Event::Down),
        1 => Just(Event::Keep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn never_more_time_has_passed_than_truly_has_and_within_a_machine_boot_exactly_that(
        first in ahead(), events in prop::collection::vec(event(), 1..40)
    ) {
        let mut machine = Machine::new(first);
        let mut kept: Vec<(i64, u8, Moment)> = Vec::new();
        for event in events {
            kept.push((machine.true_ms, machine.boot, machine.now()));
            match event {
                Event::Pass(ms) => machine.pass(ms),
                Event::Set(ahead_ms) => machine.set(ahead_ms),
                Event::Reboot { off_ms, ahead_ms } => machine.reboot(off_ms, ahead_ms),
                Event::Down(ms) => machine.true_ms += ms,
                Event::Keep => {
                    let boots: Vec<_> = machine.journal.boots().cloned().collect();
                    machine.journal = Journal::of(boots);
                    machine.look();
                }
            }
            for (true_ms, boot, moment) in &kept {
                let (passed_ms, since_ms) = (machine.true_ms - true_ms, machine.since(*moment));
                if *boot == machine.boot {
                    prop_assert_eq!(since_ms, passed_ms);
                } else {
                    prop_assert!(since_ms <= passed_ms, "{} after {}", since_ms, passed_ms);
                    prop_assert!(since_ms >= machine.now().boot_ms);
                }
            }
        }
    }
}
