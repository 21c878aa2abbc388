//! The uptime of a simulated device: tokio's clock since it was started.

use std::time::Duration;

use tidegate_firmware::board::Clock;
use tokio::time::Instant;

pub(crate) struct TokioClock {
    boot: Instant,
}

impl TokioClock {
    pub(crate) fn start() -> Self {
        TokioClock { boot: Instant::now() }
    }
}

impl Clock for TokioClock {
    fn uptime_ms(&self) -> u64 {
        self.boot.elapsed().as_millis() as u64
    }

    async fn sleep_until(&self, uptime_ms: u64) {
        match self.boot.checked_add(Duration::from_millis(uptime_ms)) {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}
