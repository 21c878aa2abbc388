//! A disk of 16 MB, filled to the brim: by the events themselves while the upstream is away, and by
//! somebody else.
//!
//! Needs root, to mount the disk.

use std::time::Duration;

use tidegate_tests::{
    chain::{Chain, DRAIN_LIMIT},
    chaos::Link,
    clock::{holds_for, wait_for},
    codec::Version,
    fleet::{Device, Fleet},
    meter,
    tmpfs::Tmpfs,
};

const DISK_MEBIBYTES: u32 = 16;
/// Smaller than a segment of the default size.
const SMALL_DISK_MEBIBYTES: u32 = 24;
/// Promised: from the delivery of a backlog that filled the disk to events being acknowledged
/// again.
const DELIVERED_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for a disk to be full, and for the gateway to say so.
const FULL_LIMIT: Duration = Duration::from_secs(120);
/// Promised: from free space to events being acknowledged again, without a restart.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
/// For so long it is watched that nothing is acknowledged.
const WATCHED: Duration = Duration::from_secs(3);
/// Acknowledgements that show that events flow.
const FLOW: u64 = 200;

/// The quota is larger than the disk: only the disk itself says that it is full.
async fn prepare(tmpfs: &Tmpfs) -> Chain {
    Chain::prepare(|setup| {
        setup.store += "segment_bytes = \"1 MiB\"\nmax_bytes = \"1 GiB\"\n";
        setup.data_dir = Some(tmpfs.path().join("data"));
    })
    .await
}

fn load(chain: &Chain) -> Fleet {
    let devices = [Version::V311, Version::V5].into_iter().flat_map(|version| {
        let new = |name: &str| Device::new(&format!("{name}-{}", version as u8), version);
        [
            Device { window: 20, payload_bytes: 1_000, ..new("wide") },
            Device { qos: 2, window: 5, payload_bytes: 300, ..new("exact") },
        ]
    });
    Fleet::start(chain.gateway.mqtt, devices)
}

/// Waits until the disk is full, the gateway says so, and nothing is acknowledged any more.
async fn wait_full(chain: &mut Chain, fleet: &Fleet) {
    wait_for("the gateway to say that there is no space", FULL_LIMIT, || {
        assert!(chain.gateway.is_running(), "it ended: {}", chain.gateway.log());
        chain.gateway.not_ready().is_some_and(|text| text.to_lowercase().contains("space"))
    })
    .await;
    // Small commits may still find a corner. What counts is that each of their events is there in
    // the end.
    let mut seen = (0, tidegate_tests::clock::now());
    wait_for("acknowledgements to end", FULL_LIMIT, || {
        if fleet.acknowledged() != seen.0 {
            seen = (fleet.acknowledged(), tidegate_tests::clock::now());
        }
        seen.1.elapsed() > WATCHED
    })
    .await;
    assert!(chain.gateway.is_running());
}

/// Waits until nothing is acknowledged any more, and the gateway says why.
async fn wait_refused(chain: &mut Chain, fleet: &Fleet) {
    let mut seen = (0, tidegate_tests::clock::now());
    wait_for("acknowledgements to end", FULL_LIMIT, || {
        assert!(chain.gateway.is_running(), "it ended: {}", chain.gateway.log());
        if fleet.acknowledged() != seen.0 {
            seen = (fleet.acknowledged(), tidegate_tests::clock::now());
        }
        seen.1.elapsed() > WATCHED
    })
    .await;
    assert!(!chain.gateway.is_ready(), "it takes nothing in and calls itself ready");
}

/// Waits until the backlog is delivered, and then until events are acknowledged again. Gives how
/// long the second took.
async fn wait_delivered_and_taken_in(chain: &Chain, fleet: &Fleet) -> Duration {
    let before = fleet.acknowledged();
    let mut delivered_at = None;
    wait_for("events to be acknowledged again", RECOVERY_LIMIT, || {
        let flows = fleet.acknowledged() > before + FLOW;
        if delivered_at.is_none() && chain.gateway.metric("tidegate_backlog_events") == 0.0 {
            delivered_at = Some(tidegate_tests::clock::now());
        }
        flows
    })
    .await;
    delivered_at.map_or(Duration::ZERO, |at| at.elapsed())
}

async fn wait_flow(chain: &Chain, fleet: &Fleet) {
    let before = fleet.acknowledged();
    wait_for("events to be acknowledged again, by itself", RECOVERY_LIMIT, || {
        fleet.acknowledged() > before + FLOW
    })
    .await;
    wait_for("the gateway to be ready", RECOVERY_LIMIT, || chain.gateway.is_ready()).await;
}

