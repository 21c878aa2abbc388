//! `tidegate demo`: gateway, simulated devices and a stand-in cloud in one process, and a story in
//! five acts.
//!
//! ```text
//! 20 devices ──▶ gateway ──▶ link ──▶ cloud ──▶ witness
//!  (firmware core)  │ killed    │ cut
//!                   ▼ once      ▼ for some seconds
//!                 a folder of its own under the system's temporary one, removed at the end
//! ```
//!
//! The verdict comes from the two ends: what the firmware was acknowledged, and what a subscriber
//! of the cloud has seen. Nothing that the gateway says of itself goes into it.

mod cloud;
mod verdict;
mod witness;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cloud::Cloud;
use verdict::Verdict;
use witness::Witness;

use super::{
    Failure,
    fleet::{Fleet, FleetSettings},
    people, runtime, stop_signal,
};
use crate::{
    clock,
    config::{self, Settings},
    supervisor::Gateway,
};

/// The story tells itself: the log keeps to errors.
pub(super) const LOG_FILTER: &str = "off,tidegate=error";

const DEVICES: u16 = 20;
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
const BATCH_EVENTS: u8 = 10;
/// Spreads the devices' frames over time, so that a kill always meets some on their way.
const STAGGER: Duration = Duration::from_millis(25);
const BATCH_AGE: Duration = Duration::from_millis(500);
/// Publishes of a device that may be unacknowledged.
const DEVICE_WINDOW: u8 = 8;
/// How long the backlog may take to drain once the cloud is back.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// How long the devices may take at the end to get everything acknowledged.
const QUIESCE_MAX: Duration = Duration::from_secs(30);
/// How long the last events may take to the witness.
const ARRIVE_MAX: Duration = Duration::from_secs(30);
/// How long the devices may take to disconnect.
const DISCONNECT_MAX: Duration = Duration::from_secs(2);
const LINE_EVERY: Duration = Duration::from_secs(1);

/// See it work: devices, gateway and cloud in one process, an outage, a kill, and a verdict
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate demo\n  tidegate demo --keep-running\n\n\
                        It takes less than a minute, needs nothing installed and leaves nothing behind.\n\
                        Exit code 0 when nothing was lost, 1 otherwise.")]
pub(super) struct Arguments {
    /// Stay up after the verdict, and say what to look at
    #[arg(long)]
    keep_running: bool,
    /// Length of an act
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=3600), hide = true)]
    act_seconds: u16,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let folder = Folder::make()?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            played = play(arguments, &folder.0) => {
                let (stage, verdict) = played?;
                take_leave(arguments, &folder.0, stage).await;
                judge(&verdict)
            }
            signal = stop_signal() => {
                say!("\n{signal}: the demo ends here, without a verdict");
                Ok(())
            }
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// The five acts.
async fn play(arguments: &Arguments, folder: &Path) -> Result<(Stage, Verdict), Failure> {
    let act = Duration::from_secs(arguments.act_seconds.into());
    let mut stage = Stage::build(folder).await?;
    stage.intro(folder);

    say!("\n1. All is well");
    stage.show("flowing", act).await;

    say!("\n2. The cloud is cut off: events are acknowledged as before, for they are on disk");
    stage.cloud.cut();
    stage.show("cloud cut off", act).await;

    say!("\n3. The gateway is killed in the outage, as by SIGKILL, and starts again on what the disk holds");
    stage.kill_and_reopen().await?;
    stage.show("cloud cut off", act / 2).await;

    say!("\n4. The cloud is back: the backlog drains, and new events flow");
    stage.cloud.mend();
    stage.drained("draining").await;
    stage.show("flowing", act).await;

    say!("\n5. The devices stop sampling, and what is under way arrives");
    let verdict = stage.settle().await;
    say!("\n{verdict}");
    Ok((stage, verdict))
}

/// Stays up if asked to, and stops everything in the order of the flow.
async fn take_leave(arguments: &Arguments, folder: &Path, mut stage: Stage) {
    if arguments.keep_running {
        stage.keep_running(folder).await;
        stop_signal().await;
    }
    stage.strike().await;
}

