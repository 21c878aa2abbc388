//! Syncs that fail, syncs that are the last thing the process does, and writes without space, made
//! by strace on a gateway under load: nothing acknowledged is lost, the process stays, and goes on
//! by itself.
//!
//! The upstream is cut meanwhile and the gateway killed at the end, so that what arrives comes from
//! the disk alone.

use std::time::Duration;

use tidegate_tests::{
    chain::Chain,
    chaos::Link,
    clock::wait_for,
    codec::Version,
    fleet::{Device, Fleet},
    strace::Strace,
};

/// Promised: from the last fault to events being acknowledged again, without a restart.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for a fault to happen or to show.
const FAULT_LIMIT: Duration = Duration::from_secs(60);
/// From a fault of the log's to its being counted.
const COUNTED_WITHIN: Duration = Duration::from_secs(10);
const LOOKED_AT_EVERY: Duration = Duration::from_millis(20);
/// A fault may hit a file beside the log, whose failures are not the log's: then another is tried.
const HITS_MAX: usize = 5;
/// Acknowledgements that show that events flow.
const FLOW: u64 = 500;

/// Devices of every kind that is promised something.
fn devices() -> Vec<Device> {
    [Version::V311, Version::V5]
        .into_iter()
        .flat_map(|version| {
            let new = |name: &str| Device::new(&format!("{name}-{}", version as u8), version);
            [
                Device { window: 50, payload_bytes: 400, ..new("wide") },
                Device { window: 1, ..new("narrow") },
                Device { qos: 2, window: 10, ..new("exact") },
            ]
        })
        .collect()
}

async fn start() -> (Chain, Fleet) {
    let mut chain = Chain::prepare(|setup| setup.store += "segment_bytes = \"1 MiB\"\n").await;
    chain.proxy.set(Link::Cut);
    chain.gateway.restart();
    let fleet = Fleet::start(chain.gateway.mqtt, devices());
    flows(&fleet, "events to be acknowledged at first", FAULT_LIMIT).await;
    (chain, fleet)
}

async fn flows(fleet: &Fleet, what: &str, limit: Duration) {
    let before = fleet.acknowledged();
    wait_for(what, limit, || fleet.acknowledged() > before + FLOW).await;
}

/// Everything acknowledged has to be there for a process that knows nothing but the files.
async fn end(mut chain: Chain, fleet: Fleet) {
    let ledgers = fleet.finish(RECOVERY_LIMIT).await;
    assert!(!chain.gateway.log().contains("panicked at"), "{}", chain.gateway.log());
    chain.gateway.kill();
    chain.gateway.restart();
    chain.proxy.set(Link::Open);
    let verdict = chain.judge(&ledgers).await;
    assert!(verdict.acknowledged as u64 > FLOW, "there was no load to speak of");
    chain.demand_fresh_event().await;
}

