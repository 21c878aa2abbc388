//! A large backlog: on disk and not in memory, no burden to a restart, and gone once the upstream
//! is back.
//!
//! `TEST_BACKLOG_EVENTS` sets how large; the promise is made for 10 million, which `tests/run
//! --bench` takes.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidegate_tests::{
    chaos::{Link, Proxy},
    clock::wait_for,
    codec::Version,
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle::{self, Recorder},
    upstream::Upstream,
};

const BACKLOG_EVENTS: u32 = 1_000_000;
/// Promised: memory at any backlog.
const RESIDENT_BYTES_MAX: u64 = 64 << 20;
/// Promised: from SIGKILL's restart to readiness.
const READY_MAX: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(300);
const DEVICES: u32 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backlog_takes_disk_and_no_memory_does_not_delay_a_restart_and_drains() {
    let events = std::env::var("TEST_BACKLOG_EVENTS").map_or(BACKLOG_EVENTS, |text| text.parse().unwrap());
    let recorder = Arc::new(Mutex::new(Recorder::new("up/")));
    let upstream = Upstream::start(recorder.clone()).await;
    let proxy = Proxy::start(upstream.address).await;
    proxy.set(Link::Cut);
    let uplink = Uplink::new(&format!("mqtt://{}", proxy.address), Version::V5);
    let mut gateway = Gateway::start(Setup::new(uplink));

    let devices = (0..DEVICES).map(|n| Device {
        count_max: events / DEVICES,
        ..Device::new(&format!("d{n}"), if n % 2 == 0 { Version::V311 } else { Version::V5 })
    });
    let ledgers = Fleet::start(gateway.mqtt, devices).all(LIMIT).await;
    let stored = gateway.metric("tidegate_backlog_events");
    assert!(stored >= f64::from(events), "{stored} events in the backlog");
    small(&gateway, "with the backlog stored");

    gateway.kill();
    let ready = gateway.restart();
    eprintln!("ready {ready:?} after SIGKILL with {events} events stored");
    assert!(ready < READY_MAX, "ready only after {ready:?}");
    small(&gateway, "after the restart");

    proxy.set(Link::Open);
    wait_for("the backlog to arrive", LIMIT, || oracle::is_complete(&ledgers, &recorder.lock())).await;
    oracle::judge(&ledgers, &recorder.lock()).demand();
    wait_for("the backlog to be gone", LIMIT, || gateway.metric("tidegate_backlog_events") == 0.0).await;
    small(&gateway, "after the drain");
}

fn small(gateway: &Gateway, when: &str) {
    let peak = gateway.usage().resident_peak_bytes;
    eprintln!("{} MiB of memory at the most {when}", peak >> 20);
    assert!(peak < RESIDENT_BYTES_MAX, "{} MiB {when}", peak >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sigterm_under_load_ends_within_ten_seconds_and_keeps_what_was_acknowledged() {
    let recorder = Arc::new(Mutex::new(Recorder::new("up/")));
    let upstream = Upstream::start(recorder.clone()).await;
    let mut gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V5)));
    let devices = ["a", "b"].map(|name| Device::new(name, Version::V5));
    let fleet = Fleet::start(gateway.mqtt, devices);
    for _ in 0..3 {
        let acknowledged = fleet.acknowledged();
        wait_for("load", LIMIT, || fleet.acknowledged() > acknowledged + 2_000).await;
        let (status, took) = gateway.terminate();
        eprintln!("stopped in {took:?}");
        assert!(status.success(), "{status}: {}", gateway.log());
        gateway.restart();
    }
    let ledgers = fleet.finish(LIMIT).await;
    wait_for("everything to arrive", LIMIT, || oracle::is_complete(&ledgers, &recorder.lock())).await;
    oracle::judge(&ledgers, &recorder.lock()).demand();
}
