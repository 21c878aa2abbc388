//! The benchmarks that compare: mosquitto, Tidegate and the ceiling, one after the other, under the
//! same load, before the same upstream, on the same machine. Prints the tables of
//! `docs/benchmarks.md`.
//!
//! `bench [SECONDS] [EVENTS] [TABLE...]`: how long each load is measured (5), how many events the
//! outage is to hold (10,000,000 for Tidegate, a tenth of it for mosquitto, which holds them in
//! memory), and which tables: `speed`, `latency`, `outage`, `intake`, `described`, `listener`,
//! `tls`, or else all of them.
//!
//! Ratios hold from machine to machine, absolute figures do not. Load and upstream take their share
//! of the same cores; how much is in the last column.

mod contestants;
mod described;
mod listener;
mod tls;
mod undisturbed;

use std::{error::Error, time::Duration};

use contestants::{Contestant, Running};
use tidegate_tests::{
    clock::{now, wait_blocking},
    load::{self, Publishers, Sink},
    meter::{self, Usage},
    ports,
    program::{self, Build},
};

const ALL: [Contestant; 3] = [Contestant::Mosquitto, Contestant::Tidegate, Contestant::Ceiling];
/// Clients and events in flight of each.
const LOADS: [(usize, usize); 3] = [(50, 100), (1, 100), (1000, 20)];
const WARM_UP: Duration = Duration::from_secs(1);
const PACED_INTERVAL: Duration = Duration::from_micros(500);
/// The backlog of frames holds so many times fewer events than an outage of single ones.
const DESCRIBED_PART: u64 = 5;
const DRAIN_LIMIT: Duration = Duration::from_secs(120);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let events = arguments.next().map_or(Ok(10_000_000), |text| text.parse())?;
    let measured = Duration::from_secs(seconds);
    // Built, if it must be, before the tables begin.
    drop(program::gateway(Build::Shipped));
    let chosen: Vec<_> = arguments.collect();
    let wanted = |table: &str| chosen.is_empty() || chosen.iter().any(|name| name == table);
    let mut enough = true;
    if wanted("speed") {
        enough &= throughput(measured)?;
    }
    if wanted("latency") {
        latency(measured)?;
    }
    if wanted("outage") {
        enough &= outage(events)?;
    }
    if wanted("intake") {
        enough &= undisturbed::undisturbed(measured, events)?;
    }
    if wanted("described") {
        enough &= described::described(events / DESCRIBED_PART)?;
    }
    if wanted("listener") {
        listener::listeners(measured)?;
    }
    if wanted("tls") {
        enough &= tls::tls(measured)?;
    }
    if enough { Ok(()) } else { Err("a figure falls short of the least that is asked for: see above".into()) }
}

/// What is asked for at the least, against mosquitto in the same run.
const RATE_RATIO_MIN: f64 = 4.0;
const CPU_RATIO_MAX: f64 = 0.25;
const READY_MAX: Duration = Duration::from_secs(1);
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Full speed: what goes in, what goes out, what it costs. `false` says that the first load's
/// ratios fall short.
fn throughput(measured: Duration) -> Result<bool, Box<dyn Error>> {
    let (mut ratios, mut enough) = (String::new(), true);
    println!("### Full speed, QoS 1 in and out, {} B\n", load::PAYLOAD_BYTES);
    println!(
        "| load | | in, k/s | out, k/s | CPU per event, µs | memory, MiB | written per event, B | lost | load's CPU, µs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (clients, window) in LOADS {
        let mut peer = None;
        for contestant in ALL {
            let (upstream, sink, running) = begin(contestant);
            let (own, start) = (meter::usage(std::process::id()), running.usage());
            let publishers = Publishers::start(running.address(), clients, window, None);
            std::thread::sleep(WARM_UP);
            let (begun, acked, delivered) = (now(), publishers.acked(), sink.delivered());
            std::thread::sleep(measured);
            let seconds = begun.elapsed().as_secs_f64();
            let rate_in = (publishers.acked() - acked) as f64 / seconds / 1000.0;
            let rate_out = (sink.delivered() - delivered) as f64 / seconds / 1000.0;
            let total = publishers.finish()?;
            let missing = drained(&sink, total);
            let (own, end) = (micros(own, meter::usage(std::process::id()), total), running.usage());
            println!(
                "| {clients} x {window} | {} | {rate_in:.0} | {rate_out:.0} | {:.2} | {} | {} | {missing} | {own:.2} |",
                contestant.name(),
                micros(start, end, total),
                end.resident_peak_bytes >> 20,
                (end.written_bytes - start.written_bytes) / total.max(1),
            );
            let cpu = micros(start, end, total);
            let (peer_rate, peer_cpu) = *peer.get_or_insert((rate_out, cpu));
            if contestant == Contestant::Tidegate {
                let (rate, cpu) = (rate_out / peer_rate, cpu / peer_cpu);
                ratios += &format!("{clients} x {window}: {rate:.1} times its rate at {cpu:.2} of its CPU. ");
                enough &=
                    clients != LOADS[0].0 || (rate >= RATE_RATIO_MIN && cpu <= CPU_RATIO_MAX && missing == 0);
            }
            drop((running, sink, upstream));
        }
    }
    println!("\nTidegate against mosquitto: {ratios}\n");
    Ok(enough)
}

