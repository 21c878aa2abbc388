//! A week-long outage: the upstream is away while ten times the quota comes in. What happens is
//! exactly the policy, to the event, and neither the files nor the memory grow.

use std::time::Duration;

use tidegate_tests::{
    chain::{Chain, DRAIN_LIMIT},
    chaos::Link,
    clock::{holds_for, wait_for},
    codec::Version,
    fleet::{Device, Fleet},
    gateway::Setup,
    meter::FolderPeak,
    oracle,
};

const QUOTA_BYTES: u64 = 16 << 20;
/// Promised: the files never take more than the quota and a tenth.
const FILE_BYTES_MAX: u64 = QUOTA_BYTES + QUOTA_BYTES / 10;
/// Promised: memory at any backlog.
const RESIDENT_BYTES_MAX: u64 = 64 << 20;
/// How much comes in, in quotas.
const QUOTAS: u64 = 10;
const PAYLOAD_BYTES: usize = 1_000;
const DEVICES: u32 = 4;
const EVENTS_EACH: u32 = (QUOTAS * QUOTA_BYTES / PAYLOAD_BYTES as u64 / DEVICES as u64) as u32;
const URGENT_EVENTS: u32 = 1_000;
/// Longest time for a tenth of the load.
const TENTH_LIMIT: Duration = Duration::from_secs(30);
/// For so long it is watched that nothing is acknowledged.
const WATCHED: Duration = Duration::from_secs(3);

fn devices(versions: &[Version]) -> Vec<Device> {
    let device = |n: u32| {
        let version = versions[n as usize % versions.len()];
        let name = format!("d{n}-{}", version as u8);
        Device { count_max: EVENTS_EACH, payload_bytes: PAYLOAD_BYTES, ..Device::new(&name, version) }
    };
    (0..DEVICES).map(device).collect()
}

async fn start(when_full: &str, change: impl FnOnce(&mut Setup)) -> (Chain, FolderPeak) {
    let mut chain = Chain::prepare(|setup| {
        setup.store += "segment_bytes = \"1 MiB\"\nmax_bytes = \"16 MiB\"\n";
        setup.store += &format!("when_full = \"{when_full}\"\n");
        change(setup);
    })
    .await;
    chain.proxy.set(Link::Cut);
    chain.gateway.restart();
    let peak = FolderPeak::watch(chain.gateway.data_dir());
    (chain, peak)
}

