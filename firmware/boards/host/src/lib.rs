//! The firmware core on this machine, under tokio: the simulator.
//!
//! Purpose: one [`run_device`] is one device, the same code as on a microcontroller, with a
//! simulated climate sensor. A thousand of them run in one process. A device with other sensors and
//! event types is a [`Model`] and one [`run_model`].
//!
//! ```text
//!  run_model ─▶ tidegate_firmware::device::run
//!                  Clock            clock.rs: tokio's
//!                  Dialer           tcp.rs: tokio's TCP
//!                  Sensors, KINDS   the model's
//!                  Entropy          the core's own, from a seed
//!                  Ending, Watcher  here: a token, counters
//! ```
//!
//! Limits: about 27 KB a device: [`FRAMES_MAX`] frames of [`FRAME_BYTES_MAX`] bytes, a birth of up
//! to [`BIRTH_BYTES_MAX`] and the state around them. One thread for all devices of a process
//! (thread.rs).
//!
//! What it does not do: it keeps nothing on disk. Whoever runs a device again gives it the next
//! boot number.

mod clock;
mod tcp;
mod thread;

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_firmware::batcher::BatchLimits;
use tidegate_firmware::board::{Ending, Progress, Watcher};
use tidegate_firmware::device::{self, Board, Firmware, Parts, Settings, Storage};
use tidegate_firmware::link::Password;
use tidegate_firmware::random::SplitMix;
use tidegate_firmware::sensor::{SensorFault, Sensors, SimulatedClimate};
use tidegate_protocol::events::{Climate, EventType, Loss};
use tidegate_protocol::{Birth, DeviceName, Kind, Kinds, ResetReason, birth_bytes_max};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use clock::TokioClock;
use tcp::TcpDialer;

/// Frames in a device's queue.
pub const FRAMES_MAX: usize = 32;
/// Longest frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 512;
/// Longest birth, in bytes: a model whose kinds need more does not compile.
pub const BIRTH_BYTES_MAX: usize = 2048;
/// The kind index of [`Climate`] in [`KINDS`].
pub const CLIMATE_KIND: u8 = 1;
/// The simulated device's kinds, in the order of their indexes.
pub const KINDS: &[Kind] = &[Loss::KIND, Climate::KIND, SensorFault::KIND];
/// What the simulated devices run.
const FIRMWARE: Firmware<'static> = Firmware::new("tidegate-sim", env!("CARGO_PKG_VERSION"), "host");

/// A process that starts is a device whose power comes on.
const RESET: ResetReason = ResetReason::PowerOn;
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
    /// A frame is sealed at this many events; while earlier ones wait to be sent, only when it is
    /// full.
    pub batch_events: u8,
    /// A frame is sealed when its first event is this old, in milliseconds, with the same
    /// exception.
    pub batch_age_ms: u32,
    /// Frames unacknowledged at most, 1 to 16.
    pub window: u8,
}

impl DeviceSettings {
    /// A device that connects without a user, reads every second, and seals a frame at ten events
    /// or a second.
    #[must_use]
    pub fn new(name: &str, gateway: &str, boot: u32) -> Self {
        DeviceSettings {
            name: name.into(),
            password: None,
            gateway: gateway.into(),
            boot,
            seed: u64::from(boot),
            sample_every_ms: 1000,
            batch_events: 10,
            batch_age_ms: 1000,
            window: 4,
        }
    }
}

/// What a device on this machine is: what it measures, and the kinds of its events.
pub trait Model: 'static {
    /// Its sensors.
    type Sensors: Sensors;
    /// The kinds of its events, in the order of their indexes; the first is [`Loss`].
    const KINDS: &'static [Kind];
    /// What runs on it.
    const FIRMWARE: Firmware<'static>;
    /// A status every so many milliseconds.
    const STATUS_EVERY_MS: u32 = device::STATUS_EVERY_MS;

    /// Its sensors at their start. The same seed gives the same readings, where they are simulated.
    fn sensors(seed: u64) -> Self::Sensors;
}

/// The simulated device with a climate sensor.
#[derive(Debug, Clone, Copy)]
pub enum Climatic {}

impl Model for Climatic {
    type Sensors = (SimulatedClimate,);
    const KINDS: &'static [Kind] = KINDS;
    const FIRMWARE: Firmware<'static> = FIRMWARE;

    fn sensors(seed: u64) -> Self::Sensors {
        (SimulatedClimate::new(seed, CLIMATE_KIND),)
    }
}

