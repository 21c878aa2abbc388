//! The data folder under the gateway's feet: locked by whatever name it is reached, moved away,
//! removed, with a file taken out of it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tidegate_tests::{
    chain::{Chain, DRAIN_LIMIT, RECOVERY_LIMIT},
    chaos::Link,
    clock::{holds_for, wait_for},
    codec::Version,
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup},
};

/// Promised: from the folder's end to `/readyz` saying so, with and without traffic. A commit that
/// runs may have to end first.
const NOTICED_LIMIT: Duration = Duration::from_secs(20);
/// For so long it is watched that nothing is acknowledged.
const WATCHED: Duration = Duration::from_secs(3);
/// Acknowledgements that show that events flow.
const FLOW: u64 = 200;
/// Unavailable, as in sysexits.
const UNAVAILABLE: i32 = 69;

fn load(chain: &Chain) -> Fleet {
    let devices = [Version::V311, Version::V5].map(|version| Device {
        window: 20,
        pause: Some(Duration::from_millis(20)),
        ..Device::new(&format!("steady-{}", version as u8), version)
    });
    Fleet::start(chain.gateway.mqtt, devices)
}

async fn wait_flow(chain: &Chain, fleet: &Fleet) {
    let before = fleet.acknowledged();
    wait_for("events to be acknowledged", RECOVERY_LIMIT, || fleet.acknowledged() > before + FLOW).await;
    wait_for("the gateway to be ready", RECOVERY_LIMIT, || chain.gateway.is_ready()).await;
}

/// Waits until the gateway says that its folder is gone.
async fn wait_noticed(chain: &mut Chain) {
    wait_for("the gateway to notice", NOTICED_LIMIT, || {
        assert!(chain.gateway.is_running(), "it ended: {}", chain.gateway.log());
        let said = chain.gateway.not_ready().unwrap_or_default();
        said.contains("was removed, moved or unmounted") && said.contains("put it back, or restart")
    })
    .await;
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let mut segments: Vec<_> = paths
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seg-")))
        .collect();
    segments.sort();
    segments
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_second_gateway_stays_out_under_every_path_and_without_the_lock_file() {
    let chain = Chain::start(|_| {}).await;
    let fleet = load(&chain);
    wait_flow(&chain, &fleet).await;
    let folder = chain.gateway.data_dir();
    let link = folder.with_file_name("another-name");
    std::os::unix::fs::symlink(&folder, &link).expect("a link can be made");
    std::fs::remove_file(folder.join("LOCK")).expect("LOCK is there");
    for path in [folder.clone(), link, folder.join("..").join("data")] {
        let setup = Setup { data_dir: Some(path.clone()), ..chain.gateway.setup.clone() };
        let output = Gateway::prepare(setup).run_to_end();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(UNAVAILABLE), "{}: {said}", path.display());
        assert!(said.contains("in use by another gateway"), "{}: {said}", path.display());
    }
    wait_flow(&chain, &fleet).await;
    chain.judge(&fleet.finish(DRAIN_LIMIT).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_its_folder_is_moved_away_nothing_is_acknowledged_and_back_in_its_place_all_goes_on() {
    let mut chain = Chain::start(|_| {}).await;
    chain.proxy.set(Link::Cut);
    let fleet = load(&chain);
    wait_flow(&chain, &fleet).await;
    let folder = chain.gateway.data_dir();
    let elsewhere = folder.with_file_name("elsewhere");
    // A folder that takes its place, as under a disk that is unmounted, is none of it.
    for is_replaced in [false, true] {
        std::fs::rename(&folder, &elsewhere).expect("it can be moved");
        if is_replaced {
            std::fs::create_dir(&folder).expect("the place is free");
        }
        wait_noticed(&mut chain).await;
        let acknowledged = fleet.acknowledged();
        holds_for("nothing is acknowledged", WATCHED, || fleet.acknowledged() == acknowledged).await;
        if is_replaced {
            std::fs::remove_dir(&folder).expect("nothing was written into the other folder");
        }
        std::fs::rename(&elsewhere, &folder).expect("it can be moved back");
        wait_flow(&chain, &fleet).await;
    }
    chain.proxy.set(Link::Open);
    chain.judge(&fleet.finish(DRAIN_LIMIT).await).await;
    assert_eq!(chain.gateway.starts(), 1, "without a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_its_folder_was_removed_nothing_is_acknowledged_and_what_was_goes_out_from_memory() {
    let mut chain = Chain::start(|_| {}).await;
    let fleet = load(&chain);
    wait_flow(&chain, &fleet).await;
    std::fs::remove_dir_all(chain.gateway.data_dir()).expect("it can be removed");
    wait_noticed(&mut chain).await;
    let acknowledged = fleet.acknowledged();
    holds_for("nothing is acknowledged", WATCHED, || fleet.acknowledged() == acknowledged).await;
    chain.wait_delivered().await;
    chain.gateway.kill();
    chain.gateway.restart();
    wait_flow(&chain, &fleet).await;
    chain.judge(&fleet.finish(DRAIN_LIMIT).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_traffic_as_well_it_is_noticed_that_the_folder_is_gone() {
    let mut chain = Chain::start(|_| {}).await;
    std::fs::remove_dir_all(chain.gateway.data_dir()).expect("it can be removed");
    wait_noticed(&mut chain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_the_file_that_is_written_is_removed_nothing_more_is_acknowledged_into_it() {
    let mut chain = Chain::start(|_| {}).await;
    let fleet = load(&chain);
    wait_flow(&chain, &fleet).await;
    let removed = segments(&chain.gateway.data_dir()).pop().expect("a segment");
    std::fs::remove_file(&removed).expect("it can be removed");
    wait_for("another file in its stead", NOTICED_LIMIT, || {
        segments(&chain.gateway.data_dir()).last().is_some_and(|last| *last != removed)
    })
    .await;
    wait_flow(&chain, &fleet).await;
    let ledgers = fleet.finish(DRAIN_LIMIT).await;
    // What the last file says is there after a crash, for it was acknowledged into a file that is
    // there.
    chain.gateway.kill();
    chain.gateway.restart();
    chain.judge(&ledgers).await;
}
