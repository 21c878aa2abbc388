//! Times of events, in simulated time: thousands of devices whose clocks are off, drift and start
//! anew, whose queues and outages delay their frames, and a gateway that starts in 1970, learns the
//! time later and is set by a day both ways.
//!
//! What is known at the end is held against the true times: every time that states an uncertainty
//! is within it, and the times of a boot are in the order of its uptimes. `TEST_SEED` chooses the
//! world.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the other tests use the rest")]
mod fleet_world;

use std::collections::BTreeMap;

use fleet_world::Random;
use tidegate::{
    clock::Reading,
    fleet::{Quality, State},
    store::{Kind, Record},
};
use tidegate_protocol::{Birth, FrameWriter, Kinds, ResetReason, State as Said, Status, events};

const DEVICES: u64 = 4_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// True time at which the world begins, milliseconds since 1970.
const BEGIN_MS: i64 = 1_795_000_000_000;
/// A step that leaves records around it in doubt, by as much.
const SMALL_STEP_MS: i64 = 400;
/// How long it lasts.
const SPAN_MS: i64 = 36 * HOUR_MS;
const LOOK_EVERY_MS: i64 = 1_000;
const EVENT_EVERY_MS: i64 = 20 * 60_000;
const HEARTBEAT_EVERY_MS: i64 = 30 * 60_000;

/// What the gateway's wall clock says: by true time from which it is so, what it is ahead of the
/// true time.
struct GatewayClock {
    steps: Vec<(i64, i64)>,
    /// True time of each boot of the gateway's machine.
    boots: Vec<i64>,
}

impl GatewayClock {
    fn reading(&self, true_ms: i64) -> Reading {
        let ahead = self.steps.iter().rev().find(|(from, _)| *from <= true_ms).map_or(0, |(_, ahead)| *ahead);
        let boot = self.boots.iter().rposition(|from| *from <= true_ms).unwrap_or(0);
        Reading {
            boot_id: [boot as u8 + 1; 16],
            boot_ms: true_ms - self.boots[boot] + 5_000,
            wall_ms: true_ms + ahead,
        }
    }
}

/// A message on its way: true time of arrival, topic, payload.
type Sent = (i64, String, Vec<u8>);

/// An event as it truly was.
struct Truth {
    device: String,
    boot: u32,
    seq: u32,
    uptime_ms: u64,
    true_ms: i64,
}

/// One boot of a device: from true time to true time, and how its clock runs.
struct Life {
    device: String,
    boot: u32,
    from_ms: i64,
    to_ms: i64,
    drift_ppm: i64,
    /// What its own clock is off, if it is set.
    wall_off_ms: Option<i64>,
    /// It sends births and statuses.
    is_live: bool,
    /// True times between which it has no connection.
    outage: (i64, i64),
}

impl Life {
    fn uptime_ms(&self, true_ms: i64) -> u64 {
        let past = true_ms - self.from_ms;
        (past + past * self.drift_ppm / 1_000_000) as u64
    }

    fn is_away(&self, true_ms: i64) -> bool {
        (self.outage.0..self.outage.1).contains(&true_ms)
    }

    fn topic(&self, leaf: &str) -> String {
        format!("tg/{}/{leaf}", self.device)
    }

    fn live(&self, random: &mut Random, connection: u32, is_birth: bool, true_ms: i64) -> Sent {
        let (uptime_ms, boot) = (self.uptime_ms(true_ms), self.boot);
        let wall_ms = self.wall_off_ms.map(|off| (true_ms + off) as u64);
        let mut out = [0; 4096];
        let payload = if is_birth {
            let birth = Birth {
                boot,
                connection,
                uptime_ms,
                wall_ms,
                reset: ResetReason::PowerOn,
                firmware: "sim",
                version: "1",
                build: "a",
                kinds: Kinds::new(&KINDS),
            };
            birth.write(&mut out).unwrap().to_vec()
        } else {
            let status = Status {
                boot,
                connection,
                state: Said::Online,
                uptime_ms,
                wall_ms,
                next_contact_s: None,
                battery_percent: None,
                signal_dbm: None,
            };
            status.write(&mut out).unwrap().to_vec()
        };
        // Most are fast, some are as slow as may be.
        let latency_ms = if random.one_in(10) { random.between(0, 1_999) } else { random.between(2, 80) };
        (true_ms + latency_ms, self.topic(if is_birth { "b" } else { "s" }), payload)
    }