fn judge(verdict: &Verdict) -> Result<(), Failure> {
    match verdict.lost() {
        0 => Ok(()),
        lost => Err(Failure::Lost(format!(
            "{lost} acknowledged events were lost: this is a defect, please report it"
        ))),
    }
}

/// All that is on stage.
struct Stage {
    cloud: Cloud,
    witness: Witness,
    fleet: Fleet,
    settings: Settings,
    gateway: Option<Gateway>,
    boot: u32,
    begun: Instant,
}

impl Stage {
    async fn build(folder: &Path) -> Result<Self, Failure> {
        let cloud = Cloud::start().await?;
        let witness = Witness::start(cloud.broker()).await?;
        let mut settings = settings(folder, &cloud)?;
        let gateway = Gateway::start(settings.clone()).await?;
        // Started again, it must be found where the devices and the reader left it.
        settings.http.address = gateway.http_address();
        for (listener, address) in settings.listeners.iter_mut().zip(gateway.snapshot().listeners) {
            listener.address = address;
        }
        let boot = 1;
        let fleet = Fleet::start(&fleet_settings(&settings, boot));
        Ok(Self { cloud, witness, fleet, settings, gateway: Some(gateway), boot, begun: clock::monotonic() })
    }

    fn intro(&self, folder: &Path) {
        let per_second = u64::from(DEVICES) * 1000 / SAMPLE_EVERY.as_millis() as u64;
        say!("{DEVICES} simulated devices with the firmware's core sample {per_second} events a second.");
        say!("The gateway keeps them in {} and forwards them to a cloud broker.", folder.display());
        say!(
            "Devices at {}, status at http://{}/",
            self.settings.listeners[0].address,
            self.settings.http.address
        );
        say!(
            "\n{:>5}  {:<16} {:>9} {:>13} {:>10} {:>18}",
            "time",
            "",
            "sampled",
            "acknowledged",
            "delivered",
            "backlog on disk"
        );
    }

