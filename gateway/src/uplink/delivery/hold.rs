//! No connection is made while an uplink is paused, nor outside its hours until they come, or an
//! urgent event does.
//!
//! ```text
//!  released │ held  held  held  urgent │ held  held
//!  ─────────┴──────────────────────────┴────────────▶ log
//!             all of it goes, in its order            waits for the hours
//! ```
//! An urgent event takes with it what lies before it: events of a device never overtake each other.
//! So what is held is read twice: once to look for urgent events, as it comes, and once to be sent.

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Uplink, hours::State};
use crate::{
    clock,
    pki::date,
    store::ReadError,
    uplink::{engine::Engine, health::Failures, source::Source},
};

/// Why there is no connection then.
const OUTSIDE_HOURS: &str = "not within its hours: only urgent events are sent, and what lies before them";

/// What is known of the events that wait for the hours.
#[derive(Debug, Default)]
pub struct Hold {
    /// Events before this offset were looked at.
    looked_to: u64,
    /// The last urgent one of them lies before this offset.
    pub urgent_to: u64,
    /// It was said that it holds.
    said: bool,
}

impl<E: Engine, S: Source> Uplink<'_, E, S> {
    /// Whether it is paused.
    pub(super) fn is_paused(&self) -> bool {
        self.pause.since_ms().is_some()
    }

    /// Waits until it is not paused. False on shutdown.
    pub(super) async fn wait_while_paused(&mut self, shutdown: &CancellationToken) -> bool {
        let Some(since_ms) = self.pause.since_ms() else { return true };
        let uplink = self.settings.name.clone();
        self.tally.disconnected(clock::wall_ms());
        tracing::info!(%uplink, "paused since {}: nothing is sent until it is resumed", date(since_ms / 1000));
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return false,
            () = self.pause.ended() => {}
        }
        tracing::info!(%uplink, "resumed");
        // It is not the time before the pause that says how the upstream does.
        self.backoff.reset();
        self.failures = Failures::new();
        true
    }

    /// Waits until something is to be sent. False on shutdown.
    pub(super) async fn wait_for_hours(&mut self, shutdown: &CancellationToken) -> bool {
        let Some(hours) = self.settings.send else { return true };
        let mut has_told = false;
        loop {
            let State::Closed(look) = hours.state(clock::wall_ms()) else {
                self.hold.said = false;
                return true;
            };
            let head = self.source.released();
            if head < self.hold.urgent_to {
                return true;
            }
            if !std::mem::replace(&mut has_told, true) {
                let (why, now_ms) = (OUTSIDE_HOURS.to_owned(), clock::wall_ms());
                let words = self.tally.failed(now_ms, why, hours.opens_ms(now_ms));
                if !std::mem::replace(&mut self.hold.said, true) {
                    tracing::info!(uplink = %self.settings.name, "{words}");
                }
            }
            self.hold.looked_to = self.hold.looked_to.max(head);
            self.source.seek(self.hold.looked_to);
            let block = tokio::select! {
                biased;
                () = shutdown.cancelled() => return false,
                () = self.pause.begun() => return true,
                block = self.source.next() => block,
                () = sleep(look) => continue,
            };
            match block {
                Ok(block) => {
                    let urgent = S::records_from(&block, self.hold.looked_to)
                        .filter(|(_, record)| record.urgent && !record.local)
                        .last();
                    self.hold.urgent_to = urgent.map_or(self.hold.urgent_to, |(offset, _)| offset + 1);
                    self.hold.looked_to = S::end(&block);
                }
                // The next connection says so.
                Err(ReadError::Closed) => return true,
                Err(_) => {
                    tokio::select! {
                        () = shutdown.cancelled() => return false,
                        () = sleep(look) => {}
                    }
                }
            }
        }
    }
}
