//! The firmware core on this machine, under tokio: the simulator.
//!
//! Purpose: one [`run_device`] is one device, the same code as on a microcontroller, with a simulated climate sensor. A
//! thousand of them run in one process.
//!
//! ```text
//!  run_device ─▶ tidegate_firmware::device::run
//!                  Clock            clock.rs: tokio's
//!                  Dialer           tcp.rs: tokio's TCP
//!                  Sensors, Entropy the core's own, from a seed
//!                  Ending, Watcher  here: a token, counters
//! ```
//!
//! Limits: about 25 KB a device: [`FRAMES_MAX`] frames of [`FRAME_BYTES_MAX`] bytes and the state around them. One thread for
//! all devices of a process (thread.rs).
//!
//! What it does not do: it keeps nothing on disk. Whoever runs a device again gives it the next boot number.

mod clock;
mod tcp;
mod thread;

use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_firmware::batcher::BatchLimits;
use tidegate_firmware::board::{Ending, Progress, Watcher};
use tidegate_firmware::device::{self, Board, Parts, Settings, Storage};
use tidegate_firmware::link::Password;
use tidegate_firmware::random::SplitMix;
use tidegate_firmware::sensor::{SensorFault, SimulatedClimate};
use tidegate_protocol::events::{Climate, EventType, LOSS_KIND, Loss};
use tidegate_protocol::{DeviceName, Kind, schema_set};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use clock::TokioClock;
use tcp::TcpDialer;

/// Frames in a device's queue.
pub const FRAMES_MAX: usize = 32;
/// Longest frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 512;
/// The kind index of [`Climate`].
pub const CLIMATE_KIND: u8 = 1;
/// The kind index of [`SensorFault`].
pub const FAULT_KIND: u8 = 2;
/// The simulated device's list of kinds, as [`tidegate_protocol::schema_set`] takes it.
pub const KINDS: [Kind; 3] = [Loss::KIND, Climate::KIND, SensorFault::KIND];

const _: () = assert!(LOSS_KIND == 0);
const KEEP_ALIVE_S: NonZeroU16 = NonZeroU16::new(30).expect("invariant: not zero");

/// A device's password, which its Debug does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct DevicePassword(pub String);

impl fmt::Debug for DevicePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DevicePassword(hidden)")
    }
}

/// One simulated device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSettings {
    /// Its name: 1 to 32 of `[a-z0-9-]`.
    pub name: String,
    /// The password of its user, which is called like the device; `None` connects without a user.
    pub password: Option<DevicePassword>,
    /// The gateway, as `host:port`.
    pub gateway: String,
    /// The number of this boot.
    pub boot: u32,
    /// The same seed gives the same readings and the same jitter.
    pub seed: u64,
    /// A reading every so many milliseconds.
    pub sample_every_ms: u32,
    /// A frame is sealed at this many events; while earlier ones wait to be sent, only when it is full.
    pub batch_events: u8,
    /// A frame is sealed when its first event is this old, in milliseconds, with the same exception.
    pub batch_age_ms: u32,
    /// Frames unacknowledged at most, 1 to 16.
    pub window: u8,
}

/// What a device did, for whoever watches. A device that has ended has
/// `sampled_events = acked_events + lost_events`.
#[derive(Debug, Default)]
pub struct DeviceCounters {
    /// Events that got a number: readings, losses, faults.
    pub sampled_events: AtomicU64,
    /// Events that the gateway acknowledged.
    pub acked_events: AtomicU64,
    /// Events that were dropped because the queue was full.
    pub lost_events: AtomicU64,
    /// Connections that the gateway took.
    pub connects: AtomicU64,
    /// Events sampled, and neither acknowledged nor lost.
    pub queued_events: AtomicU64,
}

/// Runs a device until it is drained or stopped.
///
/// `quiesce`: stop sampling, and return when all is acknowledged. `shutdown`: return now; what is queued is lost, as
/// by pulling the plug. A name that is no device name is logged, and the device does not run.
pub async fn run_device(
    settings: DeviceSettings,
    counters: Arc<DeviceCounters>,
    quiesce: CancellationToken,
    shutdown: CancellationToken,
) {
    if let Err(reason) = DeviceName::new(&settings.name) {
        error!(device = settings.name, %reason, "the simulated device does not run: choose another name");
        return;
    }
    // Dropping this future stops the device too.
    let stop = shutdown.child_token();
    let _stop_on_drop = stop.clone().drop_guard();
    thread::drive(move || device(settings, counters, quiesce, stop)).await;
}

