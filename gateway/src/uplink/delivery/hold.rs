//! Outside the hours of an uplink: no connection is made until they come, or an urgent event does.
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
    store::ReadError,
    uplink::{engine::Engine, source::Source},
};

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
    /// Waits until something is to be sent. False on shutdown.
    pub(super) async fn wait_for_hours(&mut self, shutdown: &CancellationToken) -> bool {
        let Some(hours) = self.settings.send else { return true };
        loop {
            let State::Closed(look) = hours.state(clock::wall_ms()) else {
                self.hold.said = false;
                return true;
            };
            let head = self.source.released();
            if head < self.hold.urgent_to {
                return true;
            }
            if !std::mem::replace(&mut self.hold.said, true) {
                let why = "not within its hours: only urgent events are sent, and what lies before them";
                self.tally.disconnected(clock::wall_ms(), Some(why));
                tracing::info!(uplink = %self.settings.name, "{why}");
            }
            self.hold.looked_to = self.hold.looked_to.max(head);
            self.source.seek(self.hold.looked_to);
            let block = tokio::select! {
                biased;
                () = shutdown.cancelled() => return false,
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
