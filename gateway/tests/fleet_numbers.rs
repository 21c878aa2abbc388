//! What is lost, missing and late, to the event, boot by boot: of generated devices, against an
//! oracle that knows what became of every frame; also of more boots and more holes than are kept.
//! `TEST_SEED` chooses one world.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the other tests use the rest")]
mod fleet_world;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use fleet_world::{Random, seeds};
use tidegate::{
    fleet::State,
    store::{Kind, Record},
};
use tidegate_protocol::{
    FrameWriter,
    events::{LOSS_KIND, Loss, LossReason},
};

const WORLDS: u64 = 4;
const DEVICES: i64 = 80;
const BOOTS_MAX: i64 = 12;
/// Time between two frames of a device; what is late is so by up to [`LATE_MAX`].
const STEP: i64 = 10;
const LATE_MAX: i64 = 60;

/// What may become of frames.
#[derive(Clone, Copy)]
struct Ways {
    /// One frame in so many is lost.
    lost_one_in: u64,
    /// Of some of them the device says nothing.
    is_silent: bool,
    /// Frames of a boot.
    frames: (i64, i64),
    /// Frames come twice, and some come although the device said that they are lost.
    has_copies: bool,
    boots_max: i64,
}

/// A frame, whatever becomes of it.
#[derive(Clone)]
struct Frame {
    device: String,
    boot: u32,
    numbers: Range<u32>,
    /// What it says is lost, and the number of the event that says it.
    losses: Vec<(Range<u32>, u32)>,
    bytes: Vec<u8>,
}

/// What truly is of one boot.
#[derive(Debug, Default)]
struct Truth {
    received: BTreeSet<u32>,
    told: BTreeSet<u32>,
    end: u32,
    late: u64,
}

impl Truth {
    fn arrive(&mut self, frame: &Frame) {
        let end = self.end;
        for number in frame.numbers.clone() {
            if self.received.insert(number) && number < end {
                self.late += 1;
            }
        }
        self.end = self.end.max(frame.numbers.end);
        self.told.extend(frame.losses.iter().flat_map(|(numbers, _)| numbers.clone()));
    }

    fn lost(&self) -> BTreeSet<u32> {
        self.told.difference(&self.received).copied().collect()
    }

    fn missing(&self) -> BTreeSet<u32> {
        (0..self.end)
            .filter(|number| !self.received.contains(number) && !self.told.contains(number))
            .collect()
    }

    /// Received, lost, missing, late.
    fn figures(&self) -> [u64; 4] {
        let (lost, missing) = (self.lost().len(), self.missing().len());
        [self.received.len() as u64, lost as u64, missing as u64, self.late]
    }
}

fn seal(device: &str, boot: u32, first_seq: u32, events: u32, told: &mut Vec<Range<u32>>) -> Frame {
    let (mut buffer, mut losses) = ([0; 1024], Vec::new());
    let mut writer = FrameWriter::new(&mut buffer, boot, first_seq, 7, false);
    for seq in first_seq..first_seq + events {
        let uptime_ms = u64::from(seq) * 10;
        match told.pop() {
            Some(numbers) => {
                let count = numbers.end - numbers.start;
                let loss = Loss { first_seq: numbers.start, count, reason: LossReason::QueueFull };
                writer.push_event(uptime_ms, LOSS_KIND, &loss).unwrap();
                losses.push((numbers, seq));
            }
            None => {
                writer.push(uptime_ms, 1, &[1]).unwrap();
            }
        }
    }
    let bytes = writer.finish().to_vec();
    Frame { device: device.into(), boot, numbers: first_seq..first_seq + events, losses, bytes }
}

/// The frames of one boot with the times of their arrivals; gives the time at which it ends.
fn boot(
    random: &mut Random,
    ways: Ways,
    (device, boot): (&str, u32),
    begin: i64,
    sent: &mut Vec<(i64, Frame)>,
) -> i64 {
    let (mut now, mut seq, mut told) = (begin, 0, Vec::<Range<u32>>::new());
    for _ in 0..random.between(ways.frames.0, ways.frames.1) {
        now += STEP;
        let events = random.between(1, 8) as u32;
        // A device says later, and not at once, what it lost.
        let mut telling = if random.one_in(3) { std::mem::take(&mut told) } else { Vec::new() };
        let frame = seal(device, boot, seq, events, &mut telling);
        told.append(&mut telling);
        seq += events;
        let later = |random: &mut Random| now + random.between(1, LATE_MAX);
        if random.one_in(ways.lost_one_in) {
            if ways.is_silent && random.one_in(3) {
                continue;
            }
            match told.last_mut() {
                // A run of frames is told as one.
                Some(last) if last.end == frame.numbers.start => last.end = frame.numbers.end,
                _ => told.push(frame.numbers.clone()),
            }
            if ways.has_copies && random.one_in(4) {
                sent.push((later(random), frame));
            }
            continue;
        }
        if ways.has_copies && random.one_in(8) {
            sent.push((later(random), frame.clone()));
        }
        let at = if random.one_in(8) { later(random) } else { now };
        sent.push((at, frame));
    }
    now
}

