//! What the tests share: a record of frames by first arrival, and waiting with an end.

pub mod gateway;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_board_host::DeviceSettings;
use tidegate_protocol::FrameReader;
use tidegate_protocol::events::{LOSS_KIND, Loss};

/// Nothing in these tests takes longer.
pub const TIME_MAX: Duration = Duration::from_secs(60);

/// A device of the tests.
pub fn device(name: &str, port: u16) -> DeviceSettings {
    DeviceSettings {
        seed: 42,
        sample_every_ms: 5,
        batch_events: 20,
        ..DeviceSettings::new(name, &format!("127.0.0.1:{port}"), 7)
    }
}

/// Waits until `done`, which is asked every few milliseconds.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(TIME_MAX, waiting).await.is_ok(), "waited in vain for: {what}");
}

/// The value of a counter.
pub fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::SeqCst)
}

/// What arrived, per topic.
#[derive(Debug, Default)]
pub struct Record {
    topics: BTreeMap<String, Arrivals>,
}

/// What arrived from one device.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Event numbers in the order of their first arrival.
    pub first: Vec<u32>,
    seen: HashSet<u32>,
    /// How many events arrived more than once.
    pub copies: usize,
    /// What the device says that it lost.
    pub losses: Vec<Loss>,
}

impl Record {
    /// Enters a frame.
    pub fn enter(&mut self, topic: &str, frame: &[u8]) {
        let arrivals = self.topics.entry(topic.into()).or_default();
        let mut reader = FrameReader::new(frame).unwrap();
        while let Some(event) = reader.next_event() {
            let event = event.unwrap();
            if !arrivals.seen.insert(event.id.seq) {
                arrivals.copies += 1;
                continue;
            }
            arrivals.first.push(event.id.seq);
            if event.kind == LOSS_KIND {
                arrivals.losses.push(postcard::from_bytes(event.body).unwrap());
            }
        }
    }

    /// What arrived from a device.
    pub fn of(&self, device: &str) -> &Arrivals {
        self.topics.get(&format!("tg/{device}/e")).expect("invariant: the device sent something")
    }
}
