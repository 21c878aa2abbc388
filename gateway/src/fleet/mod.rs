//! What is known of each device, and what time it was: made by following the log.
//!
//! ```text
//!            ┌─ births ───▶ the catalog of kinds
//!  log ──────┼─ births, statuses ─▶ presence, boots, times ┐
//!  followed  └─ frames ───▶ numbers: lost, missing, late   ┴─▶ Fleet ─▶ uplinks (times), HTTP (devices)
//!                 ├─ of kinds that nobody announced: the device is asked for its birth, by a command
//!                 ├─ replies: noted with their commands
//!                 ├─ of numbers that were used before: told, counted, marked
//!                 └─ what cannot be read: told, counted, shown with the device
//! ```
//! The log is the truth: what is known here is saved with the position that it belongs to, and made
//! again from there after a crash. Until then the store keeps what lies behind that position. See
//! `gaps.rs` for what counts as lost, `time.rs` for the times. The gateway's
//! [`Timeline`](crate::clock::Timeline) is loaded, kept going and saved here, for all rooms.
//!
//! Limits: [`DEVICES_MAX`] devices, [`BOOTS_MAX`] boots of each, [`RUNS_MAX`] runs of missing
//! numbers of each.

pub mod commands;
mod device;
mod faults;
mod follow;
mod frame;
mod gaps;
mod presence;
mod ranges;
mod reuse;
mod saved;
mod state;
mod time;
mod view;

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

pub use device::{BOOTS_MAX, Device, Reused};
pub use faults::{Faults, Sent};
pub use follow::run;
pub use frame::FrameTimes;
pub use gaps::RUNS_MAX;
pub use presence::{Presence, SILENT_AFTER_MS};
pub use state::{Applied, DEVICES_MAX, State, Totals};
pub use time::{DRIFT_PPM_MAX, LIVE_LATENCY_MS_MAX, Quality, SET_CLOCK_MS_MAX, Stamp};
pub use view::{BootItem, DeviceItem, DeviceList, DeviceSheet, FaultItem, Run};

use crate::{
    catalog::Catalog,
    clock::Reading,
    store::{FLEET, StoreError, View},
};

/// What is known of the devices. Clones are the same fleet.
#[derive(Clone)]
pub struct Fleet {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    position: watch::Sender<u64>,
    /// Replies before this one are of a time of which nobody knows which commands there were.
    replies_from: u64,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("position", &*self.shared.position.borrow()).finish_non_exhaustive()
    }
}

/// One that follows nothing.
impl Default for Fleet {
    fn default() -> Self {
        let state = Mutex::new(State::default());
        Self { shared: Arc::new(Shared { state, position: watch::Sender::new(0), replies_from: 0 }) }
    }
}

impl Fleet {
    /// Takes up what was kept, gives `catalog` what it had, and has the store keep what comes
    /// behind it. Blocking. To be called before anything new is taken in: this is the first look at
    /// the clocks, and it is saved, so that a kill right after the start leaves no record of which
    /// nobody can tell when it came.
    ///
    /// # Errors
    /// [`StoreError`]: a newer version wrote what was kept, which is as it was, or the store cannot
    /// be read.
    pub fn open(view: &View, catalog: &Catalog, reading: &Reading) -> Result<Self, StoreError> {
        let saved::Loaded { mut state, position, replies_from } = saved::load(view, catalog, reading)?;
        view.hold(FLEET, position);
        let save = saved::gather(&mut state, &[], replies_from);
        if let Err(error) = view.save_fleet(&save.changes, position) {
            tracing::warn!("the look at the clocks is not saved: {error}; trying on");
            save.give_back(&mut state);
        }
        Ok(Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                position: watch::Sender::new(position),
                replies_from,
            }),
        })
    }

    /// How far the log was followed: all before it is known here.
    #[must_use]
    pub fn position(&self) -> watch::Receiver<u64> {
        self.shared.position.subscribe()
    }

    /// What is known of the times of a frame's events, taken once for all of them: of a device's
    /// boot, in the record at `offset` that says it was received at `received_ms`.
    #[must_use]
    pub fn frame(&self, device: &str, boot: u32, offset: u64, received_ms: u64) -> FrameTimes {
        self.shared.state.lock().frame(device, boot, offset, received_ms)
    }

    /// The frame's events have their times: what comes later keeps to their order.
    pub fn note_given(&self, device: &str, times: &FrameTimes) {
        self.shared.state.lock().note_given(device, times);
    }

    /// When the record at `offset` was received, milliseconds since 1970, by what is known of the
    /// gateway's clock now.
    #[must_use]
    pub fn received(&self, offset: u64, received_ms: u64) -> u64 {
        self.shared.state.lock().received(offset, received_ms)
    }

    /// The fingerprint of the kinds that the last birth of a device announced.
    #[must_use]
    pub fn announced(&self, device: &str) -> Option<u32> {
        self.shared.state.lock().devices().get(device)?.kinds.map(|(_, schema_set)| schema_set)
    }

    /// Every device at a glance, by name.
    #[must_use]
    pub fn list(&self, reading: &Reading) -> DeviceList {
        view::list(&self.shared.state.lock(), reading)
    }

    /// All that is known of a device.
    #[must_use]
    pub fn show(&self, device: &str, reading: &Reading) -> Option<DeviceSheet> {
        view::show(&self.shared.state.lock(), device, reading)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::FrameWriter;

    use super::*;
    use crate::store::{Kind, Record};

    #[test]
    fn events_of_a_frame_get_their_times_by_one_look_and_in_their_order() {
        let fleet = Fleet::default();
        let mut frame = [0; 1024];
        let mut writer = FrameWriter::new(&mut frame, 3, 0, 7, false);
        for n in 0..60 {
            writer.push(n * 1000, 0, &[]).unwrap();
        }
        let frame = writer.finish();
        let record = |topic, kind, payload| Record {
            kind,
            events: 1,
            qos: 1,
            received_ms: 1_800_000_000_000,
            client: "barn",
            topic,
            payload,
            ..Record::default()
        };
        {
            let mut state = fleet.shared.state.lock();
            let reading = Reading { boot_id: [1; 16], boot_ms: 100_000, wall_ms: 1_800_000_000_000 };
            state.begin(crate::clock::Journal::default(), &reading, 0);
            state.apply(0, &record("tg/barn/e", Kind::Frame, frame));
        }
        let mut times = fleet.frame("barn", 3, 0, 1_800_000_000_000);
        // The last one was sent when it was sampled, or later: 59 s lie between it and the first.
        let stamps: Vec<_> = (0..60).map(|n| times.stamp(n * 1000)).collect();
        let expected: Vec<_> = (0..60).map(|n| 1_800_000_000_000 - 59_000 + n * 1000).collect();
        assert_eq!(stamps.iter().map(|stamp| stamp.time_ms).collect::<Vec<_>>(), expected);
        assert!(stamps.iter().all(|stamp| stamp.quality == Quality::Bounded));
    }
}
