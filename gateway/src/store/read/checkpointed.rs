//! A consumer of the log that saves what it made of it, with the position up to which it followed:
//! the fleet, the local subscribers, and whoever comes next.
//!
//! ```text
//!   next ─▶ a block ─▶ its owner makes something of it ─▶ begin_save ─▶ durable: the store may delete what lies behind
//!                                                             └ failed ─▶ told, and the owner tries again
//! ```
//! It has a name, under which the store keeps its hold and trouble is told. Only its owner knows
//! what is to be saved and when; here is what is the same for all: one save at a time, off the
//! owner's task, and the hold that moves with it.
//!
//! Crash story: what is saved and its position are one transaction of the owner's file, so a start
//! follows again what is not in it. A save that fails leaves the hold where it is, unless the store
//! needs the room: what devices send comes before what a crash would take from this consumer then.

use std::future::pending;

use tokio::task::JoinHandle;

use super::{follow::Follower, view::View};
use crate::store::error::StoreError;

/// A consumer of the log that saves its position. What it follows and what it saves are waited for
/// side by side.
#[derive(Debug)]
pub struct Checkpointed {
    /// What it follows.
    pub follower: Follower,
    /// What it saves.
    pub saves: Saves,
}

/// The saves of a consumer, one at a time.
#[derive(Debug)]
pub struct Saves {
    name: &'static str,
    view: View,
    saved_position: u64,
    under_way: Option<Save>,
    /// Saves that failed in a row.
    failures: u32,
}

#[derive(Debug)]
struct Save {
    position: u64,
    done: JoinHandle<Result<(), StoreError>>,
}

impl View {
    /// Follows the log as the consumer `name` from `position` on, up to which its saved state
    /// reaches; from the end of the log if that lies behind.
    #[must_use]
    pub fn consume(&self, name: &'static str, position: u64) -> Checkpointed {
        let follower = self.follow(name, position);
        let saved_position = follower.position();
        let saves = Saves { name, view: self.clone(), saved_position, under_way: None, failures: 0 };
        Checkpointed { follower, saves }
    }
}

impl Checkpointed {
    /// Offset of the next record.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.follower.position()
    }

    /// Records that were followed since the last save.
    #[must_use]
    pub fn unsaved_records(&self) -> u64 {
        self.follower.position() - self.saves.saved_position
    }

    /// Begins a save of what was made of the log up to here. None may be under way. `save` is
    /// given the position that belongs to it, may block, and returns once all is durable.
    pub fn begin_save(&mut self, save: impl FnOnce(&View, u64) -> Result<(), StoreError> + Send + 'static) {
        debug_assert!(self.saves.under_way.is_none(), "what its owner gathered would be lost");
        let (name, view, position) = (self.saves.name, self.saves.view.clone(), self.position());
        let done = tokio::task::spawn_blocking(move || {
            save(&view, position)?;
            view.hold(name, position);
            Ok(())
        });
        self.saves.under_way = Some(Save { position, done });
    }
}

impl Saves {
    /// Whether the store needs the room of what is held for this consumer.
    #[must_use]
    pub fn is_hold_in_the_way(&self) -> bool {
        self.view.is_hold_in_the_way(self.name)
    }

    /// Whether the last save failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// The end of the save that is under way; waits for ever if there is none. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it was saved, and the log was told so at the 1st, 2nd, 4th, 8th
    /// time.
    pub async fn ended(&mut self) -> Result<(), StoreError> {
        let Some(Save { position, done }) = &mut self.under_way else { return pending().await };
        let result = done.await.unwrap_or(Err(StoreError::Closed));
        let position = *position;
        self.under_way = None;
        match &result {
            Ok(()) => (self.saved_position, self.failures) = (position, 0),
            Err(error) => self.note_failed(error, position),
        }
        result
    }

    fn note_failed(&mut self, error: &StoreError, position: u64) {
        self.failures = self.failures.saturating_add(1);
        let (name, is_told) = (self.name, self.failures.is_power_of_two());
        if matches!(error, StoreError::Closed) {
            return;
        }
        if is_told {
            tracing::error!("{name}: what is known cannot be saved: {error}; trying on");
        }
        if self.is_hold_in_the_way() {
            if is_told {
                tracing::warn!(
                    "{name}: the store needs the room of what is not saved: should the gateway be killed now, what it deletes is lost here"
                );
            }
            self.view.hold(name, position);
        }
    }
}
