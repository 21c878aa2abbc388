//! How fast and how much at once: what the settings allow, and what the upstream was found to take.
//! It survives connections. Pure: `now` is an argument.
//!
//! ```text
//!  events_per_second ─▶ bucket ─┐
//!  bytes_per_second ──▶ bucket ─┼─▶ when the next message may go
//!  finder ─────────────▶ bucket ─┘
//!  opening ──────────────────────▶ how wide the window of the next connection is
//! ```
//! What is acknowledged is told once for all that came together; a message is told only while
//! something limits it.

mod bucket;
mod finder;
mod opening;
#[cfg(test)]
mod tests;

use std::time::Instant;

pub use self::opening::{OPENS_AFTER, Opening};
use self::{
    bucket::{BURST, BURST_FOUND, Bucket},
    finder::{Finder, Found},
};
use crate::uplink::settings::PaceLimits;

/// The pace of one uplink.
#[derive(Debug)]
pub struct Pace {
    events: Option<Bucket>,
    bytes: Option<Bucket>,
    found: Option<Bucket>,
    finder: Finder,
    /// How wide the next connection's window opens.
    pub opening: Opening,
    /// It was too much on this connection.
    was_too_much: bool,
    /// What was known before that was last concluded from something that may yet turn out to be an
    /// event's fault.
    before: Option<Known>,
    /// What was known before the conclusion of this connection, and whether `before` is of it too.
    latest: Option<(Known, bool)>,
}

/// What is known of the pace.
type Known = (Option<Found>, Opening);

impl Pace {
    /// Of an uplink that has not sent anything.
    #[must_use]
    pub fn new(limits: &PaceLimits) -> Self {
        Self {
            events: limits.events_per_s.map(|per_s| Bucket::new(per_s.get().into(), BURST)),
            bytes: limits.bytes_per_s.map(|per_s| Bucket::new(per_s.get() as f64, BURST)),
            found: None,
            finder: Finder::default(),
            opening: Opening::START,
            was_too_much: false,
            before: None,
            latest: None,
        }
    }

    /// Nothing limits how fast messages go: they need not be told.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.events.is_none() && self.bytes.is_none() && self.found.is_none()
    }

    /// The rate that was found, in messages a second.
    #[must_use]
    pub fn found_per_s(&self) -> Option<f64> {
        self.finder.per_s()
    }

    /// When the next message may go; in the past or `None` if at once.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        let buckets = [&self.events, &self.bytes, &self.found];
        buckets.into_iter().flatten().filter_map(Bucket::next_at).max()
    }

    /// A message of so many bytes went out.
    pub fn sent(&mut self, bytes: usize, now: Instant) {
        for bucket in [&mut self.events, &mut self.found].into_iter().flatten() {
            bucket.take(1.0, now);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.take(bytes as f64, now);
        }
    }

    /// A new connection.
    pub fn connected(&mut self) {
        (self.was_too_much, self.latest) = (false, None);
        self.finder.connected();
        self.follow();
    }

    /// There is nothing more to send for now.
    pub fn starved(&mut self, now: Instant) {
        self.finder.starved(now);
    }

    /// So many messages were acknowledged.
    pub fn acked(&mut self, messages: u32, now: Instant) {
        self.finder.acked(messages, now);
        if self.found.is_some() {
            self.follow();
        }
    }

    /// Messages are missing among those that are acknowledged, or were refused for their number, or
    /// the time for an acknowledgement is over, while the window was open so far. It counts once on
    /// a connection. Whether it does.
    pub fn too_much(&mut self, opening: Opening) -> bool {
        let is_first = !std::mem::replace(&mut self.was_too_much, true);
        if is_first {
            let known = (self.finder.found(), opening);
            self.latest = Some((known, self.before.is_none()));
            self.before.get_or_insert(known);
            self.finder.too_much();
            self.follow();
        }
        is_first
    }

    /// What was missing on this connection was acknowledged after all: nothing was too much. How
    /// wide the window was before, if it was taken for that.
    pub fn recovered(&mut self) -> Option<Opening> {
        let ((found, opening), is_before) = self.latest.take()?;
        if is_before {
            self.before = None;
        }
        self.was_too_much = false;
        self.finder.set_found(found);
        self.follow();
        Some(opening)
    }

    /// What was taken for too much was not a single event's fault: that was taken alone.
    pub fn confirm(&mut self) {
        self.before = None;
    }

    /// What was taken for too much was a single event's fault.
    pub fn take_back(&mut self) {
        if let Some((found, opening)) = self.before.take() {
            self.finder.set_found(found);
            self.opening = opening;
            self.follow();
        }
    }

    fn follow(&mut self) {
        match (self.finder.per_s(), &mut self.found) {
            (Some(per_s), Some(bucket)) => bucket.set_rate(per_s),
            (Some(per_s), none) => *none = Some(Bucket::new(per_s, BURST_FOUND)),
            (None, found) => *found = None,
        }
    }
}