    fn messages(&self, random: &mut Random, sent: &mut Vec<Sent>, truths: &mut Vec<Truth>) {
        let mut connection = 1;
        if self.is_live {
            let mut at_ms = self.from_ms + random.between(10, 3_000);
            let mut is_birth = true;
            while at_ms < self.to_ms {
                if self.is_away(at_ms) {
                    (at_ms, connection, is_birth) =
                        (self.outage.1 + random.between(0, 2_000), connection + 1, true);
                    continue;
                }
                sent.push(self.live(random, connection, is_birth, at_ms));
                (at_ms, is_birth) = (at_ms + HEARTBEAT_EVERY_MS, false);
            }
        }
        let (mut seq, mut at_ms) = (0, self.from_ms + random.between(0, EVENT_EVERY_MS));
        while at_ms < self.to_ms {
            let mut buffer = [0; 256];
            let mut frame = FrameWriter::new(&mut buffer, self.boot, seq, 7, false);
            let mut last_ms = at_ms;
            for _ in 0..random.between(1, 3) {
                if at_ms >= self.to_ms {
                    break;
                }
                let uptime_ms = self.uptime_ms(at_ms);
                frame.push(uptime_ms, 1, &[1]).unwrap();
                let device = self.device.clone();
                truths.push(Truth { device, boot: self.boot, seq, uptime_ms, true_ms: at_ms });
                (seq, last_ms) = (seq + 1, at_ms);
                at_ms += random.between(1, EVENT_EVERY_MS);
            }
            // It waits for the link, and sometimes for long.
            let waits_ms =
                if random.one_in(5) { random.between(0, 3 * HOUR_MS) } else { random.between(1, 500) };
            let ready_ms =
                if self.is_away(last_ms) { self.outage.1 + random.between(0, 60_000) } else { last_ms };
            sent.push((ready_ms + waits_ms, self.topic("e"), frame.finish().to_vec()));
        }
    }
}

const KINDS: [tidegate_protocol::Kind; 1] = [<events::Loss as tidegate_protocol::EventType>::KIND];

fn lives(random: &mut Random) -> Vec<Life> {
    let mut lives = Vec::new();
    for number in 0..DEVICES {
        let device = format!("d{number}");
        let (sends_live, drift_ppm) = (!random.one_in(8), random.between(-200, 200) * 9 / 10);
        // One in eight has a clock that is right, as many have one that is far off and say that it
        // is set.
        let wall_off_ms = match random.between(0, 7) {
            0 => Some(random.between(-450, 450)),
            1 => Some(random.between(60_000, 2 * DAY_MS) * if random.one_in(2) { 1 } else { -1 }),
            _ => None,
        };
        let mut from_ms = BEGIN_MS + random.between(0, SPAN_MS / 2);
        for boot in 1..=random.between(1, 4) as u32 {
            let to_ms = (from_ms + random.between(HOUR_MS, SPAN_MS)).min(BEGIN_MS + SPAN_MS);
            let away = random.between(from_ms, from_ms + SPAN_MS);
            let outage = (away, away + random.between(60_000, 12 * HOUR_MS));
            let device = device.clone();
            // Some boots of a device that sends births otherwise are known by their frames alone.
            let is_live = sends_live && !random.one_in(8);
            lives.push(Life { device, boot, from_ms, to_ms, drift_ppm, wall_off_ms, is_live, outage });
            from_ms = to_ms + random.between(1_000, HOUR_MS);
            if from_ms >= BEGIN_MS + SPAN_MS {
                break;
            }
        }
    }
    lives
}

/// Where an event lies in the log.
#[derive(Clone, Copy)]
struct Place {
    offset: u64,
    received_ms: u64,
    arrival_ms: i64,
}

/// Runs the gateway over all messages, and gives what it knows and where each event lies.
fn follow(clock: &GatewayClock, sent: &[Sent]) -> (State, BTreeMap<(String, u32, u32), Place>) {
    let (mut state, mut places) = (State::new(Default::default(), Default::default(), true), BTreeMap::new());
    let (mut look_ms, mut offset) = (BEGIN_MS, 0);
    for (arrival_ms, topic, payload) in sent {
        while look_ms <= *arrival_ms {
            state.look(&clock.reading(look_ms), offset);
            look_ms += LOOK_EVERY_MS;
        }
        let received_ms = clock.reading(*arrival_ms).wall_ms as u64;
        let is_frame = topic.ends_with("/e");
        let record = Record {
            kind: if is_frame { Kind::Frame } else { Kind::Opaque },
            events: 1,
            qos: 1,
            received_ms,
            client: "sim",
            topic,
            payload,
            ..Record::default()
        };
        state.apply(offset, &record);
        if is_frame {
            let (head, _) = tidegate_protocol::FrameHead::parse(payload).unwrap();
            let device = topic.split('/').nth(1).unwrap();
            for seq in head.first_seq..head.first_seq + u32::from(head.count) {
                places.insert(
                    (device.to_owned(), head.boot, seq),
                    Place { offset, received_ms, arrival_ms: *arrival_ms },
                );
            }
        }
        offset += 1;
    }
    (state, places)
}

/// Of one quality: how many times, the largest error, the largest uncertainty, the largest error by
/// the uncertainty of its time.
#[derive(Default)]
struct Figures {
    times: u64,
    unstated: u64,
    error_ms: u64,
    uncertainty_ms: u64,
    part: f64,
}