/// Attaches strace with `fault`, waits until it has happened to the log, and demands that the
/// gateway overcomes it by itself.
async fn overcomes(chain: &mut Chain, fleet: &Fleet, call: &str, fault: &str) {
    let metric = |chain: &Chain, name: &str| chain.gateway.metric(name);
    let failures = metric(chain, "tidegate_store_failures_total");
    let recoveries = metric(chain, "tidegate_store_recoveries_total");
    let mut is_counted = false;
    for _ in 0..HITS_MAX {
        let strace = Strace::attach(chain.gateway.pid(), call, fault);
        wait_for(&format!("{call}: {fault} to happen"), FAULT_LIMIT, || strace.injected() > 0).await;
        let counted = async {
            while metric(chain, "tidegate_store_failures_total") <= failures {
                assert!(chain.gateway.is_running(), "{call}: {fault} ended it: {}", chain.gateway.log());
                tokio::time::sleep(LOOKED_AT_EVERY).await;
            }
        };
        is_counted = tokio::time::timeout(COUNTED_WITHIN, counted).await.is_ok();
        if is_counted {
            break;
        }
    }
    assert!(is_counted, "{call}: {fault} was never counted");
    flows(fleet, &format!("events to flow again after {call}: {fault}"), RECOVERY_LIMIT).await;
    wait_for("the recovery to be counted", FAULT_LIMIT, || {
        metric(chain, "tidegate_store_recoveries_total") > recoveries
    })
    .await;
    assert!(chain.gateway.is_ready(), "{:?}", chain.gateway.not_ready());
    assert_eq!(metric(chain, "tidegate_store_failing"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_sync_that_fails_is_overcome_without_a_restart() {
    let (mut chain, fleet) = start().await;
    for n in [1, 2, 3, 8, 30] {
        overcomes(&mut chain, &fleet, "fdatasync", &format!("error=EIO:when={n}")).await;
    }
    // The sync of the folder, which makes a new segment's name durable.
    overcomes(&mut chain, &fleet, "fsync", "error=EIO:when=1").await;
    assert_eq!(chain.gateway.starts(), 1);
    end(chain, fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_without_space_are_overcome_without_a_restart() {
    let (mut chain, fleet) = start().await;
    for range in ["1", "2..4", "9..11", "40..42"] {
        overcomes(&mut chain, &fleet, "pwrite64", &format!("error=ENOSPC:when={range}")).await;
    }
    overcomes(&mut chain, &fleet, "ftruncate", "error=ENOSPC:when=1").await;
    assert_eq!(chain.gateway.starts(), 1);
    end(chain, fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_every_sync_fails_nothing_is_acknowledged_delivery_goes_on_and_the_process_says_why() {
    let (mut chain, fleet) = start().await;
    for n in [1, 5] {
        let strace = Strace::attach(chain.gateway.pid(), "fdatasync", &format!("error=EIO:when={n}+"));
        wait_for("the gateway to say why it is not ready", FAULT_LIMIT, || {
            chain.gateway.not_ready().is_some_and(|text| text.contains("nput/output error"))
        })
        .await;
        assert_eq!(chain.gateway.metric("tidegate_store_failing"), 1.0);
        // What was on its way to the devices at that moment arrives before the second attempt.
        let tries = |more: u64| {
            let (seen, strace) = (strace.injected(), &strace);
            move || strace.injected() >= seen + more
        };
        wait_for("another attempt", FAULT_LIMIT, tries(1)).await;
        let (acknowledged, delivered) = (fleet.acknowledged(), chain.recorder.lock().deliveries());
        chain.proxy.set(Link::Open);
        wait_for("two more attempts", FAULT_LIMIT, tries(2)).await;
        assert_eq!(fleet.acknowledged(), acknowledged, "acknowledged although no sync succeeds");
        wait_for("delivery to go on meanwhile", FAULT_LIMIT, || {
            chain.recorder.lock().deliveries() > delivered + FLOW as usize
        })
        .await;
        chain.proxy.set(Link::Cut);
        assert!(chain.gateway.is_running() && chain.gateway.not_ready().is_some());
        drop(strace);
        flows(&fleet, "events to flow again once syncs succeed", RECOVERY_LIMIT).await;
        wait_for("the gateway to be ready", FAULT_LIMIT, || chain.gateway.is_ready()).await;
    }
    assert_eq!(chain.gateway.starts(), 1);
    end(chain, fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_killed_at_its_nth_sync_loses_nothing_that_it_acknowledged() {
    let (mut chain, fleet) = start().await;
    for n in [1, 2, 3, 7, 19, 40] {
        let strace = Strace::attach(chain.gateway.pid(), "fdatasync", &format!("signal=KILL:when={n}"));
        let status = chain.gateway.wait_end(FAULT_LIMIT);
        assert!(status.code().is_none(), "ended by {status}, not by the signal");
        drop(strace);
        chain.gateway.restart();
        flows(&fleet, "events to flow after the restart", RECOVERY_LIMIT).await;
    }
    end(chain, fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_while_no_write_succeeds_it_has_all_that_it_acknowledged() {
    let (mut chain, fleet) = start().await;
    for n in [1, 6, 25] {
        let strace = Strace::attach(chain.gateway.pid(), "pwrite64", &format!("error=ENOSPC:when={n}+"));
        wait_for("the gateway to say why it is not ready", FAULT_LIMIT, || {
            chain.gateway.not_ready().is_some_and(|text| text.contains("space"))
        })
        .await;
        chain.gateway.kill();
        drop(strace);
        chain.gateway.restart();
        flows(&fleet, "events to flow after the restart", RECOVERY_LIMIT).await;
    }
    end(chain, fleet).await;
}
