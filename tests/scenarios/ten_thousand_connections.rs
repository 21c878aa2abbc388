//! Ten thousand clients on one gateway while a thousand events a second go through: how long until
//! all are connected, what an idle one costs, and how they come back after a restart, the second
//! time with places for half of them only.
//!
//! The figures are printed, not judged, but for the memory: how long it takes depends on the
//! machine.

use std::{path::Path, time::Duration};

use tidegate_tests::{
    clock::{now, wait_blocking},
    codec::Version,
    crowd::{Counts, Crowd},
    gateway::{Gateway, Setup, Uplink},
    load::Sink,
    ports, program,
};

const CLIENTS: usize = 10_000;
const PROCESSES: usize = 2;
/// Ten events a second each.
const PUBLISHERS: usize = 100;
const EVENTS_PER_S: u64 = 10 * PUBLISHERS as u64;
/// A gateway gives back a client's memory after 5 s without input: so many seconds are waited for.
const IDLE_S: u64 = 8;
const LIMIT: Duration = Duration::from_secs(120);
/// Promised: an idle connection in resident memory, in bytes.
const CONNECTION_BYTES_MAX: u64 = 10 * 1024;

fn sum(crowds: &[Crowd], of: impl Fn(Counts) -> u64) -> u64 {
    crowds.iter().map(|crowd| of(crowd.counts())).sum()
}

fn wait_connected(crowds: &[Crowd], clients: usize, after: &str) {
    let start = now();
    wait_blocking("all clients to be connected", LIMIT, || {
        sum(crowds, |counts| counts.connected) == clients as u64
    });
    eprintln!("{clients} clients connected {:.1} s after {after}", start.elapsed().as_secs_f64());
}

fn wait_acked(crowds: &[Crowd], events: u64) {
    let (before, start) = (sum(crowds, |counts| counts.acked), now());
    wait_blocking("events to be acknowledged", LIMIT, || {
        sum(crowds, |counts| counts.acked) >= before + events
    });
    eprintln!("{:.0} events a second acknowledged", events as f64 / start.elapsed().as_secs_f64());
}

fn stop(gateway: &mut Gateway, crowds: &[Crowd]) {
    let before = sum(crowds, |counts| counts.lost);
    let (status, took) = gateway.terminate();
    assert!(status.success());
    eprintln!("stopped in {:.1} s", took.as_secs_f64());
    wait_blocking("the clients to notice", LIMIT, || sum(crowds, |counts| counts.connected) == 0);
    assert!(sum(crowds, |counts| counts.lost) > before);
}

#[test]
fn ten_thousand_clients_connect_come_back_after_a_restart_and_wait_their_turn_above_the_limit() {
    let address = ports::free_address();
    let sink = Sink::start(address);
    let mut setup = Setup::new(Uplink::new(&format!("mqtt://{address}"), Version::V311));
    setup.limits = format!("connections = {CLIENTS}\n");
    eprintln!("the gateway is {}", program::gateway(setup.build).display());
    let mut gateway = Gateway::start(setup);
    let crowd_program = Path::new(env!("CARGO_BIN_EXE_crowd"));
    let crowd = |n| Crowd::start(crowd_program, gateway.mqtt, &format!("crowd{n}"), PUBLISHERS / PROCESSES);
    let mut crowds: Vec<Crowd> = (0..PROCESSES).map(crowd).collect();

    crowds.iter_mut().for_each(|crowd| crowd.grow(PUBLISHERS / PROCESSES));
    wait_connected(&crowds, PUBLISHERS, "the start");
    wait_acked(&crowds, EVENTS_PER_S * IDLE_S);
    let before = gateway.usage();
    crowds.iter_mut().for_each(|crowd| crowd.grow(CLIENTS / PROCESSES));
    wait_connected(&crowds, CLIENTS, "the first of them");
    assert_eq!(gateway.metric("tidegate_connections"), CLIENTS as f64);
    wait_acked(&crowds, EVENTS_PER_S * IDLE_S);
    let after = gateway.usage();
    let grown = after.resident_bytes.saturating_sub(before.resident_bytes);
    let each = grown / (CLIENTS - PUBLISHERS) as u64;
    eprintln!("{each} bytes of memory for an idle connection, {} MiB in all", after.resident_bytes >> 20);
    assert!(each <= CONNECTION_BYTES_MAX, "an idle connection takes {each} bytes");
    assert_eq!(sum(&crowds, |counts| counts.lost), 0, "nobody is cut off");

    stop(&mut gateway, &crowds);
    gateway.restart();
    wait_connected(&crowds, CLIENTS, "the restart");
    wait_acked(&crowds, EVENTS_PER_S);

    stop(&mut gateway, &crowds);
    let half = CLIENTS / 2;
    let config = std::fs::read_to_string(gateway.config_path()).expect("it was written");
    let fewer = format!("connections = {half}\nconnections_per_second = 2000");
    let config = config.replace(&format!("connections = {CLIENTS}"), &fewer);
    std::fs::write(gateway.config_path(), config).expect("the folder is writable");
    let refused_before = sum(&crowds, |counts| counts.busy);
    gateway.restart();
    wait_connected(&crowds, half, "the restart with places for half of them");
    let start = now();
    wait_blocking("the others to be told that it is busy", LIMIT, || {
        sum(&crowds, |counts| counts.busy) >= refused_before + half as u64
    });
    eprintln!("{half} refusals with a code {:.1} s later", start.elapsed().as_secs_f64());
    assert!(gateway.metric("tidegate_refused_connections_total") >= half as f64);
    assert_eq!(gateway.metric("tidegate_connections"), half as f64, "those that have a place keep it");

    // The clients of one process go, and all of the other's find a place.
    drop(crowds.pop());
    wait_connected(&crowds, half, "places were free again");
    assert!(sink.delivered() > 0);
    eprintln!("{} events delivered upstream", sink.delivered());
}
