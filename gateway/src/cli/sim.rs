//! `tidegate sim`: simulated devices running the firmware core, against any gateway.
//!
//! A second of wall clock is a device's boot number, so that every run is a boot of its own: two
//! runs with the same prefix are at least a second apart.

use std::{path::PathBuf, time::Duration};

use tidegate_board_host::DevicePassword;

use super::{
    Failure,
    fleet::{DEVICES_MAX, Fleet, FleetSettings},
    people, runtime, stop_signal, users,
};
use crate::clock;

/// How long the devices may take at the end to get everything acknowledged.
const QUIESCE_MAX: Duration = Duration::from_secs(30);
/// Publishes of a device that may be unacknowledged.
const WINDOW: u8 = 8;
/// How long the devices may take to disconnect.
const DISCONNECT_MAX: Duration = Duration::from_secs(2);

/// Run simulated devices against a gateway, until Ctrl-C or for some seconds
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate sim --devices 20 --interval 100ms\n  \
                        tidegate sim --gateway 127.0.0.1:1884 --devices 200 --batch 60 --seconds 30\n  \
                        tidegate sim --devices 1 --prefix barn --password-file barn-1.password   as the user barn-1")]
pub(super) struct Arguments {
    /// The gateway's listener
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    gateway: String,
    /// How many, up to 1000
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=i64::from(DEVICES_MAX)))]
    devices: u16,
    /// Time between two samples of a device
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Events in a frame at most
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..))]
    batch: u8,
    /// A frame is sent this long after its first event at the latest
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    batch_age: Duration,
    /// Stop after this many seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// Devices are called PREFIX-1, PREFIX-2, ...
    #[arg(long, default_value = "sim")]
    prefix: String,
    /// Every device connects as the user of its own name, with the password in the first line of
    /// this file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.interval < Duration::from_millis(1) {
        return Err(Failure::Usage("--interval: 1ms at least".into()));
    }
    let settings = FleetSettings {
        password: arguments.password_file.as_deref().map(users::from_file).transpose()?.map(DevicePassword),
        prefix: arguments.prefix.clone(),
        devices: arguments.devices,
        gateway: arguments.gateway.clone(),
        boot: u32::try_from(clock::wall_ms() / 1000).unwrap_or(u32::MAX),
        sample_every: arguments.interval,
        batch_events: arguments.batch,
        batch_age: arguments.batch_age,
        window: WINDOW,
        // The devices' samples are spread evenly over the interval.
        stagger: arguments.interval / u32::from(arguments.devices),
    };
    runtime()?.block_on(simulate(&settings, arguments.seconds.map(Duration::from_secs)))
}

async fn simulate(settings: &FleetSettings, until: Option<Duration>) -> Result<(), Failure> {
    let mut fleet = Fleet::start(settings);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let signal = stop_signal();
    let end = async {
        match until {
            Some(until) => tokio::time::sleep(until).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(signal, end);
    loop {
        tokio::select! {
            _ = second.tick() => say(&fleet),
            () = &mut end => break,
            _ = &mut signal => break,
        }
    }
    let all = tokio::select! {
        all = fleet.quiesce(QUIESCE_MAX) => all,
        // A second Ctrl-C does not wait.
        _ = stop_signal() => false,
    };
    say(&fleet);
    let left = fleet.totals().queued;
    fleet.stop(DISCONNECT_MAX).await;
    if all {
        Ok(())
    } else {
        let left = people::count(left);
        Err(Failure::Unavailable(format!(
            "{left} events were not acknowledged: is there a gateway at {}?",
            settings.gateway
        )))
    }
}

fn say(fleet: &Fleet) {
    let totals = fleet.totals();
    say!(
        "sampled {:>11}  acknowledged {:>11}  queued {:>7}  dropped {:>5}  connects {:>5}",
        people::count(totals.sampled),
        people::count(totals.acknowledged),
        people::count(totals.queued),
        people::count(totals.lost_on_device),
        people::count(totals.connects)
    );
}
