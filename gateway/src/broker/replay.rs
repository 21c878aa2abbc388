//! Retained messages on their way to a new subscription: as many at a time as the session's queue
//! has room for.
//!
//! ```text
//!   SUBSCRIBE ─▶ replay: filter, last topic ─▶ half of the queue ─▶ written ─▶ the next half ─▶ …
//! ```
//! So a subscriber to `#` gets all that is retained, however many there are, and what is published
//! meanwhile finds room. What is retained by the time its topic's turn comes is sent. A replay is
//! in memory: a restart ends it. Limits: one for each subscription; what is in flight counts, so
//! one that acknowledges nothing gets half of its limit and no more; a message that is larger than
//! the half is left out, and counted.

use std::collections::VecDeque;

use super::subscription::Subscription;

/// One subscription's retained messages.
#[derive(Debug)]
pub(super) struct Replay {
    pub filter: Box<str>,
    pub subscription: Subscription,
    /// The topic sent last.
    pub after: Option<Box<str>>,
}

/// A session's.
#[derive(Debug, Default)]
pub(super) struct Replays(VecDeque<Replay>);

impl Replays {
    pub fn begin(&mut self, filter: &str, subscription: Subscription) {
        self.0.push_back(Replay { filter: filter.into(), subscription, after: None });
    }

    /// The subscription is over, or another.
    pub fn end(&mut self, filter: &str) {
        self.0.retain(|replay| *replay.filter != *filter);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one whose turn it is.
    pub fn first(&mut self) -> Option<&mut Replay> {
        self.0.front_mut()
    }

    /// The first one is done.
    pub fn end_first(&mut self) {
        self.0.pop_front();
    }
}
