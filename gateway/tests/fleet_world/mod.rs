//! What the tests of the fleet share: numbers from a seed, and a gateway of its real parts, without
//! an uplink or HTTP.

use std::{net::SocketAddr, path::Path, time::Duration};

use tidegate::{
    broker::Broker,
    catalog::Catalog,
    clock,
    fleet::{self, DeviceSheet, Fleet},
    ingest::{self, ListenerSettings},
    store::{self, Store},
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// Nothing in these tests takes longer.
pub const LIMIT: Duration = Duration::from_secs(120);

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// The seeds of a test: `TEST_SEED` alone, if it is set.
pub fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("TEST_SEED").ok().map(|text| text.parse().unwrap()) {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    }
}

/// Waits until `done`, which is asked every few milliseconds.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(LIMIT, waiting).await.is_ok(), "waited in vain for: {what}");
}

/// A door, a store and what follows it.
pub struct House {
    pub store: Store,
    pub fleet: Fleet,
    pub catalog: Catalog,
    pub address: SocketAddr,
    door: (CancellationToken, JoinHandle<()>),
    following: (CancellationToken, JoinHandle<()>),
}

impl House {
    /// On this data, at this address.
    pub async fn open(folder: &Path, address: SocketAddr, settings: ingest::Settings) -> Self {
        let store = Store::open(store::Settings::new(folder), &[]).unwrap();
        let catalog = Catalog::default();
        let fleet = Fleet::open(&store.view(), &catalog, &clock::reading()).unwrap();
        let bound = ingest::bind(&ListenerSettings::new(address)).await.unwrap();
        let address = bound.local_addr();
        let stop = CancellationToken::new();
        let broker = Broker::new(settings.broker());
        let door = ingest::run_with(vec![bound], (&store).into(), broker.clone(), settings, stop.clone());
        let door = tokio::spawn(door);
        let door = (stop, door);
        let stop = CancellationToken::new();
        let following =
            fleet::run(fleet.clone(), catalog.clone(), store.outbox(), store.view(), stop.clone());
        let commands = fleet::commands::run(broker, store.outbox(), stop.clone());
        let following = tokio::spawn(async move {
            tokio::join!(following, commands);
        });
        let following = (stop, following);
        Self { store, fleet, catalog, address, door, following }
    }

    /// Stops in the order of the flow.
    pub async fn stop(self) {
        for (stop, task) in [self.door, self.following] {
            stop.cancel();
            timeout(LIMIT, task).await.unwrap().unwrap();
        }
        tokio::task::spawn_blocking(|| self.store.close()).await.unwrap();
    }

    /// Ends as SIGKILL would.
    pub async fn crash(self) {
        tokio::task::spawn_blocking(|| self.store.crash()).await.unwrap();
        for (stop, task) in [self.door, self.following] {
            stop.cancel();
            timeout(LIMIT, task).await.unwrap().unwrap();
        }
    }

    /// Waits until all that is stored is known.
    pub async fn caught_up(&self) {
        let (end, mut position) = (self.store.view().end().offset, self.fleet.position());
        timeout(LIMIT, position.wait_for(|position| *position >= end)).await.expect("it follows").unwrap();
    }

    pub fn sheet(&self, device: &str) -> DeviceSheet {
        self.fleet.show(device, &clock::reading()).unwrap_or_else(|| panic!("{device} is not known"))
    }
}
