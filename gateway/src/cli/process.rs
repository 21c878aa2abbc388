//! The process of a command that runs for a while: its runtime, and the signals that stop it.

use super::Failure;

/// Threads for the command's tasks.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::Io(format!("the runtime cannot be started: {cause}")))
}

/// Resolves at SIGTERM or SIGINT with its name.
pub(super) async fn stop_signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the system's own action holds: the process ends at once, and loses
        // nothing.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}
