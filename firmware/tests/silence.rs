//! The loop against a gateway that says nothing, and a sensor that fails: with a clock that jumps
//! when there is nothing else to do, so that minutes cost no time.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

mod rig;

use std::cell::RefCell;
use std::future::Future;
use std::num::NonZeroU16;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use tidegate_firmware::batcher::BatchLimits;
use tidegate_firmware::board::{Clock, Dialer, Never, Progress, Watcher};
use tidegate_firmware::device::{
    self, ANSWER_MS_MAX, Board, DIAL_MS_MAX, Firmware, Parts, Settings, Storage,
};
use tidegate_firmware::link::LinkError;
use tidegate_firmware::random::SplitMix;
use tidegate_firmware::sensor::{Body, Fault, Reading, Sensor, SensorFault, SimulatedClimate};
use tidegate_protocol::events::{Climate, EventType, Loss};
use tidegate_protocol::{DeviceName, Kind, ResetReason};

use rig::{CONNACK, JumpingClock, Stream};

const KINDS: &[Kind] = &[Loss::KIND, Climate::KIND, SensorFault::KIND];
/// Polls of a future before a test gives up.
const POLLS_MAX: usize = 1_000_000;

/// How far the gateway goes before it falls silent.
#[derive(Clone, Copy, PartialEq)]
enum Silent {
    WhenDialled,
    WhenConnected,
    AfterConnack,
}

struct Line(Silent);

impl Dialer for Line {
    type Connection<'d> = Stream;

    async fn dial(&mut self) -> Option<Stream> {
        match self.0 {
            Silent::WhenDialled => std::future::pending().await,
            Silent::WhenConnected => Some(Stream::answering(&[])),
            Silent::AfterConnack => Some(Stream::answering(&CONNACK)),
        }
    }
}

/// A sensor that fails the first so many times.
struct Failing(u32);

impl Sensor for Failing {
    async fn read(&mut self, body: &mut Body) -> Result<Reading, Fault> {
        if self.0 == 0 {
            return SimulatedClimate::new(1, 1).read(body).await;
        }
        self.0 -= 1;
        Err(Fault::Absent)
    }
}

#[derive(Clone)]
struct Noting {
    clock: JumpingClock,
    notes: Rc<RefCell<Vec<(u64, Progress)>>>,
}

impl Watcher for Noting {
    fn note(&mut self, progress: Progress) {
        self.notes.borrow_mut().push((self.clock.uptime_ms(), progress));
    }
}

struct Bench;

impl Board for Bench {
    type Clock = JumpingClock;
    type Entropy = SplitMix;
    type Dialer = Line;
    type Sensors = (Failing,);
    type Ending = Never;
    type Watcher = Noting;
    const KINDS: &'static [Kind] = KINDS;
}

/// Runs a device until `enough`, and gives what it noted, with the times.
fn run(silent: Silent, faults: u32, enough: impl Fn(&[(u64, Progress)]) -> bool) -> Vec<(u64, Progress)> {
    let clock = JumpingClock::default();
    let watcher = Noting { clock: clock.clone(), notes: Rc::default() };
    let notes = watcher.notes.clone();
    let parts = Parts::<Bench> {
        clock,
        entropy: SplitMix::new(1),
        dialer: Line(silent),
        sensors: (Failing(faults),),
        ending: Never,
        watcher,
    };
    let settings = Settings {
        device: DeviceName::new("bench").unwrap(),
        boot: 1,
        reset: ResetReason::Watchdog,
        firmware: Firmware::new("bench", "1.2.3", "abc"),
        sample_every_ms: 1000,
        batch: BatchLimits { events_max: 10, age_ms_max: 60_000 },
        window: 4,
        keep_alive_s: NonZeroU16::new(30).unwrap(),
        password: None,
        status_every_ms: device::STATUS_EVERY_MS,
    };
    let mut storage = Storage::<8, 256, { device::outgoing_bytes(256, KINDS) }>::new();
    {
        let mut device = pin!(device::run(parts, &settings, &mut storage));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..POLLS_MAX {
            assert!(device.as_mut().poll(&mut cx).is_pending(), "it never ends");
            if enough(&notes.borrow()) {
                break;
            }
        }
    }
    let notes = notes.borrow().clone();
    assert!(enough(&notes), "the device stands still: {notes:?}");
    notes
}

fn disconnected(notes: &[(u64, Progress)]) -> Option<(u64, LinkError)> {
    notes.iter().find_map(|(at_ms, note)| match note {
        Progress::Disconnected(error) => Some((*at_ms, *error)),
        _ => None,
    })
}

fn sampled(notes: &[(u64, Progress)]) -> usize {
    notes.iter().filter(|(_, note)| matches!(note, Progress::Sampled { .. })).count()
}

#[test]
fn every_kind_of_silence_ends_after_its_time_and_sampling_goes_on_meanwhile() {
    let keep_alive_ms = 30_000;
    for (silent, error, at_ms) in [
        (Silent::WhenDialled, LinkError::Unreachable, DIAL_MS_MAX),
        (Silent::WhenConnected, LinkError::Silent, ANSWER_MS_MAX),
        (Silent::AfterConnack, LinkError::Silent, keep_alive_ms),
    ] {
        let notes = run(silent, 0, |notes| disconnected(notes).is_some());
        assert_eq!(disconnected(&notes), Some((at_ms, error)));
        let expected = at_ms as usize / 1000;
        assert!((expected..=expected + 1).contains(&sampled(&notes)), "{} in {at_ms} ms", sampled(&notes));
    }
}

#[test]
fn a_device_that_is_offline_for_a_day_samples_on_and_dials_on() {
    let day_ms = 24 * 3600 * 1000;
    let notes =
        run(Silent::WhenConnected, 0, |notes| notes.last().is_some_and(|(at_ms, _)| *at_ms >= day_ms));
    let dials = notes.iter().filter(|(_, note)| matches!(note, Progress::Disconnected(_))).count();
    // Ten seconds for the answer and at most thirty of back-off.
    assert!(dials as u64 >= day_ms / 40_000, "{dials} dials");
    assert!(sampled(&notes) as u64 >= day_ms / 1000);
}

#[test]
fn a_sensor_that_fails_is_told_at_the_first_second_fourth_and_eighth_time_and_read_on() {
    let notes = run(Silent::WhenDialled, 10, |notes| sampled(notes) == 4 + 5);
    let seconds = |wanted: fn(&Progress) -> bool| -> Vec<u64> {
        notes.iter().filter(|(_, note)| wanted(note)).map(|(at_ms, _)| at_ms / 1000).collect()
    };
    assert_eq!(seconds(|note| *note == Progress::Faulted { sensor: 0 }), (0..10).collect::<Vec<u64>>());
    let events = seconds(|note| matches!(note, Progress::Sampled { .. }));
    assert_eq!(events, [0, 1, 3, 7, 10, 11, 12, 13, 14], "four faults, then readings");
}