fn run(name: &str, clock: &GatewayClock, receipt_off_ms_max: u64) -> BTreeMap<String, Figures> {
    let seed = std::env::var("TEST_SEED").map_or(1, |text| text.parse().unwrap());
    let mut random = Random(seed);
    let (mut sent, mut truths) = (Vec::new(), Vec::new());
    for life in lives(&mut random) {
        life.messages(&mut random, &mut sent, &mut truths);
    }
    sent.sort_by_key(|(arrival_ms, ..)| *arrival_ms);
    let (mut state, places) = follow(clock, &sent);
    let mut figures = BTreeMap::<String, Figures>::new();
    let mut before: Option<(&Truth, u64, Quality)> = None;
    for truth in &truths {
        let Place { offset, received_ms, arrival_ms } =
            places[&(truth.device.clone(), truth.boot, truth.seq)];
        let off_ms = state.received(offset, received_ms).abs_diff(arrival_ms as u64);
        assert!(
            off_ms <= receipt_off_ms_max,
            "{name}: the record at {offset} was received {off_ms} ms elsewhere"
        );
        let stamp = state.stamp(&truth.device, truth.boot, truth.uptime_ms, offset, received_ms);
        let error_ms = stamp.time_ms.abs_diff(truth.true_ms as u64);
        let of = figures.entry(format!("{:?}", stamp.quality)).or_default();
        of.times += 1;
        match stamp.uncertainty_ms {
            Some(uncertainty_ms) => {
                assert!(
                    error_ms <= uncertainty_ms,
                    "{name}, seed {seed}: {} {}-{}: {error_ms} ms off, {stamp:?}",
                    truth.device,
                    truth.boot,
                    truth.seq
                );
                of.error_ms = of.error_ms.max(error_ms);
                of.uncertainty_ms = of.uncertainty_ms.max(uncertainty_ms);
                of.part = of.part.max(error_ms as f64 / uncertainty_ms as f64);
            }
            None => of.unstated += 1,
        }
        if let Some((earlier, time_ms, quality)) = before
            && (&earlier.device, earlier.boot) == (&truth.device, truth.boot)
        {
            let is_unharmed = earlier.uptime_ms > truth.uptime_ms || time_ms <= stamp.time_ms;
            assert!(is_unharmed, "{name}: {} {}-{} {quality:?}", truth.device, truth.boot, truth.seq);
        }
        before = Some((truth, stamp.time_ms, stamp.quality));
    }
    println!("{name}: {} devices, {} messages, {} events", DEVICES, sent.len(), truths.len());
    for (quality, of) in &figures {
        println!(
            "  {quality:<9} {:>7} times, {:>6} without an uncertainty; at most {:>9} ms off, {:>9} ms stated, {:.2} of what was stated",
            of.times, of.unstated, of.error_ms, of.uncertainty_ms, of.part
        );
    }
    figures
}

#[test]
fn a_gateway_that_starts_in_1970_and_is_set_by_a_day_both_ways_has_right_times_of_all_that_it_stored() {
    let steps = vec![
        (BEGIN_MS - DAY_MS, -BEGIN_MS),
        (BEGIN_MS + 3 * HOUR_MS + 321, 0),
        (BEGIN_MS + 9 * HOUR_MS + 777, DAY_MS),
        (BEGIN_MS + 15 * HOUR_MS + 123, 0),
        (BEGIN_MS + 20 * HOUR_MS + 500, -DAY_MS),
        (BEGIN_MS + 27 * HOUR_MS + 999, 0),
        (BEGIN_MS + 30 * HOUR_MS + 1, SMALL_STEP_MS),
        (BEGIN_MS + 32 * HOUR_MS + 1, 0),
    ];
    let clock = GatewayClock { steps, boots: vec![BEGIN_MS - DAY_MS] };
    let figures = run("steps", &clock, SMALL_STEP_MS as u64);
    for quality in ["Synced", "Mapped", "Bounded"] {
        assert!(figures[quality].times > 1_000, "{quality} is hardly tested");
    }
    assert!(figures["Bounded"].times - figures["Bounded"].unstated > 1_000);
    assert!(figures["Mapped"].unstated == 0 && figures["Synced"].unstated == 0);
    assert!(figures["Mapped"].uncertainty_ms < 30_000, "so wide that anything would be right");
}

#[test]
fn what_came_in_a_boot_of_the_machine_that_never_learned_the_time_claims_nothing_that_it_does_not_know() {
    // The first boot of the machine never learns the time, the second knows it after an hour, the
    // third at once.
    let steps = vec![
        (BEGIN_MS - HOUR_MS, -BEGIN_MS),
        (BEGIN_MS + 8 * HOUR_MS, -BEGIN_MS - 8 * HOUR_MS),
        (BEGIN_MS + 9 * HOUR_MS, 0),
    ];
    let boots = vec![BEGIN_MS - HOUR_MS, BEGIN_MS + 8 * HOUR_MS, BEGIN_MS + 20 * HOUR_MS];
    let figures = run("machine boots", &GatewayClock { steps, boots }, u64::MAX);
    assert!(figures["Received"].unstated > 100 && figures["Received"].unstated == figures["Received"].times);
    assert!(figures["Mapped"].times > 10_000);
}
