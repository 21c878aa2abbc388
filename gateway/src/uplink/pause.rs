//! Whether an uplink is paused: told by the store, watched by who sends for it.
//!
//! While it is paused there is no connection to its upstream, neither for events nor for commands,
//! and none for a replay by it. Nothing is lost by that: events wait in the store, and commands at
//! the upstream.

use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::store::PauseWatch;

/// Tells whether an uplink is paused. By default it never is.
#[derive(Debug, Clone, Default)]
pub struct Pause(Option<PauseWatch>);

impl Pause {
    /// As the store says it.
    #[must_use]
    pub fn new(watch: Option<PauseWatch>) -> Self {
        Self(watch)
    }

    /// Since when it is paused, wall clock, milliseconds since 1970; `None` while it is not.
    #[must_use]
    pub fn since_ms(&self) -> Option<u64> {
        self.0.as_ref().and_then(|watch| *watch.borrow())
    }

    /// Resolves while it is paused. Cancel-safe.
    pub async fn begun(&mut self) {
        self.until(Option::is_some).await;
    }

    /// Resolves while it is not paused. Cancel-safe.
    pub async fn ended(&mut self) {
        if self.since_ms().is_some() {
            self.until(Option::is_none).await;
        }
    }

    /// Cancels `stop` when a pause begins, for as long as the answer lives.
    pub fn cancel_when_begun(&self, stop: &CancellationToken) -> AbortOnDropHandle<()> {
        let (mut pause, stop) = (self.clone(), stop.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            pause.begun().await;
            stop.cancel();
        }))
    }

    async fn until(&mut self, is: fn(&Option<u64>) -> bool) {
        if let Some(watch) = &mut self.0
            && watch.wait_for(is).await.is_ok()
        {
            return;
        }
        // Nobody can change it any more.
        std::future::pending().await
    }
}