fn demand_small(chain: &Chain, peak: &FolderPeak) {
    let resident = chain.gateway.usage().resident_peak_bytes;
    eprintln!("at the most {} KiB of files, {} KiB of memory", peak.bytes() >> 10, resident >> 10);
    assert!(peak.bytes() > QUOTA_BYTES / 2, "the quota was not used: {} bytes", peak.bytes());
    assert!(peak.bytes() <= FILE_BYTES_MAX, "{} bytes of files", peak.bytes());
    assert!(resident < RESIDENT_BYTES_MAX, "{} MiB of memory", resident >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn drop_oldest_takes_everything_in_and_says_of_each_device_how_much_it_dropped() {
    let urgent = Device { window: 1, count_max: URGENT_EVENTS, ..Device::new("alarm", Version::V5) };
    let (chain, peak) =
        start("drop-oldest", |setup| setup.urgent = vec![oracle::topic_of(&urgent.name)]).await;
    let load = devices(&[Version::V311, Version::V5]);
    let fleet = Fleet::start(chain.gateway.mqtt, load.into_iter().chain([urgent]));
    let all = u64::from(DEVICES * EVENTS_EACH + URGENT_EVENTS);
    for tenth in 1..=10 {
        wait_for("another tenth to be acknowledged", TENTH_LIMIT, || {
            fleet.acknowledged() >= all * tenth / 10
        })
        .await;
        assert!(chain.gateway.is_ready(), "{:?}", chain.gateway.not_ready());
    }
    assert_eq!(fleet.refused(), 0);
    let ledgers = fleet.all(TENTH_LIMIT).await;
    assert!(ledgers.iter().all(|ledger| ledger.connections == 1), "a connection was closed");
    demand_small(&chain, &peak);
    let dropped = chain.gateway.metric("tidegate_dropped_events_total");

    chain.proxy.set(Link::Open);
    let verdict = chain.judge_with_gaps(&ledgers).await;
    demand_small(&chain, &peak);
    let lost: usize = verdict.lost.values().map(Vec::len).sum();
    assert_eq!(lost as f64, dropped, "what the metric counts and what is missing");
    assert!(lost as u64 > all / 2, "{lost} of {all} events were dropped: no outage to speak of");
    assert!(!verdict.lost.contains_key("alarm"), "urgent events were dropped");
    let recorder = chain.recorder.lock();
    assert!(recorder.gaps().iter().all(|gap| gap.reason == "store-full"), "{:?}", recorder.gaps());
    let told: u64 = recorder.gaps().iter().filter_map(|gap| gap.events).sum();
    assert_eq!(told, lost as u64, "what gap records say and what is missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn drop_oldest_across_a_kill_loses_no_count() {
    let (mut chain, peak) = start("drop-oldest", |_| ()).await;
    let fleet = Fleet::start(chain.gateway.mqtt, devices(&[Version::V311, Version::V5]));
    let all = u64::from(DEVICES * EVENTS_EACH);
    for part in 1..=3 {
        wait_for("another part to be acknowledged", TENTH_LIMIT * 3, || {
            fleet.acknowledged() >= all * part / 4
        })
        .await;
        chain.gateway.kill();
        chain.gateway.restart();
    }
    let ledgers = fleet.all(TENTH_LIMIT * 5).await;
    demand_small(&chain, &peak);
    chain.proxy.set(Link::Open);
    chain.wait_drained().await;
    let verdict = oracle::judge_with_gaps(&ledgers, &chain.recorder.lock(), "cloud");
    // An event whose acknowledgement the kill swallowed was sent and stored twice: a device's count
    // may be higher by what it had in flight then, never lower.
    let recorder = chain.recorder.lock();
    for (name, lost) in &verdict.lost {
        let shares = recorder.gaps().iter().filter_map(|gap| gap.share("cloud")?.devices.get(name));
        let (lost, told) = (lost.len() as u64, shares.sum::<u64>());
        let most = lost + 3 * 100;
        assert!((lost..=most).contains(&told), "{name}: {lost} are missing, gap records say {told}");
    }
    let other: Vec<_> = verdict.violations.iter().filter(|text| !text.contains("gap records say")).collect();
    assert!(other.len() <= 1, "only the count of violations may be left: {other:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reject_stops_acknowledging_refuses_on_mqtt_5_and_takes_in_again_after_the_drain() {
    let (chain, peak) = start("reject", |_| ()).await;
    let (old, new) = (devices(&[Version::V311]), devices(&[Version::V5]));
    let old = Fleet::start(chain.gateway.mqtt, old);
    let new = Fleet::start(chain.gateway.mqtt, new);
    wait_for("a refusal", TENTH_LIMIT, || new.refused() > 0).await;
    wait_for("the gateway to say that it is full", TENTH_LIMIT, || chain.gateway.not_ready().is_some()).await;
    eprintln!("full: {:?}", chain.gateway.not_ready());
    let acknowledged = || old.acknowledged() + new.acknowledged();
    let mut seen = (acknowledged(), tidegate_tests::clock::now());
    wait_for("acknowledgements to end", TENTH_LIMIT, || {
        if acknowledged() != seen.0 {
            seen = (acknowledged(), tidegate_tests::clock::now());
        }
        seen.1.elapsed() > WATCHED
    })
    .await;
    let before = acknowledged();
    holds_for("nothing is acknowledged beyond the quota", WATCHED, || acknowledged() == before).await;
    assert!(before < u64::from(2 * DEVICES * EVENTS_EACH) / 4, "{before} events fit into the quota");
    demand_small(&chain, &peak);

    chain.proxy.set(Link::Open);
    wait_for("events to be taken in again", DRAIN_LIMIT, || acknowledged() > before + 1_000).await;
    let mut ledgers = old.all(DRAIN_LIMIT * 2).await;
    assert!(ledgers.iter().all(|ledger| ledger.connections == 1), "3.1.1 has no refusal: it waits");
    let modern = new.all(DRAIN_LIMIT * 2).await;
    let codes = modern.iter().flat_map(|ledger| ledger.refusals.keys().copied());
    assert!(
        codes.clone().count() > 0 && codes.clone().all(|code| code == 0x97),
        "{:?}",
        codes.collect::<Vec<_>>()
    );
    ledgers.extend(modern);
    chain.judge(&ledgers).await;
    demand_small(&chain, &peak);
    assert_eq!(chain.gateway.metric("tidegate_dropped_events_total"), 0.0);
}
