//! SIGKILL at any moment, under full load, with the upstream up and down: nothing that was
//! acknowledged is lost.
//!
//! Random moments find what nobody thought of; named points make sure that the narrow ones are hit
//! as well. How many random kills: `TEST_KILLS`, 50 if it is not set.

use std::time::Duration;

use tidegate_tests::{
    chain::{Chain, DRAIN_LIMIT, RECOVERY_LIMIT},
    chaos::Link,
    clock::wait_for,
    codec::Version,
    fleet::{Device, Fleet},
    paho::Paho,
    program::Build,
    rng::Rng,
};

/// Longest time between a restart and the next kill.
const LIFE_MS_MAX: u64 = 1_200;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_kills_under_full_load_lose_nothing_that_was_acknowledged() {
    let kills: u32 = std::env::var("TEST_KILLS").map_or(50, |text| text.parse().unwrap());
    let mut rng = Rng::from_environment("random kills");
    let mut chain = Chain::start(|_| ()).await;
    let fleet = Fleet::start(chain.gateway.mqtt, devices());
    let pahos = [Version::V311, Version::V5].map(|version| {
        let name = format!("paho-{}", version as u8);
        Paho::start(chain.gateway.mqtt, &Device { window: 20, ..Device::new(&name, version) })
    });
    for _ in 0..kills {
        let acknowledged = (fleet.acknowledged(), pahos.each_ref().map(Paho::acknowledged));
        wait_for("acknowledgements to each kind of client", RECOVERY_LIMIT, || {
            fleet.acknowledged() > acknowledged.0 + 1000
                && pahos.iter().zip(acknowledged.1).all(|(paho, before)| paho.acknowledged() > before)
        })
        .await;
        chain.proxy.set(if rng.chance(60) { Link::Open } else { Link::Cut });
        // The moment is what is random: nothing is waited for.
        tokio::time::sleep(Duration::from_millis(rng.between(0, LIFE_MS_MAX))).await;
        if rng.chance(30) {
            chain.proxy.set(if rng.chance(50) { Link::HalfOpen } else { Link::Cut });
        }
        chain.gateway.kill();
        chain.gateway.restart();
    }
    chain.proxy.set(Link::Cut);
    chain.proxy.set(Link::Open);
    let mut ledgers = fleet.finish(DRAIN_LIMIT).await;
    ledgers.extend(pahos.map(|paho| paho.finish(DRAIN_LIMIT)));
    let verdict = chain.judge(&ledgers).await;
    assert_eq!(chain.gateway.starts(), kills + 1);
    assert!(verdict.acknowledged > kills as usize * 1000, "there was no load to speak of");
    assert!(verdict.copies > 0, "no kill ever hit an event between upstream's word and the cursor");
    assert!(chain.proxy.cut_connections() >= u64::from(kills) / 10, "the upstream was hardly ever down");
    chain.demand_fresh_event().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_kill_at_each_narrow_point_loses_nothing_that_was_acknowledged() {
    const POINTS: [&str; 5] = [
        "store-before-commit",
        "store-after-commit",
        "ingest-before-puback",
        "uplink-after-ack",
        "uplink-after-release",
    ];
    let mut rng = Rng::from_environment("narrow points");
    let mut chain = Chain::start(|setup| setup.build = Build::WithFailpoints).await;
    let load =
        (0..4).map(|n| Device::new(&format!("d{n}"), if n % 2 == 0 { Version::V311 } else { Version::V5 }));
    let fleet = Fleet::start(chain.gateway.mqtt, load);
    for point in POINTS {
        for _ in 0..3 {
            let hits = rng.between(0, 30);
            chain.gateway.kill();
            chain.gateway.setup.environment =
                vec![("FAILPOINTS".into(), format!("{point}={hits}*off->return"))];
            chain.gateway.spawn();
            // Its end by itself is the proof that the point was there and was hit.
            let status = chain.gateway.wait_end(RECOVERY_LIMIT);
            assert!(
                !status.success() && status.code().is_none(),
                "{point}: ended by {status}, not by its abort"
            );
            chain.gateway.setup.environment.clear();
            chain.gateway.restart();
            let acknowledged = fleet.acknowledged();
            wait_for("new acknowledgements", RECOVERY_LIMIT, || fleet.acknowledged() > acknowledged + 100)
                .await;
        }
    }
    let ledgers = fleet.finish(DRAIN_LIMIT).await;
    let verdict = chain.judge(&ledgers).await;
    assert!(verdict.copies > 0, "an upstream's word was heard and its event not sent again after the kill");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn qos_2_is_stored_exactly_once_across_kills() {
    let mut rng = Rng::from_environment("QoS 2 kills");
    let mut chain = Chain::start(|_| ()).await;
    let fleet = Fleet::start(
        chain.gateway.mqtt,
        [Version::V311, Version::V5].map(|version| {
            let name = format!("exact-{}", version as u8);
            Device { qos: 2, window: 50, ..Device::new(&name, version) }
        }),
    );
    for _ in 0..10 {
        let acknowledged = fleet.acknowledged();
        wait_for("new acknowledgements", RECOVERY_LIMIT, || fleet.acknowledged() > acknowledged + 100).await;
        tokio::time::sleep(Duration::from_millis(rng.between(0, LIFE_MS_MAX / 4))).await;
        chain.gateway.kill();
        chain.gateway.restart();
    }
    let ledgers = fleet.finish(DRAIN_LIMIT).await;
    let resent = ledgers.iter().flat_map(|ledger| &ledger.sends).filter(|sends| **sends > 1).count();
    assert!(resent > 0, "no kill ever hit an event that was under way");
    // The oracle allows one id only to a QoS 2 event.
    chain.judge(&ledgers).await;
}

/// Every kind of device at once: both versions, wide and narrow windows, resending or not, QoS 0, 1
/// and 2.
fn devices() -> Vec<Device> {
    let mut devices = vec![];
    for version in [Version::V311, Version::V5] {
        let new = |name: &str| Device::new(&format!("{name}-{}", version as u8), version);
        devices.extend([
            new("wide"),
            new("full"),
            Device { window: 1, ..new("narrow") },
            Device { resends: false, ..new("forgetful") },
            Device { qos: 2, window: 20, ..new("exact") },
            Device { qos: 0, window: 5, pause: Some(Duration::from_millis(5)), ..new("careless") },
        ]);
    }
    devices
}