/// A load that nobody minds: how long an event is under way, and what it costs.
fn latency(measured: Duration) -> Result<(), Box<dyn Error>> {
    println!("### 2,000 events/s, from the device's write to the upstream's read\n");
    println!("| | p50, ms | p99, ms | CPU per event, µs | written per event, B |");
    println!("|---|---|---|---|---|");
    for contestant in ALL {
        let (_, sink, running) = begin(contestant);
        sink.time_each();
        let start = running.usage();
        let total = load::publish_paced(running.address(), PACED_INTERVAL, measured)?;
        drained(&sink, total);
        let end = running.usage();
        let all = sink.latencies();
        let ms = |share: f64| all[((all.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
        println!(
            "| {} | {:.2} | {:.2} | {:.0} | {} |",
            contestant.name(),
            ms(0.5),
            ms(0.99),
            micros(start, end, total),
            (end.written_bytes - start.written_bytes) / total.max(1),
        );
    }
    println!();
    Ok(())
}

/// The upstream is away while events come in, and then it is back. Tidegate is killed in between.
/// `false` says that its restart or its memory falls short.
fn outage(events: u64) -> Result<bool, Box<dyn Error>> {
    let mut enough = true;
    println!("### An outage, and its end\n");
    println!(
        "| | events held | in meanwhile, k/s | memory, MiB | ready after SIGKILL, ms | drain, k/s | lost |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (contestant, events) in [(Contestant::Mosquitto, events / 10), (Contestant::Tidegate, events)] {
        let (upstream, sink, mut running) = begin(contestant);
        drop(sink);
        let begun = now();
        let total = Publishers::start(running.address(), 50, 100, Some(events)).join()?;
        let rate_in = total as f64 / begun.elapsed().as_secs_f64() / 1000.0;
        let mut memory = running.usage().resident_peak_bytes;
        let mut ready = "not durable".to_owned();
        if let Running::Tidegate(gateway) = &mut running {
            gateway.kill();
            let took = gateway.restart();
            enough &= took <= READY_MAX;
            ready = format!("{:.0}", took.as_secs_f64() * 1000.0);
        }
        let sink = Sink::start(upstream);
        wait_blocking("the first event after the outage", DRAIN_LIMIT, || sink.delivered() > 0);
        let missing = drained(&sink, total);
        let rate = total as f64 / sink.span().as_secs_f64() / 1000.0;
        memory = memory.max(running.usage().resident_peak_bytes);
        if contestant == Contestant::Tidegate {
            enough &= memory <= MEMORY_BYTES_MAX && missing == 0;
        }
        println!(
            "| {} | {total} | {rate_in:.0} | {} | {ready} | {rate:.0} | {missing} |",
            contestant.name(),
            memory >> 20
        );
    }
    println!();
    Ok(enough)
}

fn begin(contestant: Contestant) -> (std::net::SocketAddr, Sink, Running) {
    let upstream = ports::free_address();
    let sink = Sink::start(upstream);
    let running = contestant.start(upstream);
    (upstream, sink, running)
}

/// Waits for all of them, or until nothing comes any more; gives how many did not come.
fn drained(sink: &Sink, total: u64) -> u64 {
    let (begun, mut last) = (now(), (sink.delivered(), now()));
    while sink.delivered() < total && last.1.elapsed() < DRAIN_LIMIT / 12 && begun.elapsed() < DRAIN_LIMIT {
        std::thread::sleep(Duration::from_millis(1));
        if sink.delivered() != last.0 {
            last = (sink.delivered(), now());
        }
    }
    total.saturating_sub(sink.delivered())
}

fn micros(start: Usage, end: Usage, events: u64) -> f64 {
    (end.cpu - start.cpu).as_secs_f64() * 1e6 / events.max(1) as f64
}