async fn end(chain: &Chain, fleet: Fleet) {
    let ledgers = fleet.finish(DRAIN_LIMIT).await;
    let verdict = chain.judge(&ledgers).await;
    eprintln!("{} events of {}", verdict.acknowledged, ledgers.len());
    chain.demand_fresh_event().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn filled_by_a_backlog_it_acknowledges_nothing_more_delivers_frees_space_and_takes_in_again() {
    let tmpfs = Tmpfs::mount(DISK_MEBIBYTES);
    let mut chain = prepare(&tmpfs).await;
    chain.proxy.set(Link::Cut);
    chain.gateway.restart();
    let fleet = load(&chain);
    wait_full(&mut chain, &fleet).await;
    let full = meter::folder_bytes(&chain.gateway.data_dir());
    eprintln!("full with {full} bytes and {} events", fleet.acknowledged());
    assert!(full > u64::from(DISK_MEBIBYTES) << 19, "only {full} bytes: it gave up early");

    chain.proxy.set(Link::Open);
    wait_flow(&chain, &fleet).await;
    end(&chain, fleet).await;
    assert_eq!(chain.gateway.starts(), 1, "without a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_disk_smaller_than_a_segment_takes_in_again_as_soon_as_its_backlog_is_delivered_three_times_over() {
    let tmpfs = Tmpfs::mount(SMALL_DISK_MEBIBYTES);
    let mut chain = Chain::prepare(|setup| setup.data_dir = Some(tmpfs.path().join("data"))).await;
    chain.proxy.set(Link::Cut);
    chain.gateway.restart();
    let fleet = load(&chain);
    for round in 1..=3 {
        wait_refused(&mut chain, &fleet).await;
        let full = meter::folder_bytes(&chain.gateway.data_dir());
        chain.proxy.set(Link::Open);
        let took = wait_delivered_and_taken_in(&chain, &fleet).await;
        eprintln!("round {round}: full with {full} bytes, takes in again {took:?} after the delivery");
        assert!(full > u64::from(SMALL_DISK_MEBIBYTES) << 19, "only {full} bytes: it gave up early");
        assert!(took < DELIVERED_LIMIT, "round {round}: {took:?}");
        chain.proxy.set(Link::Cut);
    }
    chain.proxy.set(Link::Open);
    end(&chain, fleet).await;
    assert_eq!(chain.gateway.starts(), 1, "without a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_on_a_full_disk_it_starts_again_delivers_and_takes_in_again() {
    let tmpfs = Tmpfs::mount(DISK_MEBIBYTES);
    let mut chain = prepare(&tmpfs).await;
    chain.proxy.set(Link::Cut);
    chain.gateway.restart();
    let fleet = load(&chain);
    wait_full(&mut chain, &fleet).await;
    chain.gateway.kill();
    let (_file, bytes) = tmpfs.fill("what-was-left");
    eprintln!("another {bytes} bytes were free");
    chain.gateway.spawn();
    wait_for("its HTTP server", RECOVERY_LIMIT, || {
        assert!(chain.gateway.is_running(), "it does not start on a full disk: {}", chain.gateway.log());
        chain.gateway.get("/healthz").is_ok()
    })
    .await;
    let acknowledged = fleet.acknowledged();
    holds_for("nothing is acknowledged on a full disk", WATCHED, || fleet.acknowledged() == acknowledged)
        .await;
    assert!(chain.gateway.is_running() && !chain.gateway.is_ready());

    chain.proxy.set(Link::Open);
    wait_flow(&chain, &fleet).await;
    end(&chain, fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn filled_by_somebody_else_it_takes_in_again_once_there_is_space() {
    let tmpfs = Tmpfs::mount(DISK_MEBIBYTES);
    let mut chain = prepare(&tmpfs).await;
    chain.gateway.restart();
    let fleet = load(&chain);
    let before = fleet.acknowledged();
    wait_for("events to flow at first", FULL_LIMIT, || fleet.acknowledged() > before + FLOW).await;
    for round in 0..2 {
        let (file, bytes) = tmpfs.fill(&format!("holiday-{round}.mp4"));
        assert!(bytes > 1 << 20, "{bytes} bytes were free");
        chain.proxy.set(Link::Cut);
        wait_full(&mut chain, &fleet).await;
        std::fs::remove_file(file).unwrap();
        if round == 0 {
            wait_flow(&chain, &fleet).await;
        }
        chain.proxy.set(Link::Open);
        wait_flow(&chain, &fleet).await;
    }
    end(&chain, fleet).await;
    assert_eq!(chain.gateway.starts(), 1, "without a restart");
}

/// In blocks of 512 bytes: 4 MiB.
const FILE_BLOCKS_MAX: u32 = 8192;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_limit_of_file_sizes_is_an_error_of_the_write_and_not_the_end_of_the_process() {
    let mut chain = Chain::prepare(|setup| setup.file_blocks_max = Some(FILE_BLOCKS_MAX)).await;
    chain.proxy.set(Link::Cut);
    chain.gateway.restart();
    let fleet = load(&chain);
    wait_for("a write to reach the limit", FULL_LIMIT, || {
        assert!(chain.gateway.is_running(), "it ended: {}", chain.gateway.log());
        chain.gateway.log().contains("File too large")
    })
    .await;
    holds_for("the gateway to go on", WATCHED, || {
        chain.gateway.get("/healthz").is_ok_and(|(status, _)| status == 200)
    })
    .await;
    chain.gateway.terminate();
    chain.gateway.setup.file_blocks_max = None;
    chain.gateway.restart();
    chain.proxy.set(Link::Open);
    wait_flow(&chain, &fleet).await;
    end(&chain, fleet).await;
}
