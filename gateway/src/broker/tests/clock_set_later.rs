//! Times that are limited, while the wall clock is set and the machine is booted anew: nothing ends
//! before its time, and everything at it.

use std::path::Path;

use super::*;
use crate::{
    clock::{Journal, Reading, Timeline, timeline::STEADY_ORIGIN_MS},
    mqtt::{connect::Will, publish::Qos},
    store::{Settings as StoreSettings, Store},
};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// 2026-11-29, what the wall clock says once it is set.
const TRUE_MS: i64 = 1_795_910_400_000;
/// What a session, a queued and a retained message of these tests are worth, in seconds.
const SESSION_S: u32 = 3_600;
const MESSAGE_S: u32 = 1_800;

/// A machine with a gateway's broker and its sessions file.
struct Machine {
    true_ms: i64,
    boot: u8,
    booted_ms: i64,
    is_set: bool,
    journal: Vec<(u32, clock::journal::MachineBoot)>,
    store: Option<Store>,
    house: House,
}

impl Machine {
    /// Its wall clock says 1970.
    fn new(folder: &Path) -> Self {
        let mut machine = Machine {
            true_ms: TRUE_MS,
            boot: 1,
            booted_ms: TRUE_MS - 5_000,
            is_set: false,
            journal: Vec::new(),
            store: None,
            house: House::new(Settings::default()),
        };
        machine.start(folder);
        machine
    }

    fn reading(&self) -> Reading {
        let boot_ms = self.true_ms - self.booted_ms;
        let wall_ms = if self.is_set { self.true_ms } else { boot_ms };
        Reading { boot_id: [self.boot; 16], boot_ms, wall_ms }
    }

    fn timeline(&self) -> Timeline {
        self.store.as_ref().unwrap().view().timeline().clone()
    }

    /// The gateway starts: it loads the journal, and then the sessions.
    fn start(&mut self, folder: &Path) {
        let store = Store::open(StoreSettings::new(folder), &[]).unwrap();
        store.view().timeline().begin(Journal::of(self.journal.clone()), &self.reading(), 0);
        self.house = House::new(Settings::default());
        self.house.now = self.now();
        if let Some(kept) = store.view().load_sessions(&self.reading()).unwrap() {
            let off_ms = store.view().timeline().journal().off_ms();
            self.house.broker.restore(kept, self.house.now.steady_ms, off_ms);
        }
        self.store = Some(store);
    }

    /// It stops: it saves the journal and the sessions.
    fn stop(&mut self) {
        self.look();
        let save = self.house.broker.gather(u64::MAX);
        let store = self.store.take().unwrap();
        self.journal = store.view().timeline().journal().boots().cloned().collect();
        store.view().save_sessions(save.changes.clone(), 0).unwrap();
        store.close();
    }

    fn reboot(&mut self, off_ms: i64) {
        self.true_ms += off_ms;
        (self.boot, self.booted_ms, self.is_set) = (self.boot + 1, self.true_ms, false);
        self.true_ms += 3_000;
    }

    fn now(&self) -> Now {
        let reading = self.reading();
        Now {
            at: clock::monotonic(),
            wall_ms: reading.wall_ms as u64,
            steady_ms: (STEADY_ORIGIN_MS + reading.boot_ms) as u64,
        }
    }

    /// A second's work of the gateway.
    fn look(&mut self) {
        let timeline = self.timeline();
        timeline.look(&self.reading(), 0);
        self.house.now = self.now();
        let (broker, now_ms) = (&self.house.broker, self.house.now.steady_ms);
        broker.note_off(timeline.journal().off_ms());
        broker.expire_sessions(now_ms);
        broker.expire_retained(now_ms);
    }

    fn pass(&mut self, ms: i64) {
        self.true_ms += ms;
        self.look();
    }

    fn set_clock(&mut self) {
        self.is_set = true;
        self.look();
    }

    /// A message with a limited time, out of the log.
    fn publish(&self, topic: &str, retain: bool) {
        let properties = [&[crate::store::record::MESSAGE_EXPIRY][..], &MESSAGE_S.to_be_bytes()].concat();
        let record = Record {
            events: 1,
            retain,
            qos: 1,
            received_ms: self.reading().wall_ms as u64,
            client: "publisher",
            topic,
            properties: &properties,
            payload: b"1",
            ..Record::default()
        };
        let received_ms = self.timeline().received_ms(0, record.received_ms, &self.reading());
        self.house.broker.route(&Arc::new(Message::of(&record, received_ms)));
    }

