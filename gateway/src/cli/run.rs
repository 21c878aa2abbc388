//! `tidegate run`: the gateway, until SIGTERM, SIGINT or a failure of the store.

use std::{path::PathBuf, time::Duration};

use super::{Failure, files, runtime, stop_signal};
use crate::{config, supervisor::Gateway};

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
    let runtime = runtime()?;
    let outcome = runtime.block_on(until_stopped(settings));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    outcome
}

async fn until_stopped(settings: config::Settings) -> Result<(), Failure> {
    let signal = stop_signal();
    tokio::pin!(signal);
    let gateway = tokio::select! {
        started = Gateway::start(settings) => started?,
        _ = &mut signal => return Ok(()),
    };
    tokio::select! {
        signal = signal => {
            tracing::info!("{signal}: stopping");
            gateway.stop().await;
            Ok(())
        }
        reason = gateway.failed() => {
            gateway.stop().await;
            Err(Failure::Io(reason))
        }
    }
}