async fn device(
    settings: DeviceSettings,
    counters: Arc<DeviceCounters>,
    quiesce: CancellationToken,
    stop: CancellationToken,
) {
    let parts = Parts::<Host> {
        clock: TokioClock::start(),
        entropy: SplitMix::new(settings.seed ^ u64::from(settings.boot)),
        dialer: TcpDialer::new(settings.gateway.clone()),
        sensors: (SimulatedClimate::new(settings.seed, CLIMATE_KIND),),
        ending: Quiesce(quiesce),
        watcher: Counting { counters, device: settings.name.clone() },
    };
    let core_settings = Settings {
        device: DeviceName::new(&settings.name).expect("invariant: run_device has checked the name"),
        password: settings.password.as_ref().map(|password| Password(&password.0)),
        boot: settings.boot,
        schema_set: schema_set(&KINDS),
        fault_kind: FAULT_KIND,
        sample_every_ms: settings.sample_every_ms,
        batch: BatchLimits { events_max: settings.batch_events, age_ms_max: settings.batch_age_ms },
        window: settings.window,
        keep_alive_s: KEEP_ALIVE_S,
    };
    let mut storage = Box::new(Storage::<FRAMES_MAX, FRAME_BYTES_MAX>::new());
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        outcome = device::run(parts, &core_settings, &mut storage) => {
            debug!(device = settings.name, ?outcome, "the simulated device ended");
        }
    }
}

struct Host;

impl Board for Host {
    type Clock = TokioClock;
    type Entropy = SplitMix;
    type Dialer = TcpDialer;
    type Sensors = (SimulatedClimate,);
    type Ending = Quiesce;
    type Watcher = Counting;
}

struct Quiesce(CancellationToken);

impl Ending for Quiesce {
    fn requested(&self) -> bool {
        self.0.is_cancelled()
    }

    async fn wait(&self) {
        self.0.cancelled().await;
    }
}

struct Counting {
    counters: Arc<DeviceCounters>,
    device: String,
}

impl Watcher for Counting {
    fn note(&mut self, progress: Progress) {
        let counters = &self.counters;
        match progress {
            Progress::Sampled { .. } => {
                counters.sampled_events.fetch_add(1, Ordering::Relaxed);
                counters.queued_events.fetch_add(1, Ordering::Relaxed);
            }
            Progress::Acked { events } => {
                counters.queued_events.fetch_sub(u64::from(events), Ordering::Relaxed);
                counters.acked_events.fetch_add(u64::from(events), Ordering::Relaxed);
            }
            Progress::Lost { events, .. } => {
                counters.queued_events.fetch_sub(u64::from(events), Ordering::Relaxed);
                counters.lost_events.fetch_add(u64::from(events), Ordering::Relaxed);
            }
            Progress::Connected { .. } => {
                counters.connects.fetch_add(1, Ordering::Relaxed);
            }
            Progress::Disconnected(reason) => debug!(device = self.device, %reason, "disconnected"),
            Progress::Refused { reason } => debug!(device = self.device, reason, "publish refused"),
            Progress::Unusable { kind } => error!(device = self.device, kind, "no frame takes this kind"),
            Progress::Faulted { sensor } => debug!(device = self.device, sensor, "sensor fault"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawnable<T: Send>(_: &T) {}

    fn settings() -> DeviceSettings {
        DeviceSettings {
            name: "sim-1".into(),
            password: None,
            gateway: "127.0.0.1:1".into(),
            boot: 1,
            seed: 1,
            sample_every_ms: 1000,
            batch_events: 10,
            batch_age_ms: 1000,
            window: 4,
        }
    }

    #[test]
    fn a_device_can_be_spawned_on_any_runtime() {
        let never = CancellationToken::new;
        spawnable(&run_device(settings(), Arc::default(), never(), never()));
    }

    #[test]
    fn a_device_takes_little_memory() {
        let never = CancellationToken::new;
        let device = device(settings(), Arc::default(), never(), never());
        let bytes = size_of_val(&device) + size_of::<Storage<FRAMES_MAX, FRAME_BYTES_MAX>>();
        assert!(bytes < 28 * 1024, "{bytes} bytes");
    }
}