    /// A subscriber that is away, with a message that waits for it, and a retained message.
    fn prepare(&mut self) {
        let mut a = self.house.connect("a");
        self.house.subscribe(&mut a, "x", 1);
        self.house.end(&mut a);
        self.publish("x", false);
        self.publish("r", true);
    }

    fn is_retained(&self) -> bool {
        self.house.broker.0.tree.read().retained.get("r").is_some()
    }

    /// The subscriber comes: whether its session was there, and whether what waited for it came.
    fn come(&mut self) -> (bool, bool) {
        let (mut a, present) = self.house.connect_with("a", false, &[0x11, 0, 0, 14, 16]);
        let got = out(&mut a, self.house.now);
        self.house.end(&mut a);
        (present, !got.is_empty())
    }
}

/// From here on all of it ends at its time; half of the messages' time is over.
fn ends_in_time(machine: &mut Machine) {
    let (messages_ms, session_ms) = (i64::from(MESSAGE_S) * 1000, i64::from(SESSION_S) * 1000);
    machine.pass(messages_ms / 2 - 2_000);
    assert!(machine.is_retained());
    machine.pass(4_000);
    assert!(!machine.is_retained(), "the retained message's time is over");
    machine.pass(session_ms - messages_ms - 10_000);
    assert_eq!(machine.come(), (true, false), "the message's time is over, the session's not");
    machine.pass(session_ms + 1_000);
    assert_eq!(machine.come(), (false, false), "the session's time is over");
}

#[test]
fn a_clock_that_is_set_later_ends_nothing_and_everything_ends_at_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(folder.path());
    machine.prepare();
    machine.pass(i64::from(MESSAGE_S) * 500);
    machine.set_clock();
    assert!(machine.is_retained());
    ends_in_time(&mut machine);

    machine.prepare();
    machine.is_set = false;
    machine.pass(MINUTE_MS);
    assert!(machine.is_retained(), "set back");
    assert_eq!(machine.come(), (true, true));
}

#[test]
fn a_restart_before_or_after_the_clock_is_set_ends_nothing_and_adds_nothing() {
    for is_set_before in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = Machine::new(folder.path());
        machine.prepare();
        if is_set_before {
            machine.set_clock();
        }
        machine.stop();
        machine.true_ms += i64::from(MESSAGE_S) * 500;
        if !is_set_before {
            machine.is_set = true;
        }
        machine.start(folder.path());
        machine.look();
        assert!(machine.is_retained());
        ends_in_time(&mut machine);
        machine.stop();
    }
}

#[test]
fn after_a_boot_without_the_time_nothing_ends_early_and_once_the_clock_is_set_all_that_is_over() {
    for off_ms in [10 * MINUTE_MS, 5 * HOUR_MS] {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = Machine::new(folder.path());
        machine.set_clock();
        machine.prepare();
        machine.stop();
        machine.reboot(off_ms);
        machine.start(folder.path());
        machine.look();
        assert!(machine.is_retained(), "nobody knows how long it was off");
        machine.set_clock();
        let is_over = off_ms > HOUR_MS;
        assert_eq!(machine.is_retained(), !is_over);
        assert_eq!(machine.come(), (!is_over, !is_over));
        machine.stop();
    }
}

#[test]
fn a_will_waits_for_its_delay_and_no_step_of_the_clock_publishes_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(folder.path());
    let mut w = machine.house.connect("w");
    machine.house.subscribe(&mut w, "x", 1);
    machine.house.end(&mut w);
    let will = Will {
        topic: "will".into(),
        payload: b"gone".to_vec(),
        retain: false,
        qos: Qos::AtLeastOnce,
        delay_s: 600,
        properties: vec![],
    };
    let (client, will, now_ms): (Arc<str>, _, _) = ("w".into(), Arc::new(will), machine.house.now.steady_ms);
    machine.house.broker.stand_will(&client, Some(&will), now_ms);
    machine.house.broker.leave_will(&client, &will, now_ms + 10 * MINUTE_MS as u64);
    let wills = |machine: &Machine| {
        let published = std::cell::Cell::new(0);
        machine.house.broker.publish_wills(machine.house.now.steady_ms, |_| {
            published.set(published.get() + 1);
            Some(0)
        });
        published.get()
    };
    machine.pass(MINUTE_MS);
    machine.set_clock();
    machine.stop();
    machine.start(folder.path());
    machine.pass(8 * MINUTE_MS);
    assert_eq!(wills(&machine), 0);
    machine.pass(MINUTE_MS + 1);
    assert_eq!(wills(&machine), 1);
}