/// The birth of a device of this model, as it says it in its first connection at the uptime 0.
#[must_use]
pub fn birth_of<M: Model>(boot: u32) -> Vec<u8> {
    let birth = Birth {
        boot,
        connection: 1,
        uptime_ms: 0,
        wall_ms: None,
        reset: RESET,
        firmware: M::FIRMWARE.name(),
        version: M::FIRMWARE.version(),
        build: M::FIRMWARE.build(),
        kinds: Kinds::new(M::KINDS),
    };
    let mut out = vec![0; birth_bytes_max(M::KINDS)];
    birth.write(&mut out).expect("invariant: the lengths of its kinds and texts are checked").to_vec()
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

/// Runs a simulated device with a climate sensor until it is drained or stopped: [`run_model`] of
/// [`Climatic`].
pub async fn run_device(
    settings: DeviceSettings,
    counters: Arc<DeviceCounters>,
    quiesce: CancellationToken,
    shutdown: CancellationToken,
) {
    run_model::<Climatic>(settings, counters, quiesce, shutdown).await;
}

/// Runs a device until it is drained or stopped.
///
/// `quiesce`: stop sampling, and return when all is acknowledged. `shutdown`: return now; what is
/// queued is lost, as by pulling the plug. A name that is no device name is logged, and the device
/// does not run.
pub async fn run_model<M: Model>(
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
    thread::drive(move || device::<M>(settings, counters, quiesce, stop)).await;
}

async fn device<M: Model>(
    settings: DeviceSettings,
    counters: Arc<DeviceCounters>,
    quiesce: CancellationToken,
    stop: CancellationToken,
) {
    let parts = Parts::<Host<M>> {
        clock: TokioClock::start(),
        entropy: SplitMix::new(settings.seed ^ u64::from(settings.boot)),
        dialer: TcpDialer::new(settings.gateway.clone()),
        sensors: M::sensors(settings.seed),
        ending: Quiesce(quiesce),
        watcher: Counting { counters, device: settings.name.clone() },
    };
    let core_settings = Settings {
        device: DeviceName::new(&settings.name).expect("invariant: run_device has checked the name"),
        password: settings.password.as_ref().map(|password| Password(&password.0)),
        boot: settings.boot,
        reset: RESET,
        firmware: M::FIRMWARE,
        sample_every_ms: settings.sample_every_ms,
        batch: BatchLimits { events_max: settings.batch_events, age_ms_max: settings.batch_age_ms },
        window: settings.window,
        keep_alive_s: KEEP_ALIVE_S,
        status_every_ms: M::STATUS_EVERY_MS,
    };
    let mut storage = Box::new(Storage::<FRAMES_MAX, FRAME_BYTES_MAX, BIRTH_BYTES_MAX>::new());
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        outcome = device::run(parts, &core_settings, &mut storage) => {
            debug!(device = settings.name, ?outcome, "the simulated device ended");
        }
    }
}

struct Host<M>(PhantomData<M>);

impl<M: Model> Board for Host<M> {
    type Clock = TokioClock;
    type Entropy = SplitMix;
    type Dialer = TcpDialer;
    type Sensors = M::Sensors;
    type Ending = Quiesce;
    type Watcher = Counting;
    const KINDS: &'static [Kind] = M::KINDS;
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
            Progress::Born => debug!(device = self.device, "the gateway has the birth"),
            Progress::BirthTooLarge => {
                error!(device = self.device, "the gateway takes no birth of this length")
            }
            Progress::Disconnected(reason) => debug!(device = self.device, %reason, "disconnected"),
            Progress::Refused { reason } => debug!(device = self.device, reason, "publish refused"),
            Progress::Unusable { kind } => error!(device = self.device, kind, "no frame takes this kind"),
            Progress::Faulted { sensor } => debug!(device = self.device, sensor, "sensor fault"),
        }
    }

    fn command(&mut self, payload: &[u8]) {
        debug!(
            device = self.device,
            bytes = payload.len(),
            "a command that the simulated device does not know"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawnable<T: Send>(_: &T) {}

    fn settings() -> DeviceSettings {
        DeviceSettings::new("sim-1", "127.0.0.1:1", 1)
    }

    #[test]
    fn a_device_can_be_spawned_on_any_runtime() {
        let never = CancellationToken::new;
        spawnable(&run_device(settings(), Arc::default(), never(), never()));
    }

    #[test]
    fn a_device_takes_little_memory() {
        let never = CancellationToken::new;
        let device = device::<Climatic>(settings(), Arc::default(), never(), never());
        let bytes = size_of_val(&device) + size_of::<Storage<FRAMES_MAX, FRAME_BYTES_MAX, BIRTH_BYTES_MAX>>();
        assert!(bytes < 28 * 1024, "{bytes} bytes");
    }
}
