//! Whether intake notices that a backlog drains: the same steady load with nothing to drain, and
//! while one drains.
//!
//! The load is far below what the gateway can take in, for load, gateway and upstream share the
//! machine: what is measured is whether the way out leaves the way in its turn. First the upstream
//! takes [`UPSTREAM_RATE_MAX`], which leaves the machine some of its time, then whatever it is
//! given: then the drain and the upstream each take a core, and a figure says as much about the
//! kernel's scheduling of them as about the gateway's.

use std::{error::Error, time::Duration};

use tidegate_tests::{
    clock::{now, wait_blocking},
    load::{Publishers, Sink},
    steady::{self, Lap, Steady},
};

use super::{
    DRAIN_LIMIT, WARM_UP, begin,
    contestants::{Contestant, Running},
    drained,
};

/// The backlog holds so many times the events that an outage is to hold: draining it takes some
/// seconds.
const BACKLOGS: u64 = 3;
/// Events per second of an upstream that is faster than any over a network, and not as fast as the
/// drain.
const UPSTREAM_RATE_MAX: u64 = 1_000_000;
/// What intake may lose while a backlog drains.
const RATE_PART_MIN: f64 = 0.9;

/// Prints the table. `false` says that intake gets less of its load while a backlog drains, or that
/// anything is lost.
pub fn undisturbed(measured: Duration, events: u64) -> Result<bool, Box<dyn Error>> {
    println!("### Intake while a backlog drains: {} events/s, QoS 1\n", steady::RATE);
    println!("| | in, events/s | PUBACK p50, ms | p99, ms | p99.9, ms | out, k/s | CPU, cores | lost |");
    println!("|---|---|---|---|---|---|---|---|");
    let (upstream, sink, running) = begin(Contestant::Tidegate);
    let mut load = Steady::start(running.address())?;
    std::thread::sleep(WARM_UP);
    let quiet = Stretch::of(&mut load, &sink, &running, || std::thread::sleep(measured));
    let total = load.finish()?;
    let lost = drained(&sink, total);
    quiet.print("nothing to drain", lost);
    drop(sink);

    let backlog = Publishers::start(running.address(), 50, 100, Some(BACKLOGS * events)).join()?;
    let mut load = Steady::start(running.address())?;
    let sink = Sink::start(upstream);
    sink.limit(UPSTREAM_RATE_MAX);
    wait_blocking("the first event after the outage", DRAIN_LIMIT, || sink.delivered() > 0);
    let draining = Stretch::of(&mut load, &sink, &running, || std::thread::sleep(measured));
    sink.limit(0);
    let racing = Stretch::of(&mut load, &sink, &running, || {
        wait_blocking("the backlog to be gone", DRAIN_LIMIT, || sink.delivered() >= backlog);
    });
    let lost_behind = drained(&sink, backlog + load.finish()?);
    draining.print("a backlog, at the upstream's pace", lost_behind);
    racing.print("a backlog, as fast as it goes", lost_behind);
    println!("\nThe backlog: {backlog} events.\n");
    let kept = |stretch: &Stretch| stretch.lap.rate >= RATE_PART_MIN * quiet.lap.rate;
    Ok(kept(&draining) && kept(&racing) && lost + lost_behind == 0)
}

/// What happened in a stretch of time.
struct Stretch {
    lap: Lap,
    out_per_second: f64,
    cores: f64,
}

impl Stretch {
    /// From now until `wait` is over.
    fn of(load: &mut Steady, sink: &Sink, running: &Running, wait: impl FnOnce()) -> Self {
        load.lap();
        let (begun, delivered, cpu) = (now(), sink.delivered(), running.usage().cpu);
        wait();
        let lap = load.lap();
        let seconds = begun.elapsed().as_secs_f64();
        Self {
            lap,
            out_per_second: (sink.delivered() - delivered) as f64 / seconds,
            cores: (running.usage().cpu - cpu).as_secs_f64() / seconds,
        }
    }

    fn print(&self, name: &str, lost: u64) {
        let Self { lap, out_per_second, cores } = self;
        println!(
            "| {name} | {:.0} | {:.2} | {:.2} | {:.2} | {:.0} | {cores:.2} | {lost} |",
            lap.rate,
            lap.ms(0.5),
            lap.ms(0.99),
            lap.ms(0.999),
            out_per_second / 1000.0,
        );
    }
}
