//! The last word of a device that ends in order: that it stops, or when it will be heard of again.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

mod rig;

use std::cell::RefCell;
use std::future::Future;
use std::num::NonZeroU16;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tidegate_firmware::batcher::BatchLimits;
use tidegate_firmware::board::{Clock, Dialer, Ending, Silent};
use tidegate_firmware::device::{self, Board, Firmware, Outcome, Parts, STATUS_EVERY_MS, Settings, Storage};
use tidegate_firmware::random::SplitMix;
use tidegate_firmware::sensor::SimulatedClimate;
use tidegate_protocol::events::{EventType, Loss};
use tidegate_protocol::{Birth, DeviceName, Kind, ResetReason, State, Status};

use rig::{BOOTED_MS, CONNACK, JumpingClock, Stream};

const KINDS: &[Kind] = &[Loss::KIND];
const POLLS_MAX: usize = 1000;
/// When the end is asked for, in milliseconds of uptime.
const END_MS: u64 = 700_000;

struct Line(Rc<RefCell<Vec<u8>>>);

impl Dialer for Line {
    type Connection<'d> = Stream;

    async fn dial(&mut self) -> Option<Stream> {
        let mut stream = Stream::answering(&CONNACK);
        stream.written = self.0.clone();
        Some(stream)
    }
}

struct AtEnd {
    clock: JumpingClock,
    next_contact_s: Option<u32>,
}

impl Ending for AtEnd {
    fn requested(&self) -> bool {
        self.clock.uptime_ms() >= END_MS
    }

    async fn wait(&self) {
        self.clock.sleep_until(END_MS).await;
    }

    fn next_contact_s(&self) -> Option<u32> {
        self.next_contact_s
    }
}

struct Bench;

impl Board for Bench {
    type Clock = JumpingClock;
    type Entropy = SplitMix;
    type Dialer = Line;
    // None: a device that has nothing to deliver ends as soon as it is asked.
    type Sensors = [SimulatedClimate; 0];
    type Ending = AtEnd;
    type Watcher = Silent;
    const KINDS: &'static [Kind] = KINDS;
}

/// Runs a device to its end, and gives what it published: topic and payload.
fn published(next_contact_s: Option<u32>) -> Vec<(String, Vec<u8>)> {
    let clock = JumpingClock::default();
    let written = Rc::new(RefCell::new(Vec::new()));
    let parts = Parts::<Bench> {
        clock: clock.clone(),
        entropy: SplitMix::new(1),
        dialer: Line(written.clone()),
        sensors: [],
        ending: AtEnd { clock, next_contact_s },
        watcher: Silent,
    };
    let settings = Settings {
        device: DeviceName::new("bench").unwrap(),
        password: None,
        boot: 5,
        reset: ResetReason::Wake,
        firmware: Firmware::new("bench", "1.2.3", "abc"),
        sample_every_ms: 1000,
        batch: BatchLimits { events_max: 10, age_ms_max: 1000 },
        window: 4,
        // Longer than the test: its gateway answers no ping.
        keep_alive_s: NonZeroU16::new(3600).unwrap(),
        status_every_ms: STATUS_EVERY_MS,
    };
    let mut storage = Storage::<4, 128, { device::outgoing_bytes(128, KINDS) }>::new();
    let mut device = pin!(device::run(parts, &settings, &mut storage));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(outcome) = device.as_mut().poll(&mut cx) {
            assert_eq!(outcome, Outcome::Ended);
            return publishes(&written.borrow());
        }
    }
    panic!("the device does not end")
}

/// The PUBLISH packets at QoS 1 in what was written; all packets here are shorter than 16 KB.
fn publishes(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    while let [head, low, rest @ ..] = bytes {
        let (length, rest) = match low & 0x80 {
            0 => (usize::from(*low), rest),
            _ => (usize::from(low & 0x7f) | usize::from(rest[0]) << 7, &rest[1..]),
        };
        let (packet, rest) = rest.split_at(length);
        if head & 0xf0 == 0x30 {
            let topic_bytes = usize::from(u16::from_be_bytes([packet[0], packet[1]]));
            let (topic, packet) = packet[2..].split_at(topic_bytes);
            // Behind the identifier and the length of no properties.
            found.push((String::from_utf8(topic.to_vec()).unwrap(), packet[3..].to_vec()));
        }
        bytes = rest;
    }
    found
}

#[test]
fn a_device_that_goes_to_sleep_says_when_it_will_be_heard_of_again() {
    let published = published(Some(900));
    let (topic, birth) = published.first().unwrap();
    assert_eq!(topic, "tg/bench/b");
    let birth = Birth::parse(birth).unwrap();
    assert_eq!((birth.connection, birth.reset, birth.wall_ms), (1, ResetReason::Wake, Some(BOOTED_MS)));
    let (topic, last) = published.last().unwrap();
    assert_eq!(topic, "tg/bench/s");
    let expected = Status {
        boot: 5,
        connection: 1,
        state: State::Sleeping,
        uptime_ms: END_MS,
        wall_ms: Some(BOOTED_MS + END_MS),
        next_contact_s: Some(900),
        battery_percent: None,
        signal_dbm: None,
    };
    assert_eq!(Status::parse(last), Ok(expected));
}

#[test]
fn a_device_that_stops_says_so_also_while_an_earlier_status_is_not_answered() {
    let statuses: Vec<_> = published(None)
        .iter()
        .filter(|(topic, _)| topic == "tg/bench/s")
        .map(|(_, payload)| Status::parse(payload).unwrap())
        .map(|status| (status.state, status.uptime_ms, status.next_contact_s))
        .collect();
    let first_ms = u64::from(STATUS_EVERY_MS);
    assert_eq!(statuses, [(State::Online, first_ms, None), (State::Stopping, END_MS, None)]);
}
