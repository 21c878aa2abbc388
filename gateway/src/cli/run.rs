//! `tidegate run`: the gateway, until SIGTERM, SIGINT or a failure of the store. SIGHUP loads
//! certificates and the like anew.

use std::{io, path::PathBuf, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, exposed, files, runtime, stop_signal};
use crate::{
    clock,
    config::{self, ConfigError},
    supervisor::Gateway,
};

/// How long the runtime waits for blocking work after everything has stopped.
const RUNTIME_GRACE: Duration = Duration::from_millis(500);

/// Run the gateway until SIGTERM or SIGINT
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tidegate run --config /etc/tidegate/gateway.toml")]
pub(super) struct Arguments {
    /// The configuration; config/gateway.toml shows every key
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut settings = config::load(&arguments.config, &|name| std::env::var(name).ok())?;
    files::prepare(&mut settings);
    for line in settings.not_yet.iter().flat_map(ConfigError::lines) {
        tracing::warn!("{line}; the uplink waits for it");
    }
    for why in exposed::look(&settings) {
        tracing::warn!("{why}");
    }
    for (uplink, hours) in settings.uplinks.iter().filter_map(|uplink| Some((uplink, uplink.send?))) {
        tracing::info!("uplink {} sends within {hours}, {}", uplink.name, hours.clocks(clock::wall_ms()));
    }
    let runtime = runtime()?;
    let outcome = runtime.block_on(until_stopped(settings));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    outcome
}

async fn until_stopped(settings: config::Settings) -> Result<(), Failure> {
    let stopped = stop_signal();
    tokio::pin!(stopped);
    // From here on SIGHUP does not end the process.
    let mut hangup = signal(SignalKind::hangup());
    // Nor does SIGXFSZ: a write beyond a limit of file sizes (RLIMIT_FSIZE, ulimit -f) is an error
    // of that write, as on a full disk. The handler stays for as long as the process runs, though
    // nobody waits for the signal.
    if let Err(cause) = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())) {
        tracing::warn!("a limit of file sizes would end this process: {cause}");
    }
    let gateway = tokio::select! {
        started = Gateway::start(settings) => started?,
        _ = &mut stopped => return Ok(()),
    };
    loop {
        tokio::select! {
            signal = &mut stopped => {
                tracing::info!("{signal}: stopping");
                gateway.stop().await;
                return Ok(());
            }
            reason = gateway.failed() => {
                gateway.stop().await;
                return Err(Failure::Io(reason));
            }
            () = hung_up(&mut hangup) => {
                tracing::info!("SIGHUP: reloading");
                gateway.reload();
            }
        }
    }
}

/// Resolves at every SIGHUP. Cancel-safe. Without a handler the system's own action holds: the
/// process ends.
async fn hung_up(hangup: &mut io::Result<Signal>) {
    let is_there = match hangup {
        Ok(hangup) => hangup.recv().await.is_some(),
        Err(_) => false,
    };
    if !is_there {
        std::future::pending::<()>().await;
    }
}
