//! A device with an event type of its own: the soil under a plant.
//!
//! ```sh
//! cargo run -p tidegate-firmware-examples --example soil -- --gateway 127.0.0.1:1883 --count 10
//! cargo run -p tidegate-firmware-examples --example soil -- --birth soil.birth
//! ```
//!
//! The first sends ten readings to a gateway. The second writes the device's birth to a file and
//! ends: what the gateway learns of the type, for `tidegate schemas lint soil.birth`.
//!
//! Limits: a second a reading, 30 seconds for all of them to arrive. What it does not do: there is
//! no sensor; the readings are drawn from a seed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tidegate_board_host::{DeviceCounters, DeviceSettings, Model, birth_of, run_model};
use tidegate_firmware::device::Firmware;
use tidegate_firmware::random::SplitMix;
use tidegate_firmware::sensor::{Body, Fault, Reading, Sensor, SensorFault};
use tidegate_protocol::events::Loss;
use tidegate_protocol::{Deserialize, EventType, Kind, Schema, Serialize, kind_index};
use tokio_util::sync::CancellationToken;

/// What the soil under a plant is like.
#[derive(Debug, Serialize, Deserialize, Schema, EventType)]
#[serde(crate = "tidegate_protocol::serde")]
#[event(name = "soil", version = 1, owner = "greenhouse", description = "soil under a plant")]
struct Soil {
    /// Water in the soil, by volume, in 0.1 %.
    #[unit("%", scale = -1)]
    moisture: u16,
    /// Electrical conductivity in 0.0001 S/m, which grows with the nutrients.
    #[unit("S/m", scale = -4)]
    conductivity: u16,
}

/// The device's kinds, in the order of their indexes.
const KINDS: &[Kind] = &[Loss::KIND, Soil::KIND, SensorFault::KIND];
const SOIL_KIND: u8 = kind_index(KINDS, &Soil::KIND).expect("invariant: it is in the list");

/// A sensor that is not there.
struct SoilProbe(SplitMix);

impl Sensor for SoilProbe {
    async fn read(&mut self, body: &mut Body) -> Result<Reading, Fault> {
        let moisture = 300 + self.0.below(50) as u16;
        let conductivity = 900 + self.0.below(100) as u16;
        Reading::new(SOIL_KIND, &Soil { moisture, conductivity }, body)
    }
}

/// What this device is.
enum SoilDevice {}

impl Model for SoilDevice {
    type Sensors = (SoilProbe,);
    const KINDS: &'static [Kind] = KINDS;
    const FIRMWARE: Firmware<'static> = Firmware::new("soil-example", env!("CARGO_PKG_VERSION"), "host");

    fn sensors(seed: u64) -> Self::Sensors {
        (SoilProbe(SplitMix::new(seed)),)
    }
}

/// How long all readings may take to arrive, beyond a second each.
const DELIVERY_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Send readings of soil to a gateway.
#[derive(Debug, Parser)]
struct Arguments {
    /// The gateway's listener
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    gateway: String,
    /// The device's name
    #[arg(long, default_value = "soil-1")]
    device: String,
    /// How many readings
    #[arg(long, default_value_t = 10)]
    count: u64,
    /// Milliseconds between two readings
    #[arg(long, default_value_t = 1000)]
    interval_ms: u32,
    /// Write the device's birth to this file, and send nothing
    #[arg(long, value_name = "FILE")]
    birth: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let boot = boot();
    if let Some(file) = &arguments.birth {
        return match std::fs::write(file, birth_of::<SoilDevice>(boot)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                eprintln!("{}: {reason}", file.display());
                ExitCode::FAILURE
            }
        };
    }
    let settings = DeviceSettings {
        sample_every_ms: arguments.interval_ms,
        ..DeviceSettings::new(&arguments.device, &arguments.gateway, boot)
    };
    let acknowledged = send(settings, arguments.count).await;
    println!("{acknowledged} readings are at the gateway");
    if acknowledged >= arguments.count { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the device until it has sampled `count` readings and delivered them, or the time is over.
/// Returns how many arrived.
async fn send(settings: DeviceSettings, count: u64) -> u64 {
    let time_max = DELIVERY_MAX + Duration::from_millis(count * u64::from(settings.sample_every_ms));
    let counters = Arc::new(DeviceCounters::default());
    let (quiesce, shutdown) = (CancellationToken::new(), CancellationToken::new());
    let device = run_model::<SoilDevice>(settings, counters.clone(), quiesce.clone(), shutdown);
    let enough = async {
        while counters.sampled_events.load(Ordering::Relaxed) < count {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        quiesce.cancel();
    };
    // Late or not, the counters say what has arrived.
    let _ = tokio::time::timeout(time_max, async { tokio::join!(device, enough) }).await;
    counters.acked_events.load(Ordering::Relaxed)
}

/// A number that grows from run to run: the second of the wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the outermost place of a device that keeps nothing between two runs"
)]
fn boot() -> u32 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since_1970.as_secs()).unwrap_or(u32::MAX)
}