    /// A line per second for as long as the act takes.
    async fn show(&self, phase: &str, act: Duration) {
        let mut lines = tokio::time::interval(LINE_EVERY);
        lines.tick().await;
        let end = tokio::time::sleep(act);
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                _ = lines.tick() => self.line(phase),
                () = &mut end => return,
            }
        }
    }

    /// A line per second until the backlog is gone.
    async fn drained(&self, phase: &str) {
        let mut lines = tokio::time::interval(LINE_EVERY);
        let deadline = clock::monotonic() + DRAIN_MAX;
        while clock::monotonic() < deadline {
            lines.tick().await;
            self.line(phase);
            if self
                .backlog()
                .is_some_and(|(events, _)| events <= u64::from(DEVICES) * u64::from(BATCH_EVENTS))
            {
                return;
            }
        }
    }

    fn line(&self, phase: &str) {
        let totals = self.fleet.totals();
        let backlog = match self.backlog() {
            Some((0, _)) => "0".to_owned(),
            Some((events, bytes)) => format!("{} ({})", people::count(events), people::bytes(bytes)),
            None => "-".to_owned(),
        };
        say!(
            "{:>3} s  {phase:<16} {:>9} {:>13} {:>10} {backlog:>18}",
            clock::monotonic().duration_since(self.begun).as_secs(),
            people::count(totals.sampled),
            people::count(totals.acknowledged),
            people::count(self.witness.look(|arrived| arrived.events)),
        );
    }

    /// Events and bytes that wait for the cloud.
    fn backlog(&self) -> Option<(u64, u64)> {
        let snapshot = self.gateway.as_ref()?.snapshot();
        snapshot.uplinks.first().map(|uplink| (uplink.backlog_events, uplink.backlog_bytes))
    }

    async fn kill_and_reopen(&mut self) -> Result<(), Failure> {
        if let Some(gateway) = self.gateway.take() {
            gateway.crash().await;
        }
        say!("       killed");
        self.show("gateway dead", Duration::from_secs(1)).await;
        let began = clock::monotonic();
        self.gateway = Some(Gateway::start(self.settings.clone()).await?);
        let took = clock::monotonic().duration_since(began);
        let (events, _) = self.backlog().unwrap_or_default();
        say!(
            "       open again after {} ms with {} events to deliver",
            took.as_millis(),
            people::count(events)
        );
        Ok(())
    }

    /// Waits until both ends have nothing under way, and counts.
    async fn settle(&mut self) -> Verdict {
        if !self.fleet.quiesce(QUIESCE_MAX).await {
            say!("       the devices still hold events after {QUIESCE_MAX:?}");
        }
        let deadline = clock::monotonic() + ARRIVE_MAX;
        loop {
            let verdict = self.verdict();
            if verdict.complete() || clock::monotonic() >= deadline {
                self.line("at rest");
                return verdict;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn verdict(&self) -> Verdict {
        self.witness.look(|arrived| Verdict::count(self.fleet.totals(), self.fleet.acknowledged(), arrived))
    }

    async fn keep_running(&mut self, folder: &Path) {
        self.boot += 1;
        let fleet = Fleet::start(&fleet_settings(&self.settings, self.boot));
        let old = std::mem::replace(&mut self.fleet, fleet);
        old.stop(DISCONNECT_MAX).await;
        let http = self.settings.http.address;
        say!("\nStill running, with the devices started again. Look at:");
        say!("  http://{http}/metrics      for Prometheus");
        say!("  http://{http}/api/status   JSON, or: tidegate status --http {http}");
        say!("  mqtt://{}        publish here", self.settings.listeners[0].address);
        say!("  mqtt://{}        the cloud: subscribe here, MQTT 5", self.cloud.broker());
        say!("  {}", folder.display());
        say!("Ctrl-C ends it.");
    }

    /// Stops everything in the order of the flow.
    async fn strike(self) {
        self.fleet.stop(DISCONNECT_MAX).await;
        if let Some(gateway) = self.gateway {
            gateway.stop().await;
        }
    }
}

fn settings(folder: &Path, cloud: &Cloud) -> Result<Settings, Failure> {
    let text = format!(
        "[gateway]\nid = \"demo\"\ndata_dir = \"data\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\n\
         [[uplink]]\nname = \"cloud\"\nurl = \"mqtt://{}\"\n\
         [http]\naddress = \"127.0.0.1:0\"\n",
        cloud.link()
    );
    Ok(config::parse(&text, &folder.join("gateway.toml"), &|_| None)?)
}

fn fleet_settings(settings: &Settings, boot: u32) -> FleetSettings {
    FleetSettings {
        password: None,
        prefix: "sensor".into(),
        devices: DEVICES,
        gateway: settings.listeners[0].address.to_string(),
        boot,
        sample_every: SAMPLE_EVERY,
        batch_events: BATCH_EVENTS,
        batch_age: BATCH_AGE,
        window: DEVICE_WINDOW,
        stagger: STAGGER,
    }
}

/// A folder of the demo's own, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("tidegate-demo-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|cause| {
            Failure::CantCreate(format!(
                "{}: {cause}; set TMPDIR to a folder that can be written",
                path.display()
            ))
        })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            remark!("{} is left behind: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_loses_nothing_and_leaves_nothing_behind() {
        let outcome = run(&Arguments { keep_running: false, act_seconds: 1 });
        assert!(outcome.is_ok(), "{outcome:?}");
        let folder = std::env::temp_dir().join(format!("tidegate-demo-{}", std::process::id()));
        assert!(!folder.exists());
    }

    #[test]
    fn a_loss_is_a_failure_with_exit_code_1() {
        let mut arrived = witness::Arrived::default();
        arrived.take("tg/a/e", b"not a frame");
        let verdict =
            Verdict::count(super::super::fleet::Totals::default(), [("a", 3)].into_iter(), &arrived);
        assert_eq!(judge(&verdict).unwrap_err().exit_code(), 1);
    }
}
