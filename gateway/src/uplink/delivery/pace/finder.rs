//! Finds the rate that an upstream takes, where it says nothing of it but discards what is over it,
//! or refuses it. Pure: `now` is an argument.
//!
//! ```text
//!  acknowledged/s                     limit, as seen when it was too much
//!   100 ┤- - - - - - - - - - - - - - - - - - - - - - - - - - - - -
//!    95 ┤                 ___________________________________╱  after a minute it asks for more
//!    85 ┤╲  ┌────────'''''
//!       └─┴─┴──────────────────────────────────────────────────▶ time in which something is acknowledged
//!       too much: nothing is sent faster than 0.85 of what was acknowledged just before
//! ```
//! A window alone cannot hold a rate: where the way is short, one message in flight is thousands in
//! a second. What the upstream acknowledged in the second before it was too much is the limit, as
//! servers count by the second; where there was nothing more to send, it may be less than the
//! limit, and the rate doubles each second until it is too much again, or so high that no server
//! means it.
//!
//! Time-outs have other causes than a rate: an event that the upstream cannot stand, once proven,
//! makes undone what was concluded from it. A limit that was concluded wrongly costs little, as it
//! is not far below what went through.

use std::time::{Duration, Instant};

/// What is acknowledged is counted in so many parts of [`SPAN`].
const SLOTS: usize = 10;
/// The span that a rate is measured over: servers limit what comes in a second.
const SPAN: Duration = Duration::from_secs(1);
const SLOT: Duration = Duration::from_millis(SPAN.as_millis() as u64 / SLOTS as u64);

/// The part of a limit that is sent at, just after it was found.
const PART_FIRST: f64 = 0.85;
/// The part that it comes near to: clocks differ, and so does what servers count.
const PART_LAST: f64 = 0.95;
/// How soon: in this time it covers two thirds of the way.
const APPROACH: Duration = Duration::from_secs(8);
/// A limit is believed for so long, counted while something is acknowledged.
const BELIEVED: Duration = Duration::from_secs(60);
/// From then on the rate doubles in this time, to see whether there still is one.
const DOUBLES_IN: Duration = Duration::from_secs(20);
/// The same where no limit was seen.
const DOUBLES_SOON_IN: Duration = Duration::from_secs(1);
/// A single conclusion leaves so much of the one before: it may have been measured in a bad moment.
const FALL_MAX: f64 = 0.5;
/// The lowest rate that is ever concluded.
const PER_S_MIN: f64 = 1.0;
/// No server means a limit above this for one client: what is faster is not held back.
pub const PER_S_MAX: f64 = 10_000.0;

/// What is known of the rate.
#[derive(Debug, Default)]
pub struct Finder {
    acks: Meter,
    found: Option<Found>,
    /// When the sender last had nothing more to send.
    starved_at: Option<Instant>,
}

/// A rate that was concluded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// What was acknowledged in a second when it was too much.
    acked_per_s: f64,
    /// More would have been sent.
    is_limit: bool,
    /// For how long something was acknowledged since then.
    since: Duration,
    /// When something last was.
    acked_at: Option<Instant>,
    /// It is too much again: nothing grows.
    is_stopped: bool,
}

impl Finder {
    /// So many messages were acknowledged.
    pub fn acked(&mut self, messages: u32, now: Instant) {
        self.acks.add(messages, now);
        let Some(found) = &mut self.found else { return };
        let last = found.acked_at.replace(now);
        if !found.is_stopped {
            found.since += last.map_or(Duration::ZERO, |last| (now - last).min(SPAN));
        }
        if found.per_s() > PER_S_MAX {
            self.found = None;
        }
    }

    /// There is nothing more to send for now.
    pub fn starved(&mut self, now: Instant) {
        self.starved_at = Some(now);
    }

