//! One uplink that stands still takes nothing from the others: they keep their rate, and the
//! gateway's memory stays bounded.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidegate_tests::{
    chaos::{Acks, Link, Proxy, Rules},
    clock::{now, wait_for},
    codec::{Received, Version},
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    upstream::{Cloud, Reply, Upstream},
};

/// How long a rate is measured.
const MEASURE: Duration = Duration::from_secs(3);
/// A machine with much else to do gets as many chances.
const TRIES: u32 = 4;
/// The gateway's memory at the most, as `docs/benchmarks.md` promises it for a backlog.
const MEMORY_MAX_BYTES: u64 = 64 << 20;
const LIMIT: Duration = Duration::from_secs(120);

/// Counts what it takes.
#[derive(Default)]
struct Counter(u64);

impl Cloud for Counter {
    fn take(&mut self, _publish: &Received) -> Reply {
        self.0 += 1;
        Reply::Ack
    }
}

/// Events per second that arrive from now on.
async fn rate(counter: &Mutex<Counter>) -> f64 {
    let (before, start) = (counter.lock().0, now());
    tokio::time::sleep(MEASURE).await;
    (counter.lock().0 - before) as f64 / start.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_uplink_that_stands_still_leaves_the_other_within_ten_per_cent_of_its_rate() {
    let (near, far) = (Arc::<Mutex<Counter>>::default(), Arc::<Mutex<Counter>>::default());
    let (near_upstream, far_upstream) =
        (Upstream::start(near.clone()).await, Upstream::start(far.clone()).await);
    let proxy = Proxy::start(far_upstream.address).await;
    let mut setup = Setup::new(Uplink::new(&near_upstream.url(), Version::V5));
    let url = format!("mqtt://{}", proxy.address);
    setup.uplinks.push(Uplink { name: "lake".into(), ..Uplink::new(&url, Version::V5) });
    let gateway = Gateway::start(setup);
    let fleet = Fleet::start(gateway.mqtt, (0..4).map(|n| Device::new(&format!("d{n}"), Version::V311)));
    wait_for("events at both", LIMIT, || near.lock().0 > 1000 && far.lock().0 > 1000).await;
    let stalls = [
        ("half-open", Rules { link: Link::HalfOpen, ..Rules::default() }),
        ("silent", Rules { link: Link::Silent, ..Rules::default() }),
        ("no acknowledgement", Rules { acks: Acks::DropAll, ..Rules::default() }),
    ];
    for (name, rules) in stalls {
        let mut shares = vec![];
        while shares.iter().all(|share| *share < 0.9) && shares.len() < TRIES as usize {
            proxy.set_rules(Rules::default());
            let taken = far.lock().0;
            wait_for("events at the far one", LIMIT, || far.lock().0 > taken + 1000).await;
            let healthy = rate(&near).await;
            proxy.set_rules(rules);
            let stalled = rate(&near).await;
            eprintln!("{name}: {healthy:.0} events/s with both, {stalled:.0} with one that stands still");
            shares.push(stalled / healthy);
        }
        assert!(shares.iter().any(|share| *share >= 0.9), "{name}: {shares:?}");
    }
    let peak_bytes = gateway.usage().resident_peak_bytes;
    assert!(peak_bytes <= MEMORY_MAX_BYTES, "{} MiB of memory", peak_bytes >> 20);
    proxy.set_rules(Rules::default());
    let ledgers = fleet.finish(LIMIT).await;
    let acknowledged: usize = ledgers.iter().map(tidegate_tests::oracle::Ledger::acknowledged).sum();
    wait_for("everything at both", LIMIT, || {
        near.lock().0 >= acknowledged as u64 && gateway.metric("tidegate_backlog_events") == 0.0
    })
    .await;
    assert_eq!(gateway.metric("tidegate_dead_letters"), 0.0, "a healthy event was blamed");
}