/// Sends a world of devices through a fleet and the oracle, and holds one against the other; gives
/// the figures of the oracle, and how many boots were exact.
fn world(seed: u64, ways: Ways) -> ([u64; 4], u64) {
    let (mut random, mut sent) = (Random(seed), Vec::new());
    for device in 0..DEVICES {
        let name = format!("d{device}");
        let mut now = random.between(0, 1_000);
        for number in 1..=random.between(1, ways.boots_max) {
            now = boot(&mut random, ways, (&name, number as u32), now, &mut sent) + STEP;
        }
    }
    sent.sort_by_key(|(at, _)| *at);
    let mut state = State::new(Default::default(), Default::default(), true);
    let mut truths = BTreeMap::<String, BTreeMap<u32, Truth>>::new();
    for (offset, (_, frame)) in sent.iter().enumerate() {
        let topic = format!("tg/{}/e", frame.device);
        state.apply(offset as u64, &record(&topic, &frame.bytes));
        truths.entry(frame.device.clone()).or_default().entry(frame.boot).or_default().arrive(frame);
    }
    let (mut all, mut exact) = ([0; 4], 0);
    assert_eq!(state.devices().len(), truths.len());
    for (name, truth) in &truths {
        let device = &state.devices()[name.as_str()];
        let sums = device.sums();
        let mut figures = [0; 4];
        for boot in truth.values().map(Truth::figures) {
            figures.iter_mut().zip(boot).for_each(|(sum, of_boot)| *sum += of_boot);
        }
        assert_eq!([sums.events, sums.lost, sums.missing, sums.late], figures, "{name}: its sums");
        assert_eq!(sums.boots + device.boots.len() as u64, truth.len() as u64, "{name}: its boots");
        for boot in &device.boots {
            let (gaps, truth) = (&boot.gaps, &truth[&boot.boot]);
            let found = [gaps.received(), gaps.lost_count(), gaps.missing_count(), gaps.late_count()];
            assert_eq!(found, truth.figures(), "{name}, boot {}", boot.boot);
            if gaps.is_exact() {
                exact += 1;
                assert_eq!(gaps.missing().flatten().collect::<BTreeSet<_>>(), truth.missing(), "{name}");
                assert_eq!(gaps.lost().flatten().collect::<BTreeSet<_>>(), truth.lost(), "{name}");
            }
        }
        all.iter_mut().zip(figures).for_each(|(sum, of_device)| *sum += of_device);
    }
    (all, exact)
}

fn record<'a>(topic: &'a str, payload: &'a [u8]) -> Record<'a> {
    Record {
        kind: Kind::Frame,
        events: 1,
        qos: 1,
        received_ms: 1_000,
        client: "c",
        topic,
        payload,
        ..Record::default()
    }
}

/// All worlds; gives the figures of all, and how many boots were exact.
fn worlds(ways: Ways) -> ([u64; 4], u64) {
    let (mut all, mut exact) = ([0; 4], 0);
    for seed in seeds(WORLDS) {
        let outcome = std::panic::catch_unwind(|| world(seed, ways));
        let Ok((figures, of_world)) = outcome else { panic!("TEST_SEED={seed} does it again") };
        all.iter_mut().zip(figures).for_each(|(sum, of_world)| *sum += of_world);
        exact += of_world;
    }
    let [received, lost, missing, late] = all;
    println!(
        "{received} events received, {late} of them late, {lost} told lost, {missing} missing, each one known"
    );
    (all, exact)
}

#[test]
fn what_is_received_told_lost_missing_and_late_is_what_became_of_every_frame() {
    let ways =
        Ways { lost_one_in: 8, is_silent: true, frames: (3, 60), has_copies: true, boots_max: BOOTS_MAX };
    let (figures, exact) = worlds(ways);
    assert!(figures.iter().all(|figure| *figure > 100) && exact > 100, "it did not test much: {figures:?}");
}

#[test]
fn of_more_holes_than_are_kept_the_counts_are_right_as_long_as_nothing_comes_twice() {
    let ways = Ways { lost_one_in: 2, is_silent: true, frames: (300, 500), has_copies: false, boots_max: 2 };
    let (figures, _) = worlds(ways);
    assert!(figures.iter().all(|figure| *figure > 100), "it did not test much: {figures:?}");
}

#[test]
fn a_device_that_tells_of_more_losses_than_are_kept_is_counted_right_and_not_called_exact() {
    let ways = Ways { lost_one_in: 4, is_silent: false, frames: (300, 500), has_copies: false, boots_max: 1 };
    let (figures, exact) = worlds(ways);
    assert!(figures[1] > 10_000, "it did not test much: {figures:?}");
    assert_eq!(exact, 0, "numbers of closed runs are forgotten");
}
