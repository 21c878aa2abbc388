//! Simulated devices running the firmware core, and their counters: for `sim` and for `demo`.
//!
//! Limits: [`DEVICES_MAX`] devices in one process.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tidegate_board_host::{DeviceCounters, DevicePassword, DeviceSettings, run_device};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Most devices in one process: each has a connection, and a process has 1024 files unless told
/// otherwise.
pub(super) const DEVICES_MAX: u16 = 1000;

/// The devices alike.
#[derive(Debug, Clone)]
pub(super) struct FleetSettings {
    /// Devices are called `<prefix>-<number>`.
    pub prefix: String,
    pub devices: u16,
    /// Every device connects as the user of its own name with this password.
    pub password: Option<DevicePassword>,
    /// `host:port` of the gateway's listener.
    pub gateway: String,
    /// This run: must be greater than that of every run before it.
    pub boot: u32,
    pub sample_every: Duration,
    pub batch_events: u8,
    pub batch_age: Duration,
    pub window: u8,
    /// Each device starts this much later than the one before it.
    pub stagger: Duration,
}

/// What the devices have counted, together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub sampled: u64,
    pub acknowledged: u64,
    /// Dropped by a device whose queue was full, and reported by it.
    pub lost_on_device: u64,
    pub queued: u64,
    pub connects: u64,
}

/// Running devices. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Fleet {
    devices: Vec<(String, Arc<DeviceCounters>)>,
    quiesce: CancellationToken,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Fleet {
    /// Starts the devices on the current runtime.
    pub(super) fn start(settings: &FleetSettings) -> Self {
        let (quiesce, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let (mut devices, mut tasks) = (Vec::new(), JoinSet::new());
        for number in 1..=settings.devices {
            let name = format!("{}-{number}", settings.prefix);
            let counters = Arc::new(DeviceCounters::default());
            devices.push((name.clone(), counters.clone()));
            let device = DeviceSettings {
                name,
                password: settings.password.clone(),
                gateway: settings.gateway.clone(),
                boot: settings.boot,
                seed: u64::from(settings.boot) << 16 | u64::from(number),
                sample_every_ms: millis(settings.sample_every),
                batch_events: settings.batch_events,
                batch_age_ms: millis(settings.batch_age),
                window: settings.window,
            };
            let delay = settings.stagger * u32::from(number - 1);
            let run = run_device(device, counters, quiesce.clone(), shutdown.clone());
            let early = shutdown.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(delay) => run.await,
                    () = early.cancelled() => {}
                }
            });
        }
        Self { devices, quiesce, shutdown, tasks }
    }

    /// The counters of all, summed.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (_, counters) in &self.devices {
            totals.sampled += counters.sampled_events.load(Ordering::Relaxed);
            totals.acknowledged += counters.acked_events.load(Ordering::Relaxed);
            totals.lost_on_device += counters.lost_events.load(Ordering::Relaxed);
            totals.queued += counters.queued_events.load(Ordering::Relaxed);
            totals.connects += counters.connects.load(Ordering::Relaxed);
        }
        totals
    }

    /// Each device with the events that were acknowledged to it.
    #[cfg(feature = "demo")]
    pub(super) fn acknowledged(&self) -> impl Iterator<Item = (&str, u64)> {
        self.devices
            .iter()
            .map(|(name, counters)| (name.as_str(), counters.acked_events.load(Ordering::Relaxed)))
    }

    /// Devices sample no more; true when all they had is acknowledged, false after `limit`.
    pub(super) async fn quiesce(&mut self, limit: Duration) -> bool {
        self.quiesce.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(limit, ended).await.is_ok()
    }

    /// Ends the devices.
    pub(super) async fn stop(mut self, limit: Duration) {
        self.shutdown.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(limit, ended).await;
        self.tasks.shutdown().await;
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