    /// Messages are missing among those that are acknowledged, or were refused for their number, or
    /// the time for an acknowledgement is over. Where nothing was acknowledged on the connection,
    /// that says nothing of a rate.
    pub fn too_much(&mut self) {
        let Some(acked) = self.acks.last_span() else { return };
        let paced = self.found;
        // Unpaced, the first messages come in one burst, which servers allow a second for.
        let seconds = if paced.is_some() { acked.seconds } else { SPAN.as_secs_f64() };
        let measured = f64::from(acked.messages) / seconds;
        let is_limit = self.starved_at.is_none_or(|starved| starved + SPAN < acked.at);
        // What is measured while less is sent than is known to go through says nothing new.
        let known = paced.filter(|found| found.is_limit && !is_limit);
        let least = known
            .or(paced)
            .map_or(PER_S_MIN, |found| found.acked_per_s * if known.is_some() { 1.0 } else { FALL_MAX });
        let acked_per_s = measured.max(least);
        self.found = (acked_per_s <= PER_S_MAX).then_some(Found {
            acked_per_s,
            is_limit: is_limit || known.is_some(),
            since: Duration::ZERO,
            acked_at: None,
            is_stopped: true,
        });
    }

    /// A new connection: what was too much is over.
    pub fn connected(&mut self) {
        if let Some(found) = &mut self.found {
            (found.is_stopped, found.acked_at) = (false, None);
        }
        self.starved_at = None;
        self.acks = Meter::default();
    }

    /// What is known now.
    #[must_use]
    pub fn found(&self) -> Option<Found> {
        self.found
    }

    /// This is known, and nothing that was concluded since.
    pub fn set_found(&mut self, found: Option<Found>) {
        self.found = found;
    }

    /// The rate to send at, in messages a second; `None` as fast as it goes.
    #[must_use]
    pub fn per_s(&self) -> Option<f64> {
        Some(self.found?.per_s())
    }
}

impl Found {
    fn per_s(&self) -> f64 {
        let (seconds, first) = (self.since.as_secs_f64(), PART_FIRST * self.acked_per_s);
        let doubled = |times: f64| times.min(60.0).exp2();
        if !self.is_limit {
            return first * doubled(seconds / DOUBLES_SOON_IN.as_secs_f64());
        }
        let way = 1.0 - (-seconds / APPROACH.as_secs_f64()).exp();
        let part = PART_FIRST + (PART_LAST - PART_FIRST) * way;
        let beyond = self.since.saturating_sub(BELIEVED).as_secs_f64();
        self.acked_per_s * part * doubled(beyond / DOUBLES_IN.as_secs_f64())
    }
}

/// What was acknowledged in the last second up to the last acknowledgement.
#[derive(Debug, Default)]
struct Meter {
    slots: [u32; SLOTS],
    /// Where the newest slot begins, and which one it is.
    newest: Option<(Instant, usize)>,
    /// When something was first and last acknowledged.
    first_and_last: Option<(Instant, Instant)>,
}

/// What a meter says.
struct Measured {
    messages: u32,
    /// The time that they took, no more than the span and no less than a third of it.
    seconds: f64,
    /// When the last of them came.
    at: Instant,
}

impl Meter {
    fn add(&mut self, messages: u32, now: Instant) {
        let (began, at) = self.newest.unwrap_or((now, 0));
        let slots = now.saturating_duration_since(began).as_nanos() / SLOT.as_nanos();
        // After a whole span nothing of the old is left.
        let passed = usize::try_from(slots).unwrap_or(SLOTS).min(SLOTS);
        for step in 1..=passed {
            self.slots[(at + step) % SLOTS] = 0;
        }
        let began = if passed == SLOTS { now } else { began + SLOT * passed as u32 };
        let at = (at + passed) % SLOTS;
        self.newest = Some((began, at));
        self.slots[at] = self.slots[at].saturating_add(messages);
        self.first_and_last = Some((self.first_and_last.map_or(now, |(first, _)| first), now));
    }

    fn last_span(&self) -> Option<Measured> {
        let (first, at) = self.first_and_last?;
        let span = (at - first).clamp(SPAN / 3, SPAN);
        let messages = self.slots.iter().fold(0, |sum: u32, slot| sum.saturating_add(*slot));
        Some(Measured { messages, seconds: span.as_secs_f64(), at })
    }
}
